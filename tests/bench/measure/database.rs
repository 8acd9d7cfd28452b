//! New webhooks on a local PostgreSQL, and on a state file in the same round. The server
//! has its share of this machine's cores.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::NO_POLLS;
use crate::Fault;
use crate::cluster::Cluster;
use crate::figures::{Figures, Unit, Who};
use crate::load::{Kind, Load};
use crate::options::Options;
use crate::stage::{Daemon, Stage};

const CLIENTS: usize = 64;

/// Measures both, round after round. Nothing where PostgreSQL is not installed.
pub async fn measure(stage: &Stage, options: &Options, figures: &mut Figures) -> Result<(), Fault> {
    // With what it syncs as it does by default.
    let Some(cluster) = Cluster::start(&[]) else {
        eprintln!("left out: PostgreSQL, which is not installed");
        return Ok(());
    };
    stage.api.clear();
    let arguments = [&NO_POLLS[..], &["--sink", "none"]].concat();
    for round in 1..=options.rounds() {
        eprintln!("PostgreSQL, round {round}");
        let file = stage.daemon(&arguments).await?;
        let on_file = rate(file, options).await?;
        let url = cluster.url(&format!("round{round}"));
        let mut database = stage.daemon_at(Path::new(&url), &arguments).await?;
        // It is ready while it stands by, too.
        database.process.ready(database.status, "/leader").await?;
        let on_database = rate(database, options).await?;
        let mut add = |what: &str, unit, value| figures.add(what, Who::Daemon, unit, value);
        add(
            "new webhooks on PostgreSQL, 64 clients: rate",
            Unit::PerSecond,
            on_database,
        );
        add(
            "new webhooks on PostgreSQL, 64 clients: rate, as part of that on a file",
            Unit::Times,
            on_database / on_file,
        );
    }
    Ok(())
}

async fn rate(daemon: Daemon, options: &Options) -> Result<f64, Fault> {
    let to: SocketAddr = daemon.listen;
    let load = Load {
        to,
        kind: Kind::New,
        clients: CLIENTS,
        rate: None,
        warm_up: Duration::from_millis(if options.short { 200 } else { 500 }),
        time: Duration::from_millis(if options.short { 800 } else { 2000 }),
    };
    let rate = load.run().await?.rate;
    daemon.process.kill().await?;
    Ok(rate)
}
