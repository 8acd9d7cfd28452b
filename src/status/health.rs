//! `GET /status` and `GET /readyz`.

use http::StatusCode;
use serde_json::{Value, json};
use warp::reply::Response;

use super::lease::{Lead, leads};
use super::{Status, inventory, site_override, verdict};
use crate::clock::{Clock, Mono, Now};
use crate::delivery::{RefusedEvent, SinkCondition, SinkHealth};
use crate::http::json_reply;
use crate::listener::{Answered, Traffic};
use crate::model::{DoubtKind, Phase, rfc3339};
use crate::sync::{Health, SlowedDown, State, View};
use crate::voltus::Problems;

impl<C: Clock + Clone> Status<C> {
    /// The daemon's health and counts.
    pub(super) fn health(&self) -> Response {
        let now = self.clock.now();
        let view = self.view.borrow().clone();
        let health = &view.health;
        let traffic = &self.traffic;
        let untold = verdict::untold(&view);
        let untold_sites = verdict::untold_sites(&view);
        let unrouted = self.routing.unrouted(&view.schedule);
        let lead = self.lead(now.mono);
        let unwritten = health.unwritten(now);
        let body = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "started_at": self.started_at,
            "now": now.wall,
            "node": self.identity.node,
            "role": lead.as_ref().map_or("leader", Lead::role),
            "leadership": lead.as_ref().map(Lead::shown),
            "api": self.identity.api(),
            "verdict": {
                "schedule": verdict::on_schedule(&view, now),
                "told": verdict::on_delivery(
                    &view, &untold, untold_sites, &unrouted, &self.inventory.borrow(), now,
                ),
            },
            "untold_sites": untold_sites,
            "untold": untold,
            "unrouted_sites": unrouted.sites,
            "unrouted": &*unrouted.first,
            "unrouted_commands": health.unrouted_commands,
            "overridden_sites": view.plan.overridden().count(),
            "overridden": site_override::shown(&view.plan),
            "inventory": inventory::shown(&self.inventory.borrow()),
            "due_commands": verdict::due(&view),
            "sync": sync(&view, traffic, now.mono),
            "store": {
                "ok": unwritten.is_none(),
                "error": unwritten,
            },
            "schedule": counts(&view),
            "delivery": view
                .sinks
                .iter()
                .map(|sink| delivery(sink, now.wall))
                .collect::<Vec<Value>>(),
        });
        json_reply(StatusCode::OK, &body)
    }

    /// Who leads, if others could.
    fn lead(&self, now: Mono) -> Option<Lead> {
        let lease = self.lease.as_ref()?;
        Some(lease.lead(&self.identity.node, now))
    }

    /// Whether this daemon leads. One that shares its store with no other does.
    pub(super) fn leader(&self) -> Response {
        let lead = self.lead(self.clock.now().mono);
        lead.map_or_else(leads, |lead| lead.answer())
    }

    /// Whether the schedule can be trusted.
    pub(super) fn readiness(&self) -> Response {
        let now = self.clock.now();
        let view = self.view.borrow().clone();
        let reasons = not_ready(&view.health, now);
        let (status, mut body) = if reasons.is_empty() {
            (StatusCode::OK, json!({"ready": true}))
        } else {
            let body = json!({"ready": false, "reason": reasons.join("; ")});
            (StatusCode::SERVICE_UNAVAILABLE, body)
        };
        let warnings: Vec<String> = view.sinks.iter().filter_map(warning).collect();
        if !warnings.is_empty() {
            body["warnings"] = json!(warnings);
        }
        json_reply(status, &body)
    }
}

/// Whether the schedule can be trusted, and this daemon acts on it.
pub(super) fn is_ready(health: &Health, now: Now) -> bool {
    not_ready(health, now).is_empty()
}

/// Why the schedule cannot be trusted, if it cannot.
fn not_ready(health: &Health, now: Now) -> Vec<String> {
    let mut reasons = Vec::new();
    if health.suspended_since(now).is_some() {
        reasons.push("suspended: this daemon does not know whether it still leads".to_owned());
    }
    match health.state(now.mono) {
        State::Fresh => {}
        State::Starting => reasons.push(match &health.last_poll {
            Some(_) => format!("no poll has succeeded yet: {}", health.why_no_poll()),
            None => "the first poll has not ended yet".to_owned(),
        }),
        State::Stale => reasons.push(format!(
            "no poll has succeeded for {}: {}",
            humantime::format_duration(health.trust()),
            health.why_no_poll(),
        )),
    }
    if let Some(error) = &health.store_error
        // A poll that could not be stored has failed for the same reason.
        && !reasons.iter().any(|reason| reason.contains(error))
    {
        reasons.push(error.clone());
    }
    reasons
}

/// What an operator should know of a sink, although the schedule is true.
fn warning(sink: &SinkHealth) -> Option<String> {
    let name = &sink.name;
    let reason = sink.last_error.as_deref().unwrap_or("no reason is known");
    match sink.condition {
        SinkCondition::Paused => Some(format!("sink {name} wants no more events: {reason}")),
        SinkCondition::Failing => Some(format!("sink {name} fails or cannot be reached: {reason}")),
        SinkCondition::Retrying | SinkCondition::Ok => None,
    }
}

fn slowdown(slow: &SlowedDown) -> Value {
    json!({
        "since": rfc3339(slow.since),
        "reason": &*slow.reason,
        "next_request": rfc3339(slow.next_request),
        "silent_until": slow.silent_until.map(rfc3339),
        "good_answers_needed": slow.good_answers_needed,
    })
}

/// How polls and webhooks keep the schedule right.
fn sync(view: &View, traffic: &Traffic, now: Mono) -> Value {
    let health = &view.health;
    json!({
        "state": health.state(now).name(),
        "poll_interval_seconds": health.poll_interval.as_secs_f64(),
        "polls": {"succeeded": health.polls_succeeded, "failed": health.polls_failed},
        "last_poll": last_poll(health),
        "last_successful_poll": health.last_success,
        "next_poll": health.next_poll,
        "webhooks": webhooks(traffic),
        "missed_webhooks": health.missed_webhooks,
        "heals": health.heals,
        "unannounced_changes": health.unannounced,
        "polled_only_changes": health.polled_only,
        "registration": health.registration.as_ref().map(|registration| json!({
            "registered": registration.registered,
            "error": registration.error,
        })),
        "outdated_answers": health.outdated,
        "unreadable_dispatches": health.unreadable.dispatches,
        "unreadable_sites": health.unreadable.sites,
        "unreadable_amounts": health.unreadable.amounts,
        "unreadable_details": health.unreadable.details,
        "extra_dropped": health.unreadable.extras,
        "unreadable": unreadable(&health.unreadable_now),
        "rewinds": health.rewinds,
        "slowdown": health.slowed_down.as_ref().map(slowdown),
        "in_doubt": {
            "absent": view.schedule.in_doubt(DoubtKind::Absent),
            "lower": view.schedule.in_doubt(DoubtKind::Lower),
        },
        "mass_absence": mass_absence(view, now),
    })
}

pub(super) fn webhooks(traffic: &Traffic) -> Value {
    let counted = |answered| traffic.counted(answered);
    json!({
        "received": traffic.received(),
        "accepted": counted(Answered::Accepted) + counted(Answered::Ignored),
        "ignored": counted(Answered::Ignored),
        "rejected": counted(Answered::Rejected),
        "failed": counted(Answered::Failed),
        "wrong_path": counted(Answered::WrongPath),
        "passed_on": traffic.passed_on(),
        "last_at": traffic.last_at(),
    })
}

fn mass_absence(view: &View, now: Mono) -> Value {
    let mass = view.schedule.mass_absence();
    mass.map_or(Value::Null, |mass| {
        json!({
            "seconds": now.saturating_sub(mass.since).as_secs(),
            "absent": mass.absent,
            "live": mass.live,
        })
    })
}

fn last_poll(health: &Health) -> Value {
    match &health.last_poll {
        None => Value::Null,
        Some(poll) => json!({
            "at": poll.at,
            "ok": poll.error.is_none(),
            "error": poll.error,
            "duration_ms": u64::try_from(poll.duration.as_millis()).unwrap_or(u64::MAX),
        }),
    }
}

/// What cannot be read now, the first parts in words.
pub(super) fn unreadable(problems: &Problems) -> Value {
    let parts = problems.detailed().iter().map(|problem| {
        json!({
            "dispatch": problem.dispatch,
            "part": problem.part.name(),
            "reason": problem.reason,
        })
    });
    let counts = problems.counts();
    json!({
        "dispatches": counts.dispatches,
        "sites": counts.sites,
        "amounts": counts.amounts,
        "details": counts.details,
        "extras": counts.extras,
        "parts": parts.collect::<Vec<Value>>(),
    })
}

fn counts(view: &View) -> Value {
    let mut counts = json!({"revision": view.schedule.revision()});
    for phase in Phase::ALL {
        counts[phase.name()] = json!(view.schedule.count(phase));
    }
    counts
}

fn delivery(sink: &SinkHealth, now: chrono::DateTime<chrono::Utc>) -> Value {
    let oldest = sink
        .oldest_pending
        .map(|since| (now - since).to_std().unwrap_or_default().as_secs_f64());
    json!({
        "sink": sink.name,
        "pending": sink.pending,
        "oldest_pending_seconds": oldest,
        "delivered": sink.delivered,
        "failed_attempts": sink.failed_attempts,
        "failing_subjects": sink.failing_subjects,
        "untold_sites": sink.untold.len(),
        "state": sink.condition.name(),
        "failing": sink.condition == SinkCondition::Failing,
        "last_error": sink.last_error,
        "refused_events": sink.refused.iter().map(refused).collect::<Vec<Value>>(),
    })
}

fn refused(event: &RefusedEvent) -> Value {
    json!({
        "id": event.id,
        "type": event.event_type,
        "subject": event.subject,
        "since": event.since,
        "reason": event.reason,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::DateTime;

    use super::*;
    use crate::status::testing::view;

    #[test]
    fn a_daemon_that_does_not_know_whether_it_leads_is_not_ready() {
        let view = view([]);
        let second = Duration::from_secs(1);
        let now = Now {
            wall: DateTime::UNIX_EPOCH,
            mono: second * 10,
        };
        let mut health = Health::clone(&view.health);
        health.last_success_mono = Some(now.mono);
        assert!(not_ready(&health, now).is_empty());
        health.trusted_until = now.mono + second;
        assert!(not_ready(&health, now).is_empty());
        health.trusted_until = now.mono;
        let reason = "suspended: this daemon does not know whether it still leads";
        assert_eq!(not_ready(&health, now), [reason]);

        // The page and `dispatchd status` show the verdict.
        let view = View {
            health: std::sync::Arc::new(health),
            ..view
        };
        let verdict = verdict::on_schedule(&view, now);
        let says = "Suspended: this daemon does not know whether it still leads, for 0 s.";
        assert!(verdict.text.starts_with(says), "{}", verdict.text);
    }

    #[test]
    fn a_dispatch_that_cannot_be_read_is_named_by_the_verdict() {
        use crate::voltus::{Part, Problems};

        let view = view([]);
        let now = Now {
            wall: DateTime::UNIX_EPOCH,
            mono: Duration::from_secs(10),
        };
        let mut problems = Problems::default();
        problems.push(None, Part::Amount, || "an amount".into());
        let verdict = |problems: &Problems| {
            let mut health = Health::clone(&view.health);
            health.last_success_mono = Some(now.mono);
            health.unreadable_now = std::sync::Arc::new(problems.clone());
            let view = View {
                health: std::sync::Arc::new(health),
                ..view.clone()
            };
            let verdict = verdict::on_schedule(&view, now);
            (serde_json::to_value(verdict.level).unwrap(), verdict.text)
        };
        assert_eq!(verdict(&problems).0, "ok", "it is told as unknown");
        let id = crate::model::DispatchId::new("dkmq").unwrap();
        problems.push(Some(&id), Part::Dispatch, || "its end is no time".into());
        problems.push(None, Part::Site, || "a site".into());
        let (level, text) = verdict(&problems);
        assert_eq!(level, "warning");
        let says = "1 dispatch and 1 site cannot be read (dispatch dkmq: its end is no time).";
        assert!(text.contains(says), "{text}");
    }
}
