//! Where ended spans wait until they are sent: [`Queue`]. Nothing ever waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use tokio::sync::{Notify, mpsc};

/// What became of the spans that ended.
#[derive(Debug, Default)]
pub struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    /// Those that the collector took.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Those that found the queue full, or that the collector did not take.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn add_sent(&self, spans: u64) {
        self.sent.fetch_add(spans, Ordering::Relaxed);
    }

    pub(super) fn add_dropped(&self, spans: u64) {
        self.dropped.fetch_add(spans, Ordering::Relaxed);
    }
}

/// The end at which spans go in.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    /// How many spans are sent without waiting for more.
    batch: usize,
    /// Tells that there are so many.
    enough: Arc<Notify>,
    counts: Arc<Counts>,
}

/// The end at which they come out.
#[derive(Debug)]
pub(super) struct Waiting {
    pub spans: mpsc::Receiver<SpanData>,
    pub enough: Arc<Notify>,
    pub counts: Arc<Counts>,
}

/// A queue that holds `most` spans.
pub(super) fn queue(most: usize, batch: usize) -> (Queue, Waiting) {
    let (sender, receiver) = mpsc::channel(most);
    let (enough, counts) = (Arc::<Notify>::default(), Arc::<Counts>::default());
    let queue = Queue {
        spans: sender,
        batch,
        enough: Arc::clone(&enough),
        counts: Arc::clone(&counts),
    };
    let waiting = Waiting {
        spans: receiver,
        enough,
        counts,
    };
    (queue, waiting)
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.spans.try_send(span).is_err() {
            self.counts.add_dropped(1);
        }
        if self.spans.max_capacity() - self.spans.capacity() >= self.batch {
            self.enough.notify_one();
        }
    }

    /// The exporter sends all that waits when it is told to finish.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
