//! What became of the webhooks, and what was promised by answering them 200.

use std::collections::{BTreeMap, BTreeSet};

use dispatchd::sandbox::{Delivery, Outcome, Sandbox};
use serde_json::Value;

use crate::clock::now;
use crate::replica::LAG_MAX;
use crate::upstream::Books;

/// The sandbox's log, read bit by bit.
#[derive(Debug, Default)]
pub struct Webhooks {
    last: Option<Delivery>,
    /// Attempts, copies included.
    pub attempts: u64,
    pub answered_200: u64,
    pub answered_otherwise: u64,
    pub unanswered: u64,
    pub copies: u64,
    pub contact_emails: usize,
    /// Losses: the id, and when, as the sandbox's log has it.
    pub lost: Vec<Delivery>,
    /// By id the state that the schedule must have, or a newer one.
    promised: BTreeMap<String, i64>,
    pub promises_checked: u64,
}

impl Webhooks {
    /// Reads on. To be called far more often than once in 100,000 deliveries:
    /// no more than that are kept.
    pub fn read(&mut self, sandbox: &Sandbox, books: &Books) {
        let log = sandbox.log();
        self.contact_emails = log.contact_emails.len();
        let from = self
            .last
            .as_ref()
            .and_then(|last| log.deliveries.iter().rposition(|one| one == last))
            .map_or(0, |last| last + 1);
        for delivery in &log.deliveries[from..] {
            self.note(delivery, books);
        }
        self.last = log.deliveries.last().cloned().or(self.last.take());
    }

    fn note(&mut self, delivery: &Delivery, books: &Books) {
        if delivery.outcome == Outcome::Dropped {
            self.lost.push(delivery.clone());
            return;
        }
        self.attempts += 1;
        self.copies += u64::from(delivery.duplicate);
        match delivery.outcome {
            Outcome::Answered(200) => {
                self.answered_200 += 1;
                self.promise(delivery, books);
            }
            Outcome::Answered(_) => self.answered_otherwise += 1,
            _ => self.unanswered += 1,
        }
    }

    /// The state that was there before the webhook was sent, or a newer one, is
    /// promised: it was fetched after the webhook arrived. A replica may have shown
    /// what was there [`LAG_MAX`] before, of a dispatch that has a number.
    fn promise(&mut self, delivery: &Delivery, books: &Books) {
        let id = id_of(delivery);
        let numbered = books.dispatches.get(id).is_some_and(|one| one.numbered);
        let shown = match numbered {
            true => delivery.at - LAG_MAX,
            false => delivery.at,
        };
        let newest = books
            .changes
            .iter()
            .rev()
            .filter(|change| change.id == id && change.after < shown)
            .map(|change| change.state)
            .next();
        // What was taken away meanwhile could not be fetched any more.
        let taken = books.dispatches.get(id).and_then(|one| one.taken);
        if let Some(state) = newest.filter(|state| taken.is_none_or(|taken| *state > taken)) {
            let promised = self.promised.entry(id.to_owned()).or_insert(state);
            *promised = state.max(*promised);
        }
    }

    /// What a schedule lacks of what was promised.
    pub fn broken(&mut self, schedule: &Value, books: &Books) -> Vec<String> {
        let states = states(schedule);
        let time = now();
        let mut broken = Vec::new();
        let mut forgotten = BTreeSet::new();
        for (id, promised) in &self.promised {
            let known = states.get(id.as_str());
            let one = &books.dispatches[id];
            if known.is_none() && one.is_excused(*promised, time) {
                forgotten.insert(id.clone());
            } else if known.is_none_or(|known| known < promised) {
                broken.push(format!(
                    "{id}: state {promised} was answered 200, the schedule has {known:?} after a kill; \
                     upstream it is {:?} and {} in state {}",
                    one.standing,
                    one.phase(time),
                    one.state,
                ));
            }
            self.promises_checked += 1;
        }
        self.promised.retain(|id, _| !forgotten.contains(id));
        broken
    }
}

/// The dispatch that a webhook told of.
pub fn id_of(delivery: &Delivery) -> &str {
    delivery.resource.rsplit('/').next().unwrap_or_default()
}

/// The states of a schedule's entries by id.
pub fn states(schedule: &Value) -> BTreeMap<&str, i64> {
    let entries = schedule["dispatches"].as_array().into_iter().flatten();
    entries
        .filter_map(|entry| Some((entry["id"].as_str()?, entry["metadata"]["state"].as_i64()?)))
        .collect()
}
