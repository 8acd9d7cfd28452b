//! Metrics of traces. They have no sample unless traces are sent.

use std::fmt;

use super::page::{Metric, Page};
use crate::trace::Counts;

const SENT: Metric = Metric::plain(
    "trace_spans_sent",
    "Spans that the collector of traces took. No value unless traces are sent.",
);
const DROPPED: Metric = Metric::plain(
    "trace_spans_dropped",
    "Spans that were dropped: the collector did not take them, or more ended than it took. Nothing but traces is lost. No value unless traces are sent.",
);

pub(super) fn spans(page: &mut Page<'_>, counts: Option<&Counts>) -> fmt::Result {
    let one = |value: &dyn Fn(&Counts) -> u64| counts.map(|counts| ([("", ""); 0], value(counts)));
    page.counter(&SENT, one(&Counts::sent))?;
    page.counter(&DROPPED, one(&Counts::dropped))
}
