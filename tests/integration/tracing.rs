//! Traces: what a webhook, a poll or a due time led to, as an OpenTelemetry collector is
//! told it, and as receivers are told where their events belong.

mod exporting;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use reqwest::RequestBuilder;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Collector, Daemon, Manner, Receiver, Setup, Signed, Span, World, ask, dispatch, hint, in_ms,
    need, wait_for, wait_until,
};
use crate::two_machines::cluster::Cluster;

const HOUR: i64 = 3_600_000;

/// What a sender says of its own span.
const SENDER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A daemon that signs what it sends, so that the receiver keeps the headers.
fn signing(world: &World, receiver: &Receiver) -> Setup {
    let setup = world.setup().sink(receiver.sink());
    setup.with("--sink-secret", "secret")
}

/// A webhook about `id`, whose sender says that it belongs to a trace.
fn traced(daemon: &Daemon, id: &str) -> RequestBuilder {
    let body = hint(&format!("/2022-04-15/dispatches/{id}"));
    let request = daemon.http.post(daemon.webhook_url()).body(body);
    request.header("traceparent", SENDER)
}

fn header<'r>(request: &'r Signed, name: &str) -> &'r str {
    let value = request.head.get(name);
    value.map_or("", |value| value.to_str().unwrap())
}

fn body(request: &Signed) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// Waits until so many requests came, and gives them.
async fn requests(receiver: &Receiver, count: usize) -> Vec<Signed> {
    wait_for(&format!("{count} requests"), async || {
        let signed = receiver.signed();
        (signed.len() >= count).then_some(signed)
    })
    .await
}

/// The span of the attempt with this request.
async fn attempt(collector: &Collector, request: &Signed) -> Span {
    let parent = header(request, "traceparent");
    let is_it = |span: &Span| span.traceparent() == parent;
    collector.wait_for("deliver", is_it).await
}

/// How many spans were `sent` or `dropped`.
async fn metric(daemon: &Daemon, what: &str) -> u64 {
    let answer = daemon.http.get(daemon.status_url("/metrics")).send().await;
    let text = answer.unwrap().text().await.unwrap();
    let name = format!("dispatchd_trace_spans_{what}_total ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap().parse().unwrap()
}

#[apply(test)]
async fn one_trace_leads_from_a_webhook_over_look_up_and_commit_to_each_delivery() {
    let (world, collector) = (World::new().await, Collector::new().await);
    let receiver = Receiver::new().await;
    let daemon = collector.of(signing(&world, &receiver)).ready().await;
    world.put(dispatch("d", 1, in_ms(-HOUR), None));
    assert_eq!(daemon.webhook("d").await.status, 200);

    let webhook = collector.wait_for("webhook", |_| true).await;
    assert_eq!(webhook.parent, "", "the trace begins with it");
    assert_eq!(webhook.attribute("dispatchd.dispatch"), "d");
    assert_eq!(webhook.attribute("http.response.status_code"), "200");
    assert_eq!(webhook.attribute("dispatchd.outcome"), "accepted");
    let look_up = collector.wait_for("look-up", |_| true).await;
    assert!(look_up.is_under(&webhook), "{look_up:?} {webhook:?}");
    let is_its = |span: &Span| span.trace == webhook.trace;
    let commit = collector.wait_for("commit", is_its).await;
    assert!(commit.is_under(&look_up), "{commit:?} {look_up:?}");
    assert_eq!(commit.attribute("dispatchd.events"), "3");
    assert!(
        webhook.times.1 >= commit.times.1,
        "answered once it is on disk"
    );

    let mut types = BTreeSet::new();
    for request in requests(&receiver, 3).await {
        let event = body(&request);
        let deliver = attempt(&collector, &request).await;
        assert!(deliver.is_under(&commit), "{deliver:?} {commit:?}");
        assert_eq!(event["traceparent"], deliver.traceparent());
        assert_eq!(event["type"], deliver.attribute("cloudevents.event_type"));
        assert_eq!(event["id"], deliver.attribute("cloudevents.event_id"));
        assert_eq!(deliver.attribute("dispatchd.sink"), receiver.sink());
        assert_eq!(deliver.failure, None);
        types.insert(event["type"].as_str().unwrap().to_owned());
    }
    let wanted = ["dispatch.created", "dispatch.started", "site.curtail"];
    assert_eq!(types, BTreeSet::from(wanted.map(str::to_owned)));
}

#[apply(test)]
async fn a_webhook_continues_the_trace_of_its_sender_and_receivers_get_its_state() {
    let (world, collector) = (World::new().await, Collector::new().await);
    let receiver = Receiver::new().await;
    let daemon = collector.of(signing(&world, &receiver)).ready().await;
    world.put(dispatch("d", 1, in_ms(HOUR), None));
    let request = traced(&daemon, "d").header("tracestate", "vendor=1");
    assert_eq!(ask(request).await.status, 200);
    let webhook = collector.wait_for("webhook", |_| true).await;
    assert_eq!(
        format!("00-{}-{}-01", webhook.trace, webhook.parent),
        SENDER
    );
    let request = &requests(&receiver, 1).await[0];
    assert_eq!(attempt(&collector, request).await.trace, webhook.trace);
    assert_eq!(header(request, "tracestate"), "vendor=1");
    assert_eq!(body(request)["tracestate"], "vendor=1");
}

#[apply(test)]
async fn a_poll_begins_a_trace_and_so_does_a_start_that_comes_due() {
    let (world, collector) = (World::new().await, Collector::new().await);
    let receiver = Receiver::new().await;
    let daemon = collector.of(signing(&world, &receiver)).ready().await;
    world.put(dispatch("d", 1, in_ms(1500), None));
    assert_eq!(daemon.poll().await.status, 200);
    let created = &requests(&receiver, 1).await[0];
    let deliver = attempt(&collector, created).await;
    let is_its = |span: &Span| span.trace == deliver.trace;
    let (poll, commit) = (
        collector.wait_for("poll", is_its).await,
        collector.wait_for("commit", is_its).await,
    );
    assert_eq!(poll.parent, "");
    assert!(commit.is_under(&poll) && deliver.is_under(&commit));

    // No request brought the start.
    for request in &requests(&receiver, 3).await[1..] {
        let deliver = attempt(&collector, request).await;
        let is_its = |span: &Span| span.id == deliver.parent;
        let commit = collector.wait_for("commit", is_its).await;
        assert!(deliver.is_under(&commit) && commit.parent.is_empty());
        assert_ne!(commit.trace, poll.trace);
    }
}

#[apply(test)]
async fn webhooks_that_share_a_look_up_are_linked_to_it() {
    let (world, collector) = (World::new().await, Collector::new().await);
    let daemon = collector.of(world.setup().sink("none")).ready().await;
    world.put(dispatch("d", 1, in_ms(HOUR), None));
    world.faults(json!({"api_delay_ms": 1000}));
    let first = daemon.webhook("d");
    let others = async {
        wait_until("the first look-up is under way", async || {
            !world.look_ups("d").is_empty()
        })
        .await;
        tokio::join!(daemon.webhook("d"), daemon.webhook("d"))
    };
    let (first, (second, third)) = tokio::join!(first, others);
    assert_eq!([first, second, third].map(|answer| answer.status), [200; 3]);
    let shared = collector
        .wait_for("look-up", |span| !span.links.is_empty())
        .await;
    wait_until("all webhooks have ended", async || {
        let spans = collector.spans().into_iter();
        spans.filter(|span| span.name == "webhook").count() == 3
    })
    .await;
    let mut spans = collector.spans();
    spans.retain(|span| span.name == "webhook");
    let is_parent = |span: &&Span| shared.is_under(span);
    let is_linked = |span: &&Span| shared.links == [(span.trace.clone(), span.id.clone())];
    assert_eq!(
        spans.iter().filter(is_parent).count(),
        1,
        "{shared:?} {spans:?}"
    );
    assert_eq!(
        spans.iter().filter(is_linked).count(),
        1,
        "{shared:?} {spans:?}"
    );
}

#[apply(test)]
async fn each_event_of_a_batch_says_what_made_it_and_the_request_which_attempt_it_is() {
    let (world, collector) = (World::new().await, Collector::new().await);
    let receiver = Receiver::new().await;
    let setup = world.setup().sink(receiver.sink() + "?batch=true");
    let setup = setup.with("--sink-secret", "secret");
    let daemon = collector.of(setup).ready().await;
    for place in 0..20 {
        world.put(dispatch(&format!("d{place}"), 1, in_ms(HOUR), None));
    }
    assert_eq!(daemon.poll().await.status, 200);
    // The first batches are small.
    let request = wait_for("a batch of several events", async || {
        let signed = receiver.signed().into_iter();
        let mut signed = signed.filter(|request| body(request)[1].is_object());
        signed.next()
    });
    let request = request.await;
    let deliver = attempt(&collector, &request).await;
    let is_its = |span: &Span| span.trace == deliver.trace;
    let commit = collector.wait_for("commit", is_its).await;
    assert!(deliver.is_under(&commit));
    let events = body(&request);
    let events = events.as_array().unwrap();
    assert_eq!(
        deliver.attribute("dispatchd.events"),
        events.len().to_string()
    );
    for event in events {
        assert_eq!(event["traceparent"], commit.traceparent());
    }
}

#[apply(test)]
async fn each_attempt_is_a_span_and_one_that_failed_says_why() {
    let (world, collector) = (World::new().await, Collector::new().await);
    let receiver = Receiver::new().await;
    receiver.behave(Manner::Refuses(500));
    let daemon = collector.of(signing(&world, &receiver)).ready().await;
    world.known(&daemon, "d").await;
    let first = &requests(&receiver, 1).await[0];
    let first = attempt(&collector, first).await;
    let failure = first.failure.as_deref().unwrap_or_default();
    assert!(failure.contains("the receiver answered 500"), "{first:?}");
    receiver.behave(Manner::Takes);
    wait_until("it is delivered", async || !receiver.taken().is_empty()).await;
    let signed = receiver.signed();
    let last = attempt(&collector, signed.last().unwrap()).await;
    assert_eq!(last.failure, None);
    assert_ne!(last.id, first.id);
    assert_eq!((&last.trace, &last.parent), (&first.trace, &first.parent));
}

#[apply(test)]
async fn programs_and_standard_output_are_told_where_an_event_belongs() {
    let (world, collector) = (World::new().await, Collector::new().await);
    let path = world.path("program");
    let script = "#!/bin/sh\ncat > event; echo \"$TRACEPARENT $TRACESTATE\" > new; mv new seen\n";
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let setup = world.setup().sink("stdout");
    let setup = setup.sink(format!("exec:{}", path.display()));
    let setup = setup.variable("PATH", "/usr/bin:/bin");
    let daemon = collector.of(setup).ready().await;
    world.put(dispatch("d", 1, in_ms(HOUR), None));
    let request = traced(&daemon, "d").header("tracestate", "vendor=1");
    assert_eq!(ask(request).await.status, 200);

    let seen = wait_for("the program has run", async || {
        std::fs::read_to_string(world.path("seen")).ok()
    });
    let seen = seen.await;
    let event = std::fs::read(world.path("event")).unwrap();
    let event: Value = serde_json::from_slice(&event).unwrap();
    let told = event["traceparent"].as_str().unwrap();
    assert_eq!(seen, format!("{told} vendor=1\n"));
    let is_it = |span: &Span| span.traceparent() == told;
    collector.wait_for("deliver", is_it).await;

    let printed = daemon.wait_for_event("d", "dispatch.created").await;
    let told = printed.text("traceparent");
    let is_it = |span: &Span| span.traceparent() == told;
    let deliver = collector.wait_for("deliver", is_it).await;
    assert_eq!(deliver.attribute("dispatchd.sink"), "stdout");
}

#[apply(test)]
async fn without_a_collector_nothing_is_added_to_events_and_requests() {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    let off = [
        ("OTEL_SERVICE_NAME", "x"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_SDK_DISABLED", "true"),
    ];
    for (place, (name, value)) in off.into_iter().enumerate() {
        let mut setup = signing(&world, &receiver).variable(name, value);
        if name != "OTEL_SERVICE_NAME" {
            setup = setup.variable("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
        }
        let mut daemon = setup.ready().await;
        let id = format!("d{place}");
        world.put(dispatch(&id, 1, in_ms(HOUR), None));
        assert_eq!(ask(traced(&daemon, &id)).await.status, 200);
        let request = &requests(&receiver, place + 1).await[place];
        assert_eq!(header(request, "traceparent"), "");
        let text = String::from_utf8(request.body.to_vec()).unwrap();
        let begins = format!(
            "{{\"specversion\":\"1.0\",\"id\":{},\"source\":\"dispatchd\",",
            body(request)["id"]
        );
        assert!(text.starts_with(&begins), "{text}");
        assert!(!text.contains("traceparent"), "{text}");
        assert_eq!(metric(&daemon, "dropped").await, 0);
        assert_eq!(daemon.stop(Signal::TERM).await.code(), Some(0));
    }
}

#[apply(test)]
async fn what_is_not_sampled_is_not_sent_and_receivers_are_told_so() {
    let (world, collector) = (World::new().await, Collector::new().await);
    let receiver = Receiver::new().await;
    let setup = collector.of(signing(&world, &receiver));
    let daemon = setup
        .variable("OTEL_TRACES_SAMPLER", "always_off")
        .ready()
        .await;
    world.put(dispatch("d", 1, in_ms(HOUR), None));
    assert_eq!(ask(traced(&daemon, "d")).await.status, 200);
    let request = &requests(&receiver, 1).await[0];
    let told = header(request, "traceparent");
    assert!(
        told.starts_with(&SENDER[..36]) && told.ends_with("-00"),
        "{told}"
    );
    assert!(collector.spans().is_empty());
}

#[apply(test)]
async fn a_webhook_that_a_standby_passes_on_stays_in_its_trace() {
    need("PostgreSQL", Cluster::programs().is_some());
    let (world, cluster) = (World::new().await, Cluster::start(&["fsync=off"]).unwrap());
    let collector = Collector::new().await;
    let setup = collector.of(world.setup().sink("none"));
    let setup = setup.with("--state", cluster.url("dispatchd"));
    let _leader = setup.ready().await;
    let standby = setup.start().await;
    standby.wait_for_log("this one stands by").await;
    world.put(dispatch("d", 1, in_ms(HOUR), None));
    let answer = wait_for("the standby knows its leader", async || {
        let answer = ask(traced(&standby, "d")).await;
        (answer.status == 200).then_some(answer)
    });
    answer.await;
    let look_up = collector.wait_for("look-up", |_| true).await;
    let is_its = |span: &Span| span.id == look_up.parent;
    let of_leader = collector.wait_for("webhook", is_its).await;
    let is_its = |span: &Span| span.id == of_leader.parent;
    let of_standby = collector.wait_for("webhook", is_its).await;
    assert!(look_up.is_under(&of_leader) && of_leader.is_under(&of_standby));
    assert_eq!(
        format!("00-{}-{}-01", of_standby.trace, of_standby.parent),
        SENDER
    );
}
