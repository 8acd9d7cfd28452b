//! Reads a webhook's body within bounds.

use std::time::Duration;

use bytes::Buf;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, StatusCode};

use super::BODY_MAX;

/// The longest a body may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    /// Longer than any webhook.
    #[error("the body is longer than {BODY_MAX} bytes")]
    TooLong,
    /// Not there in time.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// It broke off.
    #[error("the body broke off")]
    BrokenOff,
}

impl BodyError {
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::BrokenOff => StatusCode::BAD_REQUEST,
        }
    }
}

/// The body, whole.
pub(super) async fn read<B: Buf>(
    headers: &HeaderMap,
    stream: impl Stream<Item = Result<B, warp::Error>>,
) -> Result<Vec<u8>, BodyError> {
    let announced = headers
        .get(http::header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > BODY_MAX as u64) {
        return Err(BodyError::TooLong);
    }
    let collect = async {
        let mut stream = std::pin::pin!(stream);
        let mut body = Vec::new();
        while let Some(part) = stream.next().await {
            let mut part = part.map_err(|_| BodyError::BrokenOff)?;
            if body.len() + part.remaining() > BODY_MAX {
                return Err(BodyError::TooLong);
            }
            while part.has_remaining() {
                let chunk = part.chunk();
                body.extend_from_slice(chunk);
                part.advance(chunk.len());
            }
        }
        Ok(body)
    };
    tokio::time::timeout(PATIENCE, collect)
        .await
        .unwrap_or(Err(BodyError::TooSlow))
}
