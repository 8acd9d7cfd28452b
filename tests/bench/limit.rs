//! The limit: what the same server and the same client cost when nothing is
//! decided and nothing is kept.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use dispatchd::http::{Bounds, bounded_client, serve};
use http::StatusCode;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;
use warp::Filter;

use crate::Fault;

/// The longest silence within an answer, and the longest answer: as the daemon
/// has them.
const PAUSE: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(15);

/// Answers webhooks, each after one request to the API, and `POST /poll` after
/// one pass over the list. It never ends by itself.
pub async fn run(listen: SocketAddr, api: &Url) -> Result<(), Fault> {
    let upstream = Arc::new(Upstream {
        api: api.clone(),
        http: bounded_client(api, PAUSE)?,
    });
    let poller = Arc::clone(&upstream);
    let webhook = warp::path!("dispatch-listener")
        .and(warp::post())
        .and(warp::body::bytes())
        .then(move |body: Bytes| {
            let upstream = Arc::clone(&upstream);
            async move {
                match serde_json::from_slice::<Hint>(&body) {
                    Ok(hint) => upstream.ask(hint.resource).await,
                    Err(_) => Ok(StatusCode::BAD_REQUEST),
                }
            }
        })
        .map(reply);
    let poll = warp::path!("poll")
        .and(warp::post())
        .then(move || {
            let poller = Arc::clone(&poller);
            async move { poller.pass().await }
        })
        .map(reply);
    let healthz = warp::path!("healthz").map(|| reply(Ok(StatusCode::OK)));
    let routes = webhook
        .or(poll)
        .unify()
        .or(healthz)
        .unify()
        .recover(|_| async { Ok::<_, Infallible>(StatusCode::NOT_FOUND) });
    let routes = routes.map(warp::Reply::into_response).boxed();
    let listener = TcpListener::bind(listen).await?;
    let bounds = Bounds::default();
    serve(
        listener,
        warp::service(routes),
        bounds,
        CancellationToken::new(),
    )
    .await;
    Ok(())
}

/// What a webhook says.
#[derive(Deserialize)]
struct Hint<'a> {
    #[serde(rename = "event")]
    _event: Event<'a>,
    resource: &'a str,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "name")]
    _name: &'a str,
}

fn reply(result: Result<StatusCode, Fault>) -> warp::reply::Response {
    let (status, text) = match result {
        Ok(status) => (status, r#"{"status":"done"}"#.to_owned()),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let mut reply = warp::reply::Response::new(text.into());
    *reply.status_mut() = status;
    reply
}

/// The API, asked as the daemon asks it.
struct Upstream {
    api: Url,
    http: reqwest::Client,
}

impl Upstream {
    /// Asks for what a webhook names.
    async fn ask(&self, resource: &str) -> Result<StatusCode, Fault> {
        let (status, body) = self.get(resource).await?;
        if status == StatusCode::OK && !body.is_empty() {
            Ok(status)
        } else {
            Err(format!("the API answered {status}").into())
        }
    }

    /// Reads the list and forgets it.
    async fn pass(&self) -> Result<StatusCode, Fault> {
        let (status, body) = self.get("/2022-04-15/dispatches").await?;
        let list: List = serde_json::from_slice(&body)?;
        // The compiler must not see that nothing is made of it.
        if std::hint::black_box(&list).dispatches.len() == usize::MAX {
            return Err("a list without an end".into());
        }
        Ok(status)
    }

    async fn get(&self, path: &str) -> Result<(StatusCode, Bytes), Fault> {
        let request = self.http.get(self.api.join(path)?).timeout(TIMEOUT);
        let answer = request.header("x-voltus-api-key", "secret").send().await?;
        Ok((answer.status(), answer.bytes().await?))
    }
}

#[derive(Deserialize)]
struct List {
    dispatches: Vec<Dispatch>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what it costs to read them is what counts")]
struct Dispatch {
    id: String,
    authorized: bool,
    test: bool,
    start_time: DateTime<Utc>,
    end_time: Option<DateTime<Utc>>,
    creation_time: Option<DateTime<Utc>>,
    modification_number: Option<i64>,
    program: Program,
    sites: Vec<Site>,
    metadata: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what it costs to read them is what counts")]
struct Program {
    id: Option<i64>,
    name: Option<String>,
    market: Option<String>,
    program_type: Option<String>,
    timezone: Option<String>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what it costs to read them is what counts")]
struct Site {
    id: String,
    name: String,
    customer_location_id: String,
    commitment: Option<f64>,
    drop_by: Option<f64>,
}
