//! Asks the API over HTTP. One question a call; when to ask, and how often, is
//! decided elsewhere.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode};
use reqwest::Response;
use url::Url;

use super::wire::read_error;
use super::{Api, ApiError, ApiKey, ClientError, Question, Told, read_dispatch_answer, read_list};
use crate::clock::Clock;
use crate::engine::Answer;
use crate::model::DispatchId;
use crate::retry::retry_after;

/// The header that the key travels in.
const KEY_HEADER: HeaderName = HeaderName::from_static("x-voltus-api-key");

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest pause within an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest a list may take, whole.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest an answer by id may take, whole.
const DISPATCH_TIMEOUT: Duration = Duration::from_secs(15);
/// What is read of an answer that is an error.
const ERROR_BODY_MAX: u64 = 64 * 1024;
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

/// A client of the API. It follows no redirect and sends the key to the
/// configured host alone (rule R8).
#[derive(Debug)]
pub struct Client<C> {
    http: reqwest::Client,
    list_url: Url,
    key: Arc<ApiKey>,
    max_body: u64,
    clock: C,
}

impl<C: Clock> Client<C> {
    /// A client for the API at `settings`.
    ///
    /// # Errors
    /// When the system has no CA certificates, or the URL takes no path.
    pub fn new(settings: &ClientSettings, key: Arc<ApiKey>, clock: C) -> Result<Self, ClientError> {
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .user_agent(concat!("dispatchd/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&settings.base) {
            builder = builder.no_proxy();
        }
        let http = builder
            .build()
            .map_err(|error| ClientError::Build(describe(error)))?;
        let mut list_url = settings.base.clone();
        list_url
            .path_segments_mut()
            .map_err(|()| ClientError::Base(settings.base.clone()))?
            .pop_if_empty()
            .extend([settings.version.as_str(), "dispatches"]);
        Ok(Self {
            http,
            list_url,
            key,
            max_body: settings.max_body,
            clock,
        })
    }

    async fn list(&self) -> Result<Told, ApiError> {
        let response = self.get(self.list_url.clone(), LIST_TIMEOUT).await?;
        if response.status() != StatusCode::OK {
            return Err(self.error(response).await);
        }
        let body = read_body(response, self.max_body).await?;
        let (list, problems) = away_if_large(body, read_list).await?;
        Ok(Told {
            answer: Answer::List(list),
            problems,
        })
    }

    async fn dispatch(&self, id: DispatchId) -> Result<Told, ApiError> {
        let mut url = self.list_url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.push(id.as_str());
        }
        let response = self.get(url, DISPATCH_TIMEOUT).await?;
        match response.status() {
            StatusCode::OK => {
                let body = read_body(response, self.max_body).await?;
                let (reading, problems) =
                    away_if_large(body, move |body| read_dispatch_answer(body, &id)).await?;
                Ok(Told {
                    answer: Answer::Found(reading),
                    problems,
                })
            }
            StatusCode::NOT_FOUND => {
                let body = read_body(response, ERROR_BODY_MAX).await?;
                match read_error(&body) {
                    Some(_) => Ok(Told {
                        answer: Answer::Gone(id),
                        problems: Default::default(),
                    }),
                    // Somebody in between does not know the path.
                    None => Err(ApiError::Status {
                        status: 404,
                        message: "not in the API's own words".into(),
                        retry_after: None,
                    }),
                }
            }
            _ => Err(self.error(response).await),
        }
    }

    async fn get(&self, url: Url, timeout: Duration) -> Result<Response, ApiError> {
        self.http
            .get(url)
            .header(KEY_HEADER, self.key.header())
            .timeout(timeout)
            .send()
            .await
            .map_err(transport)
    }

    /// What an answer with a status of failure says.
    async fn error(&self, response: Response) -> ApiError {
        let status = response.status();
        let retry_after = retry_after(response.headers(), self.clock.now().wall);
        match status {
            StatusCode::TOO_MANY_REQUESTS => ApiError::TooFast { retry_after },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                self.reload_key();
                ApiError::KeyRefused {
                    status: status.as_u16(),
                }
            }
            _ if status.is_redirection() => ApiError::Redirect {
                status: status.as_u16(),
            },
            _ => ApiError::Status {
                status: status.as_u16(),
                message: message_of(response).await,
                retry_after,
            },
        }
    }

    /// The key may have been rotated: the next question takes what the file
    /// says now.
    fn reload_key(&self) {
        match self.key.reload() {
            Ok(true) => tracing::info!("the API key was read again from its file and is another"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the API key could not be read again"),
        }
    }
}

impl<C: Clock> Api for Client<C> {
    async fn ask(&self, question: Question) -> Result<Told, ApiError> {
        match question {
            Question::List => self.list().await,
            Question::Dispatch(id) => self.dispatch(id).await,
        }
    }
}

/// Whether a URL's host is this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

async fn message_of(response: Response) -> String {
    match read_body(response, ERROR_BODY_MAX).await {
        Ok(body) => read_error(&body).map_or_else(
            || "no message in the API's own words".to_owned(),
            |body| body.message.chars().take(200).collect(),
        ),
        Err(error) => error.to_string(),
    }
}

/// The body, unless it is longer than `limit` bytes.
async fn read_body(mut response: Response, limit: u64) -> Result<Vec<u8>, ApiError> {
    let announced = content_length(response.headers()).unwrap_or(0);
    if announced > limit {
        return Err(ApiError::TooLong { limit });
    }
    // What is announced is not believed beyond what is usual.
    let usual = announced.min(LARGE as u64);
    let mut body = Vec::with_capacity(usize::try_from(usual).unwrap_or(LARGE));
    while let Some(chunk) = response.chunk().await.map_err(transport)? {
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(ApiError::TooLong { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(http::header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

async fn away_if_large<T: Send + 'static>(
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

fn transport(error: reqwest::Error) -> ApiError {
    if error.is_timeout() {
        ApiError::TimedOut
    } else {
        ApiError::Unreachable(describe(error))
    }
}

/// The error with its causes, without the URL.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
