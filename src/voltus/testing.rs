//! A server for the tests of this module: HTTP/1.1 with connections that stay
//! open, and answers that a test writes itself.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request as it came: its head, in lower case, and the connection's number.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub head: String,
    pub connection: usize,
}

impl Seen {
    /// The path that was asked for.
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

/// A server. It is gone when this is dropped.
pub(super) struct Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// One that answers each request, of which it is told the head, so.
    pub async fn start(
        at: (IpAddr, u16),
        answer: impl Fn(&Seen) -> String + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&seen), Arc::new(answer)));
        Self {
            address,
            seen,
            _tasks: tasks,
        }
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Which connection each request came on, counted from 0.
    pub fn connections(&self) -> Vec<usize> {
        self.seen().iter().map(|seen| seen.connection).collect()
    }
}

async fn accept(
    listener: TcpListener,
    seen: Arc<Mutex<Vec<Seen>>>,
    answer: Arc<impl Fn(&Seen) -> String + Send + Sync + 'static>,
) {
    let mut connections = JoinSet::new();
    for number in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
        connections.spawn(async move { serve(stream, number, &seen, &*answer).await });
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    seen: &Mutex<Vec<Seen>>,
    answer: &(impl Fn(&Seen) -> String + Sync),
) {
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
        let request = Seen {
            head: String::from_utf8(head).unwrap().to_lowercase(),
            connection,
        };
        let text = answer(&request);
        seen.lock().unwrap().push(request);
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// An answer with this status line, these headers (a line each) and this body.
pub(super) fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

/// An empty list.
pub(super) fn empty_list() -> String {
    answer("200 OK", "", r#"{"dispatches": []}"#)
}
