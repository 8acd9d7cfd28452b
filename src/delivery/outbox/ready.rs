//! Keeps the order in which subject queues get their turn.

use std::collections::VecDeque;

use super::Key;
use super::queue::SubjectQueue;

/// Ready subject queues: commands before other events; among each of them, those
/// whose last attempt did not fail before those whose did.
#[derive(Debug, Default)]
pub(super) struct ReadyQueues {
    commands: Row,
    events: Row,
}

/// Whose turn it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Commands, then other events.
    Any,
    /// Commands, then other events if no command must be written down first.
    CommandsFirst,
    /// Commands only.
    Commands,
    /// Other events only.
    Events,
}

#[derive(Debug, Default)]
struct Row {
    fresh: VecDeque<Key>,
    again: VecDeque<Key>,
}

impl ReadyQueues {
    fn of(&mut self, key: &Key, failed: bool) -> &mut VecDeque<Key> {
        let row = if SubjectQueue::site_of(key).is_some() {
            &mut self.commands
        } else {
            &mut self.events
        };
        if failed {
            &mut row.again
        } else {
            &mut row.fresh
        }
    }

    /// Puts a queue behind its like. `failed` says whether its last attempt did.
    pub fn push(&mut self, key: Key, failed: bool) {
        self.of(&key, failed).push_back(key);
    }

    /// Puts a queue before its like.
    pub fn push_first(&mut self, key: Key, failed: bool) {
        self.of(&key, failed).push_front(key);
    }

    /// Takes the queue whose turn it is.
    pub fn pop(&mut self, turn: Turn) -> Option<Key> {
        let Self { commands, events } = self;
        let rows = match turn {
            Turn::Any | Turn::CommandsFirst => [Some(commands), Some(events)],
            Turn::Commands => [Some(commands), None],
            Turn::Events => [None, Some(events)],
        };
        rows.into_iter().flatten().find_map(|row| {
            let fresh = row.fresh.pop_front();
            fresh.or_else(|| row.again.pop_front())
        })
    }

    /// Takes the next queue that may share a batch with commands, or with other
    /// events.
    pub fn pop_like(&mut self, commands: bool) -> Option<Key> {
        let row = if commands {
            &mut self.commands
        } else {
            &mut self.events
        };
        row.fresh.pop_front()
    }

    /// Whether no queue is ready.
    pub fn is_empty(&self) -> bool {
        !self.has_fresh() && self.commands.again.is_empty() && self.events.again.is_empty()
    }

    /// Whether a queue is ready whose last attempt did not fail.
    pub fn has_fresh(&self) -> bool {
        !self.commands.fresh.is_empty() || !self.events.fresh.is_empty()
    }
}
