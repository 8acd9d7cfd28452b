//! A state with much behind it: what a month of dispatches has left in the file.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use dispatchd::clock::{Mono, Now};
use dispatchd::delivery::Outbox;
use dispatchd::engine::{CHUNK, Rules};
use dispatchd::model::Answer;
use dispatchd::store::{SqliteStore, Store};
use dispatchd::sync::{Coordinator, Effect, Input, Settings};
use dispatchd::voltus::{ApiResponse, Problems, Stamp, read_list};

use crate::Fault;
use crate::world::write_dispatch;

/// How often in that month something was listed: every two hours of 29 days. What is kept
/// for 30 days stays while it is measured.
const LISTS: usize = 29 * 12;

/// How many dispatches have sites of their own.
const PAIRS_OF_SITES: usize = 50_000;

/// Makes the state file at `path`: so many dispatches of two sites each were listed,
/// started and ended in the month before `now`. It is made by what decides
/// and writes in the daemon, on a clock that is told.
pub fn make(path: &Path, api: &str, dispatches: usize, now: DateTime<Utc>) -> Result<(), Fault> {
    let before = |lists: usize| -> Result<TimeDelta, Fault> {
        Ok(TimeDelta::hours(2 * i64::try_from(LISTS - lists)?))
    };
    let began = now - before(0)?;
    let mut store = SqliteStore::open(path, api, began)?;
    let stored = store.load()?;
    let clock = |wall: DateTime<Utc>| -> Result<Now, Fault> {
        let mono: Mono = (wall - began).to_std()?;
        Ok(Now { wall, mono })
    };
    let settings = Settings {
        poll_interval: Duration::from_secs(3600),
        webhook_deadline: Duration::from_secs(5),
        api_rate: u32::MAX.try_into()?,
        rules: Rules {
            retain: Duration::from_secs(30 * 24 * 3600),
            pre_curtail: Duration::ZERO,
            curtail_on_test: false,
            chunk: CHUNK,
        },
    };
    let outboxes = Vec::<Outbox>::new();
    let mut coordinator = Coordinator::<()>::new(settings, stored, outboxes, clock(began)?, 0);
    let mut list = Vec::new();
    for number in 0..LISTS {
        let listed = now - before(number)?;
        let numbers = dispatches * number / LISTS..dispatches * (number + 1) / LISTS;
        write_list(&mut list, numbers, listed + TimeDelta::minutes(20));
        // Listed, started, ended.
        for minutes in [0, 20, 90] {
            let now = clock(listed + TimeDelta::minutes(minutes))?;
            settle(&mut coordinator, &mut store, &list, now)?;
        }
    }
    Ok(())
}

/// The list of these dispatches, each of two sites, which live dispatches have, too.
fn write_list(out: &mut Vec<u8>, numbers: Range<usize>, start: DateTime<Utc>) {
    out.clear();
    out.extend_from_slice(br#"{"dispatches":["#);
    let first = numbers.start;
    for number in numbers {
        if number > first {
            out.push(b',');
        }
        let site = number % PAIRS_OF_SITES * 2;
        write_dispatch(out, &format!("p{number:07}"), start, 0, site..site + 2);
    }
    out.extend_from_slice(br#"],"page":0,"perPage":0}"#);
}

/// Lets it do all that is to be done now.
fn settle(
    coordinator: &mut Coordinator<()>,
    store: &mut SqliteStore,
    list: &[u8],
    now: Now,
) -> Result<(), Fault> {
    let mut inputs = Vec::new();
    loop {
        let effects = coordinator.step(now, std::mem::take(&mut inputs));
        for effect in effects {
            match effect {
                Effect::Ask { asked, .. } => {
                    let (list, _) = read_list(list)?;
                    let result = Ok(ApiResponse {
                        answer: Answer::List(list),
                        problems: Problems::default(),
                        stamp: Stamp::default(),
                    });
                    inputs.push(Input::Response { asked, result });
                }
                Effect::Commit(batch) => inputs.push(Input::Committed(store.commit(&batch))),
                Effect::End(error) => return Err(error.into()),
                _ => {}
            }
        }
        if inputs.is_empty() && coordinator.next_wake() > now.mono {
            return Ok(());
        }
    }
}
