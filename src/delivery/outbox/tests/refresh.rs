//! What goes once more after a new connection.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::super::refresh::PAGE;
use super::*;
use crate::store::StoreError;

impl World {
    /// Makes one read for a pass, if one is due.
    fn read_refresh(&mut self) -> bool {
        let Some(read) = self.outbox.refresh_read(self.now) else {
            return false;
        };
        let page = match read {
            RefreshRead::Positions => {
                let sites = self.log.iter().filter(|event| event.family() == "site");
                let newest: BTreeMap<&str, u64> = sites
                    .map(|event| (&*event.subject, event.position))
                    .collect();
                let mut positions: Vec<u64> = newest.into_values().collect();
                positions.sort_unstable();
                RefreshPage::Positions(positions)
            }
            RefreshRead::Events(positions) => {
                self.gives_refresh(&positions);
                return true;
            }
        };
        self.outbox.take_refresh(Ok(page), self.now);
        true
    }

    fn gives_refresh(&mut self, positions: &[u64]) {
        let of = |event: &&Event| positions.contains(&event.position);
        let events = self.log.iter().filter(of).cloned().collect();
        self.outbox
            .take_refresh(Ok(RefreshPage::Events(events)), self.now);
    }

    /// The read that is due fails.
    fn refresh_read_fails(&mut self) -> RefreshRead {
        let read = self.outbox.refresh_read(self.now).unwrap();
        let error = StoreError::Damaged {
            what: "a page of the file".into(),
        };
        self.outbox.take_refresh(Err(error), self.now);
        read
    }

    /// Nothing is read until the pause is over.
    fn wait_for_refresh_read(&mut self) {
        assert_eq!(self.outbox.refresh_read(self.now), None);
        let due = self.outbox.next_due(self.now.mono).unwrap();
        assert!(due >= self.now.mono + Duration::from_secs(2));
        self.pass(due - self.now.mono);
    }

    /// More sites are curtailed than are read at once.
    fn with_two_pages() -> Self {
        let mut world = Self::new(1);
        for number in 0..PAGE + 10 {
            let site = format!("s{number}");
            let position = world.happens(CURTAIL, &site);
            world.sends_one(&format!("{CURTAIL} {site} {position}"), &Attempt::Delivered);
        }
        world
    }

    fn connected(&mut self) {
        self.outbox.connected(self.now);
        while self.read_refresh() {}
    }

    /// A site is curtailed and adjusted, another one released; `pending` fails.
    fn with_sites() -> Self {
        let mut world = Self::new(1);
        for (kind, site) in [
            (CURTAIL, "on"),
            (ADJUST, "on"),
            (CURTAIL, "off"),
            (RELEASE, "off"),
        ] {
            let position = world.happens(kind, site);
            world.sends_one(&format!("{kind} {site} {position}"), &Attempt::Delivered);
        }
        world.commit();
        world
    }

    fn sent(&mut self) -> Vec<String> {
        self.sends().into_iter().map(|(_, sent)| sent).collect()
    }
}

#[test]
fn every_site_goes_once_more_after_each_connection_and_nothing_is_written() {
    let mut world = World::with_sites();
    let stored = world.stored.clone();
    for _ in 0..2 {
        world.connected();
        let sent = world.sends();
        let texts: Vec<&str> = sent.iter().map(|(_, text)| &**text).collect();
        assert_eq!(texts, ["site.curtail on 2", "site.release off 4"]);
        assert_eq!(world.outbox.health().pending, 0);
        for (attempt, _) in sent {
            world.ends(attempt, &Attempt::Delivered);
        }
        world.sends_nothing();
        assert!(!world.outbox.has_news());
        world.commit();
        assert_eq!(world.stored.attempted, stored.attempted);
    }
    // What happens next is the difference to what was attempted, as ever.
    let position = world.happens(ADJUST, "on");
    world.sends_one(&format!("site.adjust on {position}"), &Attempt::Delivered);
    world.commit();
    world.restart();
    world.sends_nothing();
    world.connected();
    assert_eq!(world.sent(), ["site.release off 4", "site.curtail on 5"]);
}

#[test]
fn a_newer_event_takes_the_place_of_what_goes_once_more() {
    // Before the positions are read, before the events are, before the attempt,
    // and while it is under way.
    for moment in 0..4 {
        let mut world = World::with_sites();
        world.outbox.connected(world.now);
        if moment > 0 {
            assert!(world.read_refresh());
        }
        if moment > 1 {
            while world.read_refresh() {}
        }
        let mut under_way = Vec::new();
        if moment > 2 {
            under_way = world.sends();
        }
        world.happens(RELEASE, "on");
        while world.read_refresh() {}
        let mut sent = Vec::new();
        for _ in 0..3 {
            for (attempt, text) in under_way.drain(..) {
                world.ends(attempt, &Attempt::Delivered);
                sent.push(text);
            }
            under_way = world.sends();
        }
        let of_on: Vec<&String> = sent.iter().filter(|text| text.contains(" on ")).collect();
        let last = of_on.last().map(|text| text.as_str());
        assert_eq!(last, Some("site.release on 5"), "{moment}: {sent:?}");
        assert_eq!(of_on.len(), if moment > 2 { 2 } else { 1 }, "{sent:?}");
        assert!(sent.contains(&"site.release off 4".to_owned()), "{sent:?}");
    }
}

#[test]
fn what_is_pending_or_was_given_up_does_not_go_once_more() {
    let mut world = World::with_sites();
    let pending = world.happens(CURTAIL, "pending");
    world.sends_one(&format!("site.curtail pending {pending}"), &failed());
    let given_up = world.happens(CURTAIL, "given-up");
    world.sends_one(&format!("site.curtail given-up {given_up}"), &failed());
    let id = Event::id_at("store", 1, given_up);
    assert!(world.outbox.skip(&id, world.now).is_some());
    world.connected();
    let sent = world.sent();
    assert_eq!(sent, ["site.curtail on 2", "site.release off 4"]);
}

#[test]
fn what_fails_once_more_comes_again_and_holds_up_nothing() {
    let mut world = World::with_sites();
    world.connected();
    for (attempt, text) in world.sends() {
        let on = text.contains(" on ");
        world.ends(attempt, &if on { failed() } else { Attempt::Delivered });
    }
    assert_eq!(world.outbox.health().pending, 0);
    world.sends_nothing();
    assert!(!world.read_refresh(), "it waits");
    let due = world.outbox.next_due(world.now.mono).unwrap();
    world.pass(due - world.now.mono);
    while world.read_refresh() {}
    world.sends_one("site.curtail on 2", &Attempt::Delivered);
    world.sends_nothing();
    assert_eq!(world.outbox.next_due(world.now.mono), None);
    // A new event does not wait for it.
    world.connected();
    for (attempt, _) in world.sends() {
        world.ends(attempt, &failed());
    }
    let position = world.happens(RELEASE, "on");
    world.sends_one(&format!("site.release on {position}"), &Attempt::Delivered);
}

#[test]
fn a_read_that_fails_is_made_again_after_a_pause_and_holds_up_no_other_page() {
    let mut world = World::with_two_pages();
    world.outbox.connected(world.now);
    assert_eq!(world.refresh_read_fails(), RefreshRead::Positions);
    world.wait_for_refresh_read();
    assert!(world.read_refresh());
    let failed = world.refresh_read_fails();
    assert!(world.read_refresh());
    let sent = world.sends();
    assert_eq!(sent.len(), 10, "the other page");
    for (attempt, _) in sent {
        world.ends(attempt, &Attempt::Delivered);
    }
    world.wait_for_refresh_read();
    let read = world.outbox.refresh_read(world.now);
    assert_eq!(read, Some(first_half(failed)));
}

/// What is read first of a page that could not be read.
fn first_half(read: RefreshRead) -> RefreshRead {
    let RefreshRead::Events(mut page) = read else {
        panic!("no page");
    };
    page.truncate(page.len().div_ceil(2));
    RefreshRead::Events(page)
}

#[test]
fn one_event_that_cannot_be_read_keeps_no_other_site_from_being_sent_again() {
    let mut world = World::with_two_pages();
    let damaged = world.log.iter().find(|event| &*event.subject == "s77");
    let damaged = damaged.unwrap().position;
    world.outbox.connected(world.now);
    let mut sent = BTreeSet::new();
    for _ in 0..60 {
        while let Some(read) = world.outbox.refresh_read(world.now) {
            match read {
                RefreshRead::Positions => {
                    let positions = world.log.iter().map(|event| event.position).collect();
                    let page = RefreshPage::Positions(positions);
                    world.outbox.take_refresh(Ok(page), world.now);
                }
                RefreshRead::Events(positions) if positions.contains(&damaged) => {
                    let what = "a row of the file".into();
                    let error = StoreError::Damaged { what };
                    world.outbox.take_refresh(Err(error), world.now);
                }
                RefreshRead::Events(positions) => world.gives_refresh(&positions),
            }
            for (attempt, text) in world.sends() {
                sent.extend(text.split(' ').nth(1).map(str::to_owned));
                world.ends(attempt, &Attempt::Delivered);
            }
        }
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(sent.len(), PAGE + 9, "{sent:?}");
    assert!(!sent.contains("s77"));
}

#[test]
fn reads_that_fail_one_after_another_are_made_again_after_one_pause() {
    let mut world = World::with_two_pages();
    world.outbox.connected(world.now);
    assert!(world.read_refresh());
    world.refresh_read_fails();
    world.refresh_read_fails();
    let due = world.outbox.next_due(world.now.mono).unwrap();
    assert_eq!(due - world.now.mono, Duration::from_secs(2));
}

/// A page of the file is damaged for good.
#[test]
fn what_is_to_go_again_waits_for_no_page_that_stays_unreadable() {
    let mut world = World::with_two_pages();
    let last = PAGE + 10;
    let position = world.happens(ADJUST, &format!("s{}", last - 1));
    let (under_way, _) = world.sends().remove(0);
    world.outbox.connected(world.now);
    assert!(world.read_refresh());
    let failed = world.refresh_read_fails();
    assert!(world.read_refresh());
    for (attempt, _) in world.sends() {
        world.ends(attempt, &Attempt::Delivered);
    }
    // The acknowledgement came over the connection of before.
    world.ends(under_way, &Attempt::Delivered);
    let read = world.outbox.refresh_read(world.now);
    assert_eq!(read, Some(RefreshRead::Events(vec![position])));
    world.gives_refresh(&[position]);
    world.sends_one(
        &format!("{CURTAIL} s{} {position}", last - 1),
        &Attempt::Delivered,
    );
    world.wait_for_refresh_read();
    assert_eq!(world.refresh_read_fails(), first_half(failed));
    world.wait_for_refresh_read();
}

/// A topic that the broker refuses is tried less and less often, whatever else is read.
#[test]
fn a_site_that_fails_again_and_again_waits_longer_each_time() {
    let mut world = World::with_sites();
    world.connected();
    for (attempt, text) in world.sends() {
        let result = match text.contains("off") {
            true => failed(),
            false => Attempt::Delivered,
        };
        world.ends(attempt, &result);
    }
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let due = world.outbox.next_due(world.now.mono).unwrap();
        pauses.push((due - world.now.mono).as_secs());
        world.pass(due - world.now.mono);
        while world.read_refresh() {}
        world.sends_one("site.release off 4", &failed());
    }
    assert!(pauses.is_sorted() && pauses[5] >= 30, "{pauses:?}");
}

#[test]
fn what_was_under_way_when_the_connection_was_made_goes_once_more() {
    let mut world = World::with_sites();
    let position = world.happens(ADJUST, "on");
    let (attempt, _) = world.sends().remove(0);
    world.connected();
    // The acknowledgement came over the connection of before.
    world.ends(attempt, &Attempt::Delivered);
    let mut sent = world.sent();
    while world.read_refresh() {}
    sent.extend(world.sent());
    assert_eq!(
        sent,
        [
            "site.release off 4".to_owned(),
            format!("site.curtail on {position}")
        ]
    );
}

#[test]
fn a_connection_ends_the_time_of_a_receiver_that_is_down() {
    let mut world = World::with_sites();
    world.answers = false;
    let position = world.happens(RELEASE, "on");
    let (attempt, _) = world.sends().remove(0);
    world.ends(attempt, &Attempt::unreachable("refused"));
    world.sends_nothing();
    world.connected();
    let sent = world.sent();
    assert!(
        sent.contains(&format!("site.release on {position}")),
        "{sent:?}"
    );
    assert!(sent.contains(&"site.release off 4".to_owned()), "{sent:?}");
}

/// A broker that loses what it keeps with each connection, in a random order of
/// everything that can happen.
#[test]
fn a_broker_keeps_the_newest_event_of_every_site_and_never_an_older_one_after_it() {
    for seed in 0..500 {
        run(seed);
    }
}

fn run(seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut world = World::new(1);
    let mut kept: BTreeMap<String, u64> = BTreeMap::new();
    let mut under_way: Vec<(u64, String, u64)> = Vec::new();
    let arrive = |kept: &mut BTreeMap<String, u64>, site: &str, position: u64| {
        let before = kept.insert(site.to_owned(), position);
        assert!(before <= Some(position), "seed {seed}: {site} went back");
    };
    world.outbox.connected(world.now);
    for step in 0..150 {
        let settling = step >= 100;
        match random.random_range(0..if settling { 4 } else { 7 }) {
            0 => {
                let starts = world.start();
                under_way.extend(starts.into_iter().flat_map(|start| {
                    let attempt = start.attempt;
                    let event = start.events.into_iter();
                    event.map(move |e| (attempt, e.subject.to_string(), e.position))
                }));
            }
            1 if !under_way.is_empty() => {
                let which = random.random_range(0..under_way.len());
                let (attempt, site, position) = under_way.swap_remove(which);
                let result = match random.random_range(0..4) {
                    0 if !settling => failed(),
                    1 if !settling => {
                        arrive(&mut kept, &site, position);
                        failed()
                    }
                    _ => {
                        arrive(&mut kept, &site, position);
                        Attempt::Delivered
                    }
                };
                world.ends(attempt, &result);
            }
            2 => {
                world.read_refresh();
            }
            3 => world.pass(Duration::from_secs(20)),
            4 | 5 => {
                let site = format!("s{}", random.random_range(0..3));
                let kinds = [CURTAIL, ADJUST, RELEASE];
                world.happens(kinds[random.random_range(0..3)], &site);
            }
            _ => {
                // A new connection: the broker has nothing, and what is under way
                // may have been acknowledged before.
                kept.clear();
                for (attempt, ..) in under_way.drain(..) {
                    if random.random_bool(0.5) {
                        world.ends(attempt, &Attempt::Delivered);
                    } else {
                        world.ends(attempt, &failed());
                    }
                }
                if random.random_bool(0.2) {
                    world.commit();
                    world.restart();
                }
                world.outbox.connected(world.now);
            }
        }
    }
    for _ in 0..20 {
        while world.read_refresh() {}
        under_way.extend(world.start().into_iter().map(|start| {
            let event = &start.events[0];
            (start.attempt, event.subject.to_string(), event.position)
        }));
        for (attempt, site, position) in under_way.drain(..) {
            arrive(&mut kept, &site, position);
            world.ends(attempt, &Attempt::Delivered);
        }
        world.pass(Duration::from_secs(70));
    }
    let newest: BTreeMap<String, u64> = world
        .log
        .iter()
        .map(|event| (event.subject.to_string(), event.position))
        .collect();
    for (site, position) in newest {
        let release = world
            .log
            .iter()
            .any(|event| event.position == position && &*event.event_type == RELEASE);
        let keeps = kept.get(&site).copied();
        // A site that is normal and was never told otherwise needs nothing.
        assert!(
            keeps == Some(position) || release && keeps.is_none(),
            "seed {seed}: {site} is {keeps:?} and not {position}"
        );
    }
}

#[test]
fn what_was_read_for_the_connection_before_is_not_taken_for_the_newest() {
    let mut world = World::with_sites();
    world.outbox.connected(world.now);
    let read = world.outbox.refresh_read(world.now);
    assert_eq!(read, Some(RefreshRead::Positions));
    let position = world.happens(ADJUST, "on");
    world.sends_one(&format!("site.adjust on {position}"), &Attempt::Delivered);
    world.outbox.connected(world.now);
    let old = RefreshPage::Positions(vec![2, 4]);
    world.outbox.take_refresh(Ok(old), world.now);
    while world.read_refresh() {}
    assert_eq!(
        world.sent(),
        [
            "site.release off 4".to_owned(),
            format!("site.curtail on {position}")
        ]
    );
}

#[test]
fn an_adjustment_that_was_given_up_goes_once_more_as_the_curtail_of_a_site_that_is_held() {
    let mut world = World::with_sites();
    let position = world.happens(ADJUST, "on");
    world.sends_one(&format!("site.adjust on {position}"), &failed());
    let id = Event::id_at("store", 1, position);
    assert!(world.outbox.skip(&id, world.now).is_some());
    world.connected();
    assert_eq!(
        world.sent(),
        [
            "site.release off 4".to_owned(),
            format!("site.curtail on {position}")
        ]
    );
}

#[test]
fn sites_are_read_to_go_once_more_when_few_wait_and_one_read_at_a_time() {
    let mut world = World::new(1);
    for number in 0..200 {
        world.happens(CURTAIL, &format!("s{number}"));
    }
    while let Some(start) = world.start().pop() {
        for attempt in 0..=start.attempt {
            world.ends(attempt, &Attempt::Delivered);
        }
    }
    world.outbox.connected(world.now);
    let positions = world.outbox.refresh_read(world.now);
    assert_eq!(positions, Some(RefreshRead::Positions));
    assert_eq!(world.outbox.refresh_read(world.now), None);
    let all = RefreshPage::Positions((1..=200).collect());
    world.outbox.take_refresh(Ok(all), world.now);
    assert!(world.read_refresh());
    let sent = world.sends();
    assert_eq!(sent.len(), 128);
    for (attempt, _) in &sent[..95] {
        world.ends(*attempt, &Attempt::Delivered);
    }
    assert!(!world.read_refresh(), "33 wait");
    world.ends(sent[95].0, &Attempt::Delivered);
    assert!(world.read_refresh(), "32 wait");
}

#[test]
fn what_failed_on_a_connection_is_not_waited_for_on_the_next_one() {
    let mut world = World::with_sites();
    world.connected();
    for (attempt, _) in world.sends() {
        world.ends(attempt, &failed());
    }
    assert!(world.outbox.next_due(world.now.mono).is_some());
    world.connected();
    for (attempt, _) in world.sends() {
        world.ends(attempt, &Attempt::Delivered);
    }
    assert_eq!(world.outbox.next_due(world.now.mono), None);
}

#[test]
fn a_release_that_goes_once_more_leaves_no_site_untold() {
    let mut world = World::new(1);
    world.happens_unconditionally("s");
    world.sends_one("site.release s 1", &Attempt::Delivered);
    world.connected();
    assert_eq!(world.sends().len(), 1);
    world.pass(Duration::from_secs(30));
    world.outbox.advance(world.now);
    assert!(world.outbox.health().untold.is_empty());
}
