//! Deliberate defects: each breaks one rule, to prove that the checks bite.
//!
//! They are made at the daemon's boundaries, where what passes is tampered with:
//! the deciding code knows nothing of them. What lies deeper is held by mutation
//! tests (README, Contributing).

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::receivers::Handling;
use dispatchd::delivery::{Attempt, Start};
use dispatchd::model::{Answer, DispatchId};
use dispatchd::store::{Batch, StoreError};
use dispatchd::sync::{Effect, Input, Settings, WaiterReply};
use dispatchd::voltus::{ApiError, ApiResponse, Question};

/// A rule, broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// A 200 is given when the commit begins.
    OkBeforeTheCommit,
    /// A 200 is given whatever came of it.
    OkOnFailure,
    /// A commit that failed is taken for done.
    FailedCommitKept,
    /// Events are shown before they are on disk.
    ShownBeforeTheCommit,
    /// What was attempted is not written down.
    AttemptsForgotten,
    /// Events count as delivered once they are written.
    SettledBeforeDelivery,
    /// A release is dropped when nobody knows what came of the curtailment.
    ReleaseDropped,
    /// Events of one subject overtake one another.
    OrderBroken,
    /// An event that was not committed is delivered.
    OtherData,
    /// An id that the list lacks counts as gone without a look-up.
    AbsenceTrusted,
    /// The lead is not counted.
    LeadForgotten,
    /// `Retry-After` is not obeyed.
    RetryAfterIgnored,
    /// The budget is larger than allowed.
    BudgetExceeded,
}

#[cfg(test)]
impl Defect {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::OkBeforeTheCommit,
        Self::OkOnFailure,
        Self::FailedCommitKept,
        Self::ShownBeforeTheCommit,
        Self::AttemptsForgotten,
        Self::SettledBeforeDelivery,
        Self::ReleaseDropped,
        Self::OrderBroken,
        Self::OtherData,
        Self::AbsenceTrusted,
        Self::LeadForgotten,
        Self::RetryAfterIgnored,
        Self::BudgetExceeded,
    ];
}

/// Stands between daemon and world, and breaks one rule.
#[derive(Debug)]
pub(super) struct Tamperer {
    defect: Option<Defect>,
    /// Whom a 200 was given already.
    answered: BTreeSet<u64>,
    asking: BTreeSet<u64>,
    listed: BTreeSet<DispatchId>,
    attempts: BTreeMap<(usize, u64), Vec<Arc<str>>>,
    unconfirmed: BTreeSet<(usize, Arc<str>)>,
}

impl Tamperer {
    /// One that breaks nothing, if there is no defect.
    pub fn new(defect: Option<Defect>) -> Self {
        Self {
            defect,
            answered: BTreeSet::new(),
            asking: BTreeSet::new(),
            listed: BTreeSet::new(),
            attempts: BTreeMap::new(),
            unconfirmed: BTreeSet::new(),
        }
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    /// The settings that the daemon gets.
    pub fn settings(&self, settings: &Settings) -> Settings {
        let mut settings = settings.clone();
        if self.has(Defect::BudgetExceeded) {
            let rate = settings.api_rate;
            settings.api_rate = rate.saturating_mul(NonZeroU32::MIN.saturating_add(1));
        }
        if self.has(Defect::LeadForgotten) {
            settings.rules.pre_curtail = Duration::ZERO;
        }
        settings
    }

    /// What the daemon is told.
    pub fn inputs(&mut self, inputs: &[Input<u64>]) {
        for input in inputs {
            if let Input::Webhook { waiter, .. } = input {
                self.asking.insert(*waiter);
            }
        }
    }

    /// What the API tells.
    pub fn told(
        &mut self,
        question: &Question,
        result: Result<ApiResponse, ApiError>,
    ) -> Result<ApiResponse, ApiError> {
        if let Ok(ApiResponse {
            answer: Answer::List(list),
            ..
        }) = &result
        {
            self.listed = list.readings().iter().map(|one| one.id().clone()).collect();
        }
        match (result, question) {
            (Err(error), _) if self.has(Defect::RetryAfterIgnored) => {
                Err(ApiError::Unreachable(error.to_string()))
            }
            (Ok(told), Question::Dispatch(id))
                if self.has(Defect::AbsenceTrusted) && !self.listed.contains(id) =>
            {
                Ok(ApiResponse {
                    answer: Answer::Gone(id.clone()),
                    ..told
                })
            }
            (result, _) => result,
        }
    }

    /// What reaches the disk.
    pub fn stored(&self, batch: &Batch) -> Batch {
        let mut batch = batch.clone();
        for record in &mut batch.sinks {
            if self.has(Defect::AttemptsForgotten) {
                record.attempted.clear();
            }
            if self.has(Defect::SettledBeforeDelivery) {
                let last = batch.events.last().map_or(0, |event| event.position);
                record.done = record.done.max(last);
            }
        }
        batch
    }

    /// What the daemon learns of its commit.
    pub fn commit_ended(&self, result: Result<(), StoreError>) -> Result<(), StoreError> {
        if self.has(Defect::FailedCommitKept) {
            return Ok(());
        }
        result
    }

    /// What the daemon does.
    pub fn effects(&mut self, effects: Vec<Effect<u64>>) -> Vec<Effect<u64>> {
        let mut tampered = Vec::with_capacity(effects.len());
        for effect in effects {
            match effect {
                Effect::Commit(batch) => {
                    if self.has(Defect::OkBeforeTheCommit) {
                        for waiter in std::mem::take(&mut self.asking) {
                            self.answered.insert(waiter);
                            let outcome = WaiterReply::Applied;
                            tampered.push(Effect::Reply { waiter, outcome });
                        }
                    }
                    if self.has(Defect::ShownBeforeTheCommit) && !batch.events.is_empty() {
                        tampered.push(Effect::Show(batch.events.clone()));
                    }
                    tampered.push(Effect::Commit(batch));
                }
                Effect::Show(_) if self.has(Defect::ShownBeforeTheCommit) => {}
                Effect::Reply { waiter, outcome } => {
                    self.asking.remove(&waiter);
                    if self.answered.contains(&waiter) {
                        continue;
                    }
                    let outcome = match outcome {
                        WaiterReply::Unavailable { .. } if self.has(Defect::OkOnFailure) => {
                            WaiterReply::Applied
                        }
                        outcome => outcome,
                    };
                    tampered.push(Effect::Reply { waiter, outcome });
                }
                Effect::Attempt { sink, mut start } => {
                    if self.has(Defect::OtherData) {
                        for event in &mut start.events {
                            event.sequence += 1;
                            event.id = format!("{}-again", event.id).into();
                        }
                    }
                    tampered.push(Effect::Attempt { sink, start });
                }
                other => tampered.push(other),
            }
        }
        tampered
    }

    /// Whether an attempt is not made at all, and said to be delivered.
    pub fn swallows(&mut self, sink: usize, start: &Start) -> bool {
        let subjects = start
            .events
            .iter()
            .map(|event| event.subject_key())
            .collect();
        self.attempts.insert((sink, start.attempt), subjects);
        self.has(Defect::ReleaseDropped)
            && start.events.iter().all(|event| {
                &*event.event_type == "site.release"
                    && self.unconfirmed.contains(&(sink, event.subject_key()))
            })
    }

    /// What becomes of an attempt.
    pub fn handling(&self, start: &Start, mut handling: Handling) -> Handling {
        let dispatch = start
            .events
            .iter()
            .all(|event| event.family() == "dispatch");
        if self.has(Defect::OrderBroken) && dispatch && start.attempt.is_multiple_of(3) {
            handling.acts_after = Some(Duration::from_secs(3));
            handling.result = Attempt::Delivered;
        }
        handling
    }

    /// What the daemon learns of an attempt.
    pub fn attempted(&mut self, sink: usize, attempt: u64, result: Attempt) -> Attempt {
        for subject in self.attempts.remove(&(sink, attempt)).unwrap_or_default() {
            if result == Attempt::Delivered {
                self.unconfirmed.remove(&(sink, subject));
            } else {
                self.unconfirmed.insert((sink, subject));
            }
        }
        result
    }
}
