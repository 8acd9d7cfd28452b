//! Whether readers hold up the writer.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::net::TcpStream;

use super::{NO_POLLS, mebibytes, milliseconds};
use crate::Fault;
use crate::clock::{elapsed, now, sleep_until};
use crate::figures::{Figures, Unit, Who, median};
use crate::load::{Kind, Load};
use crate::message::Connection;
use crate::options::Options;
use crate::stage::Stage;
use crate::world::{Shape, World};

const CLIENTS: usize = 16;

/// One reader of everything, once a second.
const EVERY: Duration = Duration::from_secs(1);

/// Measures webhooks at half their peak rate, without and with readers.
pub async fn measure(stage: &Stage, options: &Options, figures: &mut Figures) -> Result<(), Fault> {
    for round in 1..=options.rounds() {
        eprintln!("readers, round {round}");
        let world = World {
            shape: Shape::own(1_000, 100),
            start: now() + TimeDelta::hours(6),
        };
        stage.api.show(world.list(0));
        let daemon = stage
            .daemon(&[&NO_POLLS[..], &["--sink", "none"]].concat())
            .await?;
        let mut add = |what: &str, unit, value| figures.add(what, Who::Daemon, unit, value);
        let mut load = Load {
            to: daemon.listen,
            kind: Kind::New,
            clients: CLIENTS,
            rate: None,
            warm_up: Duration::from_millis(300),
            time: Duration::from_millis(if options.short { 700 } else { 1500 }),
        };
        let peak = load.run().await?.rate;
        load.rate = Some(peak / 2.0);
        load.time = Duration::from_secs(if options.short { 3 } else { 5 });
        let without = load.run().await?;
        add("100,000 sites, webhooks: peak rate", Unit::PerSecond, peak);
        let half = "100,000 sites, webhooks at half their peak rate";
        add(
            &format!("{half}: p99"),
            Unit::Milliseconds,
            without.quantile(0.99),
        );
        add(
            &format!("{half}: worst"),
            Unit::Milliseconds,
            without.worst(),
        );
        for path in ["/schedule", "/sites"] {
            let reading = apart(daemon.status, path, load.warm_up + load.time);
            let (with, (took, length)) = tokio::try_join!(load.run(), reading)?;
            add(
                &format!("{half}, beside GET {path}: p99"),
                Unit::Milliseconds,
                with.quantile(0.99),
            );
            add(
                &format!("{half}, beside GET {path}: worst"),
                Unit::Milliseconds,
                with.worst(),
            );
            add(
                &format!("100,000 sites, GET {path}: time"),
                Unit::Milliseconds,
                took,
            );
            add(
                &format!("100,000 sites, GET {path}: size"),
                Unit::Mebibytes,
                mebibytes(length),
            );
            let what = format!("webhooks beside GET {path}: p99, as multiple of that without");
            add(
                &what,
                Unit::Times,
                with.quantile(0.99) / without.quantile(0.99),
            );
        }
        daemon.process.kill().await?;
    }
    Ok(())
}

/// Reads on a thread of its own: one that is busy with a long answer would send
/// no webhooks meanwhile, and the daemon would be blamed.
async fn apart(from: SocketAddr, path: &'static str, time: Duration) -> Result<(f64, u64), Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let reading = tokio::task::spawn_blocking(move || {
        let read = runtime.block_on(read(from, path, time));
        read.map_err(|error| error.to_string())
    });
    Ok(reading.await??)
}

/// Reads all of `path` once a second. Tells how long that took, in milliseconds,
/// and how long the last answer was, in bytes.
async fn read(from: SocketAddr, path: &str, time: Duration) -> Result<(f64, u64), Fault> {
    let mut connection = Connection::new(TcpStream::connect(from).await?)?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {from}\r\n\r\n");
    let begun = elapsed();
    let mut took = Vec::new();
    let mut length = 0;
    for number in 0.. {
        // In the middle of each second.
        let due = begun + EVERY * number + EVERY / 2;
        if due >= begun + time {
            break;
        }
        sleep_until(due).await;
        let asked = elapsed();
        connection.send(request.as_bytes()).await?;
        let answer = connection
            .receive()
            .await?
            .ok_or("the status listener has closed")?;
        took.push(milliseconds(elapsed() - asked));
        if answer.status() != Some(200) {
            return Err(format!("GET {path} was answered {:?}", answer.status()).into());
        }
        length = answer.body.len() as u64;
    }
    Ok((median(&took), length))
}
