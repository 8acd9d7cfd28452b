//! `GET /metrics`

pub mod deploy;
mod exposition;
mod queries;

use http::header::{ACCEPT, CONTENT_TYPE};
use serde_json::json;

use crate::harness::{Daemon, World, ask, dispatch, hint, in_ms, need, wait_for, wait_until};
use crate::two_machines::cluster::Cluster;
use exposition::Exposition;

const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every metric that there is. They are part of what users build on.
const ALL: &str = "
    dispatchd_api_ratelimit_remaining
    dispatchd_api_request_seconds
    dispatchd_api_requests_total
    dispatchd_api_slowed_down
    dispatchd_build_info
    dispatchd_changes_total
    dispatchd_clock_skew_seconds
    dispatchd_command_lateness_seconds
    dispatchd_connections
    dispatchd_connections_cut_total
    dispatchd_delivered_events_total
    dispatchd_delivery_attempts_total
    dispatchd_due_commands
    dispatchd_enrolled_sites
    dispatchd_enrolled_sites_unrouted
    dispatchd_enrolled_sites_vanished
    dispatchd_extra_dropped_total
    dispatchd_heal_delay_seconds
    dispatchd_heals_total
    dispatchd_in_doubt
    dispatchd_inventory_age_seconds
    dispatchd_look_again_dropped_total
    dispatchd_mass_absence
    dispatchd_missed_webhooks_total
    dispatchd_open_dispatch_age_seconds
    dispatchd_outbox_oldest_age_seconds
    dispatchd_outbox_pending
    dispatchd_outdated_answers_total
    dispatchd_poll_interval_seconds
    dispatchd_poll_last_success_timestamp_seconds
    dispatchd_poll_seconds
    dispatchd_polls_total
    dispatchd_ready
    dispatchd_rewinds_total
    dispatchd_route_patterns_unmatched
    dispatchd_schedule_dispatches
    dispatchd_sink_failing
    dispatchd_sink_failing_subjects
    dispatchd_sink_paused
    dispatchd_sink_refused_events
    dispatchd_sink_state
    dispatchd_site_commands_total
    dispatchd_sites
    dispatchd_sites_overridden
    dispatchd_stale
    dispatchd_store_commit_seconds
    dispatchd_store_commits_total
    dispatchd_store_log_bytes
    dispatchd_store_log_held
    dispatchd_store_writable
    dispatchd_trace_spans_dropped_total
    dispatchd_trace_spans_sent_total
    dispatchd_unannounced_changes
    dispatchd_unreadable_amounts_total
    dispatchd_unreadable_details_total
    dispatchd_unreadable_dispatches_total
    dispatchd_unreadable_sites_total
    dispatchd_unrouted_active_sites
    dispatchd_unrouted_commands_total
    dispatchd_unrouted_sites
    dispatchd_untold_sites
    dispatchd_webhook_last_timestamp_seconds
    dispatchd_webhook_registered
    dispatchd_webhook_seconds
    dispatchd_webhooks_passed_on_total
    dispatchd_webhooks_total
    process_cpu_seconds_total
    process_max_fds
    process_open_fds
    process_resident_memory_bytes
    process_start_time_seconds";

/// Those that a daemon has besides, if it shares its store with others.
pub const OF_THE_LEASE: [&str; 5] = [
    "dispatchd_leader",
    "dispatchd_term",
    "dispatchd_lease_age_seconds",
    "dispatchd_leader_changes_total",
    "dispatchd_commits_lost_total",
];

#[apply(test)]
async fn a_leader_and_a_standby_tell_of_the_lease() {
    need("PostgreSQL", Cluster::programs().is_some());
    let (world, cluster) = (World::new().await, Cluster::start(&["fsync=off"]).unwrap());
    let setup = world.setup().with("--state", cluster.url("dispatchd"));
    let leader = setup.ready().await;
    let standby = setup.start().await;
    standby.wait_for_log("this one stands by").await;
    for (daemon, leads) in [(&leader, 1.0), (&standby, 0.0)] {
        wait_until("all of it is told", async || {
            let (metrics, _) = read(daemon).await;
            let value = |name: &str| metrics.series(name).next().map(|sample| sample.value);
            OF_THE_LEASE.iter().all(|name| value(name).is_some())
                && value("dispatchd_leader") == Some(leads)
                && value("dispatchd_ready") == Some(1.0)
                && value("dispatchd_term") > Some(0.0)
        })
        .await;
    }
}

/// The metrics as `daemon` writes them for those who ask for nothing special.
async fn read(daemon: &Daemon) -> (Exposition, String) {
    let (kind, text) = scrape(daemon, "").await;
    assert_eq!(kind, CLASSIC);
    (Exposition::read(&text), text)
}

async fn scrape(daemon: &Daemon, accept: &str) -> (String, String) {
    let request = daemon.http.get(daemon.status_url("/metrics"));
    let answer = request.header(ACCEPT, accept).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let kind = answer.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
    (kind, answer.text().await.unwrap())
}

/// A daemon to which something has happened, with a sink.
async fn well_used() -> (World, Daemon) {
    let world = World::new().await;
    let setup = world.setup().sink("stdout");
    let daemon = setup
        .with("--public-url", "http://127.0.0.1:1")
        .start()
        .await;
    daemon.wait_until_ready().await;
    world.known(&daemon, "a").await;
    wait_until("the enrolled sites are known", async || {
        daemon.health().await["inventory"]["enrolled_sites"].is_number()
    })
    .await;
    (world, daemon)
}

#[apply(test)]
async fn every_metric_is_there_from_the_first_poll_on() {
    let (_world, daemon) = well_used().await;
    let (metrics, _) = read(&daemon).await;
    let named: Vec<&str> = metrics.types.keys().map(String::as_str).collect();
    let all: Vec<&str> = ALL.split_whitespace().collect();
    assert_eq!(named, all);
    // A daemon alone has no lease.
    for name in OF_THE_LEASE {
        assert!(!metrics.types.contains_key(name), "{name}");
    }
    for name in named {
        let any = [name.to_owned(), format!("{name}_bucket")]
            .iter()
            .any(|name| metrics.series(name).next().is_some());
        assert!(any, "{name} has no value");
    }
    for name in ["dispatchd_ready", "dispatchd_store_writable"] {
        assert_eq!(metrics.value(name, &[]), 1.0, "{name}");
    }
    assert_eq!(metrics.value("dispatchd_stale", &[]), 0.0);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(metrics.value("dispatchd_build_info", &version), 1.0);
}

#[apply(test)]
async fn who_asks_for_openmetrics_gets_it() {
    let (_world, daemon) = well_used().await;
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3,*/*;q=0.2";
    let (kind, open) = scrape(&daemon, accept).await;
    assert_eq!(kind, OPEN);
    assert!(open.ends_with("\n# EOF\n"));
    assert!(open.contains("\n# UNIT dispatchd_webhook_seconds seconds\n"));
    for name in ALL.split_whitespace() {
        let family = name.trim_end_matches("_total").trim_end_matches("_info");
        assert!(open.contains(&format!("# HELP {family} ")), "{family}");
    }
    assert_eq!(scrape(&daemon, "*/*").await.0, CLASSIC);
}

#[apply(test)]
async fn metrics_are_for_those_who_may_see_the_status() {
    let world = World::new().await;
    let daemon = world.setup().with("--status-token", "t0ken").start().await;
    let request = || daemon.http.get(daemon.status_url("/metrics"));
    assert_eq!(ask(request()).await.status, 401);
    assert_eq!(ask(request().bearer_auth("t0ken")).await.status, 200);
    let posted = daemon.http.post(daemon.status_url("/metrics"));
    assert_eq!(ask(posted.bearer_auth("t0ken")).await.status, 405);
}

#[apply(test)]
async fn webhooks_and_what_they_bring_are_counted() {
    let (world, daemon) = well_used().await;
    let webhook = async |body: String| daemon.post(body).await.status;
    assert_eq!(webhook(hint("/2022-04-15/sites/1")).await, 200);
    assert_eq!(webhook("{".to_owned()).await, 400);
    assert_eq!(webhook(hint("/2022-04-15/dispatches/none")).await, 404);
    world.put(dispatch("now", 0, in_ms(-1000), None));
    assert_eq!(daemon.webhook("now").await.status, 200);
    world.sandbox.down(true);
    assert_eq!(daemon.webhook("now").await.status, 503);

    let (metrics, _) = read(&daemon).await;
    for (outcome, count) in [
        ("accepted", 2.0),
        ("ignored", 1.0),
        ("rejected", 2.0),
        ("failed", 1.0),
    ] {
        let labels = [("outcome", outcome)];
        let counted = ["webhooks_total", "webhook_seconds_count"]
            .map(|name| metrics.value(&format!("dispatchd_{name}"), &labels));
        assert_eq!(counted, [count, count], "{outcome}");
    }
    let value = |name: &str, labels: &[(&str, &str)]| metrics.value(name, labels);
    let requests = |kind, status| {
        let labels = [("kind", kind), ("status", status)];
        value("dispatchd_api_requests_total", &labels)
    };
    assert_eq!(requests("dispatch", "200"), 2.0);
    assert_eq!(requests("dispatch", "404"), 1.0);
    assert_eq!(requests("dispatch", "unreachable"), 1.0);
    assert!(requests("list", "200") >= 1.0);
    for (name, kind, count) in [
        ("dispatchd_changes_total", "created", 2.0),
        ("dispatchd_changes_total", "started", 1.0),
        ("dispatchd_site_commands_total", "curtail", 1.0),
        ("dispatchd_site_commands_total", "release", 0.0),
    ] {
        let labels = [("type", kind), ("source", "webhook")];
        assert_eq!(value(name, &labels), count, "{name} {kind}");
    }
    let phase = |phase| value("dispatchd_schedule_dispatches", &[("phase", phase)]);
    assert_eq!((phase("scheduled"), phase("active")), (1.0, 1.0));
    let sites = |state| value("dispatchd_sites", &[("state", state)]);
    assert_eq!((sites("curtailed"), sites("normal")), (1.0, 1.0));
    let open = value("dispatchd_open_dispatch_age_seconds", &[]);
    assert!((1.0..60.0).contains(&open), "{open}");
    assert!(value("dispatchd_webhook_last_timestamp_seconds", &[]) > 1.7e9);
    assert!(value("dispatchd_store_commits_total", &[("outcome", "ok")]) >= 3.0);
    assert!(value("dispatchd_store_commit_seconds_sum", &[]) > 0.0);
    let skew = value("dispatchd_clock_skew_seconds", &[]);
    assert!((-3.0..=0.0).contains(&skew), "{skew}");
    assert!(value("process_resident_memory_bytes", &[]) > 1e6);
    assert!(value("process_open_fds", &[]) > 5.0);
    assert!(value("process_start_time_seconds", &[]) > 1.7e9);
}

#[apply(test)]
async fn what_the_poller_heals_is_counted_and_so_is_what_the_clock_brings() {
    let (world, daemon) = well_used().await;
    world.put(dispatch("quiet", 0, in_ms(4000), Some(in_ms(5000))));
    assert_eq!(daemon.poll().await.status, 200);
    daemon.wait_for_phase("quiet", "ended").await;
    world.faults(json!({"api_error_rate": 1.0, "api_error_status": 429}));
    daemon.poll().await;

    let (metrics, _) = read(&daemon).await;
    let value = |name: &str, labels: &[(&str, &str)]| metrics.value(name, labels);
    assert_eq!(value("dispatchd_heals_total", &[]), 1.0);
    assert_eq!(value("dispatchd_heal_delay_seconds_count", &[]), 1.0);
    let late = |kind| {
        value(
            "dispatchd_command_lateness_seconds_count",
            &[("type", kind)],
        )
    };
    let kinds = ["started", "ended", "curtail", "adjust", "release"];
    assert_eq!(kinds.map(late), [1.0, 1.0, 1.0, 0.0, 1.0]);
    let too_fast = [("kind", "list"), ("status", "429")];
    assert!(value("dispatchd_api_requests_total", &too_fast) >= 1.0);
    let polls = |outcome| value("dispatchd_polls_total", &[("outcome", outcome)]);
    assert!(polls("succeeded") >= 2.0 && polls("failed") >= 1.0);
    let timed = value("dispatchd_poll_seconds_count", &[("outcome", "failed")]);
    assert_eq!(timed, polls("failed"));
    assert!(value("dispatchd_poll_last_success_timestamp_seconds", &[]) > 1.7e9);
    assert_eq!(value("dispatchd_poll_interval_seconds", &[]), 3600.0);
}

#[apply(test)]
async fn deliveries_are_counted_by_sink_and_outcome() {
    let world = World::new().await;
    let setup = world.setup().sink("stdout").sink("http://127.0.0.1:1/in");
    let daemon = setup.start().await;
    daemon.wait_until_ready().await;
    world.known(&daemon, "a").await;
    let metrics = wait_for("a delivery and a failure", async || {
        let (metrics, _) = read(&daemon).await;
        let attempts = |sink, outcome| {
            let labels = [("sink", sink), ("outcome", outcome)];
            metrics.value("dispatchd_delivery_attempts_total", &labels)
        };
        let both = attempts("stdout", "delivered") >= 1.0
            && attempts("http://127.0.0.1:1/in", "unreachable") >= 1.0;
        both.then_some(metrics)
    })
    .await;
    let of = |name: &str, sink| metrics.value(&format!("dispatchd_{name}"), &[("sink", sink)]);
    let stuck = "http://127.0.0.1:1/in";
    assert_eq!(of("delivered_events_total", "stdout"), 1.0);
    assert_eq!(of("delivered_events_total", stuck), 0.0);
    assert_eq!(of("outbox_pending", stuck), 1.0);
    wait_until("the outbox grows older", async || {
        let (metrics, _) = read(&daemon).await;
        metrics.value("dispatchd_outbox_oldest_age_seconds", &[("sink", stuck)]) > 0.1
    })
    .await;
    // Nobody is there, which the first look has found.
    assert_eq!(of("sink_failing", stuck), 1.0);
    assert_eq!(of("sink_paused", stuck), 0.0);
}

#[apply(test)]
async fn a_key_that_is_refused_shows_and_so_does_it_that_the_daemon_is_blind() {
    let world = World::with_key("another").await;
    let daemon = world.setup().polling("100ms").start().await;
    let refused = [("kind", "list"), ("status", "key_refused")];
    wait_until("it is stale", async || {
        let (metrics, _) = read(&daemon).await;
        metrics.value("dispatchd_api_requests_total", &refused) >= 1.0
            && metrics.value("dispatchd_stale", &[]) == 1.0
            && metrics.value("dispatchd_ready", &[]) == 0.0
    })
    .await;
}

#[apply(test)]
async fn a_disk_that_takes_no_writes_shows() {
    let (world, daemon) = well_used().await;
    std::fs::remove_file(world.path("state.db")).unwrap();
    world.put(dispatch("b", 0, in_ms(60_000), None));
    assert_eq!(daemon.webhook("b").await.status, 503);
    let (metrics, _) = read(&daemon).await;
    assert_eq!(metrics.value("dispatchd_store_writable", &[]), 0.0);
    assert_eq!(metrics.value("dispatchd_ready", &[]), 0.0);
    let failed = [("outcome", "failed")];
    assert!(metrics.value("dispatchd_store_commits_total", &failed) >= 1.0);
}
