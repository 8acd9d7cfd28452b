//! Voltus's published acceptance tests, and those whose fields are not published,
//! shortened to seconds: once as they are meant, and once with every webhook lost, so
//! that only polls bring news.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use dispatchd::model::Kilowatts;
use dispatchd::sandbox::{Acceptance, SiteSpec, acceptance};
use serde_json::{Value, json};

use crate::harness::{Daemon, Heard, World, in_ms, now, wait_until};

/// How long each dispatch lasts.
const LENGTH: TimeDelta = TimeDelta::milliseconds(2000);

/// How late a command may be on a busy machine, polls included.
const SLACK: TimeDelta = TimeDelta::milliseconds(2500);

const SITES: [&str; 2] = ["north", "south"];

/// How the news travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Webhooks {
    Working,
    Lost,
}

/// A scenario that is over.
struct Played {
    world: World,
    daemon: Daemon,
    start: DateTime<Utc>,
    request: Value,
    ids: BTreeMap<String, String>,
}

impl Played {
    /// Plays `kind` until nothing more is due for its dispatches.
    async fn new(kind: Acceptance, webhooks: Webhooks) -> Self {
        let world = World::new().await;
        let interval = match webhooks {
            Webhooks::Working => "1h",
            Webhooks::Lost => "150ms",
        };
        let daemon = world.setup().polling(interval).ready().await;
        world.sandbox.add_webhook(daemon.webhook_url());
        if webhooks == Webhooks::Lost {
            world.faults(json!({"drop_webhooks": 1.0}));
        }
        let sites = SITES.map(|id| SiteSpec {
            id: id.into(),
            name: id.into(),
            customer_location_id: "1".into(),
            commitment: Kilowatts(12.0),
        });
        let start = in_ms(1000);
        let request = acceptance(kind, now(), start, LENGTH, &sites);
        let ids = world.sandbox.scenario(request.clone()).unwrap();
        let played = Self {
            world,
            daemon,
            start,
            request,
            ids,
        };
        played.wait_until_over(kind).await;
        played.check_deliveries(webhooks).await;
        played
    }

    async fn wait_until_over(&self, kind: Acceptance) {
        let last = match kind {
            Acceptance::Cancelled => "cancelled",
            _ => "ended",
        };
        for id in self.ids.values() {
            self.daemon.wait_for_phase(id, last).await;
        }
        // What a site is told comes out after the schedule shows why.
        self.daemon.wait_until_delivered().await;
    }

    /// The news came the way they were meant to.
    async fn check_deliveries(&self, webhooks: Webhooks) {
        let log = self.world.sandbox.log();
        assert!(log.contact_emails.is_empty());
        let sync = self.daemon.health().await["sync"].clone();
        if webhooks == Webhooks::Working {
            let mut deliveries = log.deliveries.iter();
            assert!(deliveries.all(|delivery| delivery.outcome.succeeded()));
            assert_eq!(sync["heals"], 0);
        } else {
            assert_eq!(sync["webhooks"]["received"], 0);
            assert!(sync["heals"].as_u64().unwrap() >= self.ids.len() as u64);
        }
    }

    /// What was told of the dispatch of that name, and the phases that its
    /// history went through.
    async fn story(&self, name: &str) -> (Vec<String>, Vec<String>) {
        let id = &self.ids[name];
        let entry = self.daemon.entry(id).await.unwrap();
        let history = entry["history"].as_array().unwrap();
        let phases = history
            .iter()
            .map(|item| item["phase"].as_str().unwrap().to_owned());
        (self.daemon.types_of(id), phases.collect())
    }

    /// What the API published of the dispatch of that name, one state after another, and
    /// when.
    fn published(&self, name: &str) -> Vec<(DateTime<Utc>, &Value)> {
        let states = self.request["dispatches"][name]["states"].as_array();
        let states = states.unwrap().iter().map(|state| {
            let at = state["published_time"].as_str().unwrap();
            (at.parse().unwrap(), &state["dispatch"])
        });
        states.collect()
    }

    async fn assert_story(&self, name: &str, types: &[&str], phases: &[&str]) {
        let (told, went) = self.story(name).await;
        let types: Vec<String> = types
            .iter()
            .map(|kind| format!("dispatch.{kind}"))
            .collect();
        assert_eq!(told, types, "{name}");
        assert_eq!(went, phases, "{name}");
    }

    /// Each site was told to do this, each time within the slack after the
    /// start of the first dispatch plus so many thousandths of the length.
    fn assert_commands(&self, commands: &[(&str, i32)]) {
        for site in SITES {
            let mut told = self.daemon.events_of(site);
            // Who holds it, and until when, may change while it is curtailed.
            told.retain(|heard| heard.text("type") != "site.adjust");
            let types: Vec<&str> = told.iter().map(|heard| heard.text("type")).collect();
            let wanted: Vec<String> = commands
                .iter()
                .map(|(kind, _)| format!("site.{kind}"))
                .collect();
            assert_eq!(types, wanted, "{site}");
            for (heard, (kind, thousandths)) in told.iter().zip(commands) {
                let due = self.start + LENGTH * *thousandths / 1000;
                assert!(
                    heard.time() >= due,
                    "{kind} of {site} came too early: {heard:?}"
                );
                assert!(heard.time() <= due + SLACK, "{kind} of {site}: {heard:?}");
                check_command(heard, site);
            }
        }
    }
}

fn check_command(heard: &Heard, site: &str) {
    let data = &heard.event["data"];
    assert_eq!(data["id"], site);
    if heard.text("type") == "site.curtail" {
        assert_eq!(data["state"], "curtailed");
        assert_eq!(data["commitment_kw"], 12);
        assert_eq!(data["dispatches"].as_array().unwrap().len(), 1);
    } else {
        assert_eq!(data["state"], "normal");
        assert_eq!(data["dispatches"], json!([]));
    }
}

const OPEN_ENDED: &[&str] = &["created", "started", "updated", "ended"];

async fn basic(webhooks: Webhooks) {
    let played = Played::new(Acceptance::Basic, webhooks).await;
    let phases = ["scheduled", "active", "ended"];
    played
        .assert_story("Dispatch", &["created", "started", "ended"], &phases)
        .await;
    played.assert_commands(&[("curtail", 0), ("release", 1000)]);
}

async fn ancillary(webhooks: Webhooks) {
    let played = Played::new(Acceptance::Ancillary, webhooks).await;
    let (types, phases) = played.story("Dispatch").await;
    assert_eq!(
        types,
        OPEN_ENDED
            .iter()
            .map(|kind| format!("dispatch.{kind}"))
            .collect::<Vec<_>>()
    );
    assert_eq!(phases.last().unwrap(), "ended");
    assert!(phases.contains(&"active".to_owned()));
    let entry = played.daemon.entry(&played.ids["Dispatch"]).await.unwrap();
    assert_eq!(entry["metadata"], json!({"sandbox": true}));
    played.assert_commands(&[("curtail", 0), ("release", 1000)]);
}

async fn two(webhooks: Webhooks) {
    let played = Played::new(Acceptance::Two, webhooks).await;
    for (name, id) in &played.ids {
        let types = played.daemon.types_of(id);
        assert_eq!(types.len(), OPEN_ENDED.len(), "{name}: {types:?}");
    }
    played.assert_commands(&[
        ("curtail", 0),
        ("release", 1000),
        ("curtail", 1500),
        ("release", 2500),
    ]);
}

async fn abutting(webhooks: Webhooks) {
    let played = Played::new(Acceptance::Abutting, webhooks).await;
    for id in played.ids.values() {
        assert_eq!(played.daemon.types_of(id).len(), OPEN_ENDED.len());
    }
    played.assert_commands(&[("curtail", 0), ("release", 2000)]);
}

async fn overlapping(webhooks: Webhooks) {
    let played = Played::new(Acceptance::Overlapping, webhooks).await;
    for id in played.ids.values() {
        assert_eq!(played.daemon.types_of(id).len(), OPEN_ENDED.len());
    }
    played.assert_commands(&[("curtail", 0), ("release", 1500)]);
}

async fn cancelled(webhooks: Webhooks) {
    let played = Played::new(Acceptance::Cancelled, webhooks).await;
    let phases = ["scheduled", "cancelled"];
    played
        .assert_story("Dispatch", &["created", "cancelled"], &phases)
        .await;
    let cancelled = &played.daemon.events_of(&played.ids["Dispatch"])[1].event;
    assert_eq!(cancelled["data"]["cancel_reason"], "unauthorized");
    // Its start must have passed before it can be said that nothing came of it.
    wait_until("the start has passed", async || {
        let schedule = played.daemon.schedule().await;
        let as_of: DateTime<Utc> = schedule["as_of"].as_str().unwrap().parse().unwrap();
        as_of > played.start + TimeDelta::milliseconds(200)
    })
    .await;
    played.assert_commands(&[]);
}

/// A field that the daemon does not know arrives as the API has it, each change of it is
/// announced, and it curtails and releases nothing.
async fn unknown_field(kind: Acceptance, webhooks: Webhooks) {
    const FIELD: &str = "setpoints";
    let played = Played::new(kind, webhooks).await;
    let published = played.published("Dispatch");
    let id = &played.ids["Dispatch"];
    let mut told = played.daemon.events_of(id);
    told.retain(|heard| ["dispatch.created", "dispatch.updated"].contains(&heard.text("type")));
    assert_eq!(told.len(), published.len(), "{told:?}");
    for (number, (heard, (_, state))) in told.iter().zip(&published).enumerate() {
        let data = &heard.event["data"];
        assert_eq!(data["extra"].get(FIELD), state.get(FIELD), "{heard:?}");
        for site in data["sites"].as_array().unwrap() {
            assert_eq!(site["extra"].get(FIELD), state.get(FIELD), "{heard:?}");
        }
        if number > 0 {
            let changed = json!(["modification_number", "sites", format!("extra.{FIELD}")]);
            assert_eq!(data["changed"], changed, "{heard:?}");
        }
    }
    // A site is told what held when it was curtailed, and each change from then on.
    let (before, after): (Vec<_>, Vec<_>) =
        published.iter().partition(|(at, _)| *at < played.start);
    let states = before.last().into_iter().chain(&after);
    let wanted: Vec<Option<&Value>> = states.map(|(_, state)| state.get(FIELD)).collect();
    for site in SITES {
        let mut told = played.daemon.events_of(site);
        told.retain(|heard| heard.text("type") != "site.release");
        let told: Vec<Option<&Value>> = told
            .iter()
            .map(|heard| heard.event["data"]["extra"][id].get(FIELD))
            .collect();
        assert_eq!(told, wanted, "{site}");
    }
    played.assert_commands(&[("curtail", 0), ("release", 1000)]);
}

async fn setpoints(webhooks: Webhooks) {
    unknown_field(Acceptance::Setpoints, webhooks).await;
}

async fn setpoints_none(webhooks: Webhooks) {
    unknown_field(Acceptance::SetpointsNone, webhooks).await;
}

async fn setpoints_abutting(webhooks: Webhooks) {
    unknown_field(Acceptance::SetpointsAbutting, webhooks).await;
}

async fn setpoints_incomplete(webhooks: Webhooks) {
    unknown_field(Acceptance::SetpointsIncomplete, webhooks).await;
}

/// Both ways of one acceptance test.
macro_rules! acceptance_tests {
    ($($name:ident: $working:ident, $lost:ident;)*) => {$(
        #[apply(test)]
        async fn $working() {
            $name(Webhooks::Working).await;
        }

        #[apply(test)]
        async fn $lost() {
            $name(Webhooks::Lost).await;
        }
    )*};
}

acceptance_tests! {
    basic: a_basic_dispatch_is_curtailed_by_its_start_and_released_after_its_end,
        a_basic_dispatch_is_handled_with_every_webhook_lost;
    ancillary: an_open_dispatch_is_curtailed_at_once_and_released_by_the_update,
        an_open_dispatch_is_handled_with_every_webhook_lost;
    two: two_dispatches_with_a_gap_are_two_curtailments,
        two_dispatches_are_handled_with_every_webhook_lost;
    abutting: nothing_is_released_between_abutting_dispatches,
        nothing_is_released_between_abutting_dispatches_with_every_webhook_lost;
    overlapping: overlapping_dispatches_are_one_curtailment,
        overlapping_dispatches_are_one_curtailment_with_every_webhook_lost;
    cancelled: a_cancelled_dispatch_curtails_nothing,
        a_cancelled_dispatch_curtails_nothing_with_every_webhook_lost;
    setpoints: setpoints_that_are_missing_at_first_arrive_unchanged_and_are_announced,
        setpoints_that_are_missing_at_first_arrive_with_every_webhook_lost;
    setpoints_none: setpoints_that_are_none_at_all_arrive_unchanged,
        setpoints_that_are_none_at_all_arrive_with_every_webhook_lost;
    setpoints_abutting: abutting_setpoints_arrive_unchanged_and_a_change_is_announced,
        abutting_setpoints_arrive_with_every_webhook_lost;
    setpoints_incomplete: incomplete_setpoints_arrive_unchanged_and_release_nothing,
        incomplete_setpoints_arrive_with_every_webhook_lost;
}
