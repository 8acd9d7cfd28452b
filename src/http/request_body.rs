//! Reads the body of a request within bounds.

use std::time::Duration;

use bytes::Buf;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, StatusCode};

/// The longest body of a request, in bytes.
pub const REQUEST_MAX: usize = 64 * 1024;

/// How much of a longer body is heard out, in bytes. A sender that is cut short
/// may lose the answer that tells it why.
const HEARD_OUT: usize = 64 * 1024 * 1024;

/// How long its sender may pause meanwhile.
const LULL: Duration = Duration::from_millis(500);

/// The longest a body may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Longer than any that is answered.
    #[error("the body is longer than {REQUEST_MAX} bytes")]
    TooLong,
    /// Not there in time.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// It broke off.
    #[error("the body broke off")]
    BrokenOff,
}

impl RequestError {
    /// How a request without its body is answered.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::BrokenOff => StatusCode::BAD_REQUEST,
        }
    }
}

/// The body of a request, whole.
///
/// # Errors
/// If it is longer than [`REQUEST_MAX`], does not arrive within ten seconds, or breaks off.
pub async fn read_request<B: Buf>(
    headers: &HeaderMap,
    stream: impl Stream<Item = Result<B, warp::Error>>,
) -> Result<Vec<u8>, RequestError> {
    let announced = headers
        .get(http::header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    // One that asks first has not begun to send.
    let asks_first = headers.contains_key(http::header::EXPECT);
    if announced > HEARD_OUT || (announced > REQUEST_MAX && asks_first) {
        return Err(RequestError::TooLong);
    }
    let mut length = announced;
    let mut body = Vec::new();
    let collected = tokio::time::timeout(PATIENCE, collect(stream, &mut body, &mut length)).await;
    match collected {
        _ if length > REQUEST_MAX => Err(RequestError::TooLong),
        Ok(Ok(())) => Ok(body),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(RequestError::TooSlow),
    }
}

/// Collects the body as far as it fits, and counts it in full.
async fn collect<B: Buf>(
    stream: impl Stream<Item = Result<B, warp::Error>>,
    body: &mut Vec<u8>,
    length: &mut usize,
) -> Result<(), RequestError> {
    let mut stream = std::pin::pin!(stream);
    let mut heard = 0;
    while heard <= HEARD_OUT {
        let next = if *length > REQUEST_MAX {
            tokio::time::timeout(LULL, stream.next()).await
        } else {
            Ok(stream.next().await)
        };
        let Ok(Some(part)) = next else { break };
        let mut part = part.map_err(|_| RequestError::BrokenOff)?;
        heard += part.remaining();
        *length = heard.max(*length);
        if *length > REQUEST_MAX {
            *body = Vec::new();
            continue;
        }
        while part.has_remaining() {
            let chunk = part.chunk();
            body.extend_from_slice(chunk);
            part.advance(chunk.len());
        }
    }
    Ok(())
}
