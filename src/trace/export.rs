//! Sends spans to the collector: OTLP over HTTP, as protobuf. [`Exporter`] is the task that
//! does; whoever stops the daemon has it finish.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::SpanData;
use prost::Message as _;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Settings;
use super::queue::{Counts, Waiting};
use crate::clock::{Clock as _, SystemClock};
use crate::http::{client_for, describe, read_body, reason};
use crate::retry::{backoff, retry_after};
use crate::seldom::{Trouble, spoken};

/// The pauses between the tries of one batch.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(1600);

/// The most tries of one batch.
const TRIES: u32 = 4;

/// The longest answer of the collector that is read, in bytes.
const ANSWER_MAX: u64 = 64 * 1024;

/// The task that sends spans.
#[derive(Debug)]
pub struct Exporter {
    task: JoinHandle<()>,
    stop: CancellationToken,
    counts: Arc<Counts>,
}

impl Exporter {
    /// Sends what `waiting` holds, as it comes. To be called inside the runtime.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub(super) fn start(
        settings: &Settings,
        waiting: Waiting,
        tasks: &TaskTracker,
    ) -> Result<Self, reqwest::Error> {
        let stop = CancellationToken::new();
        let counts = Arc::clone(&waiting.counts);
        let sending = Sending {
            collector: Collector::new(settings)?,
            waiting,
            batch: settings.batch,
            delay: settings.delay,
            stop: stop.clone(),
            trouble: Trouble::default(),
            noted: 0,
            clock: SystemClock::new(),
            random: SmallRng::seed_from_u64(rand::random()),
        };
        Ok(Self {
            task: tasks.spawn(sending.run()),
            stop,
            counts,
        })
    }

    /// Sends what is left, for `within` at most.
    pub async fn finish(self, within: Duration) {
        self.stop.cancel();
        let abort = self.task.abort_handle();
        if timeout(within, self.task).await.is_err() {
            abort.abort();
            tracing::warn!(
                dropped = self.counts.dropped(),
                "the last traces could not be sent within {}",
                spoken(within)
            );
        }
    }
}

/// What became of a batch that the collector took.
struct Taken {
    /// How many of its spans it refused.
    refused: u64,
    /// Why.
    why: String,
}

/// Why a batch was not taken.
struct NotTaken {
    reason: String,
    /// Whether another try may help.
    may_help: bool,
    /// How long the collector asked to be left alone.
    after: Option<Duration>,
}

/// Who takes spans, and what is told with them.
struct Collector {
    client: reqwest::Client,
    settings: Settings,
    resource: ResourceAttributesWithSchema,
}

impl Collector {
    fn new(settings: &Settings) -> Result<Self, reqwest::Error> {
        let described = settings.resource.iter();
        let described =
            described.map(|(key, value)| KeyValue::new(key.to_owned(), value.to_owned()));
        let resource = Resource::builder_empty()
            .with_detector(Box::new(TelemetryResourceDetector))
            .with_attributes(described)
            .build();
        Ok(Self {
            client: client_for(&settings.endpoint, |builder| {
                builder.timeout(settings.timeout)
            })?,
            settings: settings.clone(),
            resource: (&resource).into(),
        })
    }

    fn written(&self, spans: Vec<SpanData>) -> Bytes {
        let resource_spans = group_spans_by_resource_and_scope(spans, &self.resource);
        let request = ExportTraceServiceRequest { resource_spans };
        request.encode_to_vec().into()
    }

    async fn post(&self, body: Bytes) -> Result<Taken, NotTaken> {
        let broken = |error: &reqwest::Error| NotTaken {
            reason: reason(error),
            may_help: true,
            after: None,
        };
        let answer = self
            .client
            .post(self.settings.endpoint.clone())
            .headers(self.settings.headers.clone())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(body)
            .send()
            .await
            .map_err(|error| broken(&error))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(NotTaken {
                reason: format!("the collector answered {status}"),
                may_help: matches!(
                    status,
                    StatusCode::TOO_MANY_REQUESTS
                        | StatusCode::BAD_GATEWAY
                        | StatusCode::SERVICE_UNAVAILABLE
                        | StatusCode::GATEWAY_TIMEOUT
                ),
                after: retry_after(answer.headers(), SystemClock::new().now().wall),
            });
        }
        // It has taken them: an answer that cannot be read says nothing against that.
        let body = read_body(answer, ANSWER_MAX).await.unwrap_or_default();
        let told = ExportTraceServiceResponse::decode(&*body).unwrap_or_default();
        let told = told.partial_success.unwrap_or_default();
        Ok(Taken {
            refused: told.rejected_spans.try_into().unwrap_or_default(),
            why: told.error_message,
        })
    }
}

impl Settings {
    /// Looks whether the collector takes spans, by sending it none.
    ///
    /// # Errors
    /// Why it does not. Holds no secret.
    pub async fn look(&self) -> Result<(), String> {
        let collector = Collector::new(self).map_err(describe)?;
        let nothing = collector.written(Vec::new());
        match collector.post(nothing).await {
            Ok(_) => Ok(()),
            Err(why) => Err(why.reason),
        }
    }
}

/// What the task works with.
struct Sending {
    collector: Collector,
    waiting: Waiting,
    batch: usize,
    delay: Duration,
    stop: CancellationToken,
    trouble: Trouble,
    /// How many dropped spans the log knows of.
    noted: u64,
    clock: SystemClock,
    random: SmallRng,
}

impl Sending {
    async fn run(mut self) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = self.waiting.enough.notified() => {}
                () = sleep(self.delay) => {}
            }
            let last = self.stop.is_cancelled();
            loop {
                let spans = self.next_batch();
                if spans.is_empty() {
                    break;
                }
                self.send(spans).await;
            }
            if last {
                return;
            }
        }
    }

    fn next_batch(&mut self) -> Vec<SpanData> {
        let mut spans = Vec::new();
        while spans.len() < self.batch
            && let Ok(span) = self.waiting.spans.try_recv()
        {
            spans.push(span);
        }
        spans
    }

    async fn send(&mut self, spans: Vec<SpanData>) {
        let count = spans.len() as u64;
        let body = self.collector.written(spans);
        let within = self.collector.settings.timeout;
        let taken = match timeout(within, self.tried(body)).await {
            Ok(taken) => taken,
            Err(_) => Err(format!("not taken within {}", spoken(within))),
        };
        let counts = Arc::clone(&self.waiting.counts);
        let trouble = match taken {
            Ok(Taken { refused, why }) => {
                let refused = refused.min(count);
                counts.add_sent(count - refused);
                counts.add_dropped(refused);
                (refused > 0).then(|| format!("the collector refused {refused} spans: {why}"))
            }
            Err(reason) => {
                counts.add_dropped(count);
                Some(reason)
            }
        };
        let full = counts.dropped() > self.noted;
        let full = full.then(|| "more spans ended than could be sent".to_owned());
        self.noted = counts.dropped();
        self.log(trouble.or(full));
    }

    /// Tries until the batch is taken, or no try may help any more.
    async fn tried(&mut self, body: Bytes) -> Result<Taken, String> {
        let mut tries = 1;
        loop {
            let why = match self.collector.post(body.clone()).await {
                Ok(taken) => return Ok(taken),
                Err(why) => why,
            };
            if !why.may_help || tries == TRIES || self.stop.is_cancelled() {
                return Err(why.reason);
            }
            let pause = backoff(tries, self.random.random(), FIRST_PAUSE, LONGEST_PAUSE);
            let pause = pause.max(why.after.unwrap_or_default());
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
            tries += 1;
        }
    }

    fn log(&mut self, trouble: Option<String>) {
        let (now, to) = (self.clock.now().mono, self.collector.settings.to());
        match trouble {
            Some(reason) => {
                if self.trouble.lasts(now).is_some() {
                    tracing::warn!(
                        to,
                        reason,
                        dropped = self.waiting.counts.dropped(),
                        "traces are dropped; nothing else is affected"
                    );
                }
            }
            None => {
                if let Some(lasted) = self.trouble.over(now) {
                    tracing::info!(to, dropped_for = %spoken(lasted), "traces are sent again");
                }
            }
        }
    }
}
