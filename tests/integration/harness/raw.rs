//! Connections on which anything can be said.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// How long an answer is waited for. Longer than the daemon waits for us.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection without any client in between.
pub struct Raw(TcpStream);

impl Raw {
    /// A connection to a listener.
    pub async fn connect(to: SocketAddr) -> Self {
        Self(TcpStream::connect(to).await.unwrap())
    }

    /// A connection from this address of our own. It takes no more than a few
    /// kilobytes that nobody reads.
    pub async fn connect_from(from: IpAddr, to: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        // A port that is bound first is taken for every destination, and there are too
        // few of them for thousands of connections a test.
        if from != IpAddr::from([127, 0, 0, 1]) {
            socket.bind(SocketAddr::new(from, 0)).unwrap();
        }
        Self(socket.connect(to).await.unwrap())
    }

    /// Says it.
    pub async fn say(&mut self, text: impl AsRef<[u8]>) {
        self.0.write_all(text.as_ref()).await.unwrap();
    }

    /// Says it, as far as the other side lets it.
    pub async fn try_to_say(&mut self, text: impl AsRef<[u8]>) {
        // It may have been closed already.
        let _ = self.0.write_all(text.as_ref()).await;
    }

    /// Begins a webhook whose body comes in chunks.
    pub async fn begin_chunks(&mut self) {
        self.say(
            "POST /dispatch-listener HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .await;
    }

    /// Sends chunks without end until an answer comes, and gives its status.
    pub async fn chunk_for_ever(self) -> u16 {
        let (mut from, mut to) = self.0.into_split();
        let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
        let sending = async {
            // Nobody listens any more once the answer is on its way.
            while to.write_all(chunk.as_bytes()).await.is_ok() {}
            std::future::pending::<()>().await;
        };
        let mut answer = Vec::new();
        tokio::select! {
            () = sending => unreachable!("it never ends"),
            () = read_head(&mut from, &mut answer) => {}
        }
        let head = String::from_utf8_lossy(&answer);
        head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Waits until the other side closes the connection, whatever it says first.
    pub async fn end(&mut self) {
        let mut said = Vec::new();
        // A reset is an end as well.
        let ending = self.0.read_to_end(&mut said);
        let _ = timeout(2 * PATIENCE, ending).await.expect("an end in time");
    }

    /// The head of the next answer. Empty if the connection closes instead.
    pub async fn head(&mut self) -> String {
        let mut answer = Vec::new();
        read_head(&mut self.0, &mut answer).await;
        String::from_utf8(answer).unwrap()
    }
}

async fn read_head(from: &mut (impl AsyncReadExt + Unpin), head: &mut Vec<u8>) {
    let reading = async {
        let mut buffer = [0; 4096];
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match from.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(length) => head.extend_from_slice(&buffer[..length]),
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("an answer in time");
}
