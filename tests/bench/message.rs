//! HTTP/1.1 messages on a connection that is kept, as cheaply as can be: the
//! measuring shares two cores with what is measured.

use std::io::{Error, ErrorKind};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// One end of a connection.
pub struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

/// A request or an answer.
pub struct Message {
    /// Its first line and headers.
    pub head: Bytes,
    /// Its body, as long as `Content-Length` says.
    pub body: Bytes,
}

impl Connection {
    /// Takes over a connection.
    pub fn new(stream: TcpStream) -> Result<Self, Error> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: BytesMut::with_capacity(CHUNK),
        })
    }

    /// Sends bytes that are a message.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        self.stream.write_all(message).await
    }

    /// The next message. `None` once the other end has closed.
    pub async fn receive(&mut self) -> Result<Option<Message>, Error> {
        let mut seen = 0;
        let end = loop {
            let from = usize::saturating_sub(seen, 3);
            let blank = self.buffer[from..]
                .windows(4)
                .position(|four| four == b"\r\n\r\n");
            if let Some(at) = blank {
                break from + at + 4;
            }
            seen = self.buffer.len();
            if !self.read().await? {
                return if seen == 0 {
                    Ok(None)
                } else {
                    Err(ErrorKind::UnexpectedEof.into())
                };
            }
        };
        let head = self.buffer.split_to(end).freeze();
        let length = content_length(&head)?;
        if length > self.buffer.len() {
            self.buffer.reserve(length - self.buffer.len());
        }
        while self.buffer.len() < length {
            if !self.read().await? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let body = self.buffer.split_to(length).freeze();
        Ok(Some(Message { head, body }))
    }

    async fn read(&mut self) -> Result<bool, Error> {
        if self.buffer.remaining() == self.buffer.capacity() {
            self.buffer.reserve(CHUNK);
        }
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}

impl Message {
    /// The status, if it is an answer.
    pub fn status(&self) -> Option<u16> {
        std::str::from_utf8(self.head.get(9..12)?)
            .ok()?
            .parse()
            .ok()
    }

    /// The path, if it is a request.
    pub fn path(&self) -> Option<&str> {
        let line = self.head.split(|byte| *byte == b'\r').next()?;
        std::str::from_utf8(line).ok()?.split(' ').nth(1)
    }
}

fn content_length(head: &[u8]) -> Result<usize, Error> {
    const NAME: &[u8] = b"content-length:";
    for line in head.split(|byte| *byte == b'\n') {
        if line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
            return std::str::from_utf8(&line[NAME.len()..])
                .ok()
                .and_then(|length| length.trim().parse().ok())
                .ok_or_else(|| Error::other("a Content-Length that is no number"));
        }
        if line.len() > 18 && line[..18].eq_ignore_ascii_case(b"transfer-encoding:") {
            return Err(Error::other(
                "a body without Content-Length, which is not read here",
            ));
        }
    }
    Ok(0)
}
