//! What the chain from a webhook to a receiver costs when nothing is decided: the dispatch
//! that the webhook names is fetched, and a command for each of its sites sent on. On the
//! way something may be written and synced, as often as the daemon does.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dispatchd::http::{Bounds, bounded_client, serve};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;
use warp::Filter;

use crate::Fault;

/// The longest silence within an answer, as the daemon has it.
const PAUSE: Duration = Duration::from_secs(10);

/// How much one commit of the daemon writes, about: it is six pages of its state file.
const WRITTEN: usize = 6 * 4096;

/// Answers webhooks after the commands that each leads to have been sent to `receiver`, if
/// there is one. With a `journal`, something is written there and synced once the dispatch is
/// fetched, and once more before commands are sent. It never ends by itself.
pub async fn run(
    listen: SocketAddr,
    api: &Url,
    receiver: Option<&Url>,
    journal: Option<&Path>,
) -> Result<(), Fault> {
    let journal = journal.map(File::create).transpose()?;
    let downstream = receiver.map(|url| bounded_client(url, PAUSE).map(|http| (url.clone(), http)));
    let relay = Arc::new(Relay {
        api: api.clone(),
        upstream: bounded_client(api, PAUSE)?,
        downstream: downstream.transpose()?,
        journal: journal.map(|file| Arc::new(Mutex::new(file))),
    });
    let webhook = warp::path!("dispatch-listener")
        .and(warp::post())
        .and(warp::body::bytes())
        .then(move |body: Bytes| {
            let relay = Arc::clone(&relay);
            async move { reply(relay.pass_on(&body).await) }
        });
    let healthz = warp::path!("healthz").map(|| reply(Ok(())));
    let routes = webhook
        .or(healthz)
        .unify()
        .recover(|_| async { Ok::<_, Infallible>(StatusCode::NOT_FOUND) })
        .map(warp::Reply::into_response)
        .boxed();
    let listener = TcpListener::bind(listen).await?;
    let routes = warp::service(routes);
    serve(
        listener,
        routes,
        Bounds::default(),
        CancellationToken::new(),
    )
    .await;
    Ok(())
}

fn reply(result: Result<(), Fault>) -> warp::reply::Response {
    let (status, text) = match result {
        Ok(()) => (StatusCode::OK, r#"{"status":"done"}"#.to_owned()),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let mut reply = warp::reply::Response::new(text.into());
    *reply.status_mut() = status;
    reply
}

struct Relay {
    api: Url,
    upstream: reqwest::Client,
    downstream: Option<(Url, reqwest::Client)>,
    journal: Option<Arc<Mutex<File>>>,
}

impl Relay {
    async fn pass_on(&self, webhook: &[u8]) -> Result<(), Fault> {
        let Hint { resource } = serde_json::from_slice(webhook)?;
        let request = self.upstream.get(self.api.join(resource)?);
        let answer = request.header("x-voltus-api-key", "secret").send().await?;
        let dispatch: Dispatch = serde_json::from_slice(&answer.bytes().await?)?;
        self.write_down().await?;
        let Some((receiver, http)) = &self.downstream else {
            return Ok(());
        };
        self.write_down().await?;
        let commands = dispatch.sites.iter().map(|site| {
            json!({
                "specversion": "1.0",
                "type": "site.curtail",
                "source": "relay",
                "id": dispatch.id,
                "subject": site.id,
                "data": {"site": site.id, "commitment": site.commitment},
            })
        });
        let body = serde_json::to_vec(&commands.collect::<Vec<_>>())?;
        let request = http.post(receiver.clone());
        let request = request.header(CONTENT_TYPE, "application/cloudevents-batch+json");
        request.body(body).send().await?.error_for_status()?;
        Ok(())
    }

    async fn write_down(&self) -> Result<(), Fault> {
        let Some(journal) = self.journal.clone() else {
            return Ok(());
        };
        let write = move || {
            let mut journal = journal.lock().unwrap();
            journal.write_all(&[b'x'; WRITTEN])?;
            journal.sync_all()
        };
        Ok(tokio::task::spawn_blocking(write).await??)
    }
}

#[derive(Deserialize)]
struct Hint<'a> {
    resource: &'a str,
}

#[derive(Deserialize)]
struct Dispatch {
    id: String,
    sites: Vec<Site>,
}

#[derive(Deserialize)]
struct Site {
    id: String,
    commitment: Option<f64>,
}
