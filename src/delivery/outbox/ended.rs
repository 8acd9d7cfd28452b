//! Decides what follows from the result of an attempt.

use std::sync::Arc;
use std::time::Duration;

use super::health::RefusedEvent;
use super::queue::{Failing, Place, SubjectQueue};
use super::{Key, NEW_COMMAND_WITHIN, Outbox, longest_pause};
use crate::clock::Now;
use crate::delivery::Attempt;
use crate::retry::backoff;
use crate::store::Retry;

/// The first pause after a subject's attempt failed.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause, unless the receiver asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The same for a site's command: the site waits for it.
const LONGEST_PAUSE_OF_COMMAND: Duration = Duration::from_secs(15);

/// How long other events wait for site commands when the receiver is back.
const COMMANDS_FIRST: Duration = Duration::from_secs(1);

/// After so many failures in a row an event counts as refused, and is named.
const REFUSED_AFTER: u32 = 5;

/// What to look at first at a receiver that fails for this reason.
pub(super) fn remedy(reason: &str) -> &'static str {
    let refused = ["401", "403"].iter().any(|status| {
        let words = reason.split(|letter: char| !letter.is_ascii_alphanumeric());
        words.into_iter().any(|word| word == *status)
    });
    match refused {
        true => "; it refuses who sends it: does it have the same --sink-secret (or password)?",
        false => "",
    }
}

/// How a subject's attempt failed.
struct Failure<'a> {
    reason: &'a Arc<str>,
    retry_after: Option<Duration>,
    random: f64,
}

impl Outbox {
    /// An attempt has ended. `random` is in `0.0..1.0`.
    pub fn ended(&mut self, attempt: u64, result: &Attempt, now: Now, random: f64) {
        let Some(ended) = self.places.end(attempt) else {
            // It was abandoned.
            return;
        };
        if !matches!(result, Attempt::Unreachable { .. }) {
            self.places.answered(ended.started, now.mono);
        }
        let keys = ended.keys;
        match result {
            Attempt::Delivered => {
                self.health.delivered(keys.len());
                self.places.batch_in_time(keys.len());
                if self.reach.answered(attempt, true, now.mono) {
                    self.is_back(now);
                }
                for key in &keys {
                    self.delivered(attempt, key, now);
                }
            }
            Attempt::Failed {
                reason,
                retry_after,
                gone,
            } => {
                self.health.failed(*gone, now);
                if self.reach.answered(attempt, false, now.mono) {
                    self.is_back(now);
                }
                let reason: Arc<str> = reason.as_str().into();
                let failure = Failure {
                    reason: &reason,
                    retry_after: *retry_after,
                    random,
                };
                match &*keys {
                    [key] => self.failed(key, &failure, now),
                    keys => self.send_alone(keys, Some(&reason)),
                }
            }
            Attempt::Unreachable { reason } => {
                self.reach.unreachable(attempt, now.mono, random);
                self.health.unreachable(reason, self.reach.is_down(), now);
                let reason: Arc<str> = reason.as_str().into();
                for key in &keys {
                    self.come_again(key, &reason);
                }
            }
            Attempt::BrokenOff => {
                self.reach.abandoned(attempt);
                self.go_first(&keys, None);
            }
        }
        self.advance_health(now.mono);
    }

    /// The receiver can be reached again: every subject is tried at once.
    pub(super) fn is_back(&mut self, now: Now) {
        self.commands_first = now.mono + COMMANDS_FIRST;
        self.health.reached();
        for (_, key) in std::mem::take(&mut self.paused) {
            if let Some(queue) = self.queues.get_mut(&key) {
                queue.place = Place::Idle;
                queue.due = now.mono;
            }
            self.line_up(&key);
            self.tidy(&key);
        }
    }

    fn delivered(&mut self, attempt: u64, key: &Key, now: Now) {
        let refreshed = self.refreshed(attempt, key);
        let Some(queue) = self.queues.get_mut(key) else {
            return;
        };
        let mut settled = Vec::new();
        let sent = queue.delivered(now.wall, &mut settled);
        let attempted = queue.attempted();
        self.settled(settled);
        if let Some(position) = sent {
            self.complete(position);
        }
        // What goes once more changes nothing that is written down.
        if let Some(site) = SubjectQueue::site_of(key).filter(|_| !refreshed) {
            self.progress.attempted(site, attempted);
        }
        self.recovered(key);
        self.watch_wait(key, !refreshed, now);
        self.go_on(key);
    }

    /// Lets a queue go on after its first event was done with.
    pub(super) fn go_on(&mut self, key: &Key) {
        if let Some(queue) = self.queues.get(key)
            && queue.is_empty()
            && let Some(from) = queue.more_from
        {
            self.window.wanting.insert((from, Key::clone(key)));
        }
        self.line_up(key);
        self.tidy(key);
    }

    /// A subject's attempts do not fail any more.
    pub(super) fn recovered(&mut self, key: &Key) {
        let Some(queue) = self.queues.get_mut(key) else {
            return;
        };
        queue.failures = 0;
        if std::mem::take(&mut queue.pause_stored) {
            self.progress.retry(key, None);
        }
        let Some(trouble) = queue.trouble.take() else {
            return;
        };
        self.health.subject_recovered(trouble.order, key);
        if SubjectQueue::site_of(key).is_none() {
            self.window.failing = self.window.failing.saturating_sub(1);
        }
        if trouble.named {
            let sink = &*self.name;
            tracing::info!(sink, subject = %key, "the sink takes events of this subject again");
        }
    }

    /// A subject's attempt found no connection. That is not the subject's fault: it
    /// goes to the end of its line.
    fn come_again(&mut self, key: &Key, reason: &Arc<str>) {
        let mut settled = Vec::new();
        let queue = self.queues.get_mut(key);
        let superseded = queue.and_then(|queue| queue.ended(Some(reason), &mut settled));
        self.settled(settled);
        if let Some(position) = superseded {
            self.complete(position);
        }
        self.line_up(key);
        self.tidy(key);
    }

    /// A batch failed, for this reason if there is one: its events go one by one, at
    /// once.
    fn send_alone(&mut self, keys: &[Key], reason: Option<&Arc<str>>) {
        for key in keys {
            if let Some(queue) = self.queues.get_mut(key) {
                queue.alone = true;
            }
        }
        self.go_first(keys, reason);
    }

    /// What an attempt had may have arrived or not, for this reason if there is one. It
    /// goes again before others.
    fn go_first(&mut self, keys: &[Key], reason: Option<&Arc<str>>) {
        let mut settled = Vec::new();
        for key in keys.iter().rev() {
            let Some(queue) = self.queues.get_mut(key) else {
                continue;
            };
            if let Some(position) = queue.ended(reason, &mut settled) {
                self.complete(position);
            }
            self.line_up_first(key);
            self.tidy(key);
        }
        self.settled(settled);
    }

    fn failed(&mut self, key: &Key, failure: &Failure<'_>, now: Now) {
        if self.refresh_failed(key, failure.reason, failure.random, now.mono) {
            return;
        }
        let Some(queue) = self.queues.get_mut(key) else {
            return;
        };
        let mut settled = Vec::new();
        let superseded = queue.ended(Some(failure.reason), &mut settled);
        queue.failures = match superseded {
            Some(_) => 1,
            None => queue.failures.saturating_add(1),
        };
        let longest = match SubjectQueue::site_of(key) {
            Some(_) => LONGEST_PAUSE_OF_COMMAND,
            None => LONGEST_PAUSE,
        };
        let mut pause = backoff(queue.failures, failure.random, FIRST_PAUSE, longest)
            .max(failure.retry_after.unwrap_or_default())
            .min(longest_pause(key));
        if superseded.is_some() {
            pause = pause.min(NEW_COMMAND_WITHIN);
        }
        queue.place = Place::Paused;
        queue.new_command_at = now.mono + NEW_COMMAND_WITHIN;
        queue.due = now.mono + pause;
        queue.pause_stored = true;
        let retry = Retry {
            attempts: queue.failures,
            at: now.wall + pause,
            pause,
            tried: queue.effort.as_ref().map(|effort| effort.tried),
        };
        self.paused.insert((queue.due, Key::clone(key)));
        self.settled(settled);
        self.progress.retry(key, Some(retry));
        self.note_trouble(key, failure.reason, now);
        self.shed(key);
        if let Some(position) = superseded {
            self.complete(position);
        }
    }

    /// Remembers why a subject fails, and names its event once it counts as refused.
    fn note_trouble(&mut self, key: &Key, reason: &Arc<str>, now: Now) {
        let Some(queue) = self.queues.get_mut(key) else {
            return;
        };
        let before = queue.trouble.as_deref();
        if before.is_none() && SubjectQueue::site_of(key).is_none() {
            self.window.failing += 1;
        }
        let order = before.map(|trouble| trouble.order);
        let order = self.health.subject_failed(order, key, reason);
        let mut trouble = Failing {
            order,
            reason: Arc::clone(reason),
            since: match before {
                Some(before) if queue.failures > 1 => before.since,
                _ => now.wall,
            },
            named: before.is_some_and(|before| before.named),
        };
        if queue.failures >= REFUSED_AFTER
            && let Some(event) = queue.first()
        {
            let refused = RefusedEvent {
                id: Arc::clone(&event.id),
                subject: Arc::clone(&event.subject),
                event_type: Arc::clone(&event.event_type),
                reason: Arc::clone(reason),
                since: trouble.since,
            };
            if self.health.refuse(key, refused) {
                trouble.named = true;
                tracing::warn!(
                    sink = &*self.name,
                    subject = &**key,
                    event = &*event.id,
                    reason = &**reason,
                    attempts = queue.failures,
                    "the receiver does not take an event, and later events of its subject wait{}; `dispatchd outbox skip` gives it up",
                    remedy(reason)
                );
            }
        }
        queue.trouble = Some(Box::new(trouble));
        self.untold_because(key, reason);
    }

    /// Of a subject that fails, only the first event stays in memory.
    fn shed(&mut self, key: &Key) {
        let Some(queue) = self.queues.get_mut(key) else {
            return;
        };
        let shed = queue.shed();
        if let Some(first) = shed.first() {
            queue.more_from = Some(first.position);
        }
        for event in shed {
            self.window.release(event.position);
            self.window.beyond += 1;
        }
    }

    /// A batch takes too long: its events go one by one, at once.
    pub(super) fn abandon_batch(&mut self, attempt: u64) {
        let Some(batch) = self.places.end(attempt) else {
            return;
        };
        self.abandon(attempt);
        self.places.batch_too_late(batch.keys.len());
        self.send_alone(&batch.keys, None);
    }

    /// An attempt that hangs gives way to others. It counts as failed.
    pub(super) fn abandon_hanging(&mut self, attempt: u64, now: Now) {
        let Some(hanging) = self.places.end(attempt) else {
            return;
        };
        self.abandon(attempt);
        let hung = now.mono.saturating_sub(hanging.started).as_secs_f64();
        let reason: Arc<str> =
            format!("no answer within {hung:.1} s, and the attempt gave way to other subjects")
                .into();
        let failure = Failure {
            reason: &reason,
            retry_after: None,
            random: 1.0,
        };
        match &*hanging.keys {
            [key] => self.failed(key, &failure, now),
            keys => self.send_alone(keys, Some(&reason)),
        }
    }

    /// Whoever makes the attempt is told to drop it.
    pub(super) fn abandon(&mut self, attempt: u64) {
        self.abandoned.push(attempt);
        self.reach.abandoned(attempt);
        self.health.health.failed_attempts += 1;
        self.health.health.abandoned_attempts += 1;
    }

    /// Abandons the attempt that has a subject's event, if one has.
    pub(super) fn abandon_attempt_of(&mut self, key: &Key) {
        let Some(attempt) = self.places.attempt_of(key) else {
            return;
        };
        self.abandon(attempt);
        if let Some(under_way) = self.places.end(attempt) {
            self.send_alone(&under_way.keys, None);
        }
    }
}
