//! Reads `GET /events`, as any client would.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::teller::{Kind, Teller};
use super::words;
use crate::clock::Mono;

/// How long it waits before it connects again.
const PAUSE: Duration = Duration::from_millis(200);

/// An event that came.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    /// When it came, on the clock of the story.
    pub at: Mono,
    pub event_type: String,
    pub subject: String,
    /// The CloudEvent's data.
    pub data: Value,
}

/// Reads the stream at `url` for ever, tells what comes, and adds it to
/// `heard`.
pub(super) async fn listen(
    http: reqwest::Client,
    url: String,
    teller: Teller,
    heard: watch::Sender<Option<Vec<Heard>>>,
) {
    let mut last_id = None;
    loop {
        if let Err(error) = read(&http, &url, &teller, &heard, &mut last_id).await {
            tracing::debug!(%error, "the event stream broke off");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn read(
    http: &reqwest::Client,
    url: &str,
    teller: &Teller,
    heard: &watch::Sender<Option<Vec<Heard>>>,
    last_id: &mut Option<String>,
) -> reqwest::Result<()> {
    let mut request = http.get(url);
    if let Some(id) = &*last_id {
        request = request.header("last-event-id", id);
    }
    let mut response = request.send().await?.error_for_status()?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        bytes.extend_from_slice(&chunk);
        // A block ends with an empty line.
        while let Some(end) = bytes.windows(2).position(|two| two == b"\n\n") {
            let block: Vec<u8> = bytes.drain(..end + 2).collect();
            let block = String::from_utf8_lossy(&block);
            let field = |name| block.lines().find_map(|line| line.strip_prefix(name));
            if let Some(id) = field("id: ") {
                *last_id = Some(id.to_owned());
            }
            if let Some(event) = field("data: ").and_then(|json| parse(json, teller)) {
                teller.line(Kind::Event, &words::event(&event, teller));
                heard.send_modify(|heard| heard.get_or_insert_default().push(event));
            } else {
                // The opening: from now on nothing is missed.
                heard.send_modify(|heard| {
                    heard.get_or_insert_default();
                });
            }
        }
    }
    Ok(())
}

fn parse(json: &str, teller: &Teller) -> Option<Heard> {
    let event: Value = serde_json::from_str(json).ok()?;
    let text = |name: &str| Some(event[name].as_str()?.to_owned());
    Some(Heard {
        at: teller.now().mono,
        event_type: text("type")?,
        subject: text("subject")?,
        data: event["data"].clone(),
    })
}
