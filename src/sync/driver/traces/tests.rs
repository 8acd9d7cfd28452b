//! What belongs under which span, where several things are mixed.

use std::sync::Arc;

use chrono::DateTime;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::*;
use crate::model::DispatchId;
use crate::sync::WaiterReply;
use crate::trace::Settings;

/// A collector that nobody is.
const NOWHERE: &str = "http://127.0.0.1:1";

/// To be called inside a runtime.
fn traces() -> Traces {
    let env = |name: &str| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| NOWHERE.to_owned());
    let settings = Settings::read(&env, "here").unwrap().unwrap();
    let (tracer, _) = Tracer::start(&settings, &TaskTracker::new()).unwrap();
    Traces::new(tracer).unwrap()
}

fn event(position: u64) -> Event {
    Event {
        position,
        term: 1,
        id: format!("e{position}").into(),
        event_type: "dispatch.created".into(),
        subject: format!("d{position}").into(),
        time: DateTime::UNIX_EPOCH,
        sequence: position,
        unconditional: false,
        origin: None,
        data: Arc::new(RawValue::NULL.to_owned()),
    }
}

fn batch(positions: Range<u64>) -> Batch {
    Batch {
        events: positions.map(event).collect(),
        ..Batch::default()
    }
}

fn asked(count: u64) -> Asked {
    Asked { term: 1, count }
}

/// A webhook, and what it belongs under.
fn webhook(traces: &Traces) -> (Waiter, TraceContext) {
    let trace = traces.tracer.webhook(None, "d").context();
    let (reply, _) = oneshot::channel::<WaiterReply>();
    let waiter = Waiter {
        reply,
        trace: trace.clone(),
    };
    (waiter, trace.unwrap())
}

/// A look-up for a webhook of its own, in the trace of that.
fn look_up(traces: &mut Traces, count: u64) -> TraceContext {
    let (waiter, trace) = webhook(traces);
    let question = Question::Dispatch(DispatchId::new("d").unwrap());
    traces.request(asked(count), &question, [&waiter].into_iter());
    trace
}

fn commit(traces: &mut Traces, batch: &Batch, responses: &[(u64, Range<usize>)]) -> Vec<Span> {
    let responses = responses.iter();
    let nobody = || std::iter::empty::<&Waiter>();
    let responses = responses.map(|(count, events)| (asked(*count), events.clone(), nobody()));
    traces.commit(batch, responses)
}

fn contexts(spans: &[Span]) -> Vec<TraceContext> {
    spans.iter().filter_map(Span::context).collect()
}

/// What each event carries in a batch with the others.
fn carried(traces: &Traces, events: &[Event]) -> (TraceContext, Vec<String>) {
    let (span, trace) = traces.delivery("sink", events).unwrap();
    let envelopes = crate::delivery::Envelopes::new(events, Some(&trace));
    let parent = |mut fields: Vec<(&str, String)>| fields.remove(0).1;
    let each = envelopes
        .each()
        .map(|one| parent(one.trace_fields().collect()));
    (span.context().unwrap(), each.collect())
}

fn parent(context: &TraceContext) -> String {
    context.fields().next().unwrap().1
}

#[tokio::test]
async fn a_commit_of_several_responses_has_a_span_in_the_trace_of_each() {
    let mut traces = traces();
    let webhooks = [look_up(&mut traces, 2), look_up(&mut traces, 4)];
    let spans = commit(&mut traces, &batch(1..4), &[(2, 0..2), (4, 2..3)]);
    let commits = contexts(&spans);
    assert_eq!(commits.len(), 2);
    for (commit, webhook) in commits.iter().zip(&webhooks) {
        assert!(commit.is_of_trace(webhook));
    }
    for (position, commit) in [(1, &commits[0]), (2, &commits[0]), (3, &commits[1])] {
        let (span, _) = traces.delivery("sink", &[event(position)]).unwrap();
        assert!(span.context().unwrap().is_of_trace(commit), "{position}");
    }
}

#[tokio::test]
async fn an_attempt_with_events_of_several_commits_belongs_to_the_first() {
    let mut traces = traces();
    for count in [2, 4] {
        look_up(&mut traces, count);
    }
    let spans = commit(&mut traces, &batch(1..3), &[(2, 0..1), (4, 1..2)]);
    let commits = contexts(&spans);
    let events = [event(2), event(1), event(9)];
    let (attempt, carried) = carried(&traces, &events);
    assert!(attempt.is_of_trace(&commits[1]));
    let wanted = [&commits[1], &commits[0], &attempt].map(parent);
    assert_eq!(carried, wanted, "that of the third is not known");
}

#[tokio::test]
async fn what_follows_from_no_response_begins_a_trace() {
    let mut traces = traces();
    let webhook = look_up(&mut traces, 2);
    // The first and the last event came due.
    let spans = commit(&mut traces, &batch(1..4), &[(2, 1..2)]);
    let commits = contexts(&spans);
    assert_eq!(commits.len(), 3);
    let of_webhook = commits.iter().map(|commit| commit.is_of_trace(&webhook));
    assert_eq!(of_webhook.collect::<Vec<_>>(), [false, true, false]);
    assert!(!commits[0].is_of_trace(&commits[2]));
}

#[tokio::test]
async fn a_commit_that_failed_leaves_nothing_behind() {
    let mut traces = traces();
    for count in [2, 4] {
        look_up(&mut traces, count);
    }
    commit(&mut traces, &batch(5..9), &[(2, 0..4)]);
    // Its positions are given once more.
    let spans = commit(&mut traces, &batch(6..8), &[(4, 0..2)]);
    let (attempt, _) = carried(&traces, &[event(7)]);
    assert!(attempt.is_of_trace(&contexts(&spans)[0]));
    assert_eq!(traces.cause(&event(8)), None);
}

#[tokio::test]
async fn what_is_remembered_is_bounded() {
    let mut traces = traces();
    for count in 1..=(REQUESTS as u64 + 5) {
        traces.request(asked(count), &Question::List, std::iter::empty());
    }
    assert_eq!(traces.requests.len(), REQUESTS);
    for position in 1..=(CAUSES as u64 + 5) {
        commit(&mut traces, &batch(position..position + 1), &[]);
    }
    assert_eq!(traces.commits.len(), CAUSES);
    assert!(traces.cause(&event(CAUSES as u64 + 5)).is_some());
    assert_eq!(traces.cause(&event(1)), None);
}
