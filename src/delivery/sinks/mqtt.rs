//! The `mqtt:` sink publishes each event at a broker.

mod discovery;
mod knock;
mod link;
mod topic;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use rumqttc::{PublishNoticeError, PublishOptions, PublishProperties};
use tokio::sync::watch;
use tokio::time::timeout;

pub(super) use self::knock::knock;
use self::link::{Link, Up, words};
use super::build::{SinkBuildError, SinkContext};
use super::spec::MqttTarget;
use super::{Attempt, causes, failed, spoken};
use crate::delivery::{DeliveryTrace, Envelope, Envelopes, Sink};
use crate::model::Event;
use crate::seldom::Lately;

/// How long an attempt may take, a first connection included.
const LIMIT: Duration = Duration::from_secs(10);

/// What MQTT adds to topic and payload at most: headers, properties, lengths.
const OVERHEAD: usize = 128;

/// The longest topic that MQTT can carry.
const LONGEST_TOPIC: usize = 65_535;

/// Publishes events at a broker that speaks MQTT 5, with quality of service 1:
/// delivered means that the broker confirmed it.
///
/// | topic | holds |
/// |---|---|
/// | `<prefix>/dispatch/<id>` | `dispatch.*` events |
/// | `<prefix>/site/<id>` | `site.*` events; the last one is retained |
/// | `<prefix>/sync` | `sync.*` events |
/// | `<prefix>/status` | `online` or `offline`, retained; the last will |
/// | `homeassistant/...` | announcements of the sites, retained, if the target wants them |
///
/// Ids are percent-encoded as in a URL. The client's id follows from broker and
/// prefix: two daemons at one broker need two prefixes, or they push each other
/// off.
pub struct MqttSink {
    name: String,
    prefix: String,
    link: watch::Receiver<Link>,
    connections: watch::Receiver<u64>,
    limit: Duration,
    /// Whether Home Assistant is told of the sites.
    discovery: bool,
    /// What the log has said of that lately.
    said: Lately,
}

/// An event that was handed to the connection.
struct Handed {
    up: Up,
    /// How many events had an answer when it was handed over.
    answered: u64,
    /// Whether its own answer is still to come.
    open: bool,
}

/// Its attempt has ended, or was dropped.
impl Drop for Handed {
    fn drop(&mut self) {
        if self.open && self.up.confirmations.miss(self.answered) {
            self.up.give_up.cancel();
        }
    }
}

impl MqttSink {
    /// Begins to connect, in a task that lives until the context's token is
    /// cancelled and then says goodbye to the broker.
    pub(super) fn start(
        name: String,
        target: &MqttTarget,
        context: &SinkContext,
    ) -> Result<Self, SinkBuildError> {
        Self::with_limit(name, target, context, LIMIT)
    }

    fn with_limit(
        name: String,
        target: &MqttTarget,
        context: &SinkContext,
        limit: Duration,
    ) -> Result<Self, SinkBuildError> {
        let options = match link::options(target) {
            Ok(options) => options,
            Err(source) => return Err(SinkBuildError::Tls { name, source }),
        };
        let (sender, link) = watch::channel(Link::Connecting);
        let (made, connections) = watch::channel(0);
        let keeper = link::Keeper {
            sink: name.clone(),
            options,
            status: topic::status(&target.prefix),
            link: sender,
            connections: made,
            trust: context.trust.clone(),
            said: Lately::new(),
        };
        context.tasks.spawn(keeper.keep(context.stop.clone()));
        Ok(Self {
            name,
            prefix: target.prefix.clone(),
            link,
            connections,
            limit,
            discovery: target.discovery,
            said: Lately::new(),
        })
    }

    async fn publish(&self, envelope: &Envelope<'_>) -> Attempt {
        let mut handed = None;
        match timeout(self.limit, self.attempt(envelope, &mut handed)).await {
            Ok(attempt) => attempt,
            Err(_) if handed.is_some() => failed(format!(
                "the broker did not confirm the event within {}",
                spoken(self.limit)
            )),
            Err(_) => Attempt::unreachable(format!(
                "no connection to the broker within {}",
                spoken(self.limit)
            )),
        }
    }

    /// Notes in `handed` that the connection has the event. The event arrives
    /// before whatever is published on the same connection later, or not at all.
    async fn attempt(&self, envelope: &Envelope<'_>, handed: &mut Option<Handed>) -> Attempt {
        let event = envelope.event;
        let topic = topic::of(&self.prefix, event);
        let payload = match serde_json::to_vec(envelope) {
            Ok(payload) => payload,
            Err(error) => return failed(format!("event {}: {error}", event.id)),
        };
        let up = match self.up().await {
            Ok(up) => up,
            Err(reason) => return Attempt::unreachable(reason),
        };
        // Either would break the connection, and with it other attempts.
        if topic.name.len() > LONGEST_TOPIC {
            return failed("the event's subject is too long for a topic");
        }
        let size = topic.name.len() + payload.len() + OVERHEAD;
        if size > up.largest {
            return failed(format!(
                "the event has {size} bytes and the broker takes at most {}",
                up.largest
            ));
        }
        let answered = up.confirmations.answered();
        let handed = handed.insert(Handed {
            up,
            answered,
            open: true,
        });
        let client = &handed.up.client;
        let mut announced = Vec::new();
        if self.discovery && event.family() == "site" && handed.up.announced.is_new(&event.subject)
        {
            for announcement in discovery::of(&self.prefix, event) {
                if announcement.topic.len() > LONGEST_TOPIC
                    || announcement.topic.len() + announcement.payload.len() + OVERHEAD
                        > handed.up.largest
                {
                    self.not_announced(event, "the broker takes no packet as large as that");
                    continue;
                }
                let options = PublishOptions::at_least_once().retained();
                let (topic, payload) = (announcement.topic, announcement.payload);
                match client.publish_tracked(topic, payload, options).await {
                    Ok(notice) => announced.push(notice),
                    Err(_) => return failed("the connection to the broker is lost"),
                }
            }
        }
        let options = PublishOptions::at_least_once()
            .retain(topic.retain)
            .properties(PublishProperties {
                payload_format_indicator: Some(1),
                content_type: Some("application/cloudevents+json; charset=utf-8".to_owned()),
                ..PublishProperties::default()
            });
        let notice = match client.publish_tracked(topic.name, payload, options).await {
            Ok(notice) => notice,
            // The error holds the event.
            Err(_) => return failed("the connection to the broker is lost"),
        };
        let result = notice.wait_completion_async().await;
        handed.open = false;
        handed.up.confirmations.answer();
        // They were answered before the event was, or are lost with the connection. The
        // command counts: it does not wait for them, nor fail with them.
        for notice in announced {
            if let Some(Err(PublishNoticeError::V5PubAck(code))) =
                notice.wait_completion_async().now_or_never()
            {
                self.not_announced(event, &format!("the broker refused it: {}", words(code)));
            }
        }
        match result {
            Ok(()) => Attempt::Delivered,
            Err(PublishNoticeError::V5PubAck(code)) => {
                failed(format!("the broker refused the event: {}", words(code)))
            }
            Err(PublishNoticeError::Recv) => {
                failed("the connection to the broker was lost before it confirmed the event")
            }
            Err(error) => failed(causes(&error)),
        }
    }

    /// Says that Home Assistant will not show the site.
    fn not_announced(&self, event: &Event, reason: &str) {
        if self.said.is_new(reason) {
            tracing::warn!(
                sink = self.name,
                site = &*event.subject,
                reason,
                "a site cannot be announced to Home Assistant; its commands are not affected"
            );
        }
    }

    /// The connection. Waits for the very first one; later there is one or
    /// there is none.
    async fn up(&self) -> Result<Up, String> {
        let mut link = self.link.clone();
        loop {
            match &*link.borrow_and_update() {
                // Given up by another attempt, and about to go.
                Link::Up(up) if up.give_up.is_cancelled() => {
                    return Err("the broker confirms nothing".to_owned());
                }
                Link::Up(up) => return Ok(up.clone()),
                Link::Down(reason) => return Err(reason.clone()),
                Link::Connecting => {}
            }
            if link.changed().await.is_err() {
                return Err("the task that keeps the connection has ended".to_owned());
            }
        }
    }
}

impl Sink for MqttSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn connections(&self) -> Option<watch::Receiver<u64>> {
        Some(self.connections.clone())
    }

    fn probe(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(async { self.up().await.map(|_| ()) })
    }

    fn deliver<'a>(
        &'a self,
        events: &'a [Event],
        trace: Option<&'a DeliveryTrace>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        Box::pin(async move {
            for envelope in Envelopes::new(events, trace).each() {
                let attempt = self.publish(&envelope).await;
                if attempt != Attempt::Delivered {
                    return attempt;
                }
            }
            Attempt::Delivered
        })
    }
}

#[cfg(test)]
mod tests;
