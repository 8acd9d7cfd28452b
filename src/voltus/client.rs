//! Asks the API over HTTP. One question a call; when to ask, and how often, is
//! decided elsewhere.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use url::Url;

use super::transport::{SHORT_BODY, Transport, body};
use super::wire::read_error;
use super::{
    Api, ApiError, ApiKey, ApiResponse, ClientError, ListReader, Question, RedirectLimiter,
    Signals, Stamp, read_dispatch_answer,
};
use crate::clock::Clock;
use crate::model::{Answer, DispatchId};

/// The longest pause within an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest a list may take, whole.
pub(super) const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest an answer by id may take, whole.
const DISPATCH_TIMEOUT: Duration = Duration::from_secs(15);
/// From here on an answer is read away from the threads that serve others.
const LARGE: usize = 256 * 1024;

/// How the API is reached.
#[derive(Debug)]
pub struct ClientSettings {
    /// Scheme and host, and a path in front of everything if there is one.
    pub base: Url,
    /// The version, which is the first part of every path.
    pub version: String,
    /// The longest answer taken, in bytes.
    pub max_body: u64,
}

/// A client of the API. It sends the key to the configured origin alone and
/// follows redirects within it (rule R8).
#[derive(Debug)]
pub struct Client<C> {
    transport: Transport<C>,
    max_body: u64,
    reader: SharedReader,
}

impl<C: Clock> Client<C> {
    /// A client for the API at `settings`.
    ///
    /// # Errors
    /// When the system has no CA certificates, or the URL takes no path.
    pub fn new(settings: &ClientSettings, key: Arc<ApiKey>, clock: C) -> Result<Self, ClientError> {
        Ok(Self {
            transport: Transport::new(settings, key, READ_TIMEOUT, clock)?,
            max_body: settings.max_body,
            reader: SharedReader::default(),
        })
    }

    /// What the answers tell in passing.
    pub fn signals(&self) -> Arc<Signals> {
        self.transport.signals()
    }

    async fn list(&self) -> Result<ApiResponse, ApiError> {
        let response = self
            .transport
            .send(Method::GET, &["dispatches"], None, LIST_TIMEOUT)
            .await?;
        if response.status() != StatusCode::OK {
            return Err(self.transport.error(response).await);
        }
        let stamp = self.transport.stamp(&response);
        let url = response.url().clone();
        let body = body(response, self.max_body).await?;
        let list = read_whole_list(body, &self.reader, stamp).await;
        list.map_err(|error| error.at(&url))
    }

    async fn dispatch(&self, id: DispatchId) -> Result<ApiResponse, ApiError> {
        let path = ["dispatches", id.as_str()];
        let response = self
            .transport
            .send(Method::GET, &path, None, DISPATCH_TIMEOUT)
            .await?;
        let stamp = self.transport.stamp(&response);
        match response.status() {
            StatusCode::OK => {
                let body = body(response, self.max_body).await?;
                let (reading, problems) =
                    away_if_large(body, move |body| read_dispatch_answer(body, &id)).await?;
                Ok(ApiResponse {
                    answer: Answer::Found(reading),
                    problems,
                    stamp,
                })
            }
            StatusCode::NOT_FOUND => {
                let url = response.url().clone();
                let body = body(response, SHORT_BODY).await?;
                match read_error(&body) {
                    Some(_) => Ok(ApiResponse {
                        answer: Answer::Gone(id),
                        problems: Default::default(),
                        stamp,
                    }),
                    // Somebody in between does not know the path.
                    None => Err(ApiError::Foreign {
                        status: 404,
                        url: url.into(),
                        retry_after: None,
                    }),
                }
            }
            _ => Err(self.transport.error(response).await),
        }
    }
}

impl<C: Clock> Api for Client<C> {
    async fn ask(&self, question: Question) -> Result<ApiResponse, ApiError> {
        match question {
            Question::List => {
                let list = self.list().await;
                if list.is_err() {
                    self.transport.give_up_connections();
                }
                list
            }
            Question::Dispatch(id) => self.dispatch(id).await,
        }
    }

    fn limit_redirects(&mut self, limiter: RedirectLimiter) {
        self.transport.limit_redirects(limiter);
    }
}

/// What is remembered from one list to the next.
pub(super) type SharedReader = Arc<Mutex<ListReader>>;

/// Reads the answer to `GET /dispatches`.
pub(super) async fn read_whole_list(
    body: Vec<u8>,
    reader: &SharedReader,
    stamp: Stamp,
) -> Result<ApiResponse, ApiError> {
    let reader = Arc::clone(reader);
    let read = move |body: &[u8]| {
        // It is changed only once a list was read to its end.
        let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
        reader.read(body)
    };
    let (list, problems) = away_if_large(body, read).await?;
    Ok(ApiResponse {
        answer: Answer::List(list),
        problems,
        stamp,
    })
}

/// Reads a long answer away from the threads that serve others.
pub(super) async fn away_if_large<T: Send + 'static>(
    body: Vec<u8>,
    read: impl FnOnce(&[u8]) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if body.len() < LARGE {
        return read(&body);
    }
    match tokio::task::spawn_blocking(move || read(&body)).await {
        Ok(read) => read,
        Err(error) => Err(ApiError::Unreadable(error.to_string())),
    }
}

#[cfg(test)]
mod tests;
