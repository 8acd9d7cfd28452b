//! `dispatchd run`

use std::convert::Infallible;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::systemd::ServiceManager;
use super::{Failure, logging, runtime, stop};
use crate::clock::SystemClock;
use crate::config::{Config, Origins, PublicUrl, RunOptions, StatePath, suffix};
use crate::daemon::{Daemon, DaemonError, Reload};
use crate::model::{WEBHOOK_PATH, count};
use crate::system::{Signal, allow_open_files, shield_secrets};
use crate::voltus::Environment;

/// What `--help` says of traces: no option names the collector.
pub(super) const TRACES: &str = "\
Traces: with OTEL_EXPORTER_OTLP_ENDPOINT=http://host:4318 in the environment the
daemon sends traces to an OpenTelemetry collector (http/protobuf). The README
lists the other variables that it reads, such as OTEL_EXPORTER_OTLP_HEADERS,
OTEL_SERVICE_NAME and OTEL_TRACES_SAMPLER.";

/// Runs the daemon until it is told to end.
pub(super) fn run(options: RunOptions, origins: &Origins<'_>) -> Result<(), Failure> {
    let log_format = options.log_format;
    let env = |name: &str| std::env::var(name).ok();
    let config =
        Config::check(options, origins, &env).map_err(|error| Failure::Usage(error.to_string()))?;
    let config = Arc::new(config);
    logging::start(log_format, "info")?;
    // What gave the option that the message begins with its value.
    let set_by = |message: &str| {
        let option = message.split([' ', ':']).next().unwrap_or_default();
        suffix(&origins.of(option), message)
    };
    if let Err(error) = shield_secrets() {
        tracing::warn!(%error, "programs of exec: sinks may be able to read the secrets of this process");
    }
    raise_file_limit();
    let runtime = runtime()?;
    let ended = runtime.block_on(serve(config, &set_by));
    // Whatever hangs in the system by now, a name look-up or standard output,
    // ends with the process.
    runtime.shutdown_background();
    ended
}

async fn serve(config: Arc<Config>, set_by: &dyn Fn(&str) -> String) -> Result<(), Failure> {
    let tasks = TaskTracker::new();
    let stop = stop::on_signal(&tasks)?;
    let hangups = stop::on_hangup(&stop, &tasks)?;
    let failed = |error: DaemonError| {
        let mut message = error.to_string();
        message.push_str(&set_by(&message));
        if error.is_configuration() {
            Failure::Usage(message)
        } else {
            Failure::Runtime(message)
        }
    };
    let daemon = Daemon::start(&config).await.map_err(failed)?;
    introduce(&config, &daemon);
    let manager = ServiceManager::of_this_process(SystemClock::new());
    manager.ready();
    let reload = daemon.reload();
    let leads = daemon.leads();
    let until_stopped = async {
        let reloading = reload_on(hangups, &reload, &manager, &tasks);
        let reloading = stop.run_until_cancelled(reloading).await;
        if let Some(never) = reloading {
            match never {}
        }
        manager.stopping();
        std::future::pending::<Infallible>().await
    };
    let ended = tokio::select! {
        ended = daemon.run(stop.clone()) => ended,
        never = until_stopped => match never {},
        never = manager.follow(leads) => match never {},
    };
    ended.map_err(failed)
}

/// Reads key and secrets again and polls whenever SIGHUP comes, if SIGHUP asks
/// for that.
async fn reload_on(
    hangups: Option<Signal>,
    reload: &Reload,
    manager: &ServiceManager,
    tasks: &TaskTracker,
) -> Infallible {
    let Some(mut hangups) = hangups else {
        return std::future::pending().await;
    };
    loop {
        if hangups.recv().await.is_none() {
            // The system sends no more of them.
            return std::future::pending().await;
        }
        tracing::info!("SIGHUP received");
        manager.reloading();
        reload.read_files().await;
        manager.ready();
        // Not waited for: the next SIGHUP may come before a slow API answers.
        let reload = reload.clone();
        tasks.spawn(async move { reload.poll().await });
    }
}

/// What it does, a line a fact.
fn introduce(config: &Config, daemon: &Daemon) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = config.node,
        "dispatchd has started"
    );
    if let Some(file) = &config.file {
        tracing::info!(config = %file.path().display(), "options are read from the configuration file");
    }
    tracing::info!(
        api = %config.api_url.as_str().trim_end_matches('/'),
        environment = Environment::of(&config.api_url).name(),
        api_version = config.api_version,
        "polls the API every {}, with {} at most",
        humantime::format_duration(config.poll_interval),
        count(config.api_rate.get().into(), "request a minute", "requests a minute")
    );
    match (&config.state, daemon.loaded()) {
        (StatePath::Memory, _) => tracing::warn!(
            state = ":memory:",
            "the schedule is kept in memory and is gone at the end"
        ),
        (StatePath::File(path), Some(loaded)) => tracing::info!(
            state = %path.display(),
            curtailed_sites = loaded.curtailed,
            "{loaded}"
        ),
        (StatePath::Postgres(target), _) => tracing::info!(
            state = %target,
            "the state is shared: this daemon leads or stands by, as the database says"
        ),
        (StatePath::File(_), None) => {}
    }
    let secret = match config.webhook_secret {
        Some(_) => "/<the webhook secret>",
        None => "",
    };
    tracing::info!(
        "webhooks come in at http://{}{}{secret}",
        daemon.listen(),
        WEBHOOK_PATH
    );
    if let Some(url) = config.public_url.as_ref().map(PublicUrl::url) {
        tracing::info!(%url, "dispatchd keeps the webhook registered");
        if url.is_unencrypted() {
            tracing::warn!("webhooks and their secret travel unencrypted: --public-url is http");
        }
    }
    tracing::info!("status is told at http://{}", daemon.status_listen());
    let sinks: Vec<&str> = config.receiving_sinks().map(|sink| sink.name()).collect();
    if sinks.is_empty() {
        tracing::warn!(
            "no sink is configured (--sink none): no site is told to curtail or to release"
        );
    } else {
        tracing::info!("events go to {}", sinks.join(", "));
    }
    if let Some(replaced) = &config.replaced_sinks {
        tracing::warn!("{replaced}");
    }
    let polls_a_minute = 60.0 / config.poll_interval.as_secs_f64();
    if polls_a_minute > f64::from(config.api_rate.get()) * 0.75 {
        tracing::warn!(
            "polling every {} takes more than --api-rate {} allows: polls will come later, and webhooks wait for them",
            humantime::format_duration(config.poll_interval),
            config.api_rate
        );
    }
    for (option, file) in config.open_secrets() {
        tracing::warn!(
            "{option} {}: every user of this machine can read it; chmod o-rwx takes that away",
            file.display()
        );
    }
    if config.api_url.scheme() == "http" && !crate::http::is_loopback(&config.api_url) {
        tracing::warn!("the API key travels unencrypted: --api-url is http");
    }
}

/// Many peers may be connected at once; the usual limit is too low for that.
fn raise_file_limit() {
    if let Err(error) = allow_open_files(65_536) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}
