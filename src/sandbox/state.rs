//! What the sandbox holds: dispatches, webhooks, faults, logs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::answer::{Question, RawAnswer};
use super::budget::Budget;
use super::dice::Dice;
use super::faults::Faults;
use super::fixture::{self, Fixture};
use super::log::{ContactEmail, Delivery, Newest, SeenRequest};
use super::webhooks::{Event, Webhook};

/// How long a dispatch that is over stays in the list.
const LISTED_FOR: TimeDelta = TimeDelta::hours(24);

/// A dispatch as the sandbox holds it.
#[derive(Debug)]
struct Held {
    json: Arc<Value>,
    /// Its place in the list: the order in which they came.
    place: u64,
    /// It is left out of the list.
    hidden: bool,
    /// It belongs to the present scenario and goes with it.
    of_scenario: bool,
}

/// Whether a dispatch is of the previous 24 hours, or to come. One whose times
/// cannot be read is listed: a client has to deal with it.
fn is_recent(dispatch: &Value, now: DateTime<Utc>) -> bool {
    let time = |field| {
        let text = dispatch.get(field)?.as_str()?;
        DateTime::parse_from_rfc3339(text).ok()
    };
    time("end_time")
        .or_else(|| time("start_time"))
        .is_none_or(|last| last.to_utc() >= now - LISTED_FOR)
}

/// All of it, behind one lock.
#[derive(Debug)]
pub(super) struct State {
    dispatches: BTreeMap<String, Held>,
    places: u64,
    /// The fixture, while it is shown.
    fixture: Option<Fixture>,
    /// Whether there was one: its sites stay enrolled.
    had_fixture: bool,
    /// Ends the present scenario.
    pub(super) scenario: CancellationToken,
    /// By the order of registration.
    pub(super) webhooks: Vec<Webhook>,
    pub(super) faults: Faults,
    pub(super) dice: Dice,
    pub(super) budget: Budget,
    /// Nothing is answered.
    pub(super) down: bool,
    pub(super) overrides: HashMap<Question, RawAnswer>,
    pub(super) deliveries: Newest<Delivery>,
    pub(super) contact_emails: Newest<ContactEmail>,
    pub(super) requests: Newest<SeenRequest>,
}

impl State {
    pub(super) fn new(faults: Faults, fixture: Option<Fixture>) -> Self {
        Self {
            dispatches: BTreeMap::new(),
            places: 0,
            had_fixture: fixture.is_some(),
            fixture,
            scenario: CancellationToken::new(),
            webhooks: Vec::new(),
            dice: Dice::new(faults.seed),
            faults,
            budget: Budget::default(),
            down: false,
            overrides: HashMap::new(),
            deliveries: Newest::default(),
            contact_emails: Newest::default(),
            requests: Newest::default(),
        }
    }

    /// Replaces all faults. A limit begins with a window of its own.
    pub(super) fn set_faults(&mut self, faults: Faults, reseed: bool) {
        if faults.rate_limit_per_minute != self.faults.rate_limit_per_minute {
            self.budget.reset();
        }
        if reseed {
            self.dice.reseed(faults.seed);
        }
        self.faults = faults;
    }

    /// Inserts or replaces a dispatch, and tells which event that is.
    pub(super) fn put(&mut self, id: &str, json: Value, of_scenario: bool) -> Event {
        self.fixture = None;
        let json = Arc::new(json);
        if let Some(held) = self.dispatches.get_mut(id) {
            held.json = json;
            held.of_scenario = of_scenario;
            return Event::Update;
        }
        let place = self.places;
        self.places += 1;
        let held = Held {
            json,
            place,
            hidden: false,
            of_scenario,
        };
        self.dispatches.insert(id.to_owned(), held);
        Event::Create
    }

    /// Publishes a state of a scenario's dispatch, completed.
    pub(super) fn publish(
        &mut self,
        id: &str,
        dispatch: Map<String, Value>,
        now: DateTime<Utc>,
    ) -> Event {
        let dispatch = self.completed(id, dispatch, now);
        self.put(id, dispatch, true)
    }

    /// A dispatch with every field that the upstream's reference requires: those
    /// that it lacks are filled in as the upstream would.
    pub(super) fn completed(
        &self,
        id: &str,
        mut dispatch: Map<String, Value>,
        now: DateTime<Utc>,
    ) -> Value {
        let before = self.dispatches.get(id).map(|held| &held.json);
        let number = before
            .and_then(|json| json["modification_number"].as_i64())
            .map_or(0, |number| number.saturating_add(1));
        let created = before
            .and_then(|json| json.get("creation_time").cloned())
            .unwrap_or_else(|| crate::model::rfc3339(now).into());
        dispatch.insert("id".into(), id.into());
        let defaults = [
            ("authorized", Value::Bool(true)),
            ("test", Value::Bool(false)),
            ("creation_time", created),
            ("modification_number", number.into()),
            ("program", fixture::program()),
            ("sites", fixture::sites()),
        ];
        for (field, value) in defaults {
            dispatch.entry(field).or_insert(value);
        }
        let start = crate::model::rfc3339(now).into();
        dispatch.entry("start_time").or_insert(start);
        Value::Object(dispatch)
    }

    /// Ends the present scenario: its dispatches are gone from both `GET`s.
    pub(super) fn end_scenario(&mut self, next: CancellationToken) {
        std::mem::replace(&mut self.scenario, next).cancel();
        self.fixture = None;
        self.dispatches.retain(|_, held| !held.of_scenario);
    }

    /// Takes a dispatch away. `false` if there was none.
    pub(super) fn remove(&mut self, id: &str) -> bool {
        let fixture = self.fixture.take_if(|_| id == fixture::ID);
        self.dispatches.remove(id).is_some() || fixture.is_some()
    }

    /// Leaves a dispatch out of the list, or not. `false` if there is none.
    pub(super) fn hide(&mut self, id: &str, hidden: bool) -> bool {
        let held = self.dispatches.get_mut(id);
        held.map(|held| held.hidden = hidden).is_some()
    }

    /// What `GET /dispatches/{id}` shows.
    pub(super) fn dispatch(&self, id: &str, now: DateTime<Utc>) -> Option<Arc<Value>> {
        if let Some(fixture) = self.fixture.as_ref().filter(|_| id == fixture::ID) {
            return Some(Arc::new(fixture.dispatch(now)));
        }
        self.dispatches.get(id).map(|held| Arc::clone(&held.json))
    }

    /// What `GET /dispatches` shows.
    pub(super) fn list(&self, now: DateTime<Utc>) -> Vec<Arc<Value>> {
        if self.faults.empty_list {
            return Vec::new();
        }
        if let Some(fixture) = &self.fixture {
            let mut listed = vec![Arc::new(fixture.dispatch(now))];
            listed.retain(|dispatch| is_recent(dispatch, now));
            return listed;
        }
        let mut listed: Vec<&Held> = self
            .dispatches
            .values()
            .filter(|held| !held.hidden && is_recent(&held.json, now))
            .collect();
        listed.sort_by_key(|held| held.place);
        listed.iter().map(|held| Arc::clone(&held.json)).collect()
    }

    /// What `GET /sites` shows: the sites of the fixture, if there was one, and every
    /// site that a dispatch names. Each has one meter.
    pub(super) fn sites(&self) -> Vec<Value> {
        let of_fixture = self.had_fixture.then(fixture::sites);
        let named = self.dispatches.values().map(|held| &held.json["sites"]);
        let mut enrolled = BTreeMap::new();
        for site in named
            .chain(&of_fixture)
            .filter_map(Value::as_array)
            .flatten()
        {
            if let Some(id) = site["id"].as_str() {
                enrolled.insert(id.to_owned(), fixture::enrolled(id, site));
            }
        }
        enrolled.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn ago(hours: i64) -> String {
        crate::model::rfc3339(now() - TimeDelta::hours(hours))
    }

    fn listed(state: &State) -> Vec<String> {
        let list = state.list(now());
        let ids = list.iter().map(|json| json["id"].as_str().unwrap());
        ids.map(str::to_owned).collect()
    }

    fn empty() -> State {
        State::new(Faults::default(), None)
    }

    #[test]
    fn the_list_covers_the_previous_24_hours_and_what_is_to_come() {
        let mut state = empty();
        for (id, start, end) in [
            ("old", ago(30), Some(ago(25))),
            ("over", ago(30), Some(ago(23))),
            ("open", ago(23), None),
            ("open-old", ago(25), None),
            ("soon", ago(-40), Some(ago(-41))),
        ] {
            let json = json!({"id": id, "start_time": start, "end_time": end});
            state.put(id, json, false);
        }
        state.put("odd", json!({"id": "odd", "start_time": 5}), false);
        assert_eq!(listed(&state), ["over", "open", "soon", "odd"]);
        assert!(state.dispatch("old", now()).is_some());
    }

    #[test]
    fn a_hidden_dispatch_still_answers_by_its_id() {
        let mut state = empty();
        state.put("a", json!({"id": "a"}), false);
        assert!(state.hide("a", true));
        assert!(listed(&state).is_empty());
        assert!(state.dispatch("a", now()).is_some());
        state.hide("a", false);
        assert_eq!(listed(&state), ["a"]);
    }

    #[test]
    fn the_fixture_is_gone_once_a_dispatch_is_put() {
        let mut state = State::new(Faults::default(), Some(Fixture::Still(now())));
        assert_eq!(listed(&state), ["asdf"]);
        state.put("a", json!({"id": "a"}), false);
        assert_eq!(listed(&state), ["a"]);
        assert!(state.dispatch("asdf", now()).is_none());
    }

    #[test]
    fn the_fixture_stays_as_it_is_unless_it_is_to_move() {
        for (fixture, moves) in [(Fixture::Still(now()), false), (Fixture::moving(), true)] {
            let state = State::new(Faults::default(), Some(fixture));
            let shown = [0, 0, 30, 0].map(|after| state.list(now() + TimeDelta::seconds(after)));
            assert!(shown.windows(2).all(|pair| (pair[0] != pair[1]) == moves));
        }
    }

    #[test]
    fn a_fixture_that_has_been_over_for_a_day_leaves_the_list_and_answers_by_its_id() {
        let state = State::new(Faults::default(), Some(Fixture::Still(now())));
        let later = now() + TimeDelta::hours(27);
        assert!(state.list(later).is_empty());
        assert!(state.dispatch("asdf", later).is_some());
    }

    #[test]
    fn every_site_that_a_dispatch_names_is_enrolled_once() {
        let mut state = State::new(Faults::default(), Some(Fixture::moving()));
        let site =
            json!({"id": "mill", "name": "Mill", "customer_location_id": "7", "commitment": 5});
        for id in ["a", "b"] {
            state.put(
                id,
                json!({"id": id, "sites": [site, {"name": "nameless"}, 5]}),
                false,
            );
        }
        let sites = state.sites();
        let ids: Vec<_> = sites.iter().map(|site| &site["id"]).collect();
        assert_eq!(ids, ["asdf", "lkjh", "mill"]);
        assert_eq!(sites[2]["name"], "Mill");
        assert_eq!(sites[2]["customer_location_id"], "7");
        assert!(sites[2].get("commitment").is_none());
        assert_eq!(sites[2]["meters"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_published_update_counts_one_modification_more() {
        let mut state = empty();
        let first = Map::from_iter([("start_time".to_owned(), ago(1).into())]);
        assert_eq!(state.publish("a", first.clone(), now()), Event::Create);
        let later = now() + TimeDelta::minutes(1);
        assert_eq!(state.publish("a", first, later), Event::Update);
        let json = state.dispatch("a", later).unwrap();
        assert_eq!(json["modification_number"], 1);
        assert_eq!(json["creation_time"], crate::model::rfc3339(now()));
        assert_eq!(json["authorized"], true);
        assert_eq!(json["sites"], fixture::sites());
    }

    #[test]
    fn a_new_scenario_leaves_alone_what_was_put_by_hand() {
        let mut state = empty();
        state.put("mine", json!({"id": "mine"}), false);
        state.publish("theirs", Map::new(), now());
        state.end_scenario(CancellationToken::new());
        assert_eq!(listed(&state), ["mine"]);
        assert!(state.dispatch("theirs", now()).is_none());
    }
}
