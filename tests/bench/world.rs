//! The dispatches that are told of.

use std::io::Write;
use std::ops::Range;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

/// How many dispatches a list has, and of how many sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Dispatches in the list.
    pub dispatches: usize,
    /// Sites of each.
    pub sites: usize,
    /// Whether all name the same sites, rather than each its own.
    pub shared: bool,
}

impl Shape {
    /// So many dispatches, each of so many sites of its own.
    pub fn own(dispatches: usize, sites: usize) -> Self {
        Self {
            dispatches,
            sites,
            shared: false,
        }
    }
}

/// A list as the API tells it.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// What is in it.
    pub shape: Shape,
    /// When all of it starts, UTC.
    pub start: DateTime<Utc>,
}

impl World {
    /// The list after so many rounds of changes: in each, one dispatch in a
    /// hundred is another one than in the round before.
    pub fn list(&self, changes: usize) -> Bytes {
        let Shape {
            dispatches,
            sites,
            shared,
        } = self.shape;
        let mut out = Vec::with_capacity(dispatches * (400 + sites * 110));
        out.extend_from_slice(br#"{"dispatches":["#);
        for number in 0..dispatches {
            if number > 0 {
                out.push(b',');
            }
            // Round r changes those whose number is r modulo 100.
            let changed = (changes + 99 - number % 100) / 100;
            let first = if shared { 0 } else { number * sites };
            let id = format!("d{number:06}");
            write_dispatch(&mut out, &id, self.start, changed, first..first + sites);
        }
        out.extend_from_slice(br#"],"page":0,"perPage":0}"#);
        out.into()
    }
}

/// One dispatch of two sites of its own, of which only the id is known.
pub fn write_lone(out: &mut Vec<u8>, id: &str, start: DateTime<Utc>) {
    // Far from the numbers of sites in lists.
    let number: usize = id
        .trim_start_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .unwrap_or(0);
    let first = 1_000_000_000 + number * 2;
    write_dispatch(out, id, start, 0, first..first + 2);
}

/// One dispatch that lasts for an hour, and a minute longer with each change.
pub fn write_dispatch(
    out: &mut Vec<u8>,
    id: &str,
    start: DateTime<Utc>,
    changed: usize,
    sites: Range<usize>,
) {
    let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let end = start + TimeDelta::minutes(60 + changed as i64);
    write!(
        out,
        r#"{{"id":"{id}","authorized":true,"test":false,"start_time":"{}","end_time":"{}","creation_time":"2026-01-05T08:00:00Z","modification_number":{changed},"program":{{"id":867,"name":"Regional capacity","timezone":"America/New_York","market":"PJM","program_type":"capacity"}},"sites":["#,
        text(start),
        text(end),
    )
    .unwrap();
    let first = sites.start;
    for site in sites {
        if site > first {
            out.push(b',');
        }
        write!(
            out,
            r#"{{"id":"s{site:07}","name":"Plant {site}","customer_location_id":"{site}","commitment":{},"drop_by":null}}"#,
            100 + site % 900,
        )
        .unwrap();
    }
    out.extend_from_slice(br#"],"metadata":{}}"#);
}
