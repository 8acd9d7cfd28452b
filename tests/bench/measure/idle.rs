//! What it costs to do nothing, and how long a start takes.

use std::time::Duration;

use chrono::TimeDelta;

use super::{mebibytes, milliseconds};
use crate::Fault;
use crate::clock::{elapsed, now, sleep_until};
use crate::figures::{Figures, Unit, Who};
use crate::options::Options;
use crate::stage::Stage;
use crate::world::{Shape, World};

/// Measures both.
pub async fn measure(stage: &Stage, options: &Options, figures: &mut Figures) -> Result<(), Fault> {
    starts(stage, options, figures).await?;
    stage.api.clear();
    let rounds = if options.short { 1 } else { options.rounds() };
    for round in 1..=rounds {
        eprintln!("idle, round {round}");
        let daemon = stage.daemon(&["--sink", "none"]).await?;
        // What a start leaves to be done is no part of being idle.
        sleep_until(elapsed() + Duration::from_secs(1)).await;
        let time = Duration::from_secs(if options.short { 10 } else { 30 });
        let before = daemon.process.cpu()?;
        let begun = elapsed();
        sleep_until(begun + time).await;
        let used = daemon.process.cpu()?.saturating_sub(before);
        let percent = 100.0 * used.as_secs_f64() / (elapsed() - begun).as_secs_f64();
        figures.add("idle: processor", Who::Daemon, Unit::Percent, percent);
        let memory = mebibytes(daemon.process.memory()?);
        figures.add("idle: memory", Who::Daemon, Unit::Mebibytes, memory);
        daemon.process.kill().await?;
    }
    Ok(())
}

/// From its start until it can be trusted, with 10,000 dispatches in its file.
async fn starts(stage: &Stage, options: &Options, figures: &mut Figures) -> Result<(), Fault> {
    let world = World {
        shape: Shape::own(10_000, 2),
        start: now() + TimeDelta::hours(6),
    };
    stage.api.show(world.list(0));
    let state = stage.new_state();
    let arguments = ["--sink", "none"];
    let first = stage.daemon_at(&state, &arguments).await?;
    first.process.stop().await?;
    for round in 1..=options.rounds() {
        eprintln!("start, round {round}");
        let daemon = stage.daemon_at(&state, &arguments).await?;
        let took = milliseconds(daemon.took);
        let what = "ready with 10,000 stored dispatches";
        figures.add(what, Who::Daemon, Unit::Milliseconds, took);
        daemon.process.stop().await?;
    }
    Ok(())
}
