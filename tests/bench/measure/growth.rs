//! What a webhook, a poll and a start cost with ever more stored.

use std::time::Duration;

use chrono::TimeDelta;

use super::{NO_POLLS, mebibytes, milliseconds, thousands};
use crate::Fault;
use crate::clock::now;
use crate::figures::{Figures, Unit, Who, median};
use crate::load::{Kind, Load};
use crate::options::Options;
use crate::past;
use crate::stage::{Daemon, Stage};
use crate::world::{Shape, World};

/// How many dispatches that are over the file holds.
const STORED: [usize; 7] = [1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000];

/// What is live besides: the size that the daemon is built for.
const LIVE: Shape = Shape {
    dispatches: 1_000,
    sites: 100,
    shared: false,
};

/// How often each list is read.
const POLLS: usize = 11;

/// Measures all sizes, round after round.
pub async fn measure(stage: &Stage, options: &Options, figures: &mut Figures) -> Result<(), Fault> {
    for stored in STORED.into_iter().filter(|it| *it <= options.largest) {
        let state = stage.new_state();
        eprintln!("{stored} dispatches that are over are written");
        past::make(&state, &stage.api.url(), stored, now())?;
        let name = format!("{} stored", thousands(stored));
        let size = mebibytes(std::fs::metadata(&state)?.len());
        figures.add(&format!("{name}: file"), Who::Daemon, Unit::Mebibytes, size);
        let world = World {
            shape: LIVE,
            start: now() + TimeDelta::hours(6),
        };
        stage.api.show(world.list(0));
        let arguments = [&NO_POLLS[..], &["--sink", "none"]].concat();
        // The first one takes in what is live.
        stage
            .daemon_at(&state, &arguments)
            .await?
            .process
            .stop()
            .await?;
        for round in 1..=options.rounds() {
            eprintln!("{name}, round {round}");
            stage.api.show(world.list(0));
            let daemon = stage.daemon_at(&state, &arguments).await?;
            let mut add = |what: &str, unit, value| {
                figures.add(&format!("{name}: {what}"), Who::Daemon, unit, value);
            };
            add("start", Unit::Milliseconds, milliseconds(daemon.took));
            let memory = mebibytes(daemon.process.memory()?);
            add("memory", Unit::Mebibytes, memory);
            let polls = polls(&daemon, || ()).await?;
            add("poll, unchanged", Unit::Milliseconds, polls);
            let mut changes = 0;
            let changed = || {
                changes += 1;
                stage.api.show(world.list(changes));
            };
            let polls = self::polls(&daemon, changed).await?;
            add("poll, 1 % changed", Unit::Milliseconds, polls);
            let load = Load {
                to: daemon.listen,
                kind: Kind::New,
                clients: 1,
                rate: None,
                warm_up: Duration::from_millis(200),
                time: Duration::from_secs(1),
            };
            let webhooks = load.run().await?;
            add("webhook", Unit::Milliseconds, webhooks.quantile(0.5));
            add("webhook, p99", Unit::Milliseconds, webhooks.quantile(0.99));
            daemon.process.stop().await?;
        }
        stage.api.clear();
        std::fs::remove_file(state)?;
    }
    Ok(())
}

/// What a poll takes, each after `prepare`.
async fn polls(daemon: &Daemon, mut prepare: impl FnMut()) -> Result<f64, Fault> {
    let mut took = Vec::new();
    for _ in 0..POLLS {
        prepare();
        took.push(milliseconds(daemon.poll().await?));
    }
    Ok(median(&took))
}
