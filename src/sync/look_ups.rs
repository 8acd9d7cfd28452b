//! Keeps which dispatches are to be looked up, and who waits for them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::waiters::Ticket;
use crate::clock::Mono;
use crate::model::DispatchId;

/// How many look-ups are under way at once. The budget bounds them as well; this
/// is for when the operator has raised it.
const MOST_LOOK_UPS: usize = 64;

/// While webhooks wait, one look-up in so many is a check: a flood of webhooks
/// must not put off for ever what the checks are to find out.
const TURN: u32 = 4;

/// How long a check that failed waits before it is tried again.
const CHECK_PAUSE: Duration = Duration::from_secs(10);

/// Why a dispatch is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// A webhook waits for it.
    Webhook,
    /// A webhook's look-up showed nothing new some seconds ago (rule R5).
    LookAgain,
    /// The engine doubts what the API seems to say (rules R2 and R3).
    Check,
}

/// A look-up that is under way.
#[derive(Debug)]
pub(super) struct LookUp {
    /// Why it was issued.
    pub why: Why,
    /// The webhooks that wait for it.
    pub tickets: Vec<Ticket>,
}

/// The look-ups that webhooks wait for, and all that are under way. There is one
/// at a time for each id.
#[derive(Debug, Default)]
pub(super) struct LookUps {
    wanted: BTreeMap<DispatchId, Vec<Ticket>>,
    /// The ids that are wanted and not under way, the longest waiting first. An
    /// id that is not wanted any more is passed over.
    line: VecDeque<DispatchId>,
    under_way: BTreeMap<DispatchId, LookUp>,
    /// Checks that failed, and when each may be tried again.
    failed_checks: BTreeMap<DispatchId, Mono>,
    /// Doubts whose check a cache answered, and until when they are not checked.
    cached_checks: BTreeMap<DispatchId, Mono>,
    /// Look-ups for webhooks since the last check.
    since_check: u32,
    /// Who came last for a look-up.
    newest: Ticket,
}

impl LookUps {
    /// A webhook waits for a look-up of `id` that is issued from now on.
    pub fn want(&mut self, id: &DispatchId, ticket: Ticket) {
        self.newest = self.newest.max(ticket);
        let tickets = self.wanted.entry(id.clone()).or_default();
        // A look-up under way was issued too early (rule R2).
        if tickets.is_empty() && !self.under_way.contains_key(id) {
            self.line.push_back(id.clone());
        }
        tickets.push(ticket);
    }

    /// Who came last for a look-up.
    pub fn newest(&self) -> Ticket {
        self.newest
    }

    /// Who has waited longest for a look-up of `id` that is not issued yet.
    pub fn awaited_by(&self, id: &DispatchId) -> Option<Ticket> {
        self.wanted.get(id)?.first().copied()
    }

    /// For how many ids a look-up is to be issued.
    #[cfg(test)]
    pub fn wanted(&self) -> usize {
        self.wanted.len().max(self.line.len())
    }

    /// Whether a webhook waits for a look-up that is not issued yet.
    pub fn is_waited_for(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Whether another look-up may be issued.
    pub fn has_room(&self) -> bool {
        self.under_way.len() < MOST_LOOK_UPS
    }

    /// Whether a check is due before the next webhook.
    pub fn is_turn_of_checks(&self) -> bool {
        self.since_check >= TURN - 1
    }

    /// Whether `id` may be looked up now though no webhook waits for it.
    pub fn may_check(&self, id: &DispatchId, now: Mono) -> bool {
        let pause = self.failed_checks.get(id);
        !self.under_way.contains_key(id) && pause.is_none_or(|until| *until <= now)
    }

    /// Whether a doubt about `id` may be checked now.
    pub fn may_check_doubt(&self, id: &DispatchId, now: Mono) -> bool {
        let pause = self.cached_checks.get(id);
        self.may_check(id, now) && pause.is_none_or(|until| *until <= now)
    }

    /// The id for which a webhook has waited longest. Ids for which nobody waits
    /// any more, by `waits`, are dropped: the poll that follows heals them.
    pub fn next_webhook(&mut self, waits: impl Fn(Ticket) -> bool) -> Option<DispatchId> {
        while let Some(id) = self.line.front() {
            if let Some(tickets) = self.wanted.get_mut(id)
                && !self.under_way.contains_key(id)
            {
                tickets.retain(|ticket| waits(*ticket));
                if !tickets.is_empty() {
                    return Some(id.clone());
                }
                self.wanted.remove(id);
            }
            self.line.pop_front();
        }
        None
    }

    /// Drops all ids for which nobody waits any more, by `waits`: the poll that follows
    /// heals them.
    pub fn forget_abandoned(&mut self, waits: impl Fn(Ticket) -> bool) {
        self.wanted.retain(|_, tickets| {
            tickets.retain(|ticket| waits(*ticket));
            !tickets.is_empty()
        });
        self.line.retain(|id| self.wanted.contains_key(id));
    }

    /// The look-up of `id` is issued. Webhooks that wait for it share it.
    pub fn issue(&mut self, id: &DispatchId, why: Why) {
        let tickets = self.wanted.remove(id).unwrap_or_default();
        self.since_check = if tickets.is_empty() {
            0
        } else {
            self.since_check.saturating_add(1)
        };
        let why = if tickets.is_empty() {
            why
        } else {
            Why::Webhook
        };
        self.under_way.insert(id.clone(), LookUp { why, tickets });
    }

    /// The webhooks that wait for the look-up of `id` that is under way.
    pub fn tickets(&self, id: &DispatchId) -> &[Ticket] {
        let look_up = self.under_way.get(id);
        look_up.map_or(&[], |look_up| &look_up.tickets)
    }

    /// The look-up of `id` has ended. Webhooks that came for the id meanwhile are
    /// next in line.
    pub fn ended(&mut self, id: &DispatchId) -> Option<LookUp> {
        let look_up = self.under_way.remove(id);
        if self.wanted.contains_key(id) {
            self.line.push_back(id.clone());
        }
        look_up
    }

    /// A look-up of `id` failed at `now`: it is not repeated at once.
    pub fn check_failed(&mut self, id: &DispatchId, now: Mono) {
        pause(&mut self.failed_checks, id, now);
    }

    /// A cache answered a check of a doubt about `id` at `now`. Asked again at once, it would
    /// answer the same.
    pub fn check_cached(&mut self, id: &DispatchId, now: Mono) {
        pause(&mut self.cached_checks, id, now);
    }

    /// No look-up is issued any more. Gives those who wait for one.
    pub fn give_up(&mut self) -> Vec<Ticket> {
        self.line.clear();
        let wanted = std::mem::take(&mut self.wanted);
        wanted.into_values().flatten().collect()
    }

    /// A list that was issued when everybody before `before` had arrived shows
    /// the dispatches that `shows` tells. Takes out those whom it answers.
    pub fn answered_by_list(
        &mut self,
        before: Ticket,
        shows: impl Fn(&DispatchId) -> bool,
    ) -> Vec<(Ticket, DispatchId)> {
        let mut answered = Vec::new();
        self.wanted.retain(|id, tickets| {
            if !shows(id) {
                return true;
            }
            tickets.retain(|ticket| {
                let later = *ticket >= before;
                if !later {
                    answered.push((*ticket, id.clone()));
                }
                later
            });
            !tickets.is_empty()
        });
        answered
    }
}

/// No check of `id` until a pause after `now` is over.
fn pause(checks: &mut BTreeMap<DispatchId, Mono>, id: &DispatchId, now: Mono) {
    checks.retain(|_, until| *until > now);
    checks.insert(id.clone(), now.saturating_add(CHECK_PAUSE));
}

#[cfg(test)]
mod tests {
    use super::super::waiters::Waiters;
    use super::*;

    fn id(text: &str) -> DispatchId {
        DispatchId::new(text).unwrap()
    }

    fn tickets<const N: usize>() -> [Ticket; N] {
        let mut waiters = Waiters::new();
        std::array::from_fn(|_| waiters.add((), Mono::ZERO))
    }

    fn go(look_ups: &mut LookUps) -> Option<DispatchId> {
        let next = look_ups.next_webhook(|_| true)?;
        look_ups.issue(&next, Why::Webhook);
        Some(next)
    }

    fn ended(look_ups: &mut LookUps, text: &str) -> Vec<Ticket> {
        look_ups.ended(&id(text)).unwrap().tickets
    }

    #[test]
    fn webhooks_for_one_id_share_a_fetch_that_is_issued_after_all_of_them() {
        let [first, second, third] = tickets();
        let mut look_ups = LookUps::default();
        look_ups.want(&id("a"), first);
        look_ups.want(&id("a"), second);
        assert_eq!(go(&mut look_ups), Some(id("a")));
        look_ups.want(&id("a"), third);
        assert_eq!(go(&mut look_ups), None, "one fetch an id at a time");
        assert_eq!(ended(&mut look_ups, "a"), [first, second]);
        assert_eq!(go(&mut look_ups), Some(id("a")));
        assert_eq!(ended(&mut look_ups, "a"), [third]);
        assert_eq!(go(&mut look_ups), None);
    }

    #[test]
    fn a_check_takes_along_the_webhooks_that_wait_for_its_id() {
        let [ticket] = tickets();
        let mut look_ups = LookUps::default();
        look_ups.want(&id("a"), ticket);
        look_ups.issue(&id("a"), Why::Check);
        let look_up = look_ups.ended(&id("a")).unwrap();
        assert_eq!((look_up.why, look_up.tickets), (Why::Webhook, vec![ticket]));
    }

    #[test]
    fn a_check_has_its_turn_after_three_look_ups_for_webhooks() {
        let [ticket] = tickets();
        let mut look_ups = LookUps::default();
        let mut turns = Vec::new();
        for number in 0..8 {
            look_ups.want(&id(&format!("w{number}")), ticket);
            turns.push(look_ups.is_turn_of_checks());
            if look_ups.is_turn_of_checks() {
                look_ups.issue(&id("check"), Why::Check);
                look_ups.ended(&id("check"));
            }
            go(&mut look_ups);
        }
        let expected = [false, false, false, true, false, false, true, false];
        assert_eq!(turns, expected);
    }

    #[test]
    fn a_check_that_failed_waits_ten_seconds() {
        let mut look_ups = LookUps::default();
        let at = Duration::from_secs;
        look_ups.issue(&id("a"), Why::Check);
        assert!(!look_ups.may_check(&id("a"), at(0)), "it is under way");
        look_ups.ended(&id("a"));
        look_ups.check_failed(&id("a"), at(1));
        assert!(!look_ups.may_check(&id("a"), at(10)));
        assert!(look_ups.may_check(&id("b"), at(10)));
        assert!(look_ups.may_check(&id("a"), at(11)));
    }

    #[test]
    fn a_check_that_fails_ends_the_wait_of_no_other() {
        let mut look_ups = LookUps::default();
        let at = Duration::from_secs;
        look_ups.check_failed(&id("a"), at(1));
        look_ups.check_failed(&id("b"), at(2));
        assert!(!look_ups.may_check(&id("a"), at(10)));
        assert!(look_ups.may_check(&id("a"), at(11)));
        assert!(!look_ups.may_check(&id("b"), at(11)));
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_fetched() {
        let [gone, waiting] = tickets();
        let mut look_ups = LookUps::default();
        look_ups.want(&id("a"), gone);
        look_ups.want(&id("b"), gone);
        look_ups.want(&id("b"), waiting);
        assert_eq!(
            look_ups.next_webhook(|ticket| ticket == waiting),
            Some(id("b"))
        );
    }

    #[test]
    fn what_nobody_waits_for_any_more_takes_no_room() {
        let [gone, waiting] = tickets();
        let mut look_ups = LookUps::default();
        look_ups.want(&id("a"), gone);
        look_ups.want(&id("b"), gone);
        look_ups.want(&id("b"), waiting);
        look_ups.forget_abandoned(|ticket| ticket == waiting);
        assert_eq!((look_ups.wanted.len(), look_ups.line.len()), (1, 1));
        assert_eq!(go(&mut look_ups), Some(id("b")));
        assert_eq!(ended(&mut look_ups, "b"), [waiting]);
        // One that comes for it again is in line again.
        look_ups.want(&id("a"), waiting);
        assert_eq!(go(&mut look_ups), Some(id("a")));
    }

    #[test]
    fn a_webhook_for_what_was_just_looked_up_waits_behind_those_that_came_before() {
        let [ticket] = tickets();
        let mut look_ups = LookUps::default();
        for text in ["a", "b", "a", "c"] {
            look_ups.want(&id(text), ticket);
        }
        for text in ["a", "b"] {
            assert_eq!(go(&mut look_ups), Some(id(text)));
            ended(&mut look_ups, text);
        }
        look_ups.want(&id("a"), ticket);
        assert_eq!(go(&mut look_ups), Some(id("c")));
    }

    #[test]
    fn a_list_answers_those_who_came_before_it_was_asked_for() {
        let [early, late] = tickets();
        let mut look_ups = LookUps::default();
        look_ups.want(&id("a"), early);
        look_ups.want(&id("a"), late);
        look_ups.want(&id("b"), early);
        assert!(look_ups.answered_by_list(late, |_| false).is_empty());
        assert_eq!(
            look_ups.answered_by_list(late, |_| true),
            [(early, id("a")), (early, id("b"))]
        );
        assert_eq!(go(&mut look_ups), Some(id("a")));
        assert_eq!(go(&mut look_ups), None);
    }

    #[test]
    fn look_ups_at_once_are_bounded() {
        let [ticket] = tickets();
        let mut look_ups = LookUps::default();
        let mut issued = 0;
        for number in 0..100 {
            look_ups.want(&id(&format!("d{number}")), ticket);
            if look_ups.has_room() {
                issued += usize::from(go(&mut look_ups).is_some());
            }
        }
        assert_eq!(issued, MOST_LOOK_UPS);
    }

    #[test]
    fn a_check_that_a_cache_answered_holds_up_no_look_up_that_a_webhook_asked_for() {
        let mut look_ups = LookUps::default();
        let at = Duration::from_secs;
        look_ups.check_cached(&id("a"), at(0));
        assert!(look_ups.may_check(&id("a"), at(0)));
        assert!(!look_ups.may_check_doubt(&id("a"), at(9)));
        assert!(look_ups.may_check_doubt(&id("a"), at(10)));
    }
}
