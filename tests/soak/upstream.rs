//! Makes things happen upstream, without end, and keeps the books about it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use dispatchd::sandbox::Sandbox;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::clock::now;
use crate::replica::LAG_MAX;
use crate::truth::{Dispatch, Standing};

/// Sites are few, so that dispatches meet at them.
pub const SITES: u32 = 60;

/// Dispatches that are not retired yet, at most.
const DISPATCHES: usize = 150;

/// How long a dispatch that is over stays in the list.
const LISTED_FOR: TimeDelta = TimeDelta::seconds(30);

/// Between two changes, on average.
const PACE: Duration = Duration::from_millis(160);

/// A change of which the API sends a webhook.
#[derive(Debug, Clone)]
pub struct Change {
    pub id: String,
    pub state: i64,
    /// It was made between these, UTC.
    pub before: DateTime<Utc>,
    pub after: DateTime<Utc>,
}

/// What the API showed of a dispatch from some time on.
#[derive(Debug, Clone)]
pub struct Shown {
    /// UTC.
    pub from: DateTime<Utc>,
    /// By its id. `None`: it was not there.
    pub json: Option<Value>,
    /// Whether the list had it.
    pub listed: bool,
}

/// All that has happened.
#[derive(Debug, Default)]
pub struct Books {
    pub dispatches: BTreeMap<String, Dispatch>,
    /// What the API showed lately of each dispatch that has a number, oldest first.
    shown: BTreeMap<String, Vec<Shown>>,
    pub changes: Vec<Change>,
    pub created: u64,
    pub withdrawn: u64,
    pub garbled: u64,
    pub hidden: u64,
}

impl Books {
    /// What the API showed of a dispatch at `time`, if it has a number. `time` is
    /// at most [`LAG_MAX`] ago.
    pub fn shown_at(&self, id: &str, time: DateTime<Utc>) -> Option<Shown> {
        let states = self.shown.get(id)?;
        let then = states.iter().rev().find(|shown| shown.from <= time);
        Some(then.cloned().unwrap_or(Shown {
            from: time,
            json: None,
            listed: false,
        }))
    }

    /// What the list had at `time` of the dispatches that have a number.
    pub fn listed_at(&self, time: DateTime<Utc>) -> Vec<Value> {
        let then = self.shown.values().filter_map(|states| {
            let shown = states.iter().rev().find(|shown| shown.from <= time)?;
            shown.json.clone().filter(|_| shown.listed)
        });
        then.collect()
    }

    /// The API shows this from now on.
    fn show(&mut self, one: &Dispatch) {
        if !one.numbered {
            return;
        }
        let from = now();
        let states = self.shown.entry(one.id.clone()).or_default();
        // One from before that is what the longest lag shows.
        let needed = states
            .iter()
            .rposition(|shown| shown.from < from - LAG_MAX * 2);
        states.drain(..needed.unwrap_or_default());
        states.push(Shown {
            from,
            json: one.is_there().then(|| one.json()),
            listed: matches!(one.standing, Standing::Listed | Standing::Garbled),
        });
    }
}

/// The upstream's own hand.
#[derive(Clone)]
pub struct Upstream {
    sandbox: Sandbox,
    books: Arc<Mutex<Books>>,
}

impl Upstream {
    pub fn new(sandbox: Sandbox) -> Self {
        Self {
            sandbox,
            books: Arc::default(),
        }
    }

    /// What has happened so far.
    pub fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets things happen until `stop`, and then brings all into the open.
    pub async fn run(self, seed: u64, stop: CancellationToken) {
        let mut random = SmallRng::seed_from_u64(seed);
        while !stop.is_cancelled() {
            let burst = if random.random_bool(0.02) { 15 } else { 1 };
            for _ in 0..burst {
                self.act(&mut random);
            }
            let wait = PACE.mul_f64(f64::from(burst) * random.random_range(0.2..1.8));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => {}
            }
        }
        let unclear: Vec<Dispatch> = self
            .books()
            .dispatches
            .values()
            .filter(|one| matches!(one.standing, Standing::Garbled | Standing::Hidden))
            .cloned()
            .collect();
        for dispatch in unclear {
            self.reveal(dispatch);
        }
    }

    fn act(&self, random: &mut SmallRng) {
        let time = now();
        let (open, picked) = {
            let books = self.books();
            let open: Vec<&Dispatch> = books
                .dispatches
                .values()
                .filter(|one| one.standing != Standing::Retired)
                .collect();
            let picked = match open.len() {
                0 => None,
                many => Some(open[random.random_range(0..many)].clone()),
            };
            (open.len(), picked)
        };
        match picked {
            Some(dispatch) if open >= DISPATCHES || random.random_bool(0.75) => {
                // Webhooks and books are told apart by the millisecond.
                if dispatch.touched < time {
                    self.touch(dispatch, time, random);
                }
            }
            _ => self.create(time, random),
        }
    }

    fn create(&self, time: DateTime<Utc>, random: &mut SmallRng) {
        let number = {
            let mut books = self.books();
            books.created += 1;
            books.created
        };
        let start = match random.random_range(0..10) {
            0 => 3_600_000,
            1..4 => -random.random_range(0..3_000),
            _ => random.random_range(500..8_000),
        };
        let start = time + TimeDelta::milliseconds(start);
        let end = random
            .random_bool(0.6)
            .then(|| start + TimeDelta::milliseconds(random.random_range(500..12_000)));
        let sites = (0..random.random_range(1..=3)).map(|_| {
            let site = format!("s{}", random.random_range(0..SITES));
            (site, commitment(random))
        });
        let sites = sites.collect();
        self.publish(Dispatch {
            id: format!("d{number}"),
            state: -1,
            numbered: random.random_bool(0.85),
            authorized: random.random_bool(0.97),
            test: random.random_bool(0.05),
            start,
            end,
            sites,
            standing: Standing::Listed,
            created: time,
            touched: time,
            taken: None,
            forgettable: None,
        });
    }

    fn touch(&self, mut one: Dispatch, time: DateTime<Utc>, random: &mut SmallRng) {
        let mut soon = |from, to| time + TimeDelta::milliseconds(random.random_range(from..to));
        let (in_a_while, before_long) = (soon(500, 9_000), soon(500, 4_000));
        match one.standing {
            Standing::Garbled | Standing::Hidden => return self.reveal(one),
            Standing::Withdrawn => {
                if random.random_bool(0.5) {
                    one.standing = Standing::Listed;
                    return self.publish(one);
                }
                one.standing = Standing::Retired;
                return self.note(one);
            }
            Standing::Listed | Standing::Retired => {}
        }
        let over = one.is_over(time);
        if over
            && one.touched + LISTED_FOR < time
            && one.end.is_none_or(|end| end + LISTED_FOR < time)
        {
            return self.take_away(one, Standing::Retired);
        }
        match random.random_range(0..100) {
            0..15 => {
                let site = format!("s{}", random.random_range(0..SITES));
                one.sites.insert(site, commitment(random));
            }
            15..20 if one.sites.len() > 1 => {
                one.sites.pop_first();
            }
            20..40 if !over => one.end = Some(time),
            40..55 => one.end = Some(one.start.max(time).max(before_long)),
            55..60 if !over => one.end = None,
            60..72 => one.authorized = !one.authorized,
            72..77 => one.start = in_a_while,
            77..80 if one.start > time => one.start = before_long.min(one.start),
            80..84 if !over => return self.take_away(one, Standing::Withdrawn),
            84..87 => return self.hide(one),
            87..90 => return self.garble(one),
            // Nothing but its number.
            _ => {}
        }
        self.publish(one);
    }

    /// The next state, and a webhook about it.
    fn publish(&self, mut one: Dispatch) {
        let before = now();
        one.state += 1;
        one.touched = before;
        let (id, state) = (one.id.clone(), one.state);
        // The books are locked meanwhile: whoever looks sees both or neither.
        let mut books = self.books();
        let old = books.dispatches.get(&id);
        if let Some(old) = old.filter(|old| old.may_be_forgotten(before)) {
            one.forgettable = Some(old.state);
        }
        self.sandbox.put(one.json(), true).unwrap();
        books.show(&one);
        books.dispatches.insert(id.clone(), one);
        books.changes.push(Change {
            id,
            state,
            before,
            after: now(),
        });
    }

    /// It is in the list again, and can be read.
    fn reveal(&self, mut one: Dispatch) {
        self.sandbox.hide_from_list(&one.id, false);
        one.standing = Standing::Listed;
        self.publish(one);
    }

    fn hide(&self, mut one: Dispatch) {
        one.standing = Standing::Hidden;
        self.sandbox.hide_from_list(&one.id, true);
        self.books().hidden += 1;
        self.note(one);
    }

    /// It cannot be read for a while. A webhook says that it is other than it was.
    fn garble(&self, mut one: Dispatch) {
        one.standing = Standing::Garbled;
        self.sandbox.put(one.json(), true).unwrap();
        self.books().garbled += 1;
        self.note(one);
    }

    fn take_away(&self, mut one: Dispatch, standing: Standing) {
        one.standing = standing;
        one.taken = Some(one.state);
        let mut books = self.books();
        self.sandbox.remove(&one.id);
        books.withdrawn += u64::from(standing == Standing::Withdrawn);
        one.touched = now();
        books.show(&one);
        books.dispatches.insert(one.id.clone(), one);
    }

    fn note(&self, mut one: Dispatch) {
        one.touched = now();
        let mut books = self.books();
        books.show(&one);
        books.dispatches.insert(one.id.clone(), one);
    }
}

fn commitment(random: &mut SmallRng) -> Option<i64> {
    random.random_bool(0.9).then(|| random.random_range(1..500))
}
