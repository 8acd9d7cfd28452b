//! How many webhooks are taken, and how long each takes.

use std::net::SocketAddr;
use std::time::Duration;

use super::{NO_POLLS, mebibytes};
use crate::Fault;
use crate::figures::{Figures, Unit, Who};
use crate::load::{Kind, Load, make_known};
use crate::options::Options;
use crate::stage::Stage;

/// What is measured: a name, the webhooks, the clients, and whether the peer is
/// measured in the short form too.
const CASES: &[(&str, Kind, usize, bool)] = &[
    ("new webhooks, 1 client", Kind::New, 1, false),
    ("new webhooks, 16 clients", Kind::New, 16, true),
    ("new webhooks, 64 clients", Kind::New, 64, false),
    ("duplicate webhooks, 64 clients", Kind::Duplicate, 64, false),
    ("junk webhooks, 16 clients", Kind::Junk, 16, false),
];

/// Webhooks that come on time whatever became of those before, as from many senders, each
/// measured from when it was due: a name, and how many a second.
const OPEN: &[(&str, f64)] = &[
    ("new webhooks at 500/s", 500.0),
    ("new webhooks at 1,500/s", 1500.0),
];

/// For how long they come: one in a thousand is to be seen several times.
const OPEN_FOR: Duration = Duration::from_secs(10);

/// Measures all cases, round after round.
pub async fn measure(stage: &Stage, options: &Options, figures: &mut Figures) -> Result<(), Fault> {
    stage.api.clear();
    let (limit, gunicorn) = if options.alone {
        (None, None)
    } else {
        (Some(stage.limit().await?), Some(stage.gunicorn().await?))
    };
    let mut longest = 0;
    for round in 1..=options.rounds() {
        eprintln!("webhooks, round {round}");
        for &(name, kind, clients, always) in CASES {
            let load = |to: SocketAddr| Load {
                to,
                kind,
                clients,
                rate: None,
                warm_up: Duration::from_millis(if options.short { 200 } else { 500 }),
                time: Duration::from_millis(if options.short { 800 } else { 2000 }),
            };
            let daemon = stage
                .daemon(&[&NO_POLLS[..], &["--sink", "none"]].concat())
                .await?;
            if kind == Kind::Duplicate {
                make_known(daemon.listen).await?;
            }
            note(figures, name, Who::Daemon, &load(daemon.listen)).await?;
            longest = longest.max(daemon.wal());
            daemon.process.kill().await?;
            if let Some(limit) = &limit {
                note(figures, name, Who::Limit, &load(limit.address)).await?;
            }
            if let Some(gunicorn) = &gunicorn
                && (always || !options.short)
            {
                note(figures, name, Who::Python, &load(gunicorn.address)).await?;
            }
        }
        // Too short for one in a thousand.
        for &(name, rate) in OPEN.iter().filter(|_| !options.short) {
            let load = |to: SocketAddr| Load {
                to,
                kind: Kind::New,
                clients: 64,
                rate: Some(rate),
                warm_up: Duration::from_secs(1),
                time: OPEN_FOR,
            };
            let daemon = stage
                .daemon(&[&NO_POLLS[..], &["--sink", "none"]].concat())
                .await?;
            note(figures, name, Who::Daemon, &load(daemon.listen)).await?;
            daemon.process.kill().await?;
            if let Some(limit) = &limit {
                note(figures, name, Who::Limit, &load(limit.address)).await?;
                let synced = stage.synced(None).await?;
                note(figures, name, Who::Synced, &load(synced.address)).await?;
                synced.process.kill().await?;
            }
        }
    }
    figures.add(
        "webhooks: longest WAL of all",
        Who::Daemon,
        Unit::Mebibytes,
        mebibytes(longest),
    );
    if let Some(gunicorn) = gunicorn {
        gunicorn.stop().await?;
    }
    Ok(())
}

async fn note(figures: &mut Figures, name: &str, who: Who, load: &Load) -> Result<(), Fault> {
    let measured = load.run().await?;
    let mut add =
        |measure, unit, value| figures.add(&format!("{name}: {measure}"), who, unit, value);
    add("rate", Unit::PerSecond, measured.rate);
    add("median", Unit::Milliseconds, measured.quantile(0.5));
    add("p99", Unit::Milliseconds, measured.quantile(0.99));
    add("p99.9", Unit::Milliseconds, measured.quantile(0.999));
    if load.rate.is_none() {
        let corrected = measured.corrected(load.clients);
        add("p99, corrected", Unit::Milliseconds, corrected);
    }
    add("worst", Unit::Milliseconds, measured.worst());
    Ok(())
}
