//! How long it takes from the webhook of an active dispatch to the commands of its sites.

use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::timeout;

use super::{NO_POLLS, milliseconds};
use crate::Fault;
use crate::clock::elapsed;
use crate::figures::{Figures, Unit, Who};
use crate::load::Sender;
use crate::options::Options;
use crate::receiver::Receiver;
use crate::stage::Stage;

/// How many webhooks one round sends, each after the commands of the one before.
const WEBHOOKS: usize = 1_000;
/// How many of them are not measured: connections are made, code is read from the disk.
const WARM_UP: usize = 100;

/// How long commands may take, before they count as never sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Measures the daemon and, by its side, the chain without decisions: without disk, and with
/// as many synced writes as the daemon makes.
pub async fn measure(stage: &Stage, options: &Options, figures: &mut Figures) -> Result<(), Fault> {
    stage.api.clear();
    let webhooks = if options.short { 400 } else { WEBHOOKS };
    for round in 1..=options.rounds() {
        eprintln!("webhook to receiver, round {round}");
        let receiver = Receiver::start().await?;
        let sink = receiver.url();
        let daemon = stage
            .daemon(&[&NO_POLLS[..], &["--sink", &sink]].concat())
            .await?;
        let took = chain(daemon.listen, &receiver, webhooks).await?;
        note(figures, Who::Daemon, &took);
        daemon.process.kill().await?;
        if !options.alone {
            let receiver = Receiver::start().await?;
            let relay = stage.relay(&receiver.url()).await?;
            let took = chain(relay.address, &receiver, webhooks).await?;
            note(figures, Who::Limit, &took);
            relay.process.kill().await?;
            let receiver = Receiver::start().await?;
            let synced = stage.synced(Some(&receiver.url())).await?;
            let took = chain(synced.address, &receiver, webhooks).await?;
            note(figures, Who::Synced, &took);
            synced.process.kill().await?;
        }
    }
    Ok(())
}

/// From when each webhook was sent until the last of its commands came, in nanoseconds.
async fn chain(
    to: SocketAddr,
    receiver: &Receiver,
    webhooks: usize,
) -> Result<Histogram<u64>, Fault> {
    let mut took = Histogram::new_with_bounds(1_000, 120_000_000_000, 3)?;
    let mut sender = Sender::connect(to).await?;
    for sent in 1..=webhooks + WARM_UP {
        let begun = elapsed();
        // The commands may come before the answer.
        let (answered, told) = tokio::join!(
            sender.active(),
            timeout(PATIENCE, receiver.curtailed(2 * sent))
        );
        answered?;
        let at = told.map_err(|_| format!("no commands within {PATIENCE:?}"))??;
        if sent > WARM_UP {
            took.record(u64::try_from(at.saturating_sub(begun).as_nanos())?)?;
        }
    }
    Ok(took)
}

fn note(figures: &mut Figures, who: Who, took: &Histogram<u64>) {
    for (measure, quantile) in [("median", 0.5), ("p99", 0.99)] {
        let took = Duration::from_nanos(took.value_at_quantile(quantile));
        let what = format!("webhook of an active dispatch to its commands: {measure}");
        figures.add(&what, who, Unit::Milliseconds, milliseconds(took));
    }
}
