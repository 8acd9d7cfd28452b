//! Starts and ends on time, whatever else is down; stale when blind; no spin
//! (rules R4, R7 and R10).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Durable, StepEnd};
use crate::oracle;
use crate::scenario::Knobs;
use crate::violation::{Checked, must};
use dispatchd::engine::Rules;
use dispatchd::model::{CancelReason, Dispatch, Entry, Phase, SiteState};

/// How long a disk that failed is left alone, and how often clocks are read.
const SECOND: Duration = Duration::from_secs(1);

/// Steps at one moment without any progress of time.
const AT_ONE_MOMENT: u32 = 20;

/// What the clocks say must have been done.
#[derive(Debug)]
pub(super) struct Clockwork {
    rules: Rules,
    trust: Duration,
    born: Duration,
    /// A commit has ended since the start: what passed meanwhile is applied.
    caught_up: bool,
    disk_failed: Option<Duration>,
    poll_succeeded: Option<Duration>,
    latest: DateTime<Utc>,
    held_until: Duration,
    last_step: Duration,
    at_one_moment: u32,
    was_stale: bool,
}

impl Clockwork {
    pub fn new(knobs: &Knobs) -> Self {
        Self {
            rules: knobs.settings.rules,
            trust: knobs.settings.poll_interval * 3,
            born: Duration::ZERO,
            caught_up: false,
            disk_failed: None,
            poll_succeeded: None,
            latest: DateTime::<Utc>::MIN_UTC,
            held_until: Duration::ZERO,
            last_step: Duration::ZERO,
            at_one_moment: 0,
            was_stale: false,
        }
    }

    /// A daemon starts on a store that holds `stale`.
    pub fn booted(&mut self, now: Duration, stale: bool) {
        self.was_stale = stale;
        self.born = now;
        self.caught_up = false;
        self.disk_failed = None;
        self.poll_succeeded = None;
    }

    pub fn held_until(&mut self, until: Duration) {
        self.held_until = self.held_until.max(until);
        // The pause after it goes by a clock that may have slept.
        self.disk_failed = self.disk_failed.map(|_| until);
    }

    pub fn commit_ended(&mut self, ok: bool, now: Duration) {
        if ok {
            self.caught_up = true;
            self.disk_failed = None;
        } else {
            // It learns of it once it gets to run.
            self.disk_failed = Some(now.max(self.held_until));
        }
    }

    /// A coordinator is shown this time. What it does then it may have written
    /// down, even if it dies of it.
    pub fn stepping(&mut self, wall: DateTime<Utc>) {
        self.latest = self.latest.max(wall);
    }

    pub fn poll_succeeded(&mut self, now: Duration) {
        self.poll_succeeded = Some(now);
    }

    pub fn stepped(&mut self, end: &StepEnd<'_>, durable: &Durable, trusted: bool) -> Checked {
        self.moves_on(end)?;
        let disk_rests = self
            .disk_failed
            .is_some_and(|failed| end.now < failed + SECOND + SECOND);
        let free = !end.writing && !disk_rests && trusted;
        self.staleness(end, durable, free)?;
        self.caught_up |= !end.writing && self.disk_failed.is_none() && trusted;
        if !self.caught_up {
            return Ok(());
        }
        let as_of = end.view.as_of;
        must(
            !free || as_of == end.wall,
            end.now,
            "starts and ends are applied on time",
            || format!("at {} the schedule is as of {as_of}", end.wall),
        )?;
        if as_of < self.latest {
            // The clock fell back: what was done stays done.
            return Ok(());
        }
        self.phases(end)?;
        self.sites(end)?;
        if free {
            self.wakes_in_time(end)?;
        }
        Ok(())
    }

    fn moves_on(&mut self, end: &StepEnd<'_>) -> Checked {
        if end.now > self.last_step {
            self.last_step = end.now;
            self.at_one_moment = 0;
        }
        self.at_one_moment += 1;
        must(
            self.at_one_moment <= AT_ONE_MOMENT,
            end.now,
            "the coordinator sleeps while there is nothing to do",
            || {
                format!(
                    "{AT_ONE_MOMENT} steps at one moment, next at {:?}",
                    end.wake
                )
            },
        )?;
        must(
            end.wake <= end.mono + SECOND,
            end.now,
            "the clock is looked at every second",
            || format!("now {:?}, next at {:?}", end.mono, end.wake),
        )
    }

    /// `sync.stale` is told after three intervals without a poll, not before.
    fn staleness(&mut self, end: &StepEnd<'_>, durable: &Durable, free: bool) -> Checked {
        let blind = end.now - self.poll_succeeded.unwrap_or(self.born).max(self.born);
        let stale = durable.sync.stale;
        if stale && !self.was_stale {
            let early = blind < self.trust && self.held_until < self.born;
            must(!early, end.now, "stale only after three intervals", || {
                format!("blind for {blind:?}")
            })?;
        }
        self.was_stale = stale;
        let held = end.now <= self.held_until + self.trust + SECOND;
        must(
            stale || end.stopping || !free || held || blind <= self.trust + SECOND,
            end.now,
            "whoever is blind says so",
            || format!("blind for {blind:?} and not stale"),
        )
    }

    fn phases(&self, end: &StepEnd<'_>) -> Checked {
        for entry in end.view.schedule.entries() {
            let expected = if is_withdrawn(&entry) {
                Phase::Cancelled
            } else {
                oracle::phase(&entry.dispatch, end.view.as_of)
            };
            must(
                entry.phase == expected,
                end.now,
                "every dispatch stands where its times say",
                || format!("{} is {:?}, not {expected:?}", entry.id(), entry.phase),
            )?;
        }
        Ok(())
    }

    fn sites(&self, end: &StepEnd<'_>) -> Checked {
        let live: Vec<_> = live(end).collect();
        let duties = oracle::duties(
            live.iter().map(|dispatch| &**dispatch),
            &oracle::orders(end.view, end.view.as_of),
            end.view.as_of,
            &self.rules,
        );
        for site in end.view.plan.sites() {
            site_is(site, duties.get(&site.id), end.now)?;
        }
        for site in duties.keys() {
            must(
                end.view.plan.get(site).is_some(),
                end.now,
                "a site is the union of its dispatches",
                || format!("{site} is not in the plan"),
            )?;
        }
        Ok(())
    }

    /// The coordinator wants to be woken by the time that something is due.
    fn wakes_in_time(&self, end: &StepEnd<'_>) -> Checked {
        let lead = TimeDelta::from_std(self.rules.pre_curtail).unwrap_or_default();
        let as_of = end.view.as_of;
        let times = live(end).flat_map(|dispatch| {
            let start = dispatch.start_time;
            match oracle::phase(&dispatch, as_of) {
                Phase::Scheduled if dispatch.test && !self.rules.curtail_on_test => {
                    [None, Some(start)]
                }
                Phase::Scheduled => [Some(start - lead), Some(start)],
                Phase::Active => [None, dispatch.end_time],
                Phase::Ended | Phase::Cancelled => [None, None],
            }
        });
        let due = times.flatten().filter(|time| *time > end.wall).min();
        let due = due.and_then(|due| (due - end.wall).to_std().ok());
        must(
            due.is_none_or(|due| end.wake <= end.mono + due),
            end.now,
            "the coordinator wakes when something is due",
            || format!("due in {due:?}, wakes at {:?} of {:?}", end.wake, end.mono),
        )
    }
}

fn live(end: &StepEnd<'_>) -> impl Iterator<Item = Arc<Dispatch>> {
    end.view
        .schedule
        .entries()
        .filter(|entry| !is_withdrawn(entry))
        .map(|entry| Arc::clone(&entry.dispatch))
}

fn is_withdrawn(entry: &Entry) -> bool {
    entry.cancel_reason == Some(CancelReason::Withdrawn)
}

/// Whether a site is told what the union of its dispatches says.
pub(crate) fn site_is(site: &SiteState, duty: Option<&oracle::Duty>, now: Duration) -> Checked {
    let duty = duty.cloned().unwrap_or_default();
    let holders: BTreeSet<_> = site.dispatches.iter().cloned().collect();
    let seen = oracle::Duty {
        commitment: site.commitment_kw.map(|commitment| commitment.0),
        until: site.until,
        extra: site.extra.as_deref().cloned().unwrap_or_default(),
        by_hand: site.site_override.as_ref().is_some_and(|it| it.curtails()),
        holders,
    };
    let same = seen == duty && site.is_curtailed() == duty.curtails();
    must(same, now, "a site is the union of its dispatches", || {
        format!("{} is {seen:?}, not {duty:?}", site.id)
    })
}
