//! Metrics of traces: 0 where none are sent.

use std::fmt;

use super::page::{Metric, Page, one};
use crate::trace::Counts;

const SENT: Metric = Metric::plain(
    "trace_spans_sent",
    "Spans that the collector of traces took. 0 if no traces are sent.",
);
const DROPPED: Metric = Metric::plain(
    "trace_spans_dropped",
    "Spans that were dropped: the collector did not take them, or more ended than it took. Nothing but traces is lost. 0 if no traces are sent.",
);

/// What became of spans. `None` if none are opened.
pub(super) fn spans(page: &mut Page<'_>, counts: Option<&Counts>) -> fmt::Result {
    page.counter(&SENT, one(counts.map_or(0, Counts::sent)))?;
    page.counter(&DROPPED, one(counts.map_or(0, Counts::dropped)))
}
