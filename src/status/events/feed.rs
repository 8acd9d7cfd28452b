//! Sends one client its events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::wire;
use crate::http::Hangup;
use crate::model::{EVENT_TYPES, Event};
use crate::seldom::Rarely;
use crate::store::StoreHandle;

/// How many stored events are read at once. They may be large, and are held
/// until they are sent.
const PAGE: usize = 32;

/// How often a silent stream shows that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a listener may take nothing before it is cut off, and somebody
/// else gets its place.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a listener may take to read the rest once the daemon stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// Which events a listener wants.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filter(Vec<String>);

/// A filter that no event passes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("type={0}: no event's type begins so; site. or dispatch.ended would be right")]
pub(super) struct FilterError(String);

impl Filter {
    /// Reads `type`, the beginning of a type. Several take any of them.
    pub fn read(query: &str) -> Result<Self, FilterError> {
        let mut prefixes = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if name == "type" {
                for prefix in value.split(',') {
                    if !EVENT_TYPES.iter().any(|known| known.starts_with(prefix)) {
                        return Err(FilterError(prefix.to_owned()));
                    }
                    prefixes.push(prefix.to_owned());
                }
            }
        }
        Ok(Self(prefixes))
    }

    fn takes(&self, event: &Event) -> bool {
        let of_type = |prefix: &String| event.event_type.starts_with(prefix);
        self.0.is_empty() || self.0.iter().any(of_type)
    }
}

/// One listener's stream.
pub(super) struct Feed {
    pub store_id: Arc<str>,
    pub store: StoreHandle,
    pub live: broadcast::Receiver<Event>,
    pub filter: Filter,
    /// Everything up to this position was sent, or is not wanted.
    pub after: u64,
    pub chunks: mpsc::Sender<Bytes>,
    /// Due when nothing was sent for so long.
    pub heartbeat: Interval,
}

/// Why a stream ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The listener has gone.
    Gone,
    /// The listener takes nothing.
    Stuck,
    /// The events cannot be read, or there will be none.
    Broken,
}

/// When a stream that has just begun must first show that it is alive.
pub(super) fn heartbeat() -> Interval {
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.reset();
    heartbeat
}

impl Feed {
    /// Sends events until the listener goes, or `stop`. The connection is cut
    /// off by `hangup` if it does not end then.
    pub async fn run(mut self, stop: CancellationToken, hangup: Option<Hangup>) {
        let ended = stop.run_until_cancelled(self.serve()).await;
        // The answer ends with its queue. The store must not wait for us.
        drop(self);
        let patience = match ended {
            Some(End::Gone | End::Broken) => return,
            Some(End::Stuck) => {
                static LINE: Rarely = Rarely::new();
                if let Some(count) = LINE.count() {
                    tracing::info!(
                        count,
                        "listeners of events read nothing any more and were cut off"
                    );
                }
                Duration::ZERO
            }
            None => FAREWELL,
        };
        if let Some(hangup) = hangup {
            hangup.within(patience).await;
        }
    }

    async fn serve(&mut self) -> End {
        let Err(end) = self.stream().await;
        end
    }

    async fn stream(&mut self) -> Result<Infallible, End> {
        self.send(wire::opening(&self.store_id, self.after)).await?;
        loop {
            // What was not sent yet, which is also what a slow listener missed.
            self.replay().await?;
            self.follow().await?;
        }
    }

    /// Sends what the store holds, page by page.
    async fn replay(&mut self) -> Result<(), End> {
        loop {
            let page = self.store.events(self.after, PAGE).await;
            let page = page.map_err(|error| {
                static LINE: Rarely = Rarely::new();
                if let Some(count) = LINE.count() {
                    tracing::error!(%error, count, "events could not be read for a listener of events");
                }
                End::Broken
            })?;
            let is_last = page.len() < PAGE;
            for event in page {
                self.show(&event).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Sends events as they happen. Returns when some were missed.
    async fn follow(&mut self) -> Result<(), End> {
        loop {
            let heard = tokio::select! {
                heard = self.live.recv() => heard,
                _ = self.heartbeat.tick() => {
                    self.send(wire::heartbeat()).await?;
                    continue;
                }
                () = self.chunks.closed() => return Err(End::Gone),
            };
            match heard {
                Ok(event) => self.show(&event).await?,
                Err(RecvError::Lagged(_)) => return Ok(()),
                Err(RecvError::Closed) => return Err(End::Broken),
            }
        }
    }

    /// Sends an event, unless it was sent or is not wanted.
    async fn show(&mut self, event: &Event) -> Result<(), End> {
        if event.position <= self.after {
            return Ok(());
        }
        if self.filter.takes(event)
            && let Some(chunk) = wire::event(event)
        {
            self.send(chunk).await?;
        }
        self.after = event.position;
        Ok(())
    }

    async fn send(&mut self, chunk: Bytes) -> Result<(), End> {
        match tokio::time::timeout(PATIENCE, self.chunks.send(chunk)).await {
            Ok(Ok(())) => {
                self.heartbeat.reset();
                Ok(())
            }
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Stuck),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_the_beginning_of_a_type() {
        let read = |query| Filter::read(query).map(|filter| filter.0);
        assert_eq!(read("x=1"), Ok(vec![]));
        assert_eq!(read("type=site."), Ok(vec!["site.".to_owned()]));
        assert_eq!(
            read("type=site,sync.stale&type=dispatch.ended"),
            Ok(["site", "sync.stale", "dispatch.ended"]
                .map(str::to_owned)
                .to_vec())
        );
        for query in [
            "type=sites",
            "type=site.curtails",
            "type=Site",
            "type=a,site",
        ] {
            let error = Filter::read(query).unwrap_err().to_string();
            assert!(error.starts_with("type="), "{error}");
        }
    }

    #[test]
    fn every_type_is_known() {
        use crate::engine::SiteChangeKind as Site;
        use crate::model::{CancelReason, ChangeKind as Dispatch};
        let made = [
            Dispatch::Created.event_type(),
            Dispatch::Updated { changed: vec![] }.event_type(),
            Dispatch::Started.event_type(),
            Dispatch::Ended.event_type(),
            Dispatch::Cancelled(CancelReason::Unauthorized).event_type(),
            Site::Curtail.event_type(),
            Site::Adjust.event_type(),
            Site::Release.event_type(),
        ];
        assert_eq!(made[..], EVENT_TYPES[..8]);
    }
}
