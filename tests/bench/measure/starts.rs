//! How late it gets when very many sites start in one second.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use hdrhistogram::Histogram;
use rusqlite::{Connection, OpenFlags};

use super::{NO_POLLS, milliseconds};
use crate::Fault;
use crate::clock::{elapsed, now, sleep_until};
use crate::figures::{Figures, Unit, Who};
use crate::options::Options;
use crate::receiver::Receiver;
use crate::stage::Stage;
use crate::world::{Shape, World};

/// How often is looked whether anything was committed.
const LOOK: Duration = Duration::from_millis(5);

/// How long all of it may take, before it counts as never.
const PATIENCE: Duration = Duration::from_secs(180);

/// Measures both ways in which 100,000 sites can start.
pub async fn measure(stage: &Stage, options: &Options, figures: &mut Figures) -> Result<(), Fault> {
    let cases = [
        ("100 x 1,000 sites start", Shape::own(100, 1_000)),
        ("100,000 x 1 site start", Shape::own(100_000, 1)),
    ];
    let (cases, rounds) = if options.short {
        (&cases[..1], 1)
    } else {
        (&cases[..], options.rounds())
    };
    for round in 1..=rounds {
        for (name, shape) in cases {
            let mut notice = Duration::from_secs(10);
            while !once(stage, figures, name, *shape, notice).await? {
                // What came before the start was not over by then.
                notice *= 2;
            }
            eprintln!("{name}, round {round}, told of {notice:?} before");
        }
    }
    Ok(())
}

/// One start. `false` if it came before all that precedes it was done.
async fn once(
    stage: &Stage,
    figures: &mut Figures,
    name: &str,
    shape: Shape,
    notice: Duration,
) -> Result<bool, Fault> {
    let receiver = Receiver::start().await?;
    let start = now().trunc_subsecs(0) + TimeDelta::from_std(notice)?;
    stage.api.show(World { shape, start }.list(0));
    let sink = receiver.url();
    let daemon = stage
        .daemon(&[&NO_POLLS[..], &["--sink", &sink]].concat())
        .await?;
    while receiver.sum().created < shape.dispatches {
        if now() >= start {
            return Ok(false);
        }
        sleep_until(elapsed() + LOOK).await;
    }
    let Some(begun) = elapsed_at(start) else {
        return Ok(false);
    };

    let expected = (shape.dispatches * (shape.sites + 1)) as u64;
    let mut commits = Commits::open(&daemon.state, expected)?;
    let sites = shape.dispatches * shape.sites;
    loop {
        let all = commits.look()?;
        let told = receiver.sum();
        if all && told.curtail >= sites && told.started >= shape.dispatches {
            break;
        }
        if elapsed() > begun + PATIENCE {
            return Err(format!("{name}: not over after {PATIENCE:?}: {told:?}").into());
        }
        sleep_until(elapsed() + LOOK).await;
    }
    let late = |at: Duration| at.saturating_sub(begun);
    let mut delivered = Lateness::new()?;
    for batch in receiver.batches() {
        delivered.note(late(batch.at), (batch.started + batch.curtail) as u64)?;
    }
    let mut committed = Lateness::new()?;
    for (at, events) in commits.seen {
        committed.note(late(at), events)?;
    }
    committed.add(figures, &format!("{name}: "), "commit");
    delivered.add(figures, &format!("{name}: "), "delivery");
    daemon.process.kill().await?;
    Ok(true)
}

/// What will have elapsed at that time. `None` when that is over.
fn elapsed_at(time: DateTime<Utc>) -> Option<Duration> {
    let until = (time - now()).to_std().ok()?;
    Some(elapsed() + until)
}

/// Looks into the state file from outside: what is seen there is committed.
struct Commits {
    file: Connection,
    /// The position of the newest event that was seen.
    position: i64,
    /// How many events are still to come.
    missing: u64,
    /// When events were first seen, in the time that had elapsed, and how many.
    seen: Vec<(Duration, u64)>,
}

impl Commits {
    fn open(state: &Path, expected: u64) -> Result<Self, Fault> {
        let file = Connection::open_with_flags(state, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let position = file.query_row("SELECT position FROM daemon", [], |row| row.get(0))?;
        Ok(Self {
            file,
            position,
            missing: expected,
            seen: Vec::new(),
        })
    }

    /// Whether all is committed.
    fn look(&mut self) -> Result<bool, Fault> {
        // Positions have gaps, so the events are counted.
        let query = "SELECT count(*), max(position) FROM events WHERE position > ?1";
        let (new, newest): (i64, Option<i64>) = self
            .file
            .prepare_cached(query)?
            .query_row([self.position], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let new = u64::try_from(new)?;
        if let Some(newest) = newest {
            self.seen.push((elapsed(), new));
            self.position = newest;
            self.missing = self.missing.saturating_sub(new);
        }
        Ok(self.missing == 0)
    }
}

/// How late how many were.
struct Lateness(Histogram<u64>);

impl Lateness {
    fn new() -> Result<Self, Fault> {
        Ok(Self(Histogram::new_with_bounds(1, 600_000_000, 3)?))
    }

    fn note(&mut self, late: Duration, events: u64) -> Result<(), Fault> {
        if events > 0 {
            self.0.record_n(u64::try_from(late.as_micros())?, events)?;
        }
        Ok(())
    }

    fn add(&self, figures: &mut Figures, name: &str, what: &str) {
        for (measure, value) in [
            ("median", self.0.value_at_quantile(0.5)),
            ("p99", self.0.value_at_quantile(0.99)),
            ("last", self.0.max()),
        ] {
            let value = milliseconds(Duration::from_micros(value));
            let what = format!("{name}{measure} {what}");
            figures.add(&what, Who::Daemon, Unit::Milliseconds, value);
        }
    }
}
