//! An API in the raw: HTTP/1.1 on connections that stay open, with answers that
//! a test writes itself, for what the sandbox never does.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Requested {
    /// Request line and headers, in lower case.
    pub head: String,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
}

impl Requested {
    /// The path that was asked for.
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

/// An API in the raw. It is gone when this is dropped.
pub struct Upstream {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Requested>>>,
    _tasks: JoinSet<()>,
}

impl Upstream {
    /// One that answers each request with what `answer` says.
    pub async fn new(answer: impl Fn(&Requested) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&requests), Arc::new(answer)));
        Self {
            address,
            requests,
            _tasks: tasks,
        }
    }

    /// What `--api-url` is to be.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Requested> {
        locked(&self.requests).clone()
    }
}

/// An answer with this status line, these headers (a line each) and this body.
pub fn raw_answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

async fn accept<F>(listener: TcpListener, requests: Arc<Mutex<Vec<Requested>>>, answer: Arc<F>)
where
    F: Fn(&Requested) -> String + Send + Sync + 'static,
{
    let mut connections = JoinSet::new();
    for number in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        let (requests, answer) = (Arc::clone(&requests), Arc::clone(&answer));
        connections.spawn(async move { serve(stream, number, &requests, &*answer).await });
    }
}

async fn serve<F>(
    mut stream: TcpStream,
    connection: usize,
    requests: &Mutex<Vec<Requested>>,
    answer: &F,
) where
    F: Fn(&Requested) -> String,
{
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(length) => read.extend_from_slice(&buffer[..length]),
            }
            continue;
        };
        let head: Vec<u8> = read.drain(..end + 4).collect();
        let request = Requested {
            head: String::from_utf8(head).unwrap().to_lowercase(),
            connection,
        };
        let text = answer(&request);
        locked(requests).push(request);
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
