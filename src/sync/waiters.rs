//! Keeps who waits for an answer, and until when.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Mono;

/// A place in the order of arrival of all who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Ticket(u64);

#[derive(Debug)]
struct Waiter<W> {
    who: W,
    deadline: Mono,
    /// Its dispatch was fetched a second time.
    fetched_again: bool,
}

/// Everybody who waits, in the order in which they came.
#[derive(Debug)]
pub(super) struct Waiters<W> {
    waiting: BTreeMap<Ticket, Waiter<W>>,
    deadlines: BTreeSet<(Mono, Ticket)>,
    next: Ticket,
}

impl<W> Waiters<W> {
    pub fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            next: Ticket(1),
        }
    }

    /// Lets `who` wait until `deadline`.
    pub fn add(&mut self, who: W, deadline: Mono) -> Ticket {
        let ticket = self.next;
        self.next = Ticket(ticket.0 + 1);
        let waiter = Waiter {
            who,
            deadline,
            fetched_again: false,
        };
        self.waiting.insert(ticket, waiter);
        self.deadlines.insert((deadline, ticket));
        ticket
    }

    /// The ticket that the next one gets: all before it have arrived.
    pub fn next_ticket(&self) -> Ticket {
        self.next
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether this one waits still.
    pub fn waits(&self, ticket: Ticket) -> bool {
        self.waiting.contains_key(&ticket)
    }

    /// Who holds the ticket. `None` when it was answered before.
    pub fn get(&self, ticket: Ticket) -> Option<&W> {
        self.waiting.get(&ticket).map(|waiter| &waiter.who)
    }

    /// Whether this one waits still and its dispatch may be fetched once more. That
    /// is allowed once.
    pub fn fetches_again(&mut self, ticket: Ticket) -> bool {
        let waiter = self.waiting.get_mut(&ticket);
        waiter.is_some_and(|waiter| !std::mem::replace(&mut waiter.fetched_again, true))
    }

    /// Takes one out, to be answered. `None` when it was answered before.
    pub fn take(&mut self, ticket: Ticket) -> Option<W> {
        let waiter = self.waiting.remove(&ticket)?;
        self.deadlines.remove(&(waiter.deadline, ticket));
        Some(waiter.who)
    }

    /// Takes out those whose deadline has passed.
    pub fn take_late(&mut self, now: Mono) -> Vec<(Ticket, W)> {
        let mut late = Vec::new();
        while let Some((deadline, ticket)) = self.deadlines.first().copied()
            && deadline <= now
        {
            late.extend(self.take(ticket).map(|who| (ticket, who)));
        }
        late
    }

    /// When the first deadline passes.
    pub fn first_deadline(&self) -> Option<Mono> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }
}
