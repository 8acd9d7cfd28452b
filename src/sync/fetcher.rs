//! Which dispatches are to be looked up, and for whom.

use std::collections::{BTreeMap, VecDeque};

use super::waiters::Ticket;
use crate::model::DispatchId;

/// How many look-ups are under way at once. The budget bounds them as well; this
/// is for when the operator has raised it.
const AT_ONCE: usize = 64;

/// While webhooks wait, one look-up in so many goes to a check: a flood of them
/// must not put off forever what the checks are to find out.
const TURN: u32 = 4;

/// Why a dispatch is to be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Somebody waits for it.
    Webhook,
    /// The engine has a question. Goes when no webhook needs the budget, or when
    /// it is its turn.
    Check,
    /// A look-up of the same id is under way. Sharing that one would not do: it
    /// was issued too early (rule R2).
    Behind,
}

#[derive(Debug)]
struct Want {
    line: Line,
    tickets: Vec<Ticket>,
    check: bool,
}

/// The look-ups that are wanted and under way. One an id at a time.
#[derive(Debug, Default)]
pub(super) struct Fetcher {
    wanted: BTreeMap<DispatchId, Want>,
    /// Ids by line; one whose want has moved on is passed over.
    webhooks: VecDeque<DispatchId>,
    checks: VecDeque<DispatchId>,
    under_way: BTreeMap<DispatchId, Vec<Ticket>>,
    /// Look-ups for webhooks since the last check.
    since_check: u32,
    /// Who came last for a look-up.
    newest: Ticket,
}

impl Fetcher {
    /// Somebody waits for a look-up of `id` that is issued from now on.
    pub fn want(&mut self, id: &DispatchId, ticket: Ticket) {
        self.newest = self.newest.max(ticket);
        self.enter(id, Some(ticket));
    }

    /// Who came last for a look-up.
    pub fn newest(&self) -> Ticket {
        self.newest
    }

    /// The engine asks for a look-up of `id`.
    pub fn want_check(&mut self, id: &DispatchId) {
        self.enter(id, None);
    }

    fn enter(&mut self, id: &DispatchId, ticket: Option<Ticket>) {
        let want = self.wanted.entry(id.clone()).or_insert(Want {
            line: Line::Behind,
            tickets: Vec::new(),
            check: false,
        });
        want.tickets.extend(ticket);
        want.check |= ticket.is_none();
        if !self.under_way.contains_key(id) {
            Self::line_up(id, want, &mut self.webhooks, &mut self.checks);
        }
    }

    fn line_up(
        id: &DispatchId,
        want: &mut Want,
        webhooks: &mut VecDeque<DispatchId>,
        checks: &mut VecDeque<DispatchId>,
    ) {
        let (line, queue) = if want.tickets.is_empty() {
            (Line::Check, checks)
        } else {
            (Line::Webhook, webhooks)
        };
        if want.line != line {
            want.line = line;
            queue.push_back(id.clone());
        }
    }

    /// Who has waited longest for a look-up of `id` that is not issued yet.
    pub fn awaited_by(&self, id: &DispatchId) -> Option<Ticket> {
        let want = self.wanted.get(id)?;
        want.tickets.first().copied()
    }

    /// The id to look up next, if any may be. Ids for which nobody waits any
    /// more, by `waits`, are dropped: the poll that follows heals them.
    pub fn next(&mut self, waits: impl Fn(Ticket) -> bool) -> Option<DispatchId> {
        if self.under_way.len() >= AT_ONCE {
            return None;
        }
        if self.since_check >= TURN - 1 {
            self.next_check().or_else(|| self.next_webhook(waits))
        } else {
            self.next_webhook(waits).or_else(|| self.next_check())
        }
    }

    fn next_webhook(&mut self, waits: impl Fn(Ticket) -> bool) -> Option<DispatchId> {
        while let Some(id) = self.webhooks.front() {
            if let Some(want) = self
                .wanted
                .get_mut(id)
                .filter(|want| want.line == Line::Webhook)
            {
                want.tickets.retain(|ticket| waits(*ticket));
                if !want.tickets.is_empty() {
                    return Some(id.clone());
                }
                if want.check {
                    want.line = Line::Check;
                    self.checks.push_back(id.clone());
                } else {
                    self.wanted.remove(id);
                }
            }
            self.webhooks.pop_front();
        }
        None
    }

    fn next_check(&mut self) -> Option<DispatchId> {
        while let Some(id) = self.checks.front() {
            if self
                .wanted
                .get(id)
                .is_some_and(|want| want.line == Line::Check)
            {
                return Some(id.clone());
            }
            self.checks.pop_front();
        }
        None
    }

    /// The look-up of `id` is issued.
    pub fn issue(&mut self, id: &DispatchId) {
        let tickets = self
            .wanted
            .remove(id)
            .map(|want| want.tickets)
            .unwrap_or_default();
        self.since_check = if tickets.is_empty() {
            0
        } else {
            self.since_check.saturating_add(1)
        };
        self.under_way.insert(id.clone(), tickets);
    }

    /// The look-up of `id` has ended. Gives those who waited for it; those who
    /// came for the id meanwhile are next in line.
    pub fn ended(&mut self, id: &DispatchId) -> Vec<Ticket> {
        let tickets = self.under_way.remove(id).unwrap_or_default();
        if let Some(want) = self.wanted.get_mut(id) {
            Self::line_up(id, want, &mut self.webhooks, &mut self.checks);
        }
        tickets
    }

    /// A list that was issued when everybody before `before` had arrived shows
    /// the dispatches that `shows` tells. Takes out those whom it answers.
    pub fn answered_by_list(
        &mut self,
        before: Ticket,
        shows: impl Fn(&DispatchId) -> bool,
    ) -> Vec<(Ticket, DispatchId)> {
        let mut answered = Vec::new();
        self.wanted.retain(|id, want| {
            if !shows(id) {
                return true;
            }
            want.tickets.retain(|ticket| {
                let later = *ticket >= before;
                if !later {
                    answered.push((*ticket, id.clone()));
                }
                later
            });
            !want.tickets.is_empty() || want.check
        });
        answered
    }
}

#[cfg(test)]
mod tests {
    use super::super::waiters::Waiters;
    use super::*;
    use crate::clock::Mono;

    fn id(text: &str) -> DispatchId {
        DispatchId::new(text).unwrap()
    }

    fn tickets<const N: usize>() -> [Ticket; N] {
        let mut waiters = Waiters::new();
        std::array::from_fn(|_| waiters.add((), Mono::ZERO))
    }

    fn go(fetcher: &mut Fetcher) -> Option<DispatchId> {
        let next = fetcher.next(|_| true)?;
        fetcher.issue(&next);
        Some(next)
    }

    #[test]
    fn webhooks_for_one_id_share_a_fetch_that_is_issued_after_all_of_them() {
        let [first, second, third] = tickets();
        let mut fetcher = Fetcher::default();
        fetcher.want(&id("a"), first);
        fetcher.want(&id("a"), second);
        assert_eq!(go(&mut fetcher), Some(id("a")));
        fetcher.want(&id("a"), third);
        assert_eq!(go(&mut fetcher), None, "one fetch an id at a time");
        assert_eq!(fetcher.ended(&id("a")), [first, second]);
        assert_eq!(go(&mut fetcher), Some(id("a")));
        assert_eq!(fetcher.ended(&id("a")), [third]);
        assert_eq!(go(&mut fetcher), None);
    }

    #[test]
    fn checks_wait_until_no_webhook_does() {
        let [ticket] = tickets();
        let mut fetcher = Fetcher::default();
        fetcher.want_check(&id("a"));
        fetcher.want_check(&id("b"));
        fetcher.want(&id("c"), ticket);
        // A webhook for an id that is to be checked takes it along.
        fetcher.want(&id("b"), ticket);
        let order: Vec<_> = std::iter::from_fn(|| go(&mut fetcher)).collect();
        assert_eq!(order, [id("c"), id("b"), id("a")]);
    }

    #[test]
    fn a_check_has_its_turn_however_many_webhooks_wait() {
        let [ticket] = tickets();
        let mut fetcher = Fetcher::default();
        for number in 0..9 {
            fetcher.want(&id(&format!("w{number}")), ticket);
        }
        fetcher.want_check(&id("first"));
        fetcher.want_check(&id("second"));
        let order: Vec<_> = std::iter::from_fn(|| go(&mut fetcher)).collect();
        let at = |check| order.iter().position(|other| *other == id(check));
        assert_eq!((at("first"), at("second")), (Some(3), Some(7)), "{order:?}");
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_fetched() {
        let [gone, waiting] = tickets();
        let mut fetcher = Fetcher::default();
        fetcher.want(&id("a"), gone);
        fetcher.want(&id("b"), gone);
        fetcher.want(&id("b"), waiting);
        assert_eq!(fetcher.next(|ticket| ticket == waiting), Some(id("b")));
    }

    #[test]
    fn a_list_answers_those_who_came_before_it_was_asked_for() {
        let [early, late] = tickets();
        let mut fetcher = Fetcher::default();
        fetcher.want(&id("a"), early);
        fetcher.want(&id("a"), late);
        fetcher.want(&id("b"), early);
        assert!(fetcher.answered_by_list(late, |_| false).is_empty());
        assert_eq!(
            fetcher.answered_by_list(late, |_| true),
            [(early, id("a")), (early, id("b"))]
        );
        assert_eq!(go(&mut fetcher), Some(id("a")));
        assert_eq!(go(&mut fetcher), None);
    }

    #[test]
    fn look_ups_at_once_are_bounded() {
        let mut fetcher = Fetcher::default();
        for number in 0..100 {
            fetcher.want_check(&id(&format!("d{number}")));
        }
        let issued = std::iter::from_fn(|| go(&mut fetcher)).count();
        assert_eq!(issued, AT_ONCE);
    }
}
