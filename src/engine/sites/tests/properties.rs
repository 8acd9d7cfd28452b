//! The plan against an oracle that knows no increments, over random histories.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::plan;
use super::world::{But, World, at, dispatch, lead, seconds, site, site_id};
use crate::engine::{Outcome, Rules, SitePlan};
use crate::model::{CancelReason, Dispatch, DispatchId, SiteMode, SiteState};

const DISPATCHES: [&str; 5] = ["a", "b", "c", "d", "e"];
const SITES: [&str; 3] = ["s", "t", "u"];

/// Something that happens, `after` so many seconds.
#[derive(Debug, Clone)]
struct Step {
    after: i64,
    act: Act,
}

#[derive(Debug, Clone)]
enum Act {
    Nothing,
    /// The API shows a dispatch. Its start is so far from now.
    See(Shown),
    /// The API lists what is known but these, and then does not know these.
    ListWithout(Vec<bool>),
    /// An operator orders what a site must do, for so many seconds; or nothing more.
    Order(usize, Option<(SiteMode, i64)>),
    Restart,
}

#[derive(Debug, Clone)]
struct Shown {
    name: usize,
    start: i64,
    length: Option<i64>,
    authorized: bool,
    test: bool,
    /// Per site: not named, named, named with a commitment.
    sites: [Option<Option<u8>>; 3],
    /// Per site that is named: the value of a field that nobody knows.
    unknown: [Option<u8>; 3],
}

impl Shown {
    fn at(&self, now: i64) -> Dispatch {
        let start = now + self.start;
        let end = self.length.map(|length| start + length);
        let named = SITES.iter().zip(self.sites).zip(self.unknown);
        let sites = named.filter_map(|((name, kw), unknown)| {
            let mut site = site(name, kw?.map(f64::from));
            if let Some(value) = unknown {
                let field = format!(r#"{{"plan":[{value}]}}"#);
                Arc::make_mut(&mut site).extra = serde_json::from_str(&field).unwrap();
            }
            Some(site)
        });
        dispatch(DISPATCHES[self.name], start, end).but(|it| {
            it.authorized = self.authorized;
            it.test = self.test;
            it.sites = sites.collect();
        })
    }
}

fn shown() -> impl Strategy<Value = Shown> {
    (
        0..DISPATCHES.len(),
        -6..16i64,
        prop::option::weighted(0.8, -1..14i64),
        prop::bool::weighted(0.85),
        prop::bool::weighted(0.15),
        prop::array::uniform3(prop::option::weighted(
            0.7,
            prop::option::weighted(0.8, 1..5u8),
        )),
        prop::array::uniform3(prop::option::weighted(0.3, 1..3u8)),
    )
        .prop_map(
            |(name, start, length, authorized, test, sites, unknown)| Shown {
                name,
                start,
                length,
                authorized,
                test,
                sites,
                unknown,
            },
        )
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    let act = prop_oneof![
        3 => Just(Act::Nothing),
        6 => shown().prop_map(Act::See),
        2 => prop::collection::vec(prop::bool::weighted(0.4), DISPATCHES.len())
            .prop_map(Act::ListWithout),
        2 => order(),
        1 => Just(Act::Restart),
    ];
    let step = (0..5i64, act).prop_map(|(after, act)| Step { after, act });
    prop::collection::vec(step, 1..40)
}

fn order() -> impl Strategy<Value = Act> {
    let state = prop_oneof![Just(SiteMode::Normal), Just(SiteMode::Curtailed)];
    let order = prop::option::weighted(0.75, (state, 1..14i64));
    (0..SITES.len(), order).prop_map(|(site, order)| Act::Order(site, order))
}

fn rules() -> impl Strategy<Value = Rules> {
    (0..7u64, any::<bool>()).prop_map(|(seconds, curtail_on_test)| Rules {
        retain: std::time::Duration::from_secs(20),
        curtail_on_test,
        ..lead(seconds)
    })
}

/// Lets a history happen, with `check` after each event. Gives the time.
fn live(world: &mut World, history: &[Step], check: impl Fn(&World, i64)) -> i64 {
    let mut now = 0;
    for step in history {
        now += step.after;
        let idle = world.next_due().is_none_or(|due| due > now);
        let told = world.clock(now);
        assert!(!idle || told.is_empty(), "not due, and yet: {told:?}");
        check(world, now);
        match &step.act {
            Act::Nothing => {}
            Act::See(shown) => {
                world.upsert(now, shown.at(now));
            }
            Act::ListWithout(hidden) => {
                let hidden = |id: &DispatchId| {
                    let mut all = DISPATCHES.iter().zip(hidden);
                    all.any(|(name, hidden)| *hidden && id.as_str() == *name)
                };
                let known = world.schedule.entries();
                let list: Vec<Dispatch> = known
                    .filter(|entry| !hidden(entry.id()))
                    .map(|entry| Dispatch::clone(&entry.dispatch))
                    .collect();
                world.list(now, list);
                check(world, now);
                for id in world.checks_due(now) {
                    world.gone(now, id.as_str());
                    check(world, now);
                }
            }
            Act::Order(site, order) => {
                let order = order.map(|(state, lasts)| (state, now + lasts));
                world.order(now, SITES[*site], order);
            }
            Act::Restart => assert_eq!(world.restart(now), [""; 0]),
        }
        check(world, now);
    }
    now
}

/// What a site must be, by looking at every second on its own.
fn expected(world: &World, name: &str, now: i64) -> SiteState {
    let rules = &world.rules;
    let lead = i64::try_from(rules.pre_curtail.as_secs()).unwrap();
    let mut claims: Vec<Arc<Dispatch>> = world
        .schedule
        .entries()
        .filter(|entry| entry.cancel_reason != Some(CancelReason::Withdrawn))
        .map(|entry| Arc::clone(&entry.dispatch))
        .filter(|it| it.authorized && (rules.curtail_on_test || !it.test))
        .filter(|it| it.sites.iter().any(|site| site.id == site_id(name)))
        .filter(|it| it.end_time.is_none_or(|end| it.start_time < end))
        .collect();
    claims.sort_by_key(|it| (it.start_time, it.id.clone()));
    let covers = |it: &Dispatch, second: i64| {
        seconds(it.start_time) - lead <= second
            && it.end_time.is_none_or(|end| second < seconds(end))
    };

    let by_hand = world.ordered.get(&site_id(name)).cloned();
    let by_hand = by_hand.filter(|it| now < seconds(it.until));
    let next = claims.iter().find(|it| seconds(it.start_time) - lead > now);
    let next = next.map(|it| crate::model::NextDispatch {
        start_time: it.start_time,
        dispatch: it.id.clone(),
    });
    if by_hand.as_ref().is_some_and(|it| !it.curtails()) {
        return SiteState {
            next,
            site_override: by_hand,
            ..SiteState::unknown(site_id(name), at(now))
        };
    }

    let mut until = None;
    for second in now.. {
        if by_hand
            .as_ref()
            .is_some_and(|it| second < seconds(it.until))
        {
            if claims
                .iter()
                .any(|it| covers(it, second) && it.end_time.is_none())
            {
                break;
            }
            continue;
        }
        let mut covering = claims.iter().filter(|it| covers(it, second)).peekable();
        if covering.peek().is_none() {
            until = (second > now).then(|| at(second));
            break;
        }
        if covering.any(|it| it.end_time.is_none()) {
            break;
        }
    }
    let holding: Vec<&Dispatch> = claims
        .iter()
        .map(|it| &**it)
        .filter(|it| covers(it, now))
        .collect();
    let mut dispatches: Vec<DispatchId> = holding.iter().map(|it| it.id.clone()).collect();
    dispatches.sort();
    let mut commitments: Vec<_> = holding
        .iter()
        .flat_map(|it| &it.sites)
        .filter(|site| site.id == site_id(name))
        .filter_map(|site| site.commitment)
        .collect();
    commitments.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut extra = BTreeMap::new();
    for it in &holding {
        let named = it.sites.iter().filter(|site| site.id == site_id(name));
        for site in named.filter(|site| !site.extra.is_empty()) {
            extra.insert(it.id.clone(), site.extra.clone());
        }
    }
    SiteState {
        state: if holding.is_empty() && by_hand.is_none() {
            SiteMode::Normal
        } else {
            SiteMode::Curtailed
        },
        until,
        commitment_kw: commitments.last().copied(),
        programs: holding
            .first()
            .map(|it| Arc::new((&it.program).into()))
            .into_iter()
            .collect(),
        dispatches,
        extra: (!extra.is_empty()).then(|| Arc::new(extra)),
        next,
        site_override: by_hand,
        ..SiteState::unknown(site_id(name), at(now))
    }
}

/// What two states of a site must have in common, whatever their past.
fn essence(site: &SiteState) -> SiteState {
    let empty = SiteState::unknown(site.id.clone(), at(0));
    SiteState {
        name: empty.name,
        customer_location_id: empty.customer_location_id,
        since: empty.since,
        ..site.clone()
    }
}

fn agrees_with_the_oracle(world: &World, now: i64) {
    for name in SITES {
        let expected = expected(world, name, now);
        match world.plan.get(&site_id(name)) {
            Some(site) => assert_eq!(essence(site), essence(&expected), "at {now}"),
            None => assert!(
                expected.dispatches.is_empty() && expected.site_override.is_none(),
                "{name} is missing at {now}"
            ),
        }
        let named = world.schedule.entries().any(|entry| {
            entry
                .dispatch
                .sites
                .iter()
                .any(|site| site.id == site_id(name))
        });
        assert!(!named || world.plan.get(&site_id(name)).is_some());
    }
}

/// The plan made anew from the schedule, with the states that are stored.
fn anew(world: &World, now: i64, stored: Vec<SiteState>) -> (SitePlan, usize) {
    let plan_then = SitePlan::restore(&world.schedule, stored, at(0), &world.rules);
    let nothing = Outcome::default();
    let planned = plan(plan_then, &world.schedule, &nothing, at(now), &world.rules);
    (planned.plan, planned.changes.len())
}

fn agrees_with_a_plan_from_scratch(world: &World, now: i64) {
    let (scratch, _) = anew(world, now, Vec::new());
    for site in scratch.sites() {
        let known = world.plan.get(&site.id).unwrap();
        // An order is in the states alone.
        if known.site_override.is_none() {
            assert_eq!(essence(known), essence(site));
        }
        assert_eq!(known.name, site.name);
        assert_eq!(known.customer_location_id, site.customer_location_id);
    }

    let stored = world.replayed.values().map(|site| SiteState::clone(site));
    let (restored, changes) = anew(world, now, stored.collect());
    assert_eq!(changes, 0);
    assert_eq!(restored.next_due(), world.plan.next_due());
    let without_since_of_the_never_curtailed = |plan: &SitePlan| -> Vec<SiteState> {
        plan.sites()
            .map(|site| match world.replayed.get(&site.id) {
                Some(_) => SiteState::clone(site),
                None => essence(site),
            })
            .map(|site| SiteState {
                name: String::new(),
                customer_location_id: String::new(),
                ..site
            })
            .collect()
    };
    assert_eq!(
        without_since_of_the_never_curtailed(&restored),
        without_since_of_the_never_curtailed(&world.plan)
    );
}

fn agrees_with_its_differences(world: &World, _: i64) {
    for site in world.plan.sites() {
        match world.replayed.get(&site.id) {
            Some(replayed) => {
                let replayed = SiteState {
                    next: site.next.clone(),
                    ..SiteState::clone(replayed)
                };
                assert_eq!(essence(&replayed), essence(site));
                assert_eq!(replayed.since, site.since);
            }
            None => assert!(!site.is_curtailed()),
        }
    }
    for id in world.replayed.keys() {
        assert!(world.plan.get(id).is_some(), "{id} was not forgotten");
    }
}

/// No site is curtailed or released in between, whatever else is adjusted.
fn assert_same_words(at_once: &[String], in_pieces: &[String]) {
    let moving = |told: &[String]| {
        let mut words: Vec<String> = told
            .iter()
            .filter_map(|told| told.split_once(" by "))
            .map(|(word, _)| word.to_owned())
            .filter(|word| !word.starts_with("adjust"))
            .collect();
        words.sort();
        words
    };
    assert_eq!(moving(at_once), moving(in_pieces), "{in_pieces:?}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_site_is_the_union_of_its_dispatches(rules in rules(), history in history()) {
        live(&mut World::new(rules), &history, agrees_with_the_oracle);
    }

    #[test]
    fn increments_lead_where_a_new_plan_would(rules in rules(), history in history()) {
        live(&mut World::new(rules), &history, agrees_with_a_plan_from_scratch);
    }

    #[test]
    fn the_differences_give_the_state(rules in rules(), history in history()) {
        live(&mut World::new(rules), &history, agrees_with_its_differences);
    }

    #[test]
    fn in_chunks_each_site_is_told_what_it_is_told_at_once(
        rules in rules(),
        chunk in 1..9usize,
        history in history(),
    ) {
        let mut at_once = World::new(rules);
        let mut in_chunks = World::new(Rules { chunk, ..rules });
        let mut now = 0;
        for step in &history {
            // Time enough for much to come due together.
            now += 2 * step.after;
            let told = (at_once.clock(now), in_chunks.catch_up(now));
            assert_same_words(&told.0, &told.1);
            let Act::See(shown) = &step.act else { continue };
            let told = at_once.upsert(now, shown.at(now));
            let mut pieces = in_chunks.upsert(now, shown.at(now));
            pieces.extend(in_chunks.catch_up(now));
            assert_same_words(&told, &pieces);
            agrees_with_the_oracle(&in_chunks, now);
        }
    }

    #[test]
    fn a_clock_that_falls_back_commands_nothing(
        rules in rules(),
        history in history(),
        falls in prop::collection::vec((1..60i64, any::<bool>()), 1..6),
    ) {
        let mut world = World::new(rules);
        let now = live(&mut world, &history, |_, _| {});
        let sites: Vec<Arc<SiteState>> = world.plan.sites().cloned().collect();
        for (back, restart) in falls {
            let told = if restart {
                world.restart(now - back)
            } else {
                world.clock(now - back)
            };
            prop_assert_eq!(told, [""; 0]);
            for site in &sites {
                let still = world.plan.get(&site.id).unwrap();
                let mut still = essence(still);
                // That a lead had begun is known of the sites that it holds. One that is
                // kept out is none of these, and is told nothing by it.
                if still.site_override.as_ref().is_some_and(|it| !it.curtails()) {
                    still.next.clone_from(&site.next);
                }
                prop_assert_eq!(still, essence(site));
            }
        }
        prop_assert_eq!(world.clock(now), [""; 0]);
        agrees_with_the_oracle(&world, now);
        // And when time has caught up, it goes on as ever.
        world.clock(now + 4);
        agrees_with_the_oracle(&world, now + 4);
    }
}
