//! Answers that are long: written into pieces, and sent one by one.
//!
//! In one piece, the system would copy megabytes at a time into a connection,
//! and give as many back at once afterwards. Whoever is served by the same
//! threads would wait for that. Sent as fast as the client reads, it and the
//! client would have two processors to themselves as long as it takes.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use serde::Serialize;
use tokio::time::{Interval, MissedTickBehavior, interval};
use warp::Reply;
use warp::reply::Response;
use xxhash_rust::xxh3::Xxh3Default;

use super::reply::{json_headers, unwritten};

/// How long a piece is, in bytes, or a little longer.
const PIECE: usize = 128 * 1024;

/// How long after a piece the next one is sent: 128 MB a second.
const PACE: Duration = Duration::from_millis(1);

/// JSON in pieces.
#[derive(Debug, Default)]
pub struct Pieces {
    full: Vec<Bytes>,
    last: Vec<u8>,
    length: usize,
}

impl Pieces {
    /// `value` as JSON.
    ///
    /// # Errors
    /// When it cannot be written as such.
    pub fn json(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        let mut pieces = Self::default();
        serde_json::to_writer(&mut pieces, value)?;
        Ok(pieces)
    }

    /// A hash of what was written, the same for the same text.
    pub fn hash(&self) -> u64 {
        let mut hasher = Xxh3Default::new();
        for piece in &self.full {
            hasher.update(piece);
        }
        hasher.update(&self.last);
        hasher.digest()
    }

    /// Puts text around it.
    #[must_use]
    pub fn between(mut self, head: String, tail: &str) -> Self {
        self.length += head.len() + tail.len();
        self.full.insert(0, head.into());
        self.last.extend_from_slice(tail.as_bytes());
        self
    }

    /// The answer with it as its body.
    pub fn reply(mut self) -> Response {
        self.full.push(self.last.into());
        let left = (self.full.into_iter(), None);
        let pieces = stream::unfold(left, |(mut pieces, pace)| async {
            let piece = pieces.next()?;
            // Begun where it is sent, which need not be where it was written.
            let mut pace = pace.unwrap_or_else(paced);
            pace.tick().await;
            Some((Ok::<_, io::Error>(piece), (pieces, Some(pace))))
        });
        let mut reply = warp::reply::stream(pieces).into_response();
        json_headers(&mut reply);
        let length = HeaderValue::from(self.length);
        reply.headers_mut().insert(header::CONTENT_LENGTH, length);
        reply
    }
}

impl Write for Pieces {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if self.last.len() >= PIECE {
            let full = std::mem::replace(&mut self.last, Vec::with_capacity(PIECE));
            self.full.push(full.into());
            // Whoever waits for this processor gets it now, not milliseconds later.
            std::thread::yield_now();
        }
        self.last.extend_from_slice(text);
        self.length += text.len();
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn paced() -> Interval {
    let mut pace = interval(PACE);
    // A client that was slow is not sent the more at once.
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    pace
}

/// `value` as JSON, in pieces where it is long.
pub fn long_json_reply(value: &impl Serialize) -> Response {
    Pieces::json(value).map_or_else(|error| unwritten(&error), Pieces::reply)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::clock::{Clock, SystemClock};

    #[tokio::test]
    async fn a_long_answer_comes_whole_and_says_how_long_it_is() {
        for length in [0, 1, 10, 100_000] {
            let list: Vec<u32> = (0..length).collect();
            let text = serde_json::to_string(&list).unwrap();
            let pieces = Pieces::json(&list).unwrap();
            let again = Pieces::json(&list).unwrap();
            assert_eq!(pieces.hash(), again.hash());
            let reply = pieces.between("<".into(), ">").reply();
            let length = reply.headers()[header::CONTENT_LENGTH].to_str().unwrap();
            assert_eq!(length, (text.len() + 2).to_string());
            let body = reply.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, format!("<{text}>"));
        }
    }

    #[tokio::test]
    async fn a_fast_client_gets_a_long_answer_piece_by_piece() {
        let list = vec!["x".repeat(PIECE); 4];
        let reply = long_json_reply(&list);
        let clock = SystemClock::new();
        let begun = clock.now().mono;
        let body = reply.into_body().collect().await.unwrap().to_bytes();
        assert!(body.len() > 4 * PIECE);
        let took = clock.now().mono.saturating_sub(begun);
        assert!(took >= PACE * 3, "{took:?}");
    }
}
