//! A 200 is a promise, and everybody is answered in time, once (rule R5).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::Durable;
use crate::oracle;
use crate::scenario::Knobs;
use crate::violation::{Checked, Violation, must};
use dispatchd::model::{Answer, Asked, Dispatch, DispatchId, Entry, Reading};
use dispatchd::sync::{Input, WaiterReply};
use dispatchd::voltus::ApiResponse;

/// How late an answer may be.
const GRANULARITY: Duration = Duration::from_secs(1);

/// The longest that somebody who asks for a poll waits.
const POLL_PATIENCE: Duration = Duration::from_secs(65);

#[derive(Debug)]
struct Waiter {
    /// `None` for one who asked for a poll.
    id: Option<DispatchId>,
    came: Option<Duration>,
    /// When its time began to run.
    taken_in: Option<Duration>,
}

/// Those who wait, and what the API said since they came.
#[derive(Debug)]
pub(crate) struct Promises {
    deadline: Duration,
    retain: Option<TimeDelta>,
    waiters: BTreeMap<u64, Waiter>,
    answered: BTreeSet<u64>,
    asked_at: BTreeMap<Asked, Duration>,
    told: Vec<(Duration, Asked, Answer)>,
    held_until: Duration,
    /// The latest time that the daemon's own clock has shown, UTC.
    latest_wall: DateTime<Utc>,
}

impl Promises {
    pub(super) fn new(knobs: &Knobs) -> Self {
        Self {
            deadline: knobs.settings.webhook_deadline,
            retain: TimeDelta::from_std(knobs.settings.rules.retain).ok(),
            waiters: BTreeMap::new(),
            answered: BTreeSet::new(),
            asked_at: BTreeMap::new(),
            told: Vec::new(),
            held_until: Duration::ZERO,
            latest_wall: DateTime::UNIX_EPOCH,
        }
    }

    /// Somebody waits: for a dispatch, or for a poll.
    pub fn waits(&mut self, waiter: u64, id: Option<DispatchId>) {
        let waits = Waiter {
            id,
            came: None,
            taken_in: None,
        };
        self.waiters.insert(waiter, waits);
    }

    pub(super) fn taken_in(&mut self, inputs: &[Input<u64>], now: Duration) {
        for input in inputs {
            if let Input::Webhook { waiter, .. } | Input::Poll { waiter } = input
                && let Some(waiter) = self.waiters.get_mut(waiter)
            {
                waiter.came = Some(now);
                waiter.taken_in = Some(now);
            }
        }
    }

    pub(super) fn daemon_gone(&mut self) {
        self.waiters.clear();
        self.asked_at.clear();
        self.told.clear();
    }

    /// The daemon gets no processor until then. A deadline may move with it:
    /// the clock that it goes by may sleep.
    pub(super) fn held(&mut self, now: Duration, until: Duration) {
        self.held_until = self.held_until.max(until);
        for waiter in self.waiters.values_mut() {
            waiter.taken_in = waiter.taken_in.map(|at| at + (until - now));
        }
    }

    pub(super) fn asked(&mut self, asked: Asked, now: Duration) {
        self.asked_at.insert(asked, now);
    }

    pub(super) fn told(&mut self, asked: Asked, told: &ApiResponse) {
        if let Some(at) = self.asked_at.remove(&asked) {
            self.told.push((at, asked, told.answer.clone()));
        }
    }

    pub(super) fn replied(
        &mut self,
        waiter: u64,
        outcome: &WaiterReply,
        durable: &Durable,
        wall: DateTime<Utc>,
        now: Duration,
    ) -> Checked {
        let known = self.waiters.remove(&waiter);
        must(
            known.is_some() && self.answered.insert(waiter),
            now,
            "everybody is answered once",
            || format!("waiter {waiter} was answered again"),
        )?;
        let Some(Waiter {
            id,
            came: Some(came),
            taken_in: Some(taken_in),
        }) = known
        else {
            return Ok(());
        };
        let Some(id) = id else {
            let polled = self
                .told
                .iter()
                .any(|(at, _, answer)| *at >= came && matches!(answer, Answer::List(_)));
            return must(
                polled || *outcome != WaiterReply::Applied,
                now,
                "who asks for a poll is answered after it",
                || format!("waiter {waiter} came at {came:?}"),
            );
        };
        let late = now.saturating_sub(taken_in + self.deadline);
        must(
            late <= GRANULARITY || now <= self.held_until + GRANULARITY,
            now,
            "everybody is answered within the deadline",
            || format!("waiter {waiter} came at {came:?}"),
        )?;
        let since: Vec<_> = self.told.iter().filter(|(at, ..)| *at >= came).collect();
        let entry = durable.entries.get(&id).map(|entry| &**entry);
        let kept = match outcome {
            WaiterReply::Applied => since.iter().any(|(_, asked, answer)| {
                // What was over may have been dropped for its age just now.
                let dropped = durable.dropped.contains(&id);
                let over = entry.is_none() && dropped && *answer == Answer::Gone(id.clone());
                over || self.is_kept(&id, *asked, answer, entry, wall)
            }),
            WaiterReply::Unknown => {
                let gone = |answer: &Answer| *answer == Answer::Gone(id.clone());
                entry.is_none() && since.iter().any(|(.., answer)| gone(answer))
            }
            WaiterReply::Unavailable { .. } | WaiterReply::Busy => true,
            WaiterReply::Granted
            | WaiterReply::Pending(_)
            | WaiterReply::Skipped(_)
            | WaiterReply::PendingAt(_) => false,
        };
        must(kept, now, "a 200 is given for what is on disk", || {
            format!("{outcome:?} for {id} to waiter {waiter}, on disk {entry:?}")
        })
    }

    /// Whether what an answer says of the dispatch is on disk, or something
    /// newer.
    fn is_kept(
        &self,
        id: &DispatchId,
        asked: Asked,
        answer: &Answer,
        entry: Option<&Entry>,
        wall: DateTime<Utc>,
    ) -> bool {
        let is_kept = |reading: &Reading, dispatch: &Dispatch| match entry {
            Some(entry) => {
                let numbers = (
                    entry.dispatch.modification_number,
                    dispatch.modification_number,
                );
                oracle::fits(reading, &entry.dispatch)
                    || matches!(numbers, (Some(ours), Some(theirs)) if ours > theirs)
                    || entry.asked > asked
            }
            // What was over for long at first sight is not stored.
            None => match (self.retain, dispatch.end_time) {
                (Some(retain), Some(end)) => {
                    end + retain <= self.latest_wall.max(wall) + TimeDelta::seconds(1)
                }
                _ => false,
            },
        };
        // Where a site cannot be read nobody knows whether all of it is kept.
        let is_kept = |reading: &Reading| {
            let dispatch = reading.dispatch().filter(|_| !reading.leaves_open());
            reading.id() == id && dispatch.is_some_and(|dispatch| is_kept(reading, dispatch))
        };
        match answer {
            Answer::Gone(gone) => gone == id && entry.is_some_and(|entry| entry.phase.is_over()),
            Answer::Found(reading) => is_kept(reading),
            Answer::List(list) => list.readings().iter().any(is_kept),
        }
    }

    /// The coordinator is about to be stepped at `wall` by its own clock.
    pub(super) fn stepping(&mut self, wall: DateTime<Utc>) {
        self.latest_wall = self.latest_wall.max(wall);
    }

    pub(super) fn stepped(&self, now: Duration) -> Checked {
        for (waiter, waits) in &self.waiters {
            let patience = match waits.id {
                Some(_) => self.deadline,
                None => POLL_PATIENCE,
            };
            if let Some(came) = waits.taken_in
                && now >= came + patience
                && now > self.held_until + GRANULARITY
            {
                return Err(Violation {
                    rule: "everybody is answered within the deadline",
                    detail: format!("waiter {waiter} came at {came:?} and waits still"),
                    at: now,
                });
            }
        }
        Ok(())
    }
}
