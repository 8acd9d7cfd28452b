//! A committed state for tests.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use serde_json::{Value, json};

use crate::clock::Mono;
use crate::engine::{Rules, Schedule, SitePlan};
use crate::model::SiteState;
use crate::sync::{Health, View};

/// A site in this state, with 12 kW if that is to curtail.
pub(super) fn site(id: &str, state: &str) -> SiteState {
    let commitment = if state == "curtailed" {
        json!(12)
    } else {
        Value::Null
    };
    site_with(id, state, commitment)
}

/// A site in this state, with this commitment.
pub(super) fn site_with(id: &str, state: &str, commitment: Value) -> SiteState {
    serde_json::from_value(json!({
        "id": id, "name": "Mill", "customer_location_id": "7", "state": state,
        "since": "2026-11-24T10:00:00Z", "until": null, "commitment_kw": commitment,
        "dispatches": if state == "curtailed" { json!(["dkmq"]) } else { json!([]) },
        "next": null,
    }))
    .unwrap()
}

/// A state in which these sites are known, and nothing else.
pub(super) fn view(sites: impl IntoIterator<Item = SiteState>) -> View {
    let rules = Rules {
        retain: Duration::from_secs(3600),
        pre_curtail: Duration::ZERO,
        curtail_on_test: false,
        chunk: usize::MAX,
    };
    let schedule = Schedule::default();
    View {
        plan: SitePlan::restore(&schedule, sites, DateTime::UNIX_EPOCH, &rules),
        schedule,
        position: 0,
        sinks: Vec::new(),
        as_of: DateTime::UNIX_EPOCH,
        health: Arc::new(Health {
            poll_interval: Duration::from_secs(30),
            last_poll: None,
            last_success: None,
            last_success_mono: None,
            began: Mono::ZERO,
            next_poll: DateTime::UNIX_EPOCH,
            polls_succeeded: 0,
            polls_failed: 0,
            slowed_down: None,
            heals: 0,
            missed_webhooks: 0,
            unannounced: 0,
            polled_only: 0,
            registration: None,
            outdated: 0,
            unreadable: Default::default(),
            unreadable_now: Arc::default(),
            rewinds: 0,
            look_again_dropped: 0,
            store_error: None,
            due_commands: Arc::default(),
            trusted_until: Mono::MAX,
            unrouted_commands: 0,
            last_unrouted: None,
            counters: Arc::default(),
        }),
    }
}
