//! Makes what readers see of the coordinator.

use std::sync::Arc;

use super::Coordinator;
use crate::clock::{Mono, wall_after};
use crate::delivery::Outbox;
use crate::sync::health::{Health, SlowedDown, View};

impl<W> Coordinator<W> {
    /// What readers may see now.
    pub fn view(&self) -> View {
        let now = self.last_now;
        let next_poll = self
            .asking
            .poller
            .expected()
            .max(self.asking.slowdown.silent_until());
        View {
            schedule: self.writing.committed.schedule.clone(),
            plan: self.writing.committed.plan.clone(),
            position: self.writing.committed.numbering.position(),
            as_of: self.writing.committed.as_of,
            sinks: self
                .delivering
                .outboxes
                .iter()
                .map(Outbox::health)
                .collect(),
            health: Arc::new(Health {
                poll_interval: self.settings.poll_interval,
                polls_succeeded: self.asking.poller.succeeded,
                polls_failed: self.asking.poller.failed,
                last_poll: self.asking.poller.last.clone(),
                last_success: self.writing.committed.sync.last_poll,
                last_success_mono: self.asking.poller.last_success.map(|at| at.mono),
                began: self.began,
                next_poll: wall_after(now.wall, next_poll.saturating_sub(now.mono)),
                slowed_down: self.shown_slowdown(),
                heals: self.heals.heals,
                missed_webhooks: self.heals.missed,
                unannounced: self.heals.unannounced,
                polled_only: self.heals.polled_only,
                registration: self.registration.clone(),
                outdated: self.outdated,
                unreadable: self.asking.legibility.totals,
                unreadable_now: Arc::clone(&self.asking.legibility.now),
                rewinds: self.rewinds,
                look_again_dropped: self.asking.look_again.dropped,
                store_error: self.writing.error(),
                unrouted_commands: self.delivering.nowhere.commands,
                last_unrouted: self.delivering.nowhere.last.clone(),
                due_commands: Arc::clone(&self.writing.unwritten.due),
                trusted_until: self.trusting.until,
                counters: Arc::clone(&self.counters),
            }),
        }
    }

    fn shown_slowdown(&self) -> Option<SlowedDown> {
        let now = self.last_now;
        let wall = |at: Mono| wall_after(now.wall, at.saturating_sub(now.mono));
        let silent_until = self.asking.slowdown.silent_until();
        self.asking.slowed_since.map(|since| SlowedDown {
            since,
            reason: self.asking.slowdown.reason(),
            next_request: wall(self.asking.slowdown.next()),
            silent_until: (silent_until > now.mono).then(|| wall(silent_until)),
            good_answers_needed: self.asking.slowdown.good_answers_needed(),
        })
    }
}
