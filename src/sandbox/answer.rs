//! Answers: the API's own, and such as no API should give.

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use warp::reply::{Reply, Response};

/// Something the API says no to: its status and what to tell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// A 400.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A 404.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }
}

impl Reply for Refusal {
    /// `{"message", "type"}`, the upstream's shape of an error.
    fn into_response(self) -> Response {
        let phrase = match self.status {
            // The upstream uses the newer name of it.
            StatusCode::PAYLOAD_TOO_LARGE => "Content Too Large",
            status => status.canonical_reason().unwrap_or("Error"),
        };
        json_answer(
            self.status,
            &json!({"message": self.message, "type": phrase}),
        )
    }
}

/// An answer in JSON.
pub(super) fn json_answer(status: StatusCode, body: &impl Serialize) -> Response {
    warp::reply::with_status(warp::reply::json(body), status).into_response()
}

/// Which question an answer is put in for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Question {
    /// `GET /dispatches`.
    List,
    /// `GET /dispatches/{id}` for every id that has no [`Question::Id`].
    ById,
    /// `GET /dispatches/{id}` for this id.
    Id(String),
    /// `GET /sites`.
    Sites,
}

/// What becomes of the connection after a [`RawAnswer`]'s body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ending {
    /// Nothing: the answer is whole.
    #[default]
    Whole,
    /// More is announced than is sent, then the connection closes.
    BreaksOff,
    /// More is announced than is sent, and the connection stays silent.
    Hangs,
}

/// An answer put in by hand in place of the API's own. It is not cut off by
/// `truncate_bodies`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its `content-type`, if any.
    pub content_type: Option<String>,
    /// More headers. One that is no valid header is left out.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Bytes,
    /// What comes after it.
    pub ending: Ending,
}

impl RawAnswer {
    /// An answer that says it is JSON.
    pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type: Some("application/json".into()),
            body: body.into(),
            ..Self::default()
        }
    }

    /// An answer that says it is HTML, as a proxy in between would give.
    pub fn html(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            content_type: Some("text/html; charset=utf-8".into()),
            ..Self::json(status, body)
        }
    }

    /// The same with another ending.
    pub fn ending(self, ending: Ending) -> Self {
        Self { ending, ..self }
    }

    /// The answer to send. One that hangs lets go at `stop`.
    pub(super) fn into_response(self, stop: CancellationToken) -> Response {
        let length = self.body.len() as u64;
        let mut response = match self.ending {
            Ending::Whole => Response::new(self.body.into()),
            Ending::BreaksOff => unfinished(self.body, CancellationToken::new(), false),
            Ending::Hangs => unfinished(self.body, stop, true),
        };
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if self.ending != Ending::Whole {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length.saturating_add(1)));
        }
        let content_type = self.content_type.map(|kind| ("content-type".into(), kind));
        for (name, value) in content_type.into_iter().chain(self.headers) {
            insert(headers, &name, &value);
        }
        response
    }
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        headers.insert(name, value);
    }
}

/// An answer that is never sent: the connection closes instead. hyper writes
/// nothing out before the first piece of the body is there.
pub(super) fn withheld() -> Response {
    warp::reply::stream(stream::iter([Err::<Bytes, _>(closed())])).into_response()
}

/// `body`, and then nothing until the connection closes.
fn unfinished(body: Bytes, stop: CancellationToken, hangs: bool) -> Response {
    let tail = stream::once(async move {
        if hangs {
            stop.cancelled().await;
        } else {
            // Lets what was written go out first.
            tokio::task::yield_now().await;
        }
        Err(closed())
    });
    let head = stream::iter([Ok::<_, std::io::Error>(body)]);
    warp::reply::stream(head.chain(tail)).into_response()
}

fn closed() -> std::io::Error {
    std::io::ErrorKind::ConnectionAborted.into()
}

/// The first half of an answer, as if that were all of it.
pub(super) async fn cut_off(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let body = match http_body_util::BodyExt::collect(body).await {
        Ok(body) => body.to_bytes(),
        // The API's own answers are made of bytes at hand.
        Err(_) => Bytes::new(),
    };
    parts.headers.remove(CONTENT_LENGTH);
    let half = body.slice(..body.len() / 2);
    Response::from_parts(parts, half.into())
}
