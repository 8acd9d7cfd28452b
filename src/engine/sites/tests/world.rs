//! A schedule and its plan that are told things, for tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::super::{Planned, SiteChangeKind, SitePlan, plan};
use crate::engine::{Observation, Outcome, Request, Rules, Schedule, reconcile};
use crate::model::{
    Answer, Asked, Dispatch, DispatchId, Kilowatts, List, Override, OverrideOrder, Program,
    Reading, Site, SiteId, SiteMode, SiteState, Source,
};

/// Rules with a lead of so many seconds.
pub(super) fn lead(seconds: u64) -> Rules {
    Rules {
        retain: Duration::from_secs(1000),
        pre_curtail: Duration::from_secs(seconds),
        curtail_on_test: false,
        chunk: usize::MAX,
    }
}

pub(super) fn id(text: &str) -> DispatchId {
    DispatchId::new(text).unwrap()
}

pub(super) fn site_id(text: &str) -> SiteId {
    SiteId::new(text).unwrap()
}

/// Seconds after an arbitrary moment that all tests share.
pub(super) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::seconds(seconds)
}

/// The clock that does not jump at that second.
fn moment(now: i64) -> Duration {
    Duration::from_secs(now.unsigned_abs())
}

/// The reverse of [`at`].
pub(super) fn seconds(time: DateTime<Utc>) -> i64 {
    (time - at(0)).num_seconds()
}

pub(super) fn site(name: &str, kw: impl Into<Option<f64>>) -> Arc<Site> {
    Arc::new(Site {
        extra: Default::default(),
        id: site_id(name),
        name: format!("Plant {name}"),
        customer_location_id: format!("loc-{name}"),
        commitment: kw.into().map(Kilowatts),
    })
}

/// A dispatch that names site `s` with 10 kW.
pub(super) fn dispatch(name: &str, start: i64, end: impl Into<Option<i64>>) -> Dispatch {
    Dispatch {
        id: id(name),
        authorized: true,
        test: false,
        start_time: at(start),
        end_time: end.into().map(at),
        creation_time: None,
        modification_number: None,
        program: Program::default(),
        sites: vec![site("s", 10.0)],
        metadata: serde_json::json!({}),
        extra: Default::default(),
    }
}

/// A dispatch with something else about it.
pub(super) trait But: Sized {
    fn but(self, change: impl FnOnce(&mut Self)) -> Self;
}

impl But for Dispatch {
    fn but(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

pub(super) struct World {
    pub rules: Rules,
    pub schedule: Schedule,
    pub plan: SitePlan,
    /// What the last step led to.
    pub outcome: Outcome,
    pub planned: Planned,
    /// What is known by the differences alone.
    pub replayed: BTreeMap<SiteId, Arc<SiteState>>,
    /// What operators ordered last.
    pub ordered: BTreeMap<SiteId, Arc<Override>>,
    asked: u64,
}

impl World {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            schedule: Schedule::default(),
            plan: SitePlan::default(),
            outcome: Outcome::default(),
            planned: Planned::default(),
            replayed: BTreeMap::new(),
            ordered: BTreeMap::new(),
            asked: 0,
        }
    }

    /// What the sites are told, as `kind site by cause`.
    pub fn tell(&mut self, now: i64, observation: &Observation) -> Vec<String> {
        let now = at(now);
        let (schedule, outcome) = reconcile(self.schedule.clone(), observation, now, &self.rules);
        self.schedule = schedule;
        self.outcome = outcome;
        self.follow(now)
    }

    fn follow(&mut self, now: DateTime<Utc>) -> Vec<String> {
        let planned = plan(
            self.plan.clone(),
            &self.schedule,
            &self.outcome,
            now,
            &self.rules,
        );
        self.plan = planned.plan.clone();
        for change in &planned.changes {
            let before = self.replayed.get(&change.site.id);
            let curtailed = before.is_some_and(|site| site.is_curtailed());
            assert!(change.unconditional || curtailed == (change.kind != SiteChangeKind::Curtail));
            let releases = change.kind == SiteChangeKind::Release;
            assert_eq!(change.site.is_curtailed(), !releases);
            self.replayed
                .insert(change.site.id.clone(), Arc::clone(&change.site));
        }
        for site in &planned.overridden {
            self.replayed.insert(site.id.clone(), Arc::clone(site));
        }
        for site in &planned.forgotten {
            self.replayed.remove(site);
        }
        self.planned = planned;
        let told = self.planned.changes.iter().map(|change| {
            let kind = match change.kind {
                SiteChangeKind::Curtail => "curtail",
                SiteChangeKind::Adjust => "adjust",
                SiteChangeKind::Release => "release",
            };
            format!("{kind} {} by {}", change.site.id, change.cause)
        });
        told.collect()
    }

    pub fn clock(&mut self, now: i64) -> Vec<String> {
        self.tell(now, &Observation::Clock)
    }

    /// Lets the clock bring all that is due by now, in chunks.
    pub fn catch_up(&mut self, now: i64) -> Vec<String> {
        let mut told = Vec::new();
        while self.next_due().is_some_and(|due| due <= now) {
            told.extend(self.clock(now));
        }
        told
    }

    fn answer(&mut self, now: i64, answer: Answer) -> Vec<String> {
        self.asked += 1;
        let asked = Asked {
            term: 1,
            count: self.asked,
        };
        let request = Request {
            source: Source::Poll,
            asked,
            issued: moment(now),
            answered: moment(now),
            clock_agrees: true,
        };
        self.tell(now, &Observation::Api { request, answer })
    }

    /// An operator orders what a site must do, until then. No order: it follows its
    /// dispatches.
    pub fn order(&mut self, now: i64, name: &str, order: Option<(SiteMode, i64)>) -> Vec<String> {
        let order = order.map(|(state, until)| {
            Arc::new(Override::new(state, at(until), "new meter", at(now)).unwrap())
        });
        match &order {
            Some(order) => self.ordered.insert(site_id(name), Arc::clone(order)),
            None => self.ordered.remove(&site_id(name)),
        };
        let order = OverrideOrder {
            site: site_id(name),
            name: format!("Plant {name}"),
            customer_location_id: format!("loc-{name}"),
            site_override: order,
        };
        self.tell(now, &Observation::Operator(order))
    }

    /// What the histories of dispatches keep of overrides, from the last step.
    pub fn notes(&self) -> Vec<String> {
        let notes = self.planned.notes.iter().map(|note| {
            let order = note.site_override.as_ref();
            let order = order.map_or("auto", |order| order.state.name());
            format!("{}: {} {order}", note.dispatch, note.site)
        });
        notes.collect()
    }

    /// The dispatches that are to be looked up for a doubt.
    pub fn checks_due(&self, now: i64) -> Vec<DispatchId> {
        let due = self.schedule.checks_due(moment(now));
        due.cloned().collect()
    }

    pub fn upsert(&mut self, now: i64, dispatch: Dispatch) -> Vec<String> {
        let reading = Reading::Dispatch(Arc::new(dispatch));
        self.answer(now, Answer::Found(reading))
    }

    pub fn list(&mut self, now: i64, list: impl IntoIterator<Item = Dispatch>) -> Vec<String> {
        let readings = list
            .into_iter()
            .map(|dispatch| Reading::Dispatch(Arc::new(dispatch)))
            .collect();
        let list = Arc::new(List::new(readings, 0));
        self.answer(now, Answer::List(list))
    }

    pub fn gone(&mut self, now: i64, name: &str) -> Vec<String> {
        self.answer(now, Answer::Gone(id(name)))
    }

    /// Stops, and starts again with what was stored.
    pub fn restart(&mut self, now: i64) -> Vec<String> {
        let stored = self.replayed.values().map(|site| SiteState::clone(site));
        self.plan = SitePlan::restore(&self.schedule, stored, at(now), &self.rules);
        self.clock(now)
    }

    pub fn site(&self, name: &str) -> &SiteState {
        self.plan.get(&site_id(name)).unwrap()
    }

    /// Until when `s` is curtailed. `None` while unknown.
    pub fn until(&self) -> Option<i64> {
        assert!(self.site("s").is_curtailed());
        self.site("s").until.map(seconds)
    }

    /// What holds `s`.
    pub fn held_by(&self) -> String {
        let held: Vec<&str> = self
            .site("s")
            .dispatches
            .iter()
            .map(|id| id.as_str())
            .collect();
        held.join(" ")
    }

    /// When the schedule or the plan is next due.
    pub fn next_due(&self) -> Option<i64> {
        let due = [self.schedule.next_due(), self.plan.next_due()];
        due.into_iter().flatten().min().map(seconds)
    }
}
