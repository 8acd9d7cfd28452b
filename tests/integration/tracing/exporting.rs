//! How spans are sent to a collector, and that nothing else depends on it.

use rustix::process::Signal;

use super::{HOUR, metric, signing};
use crate::harness::{Collector, Receiver, Taking, World, dispatch, in_ms, wait_until};

#[apply(test)]
async fn while_no_collector_takes_spans_events_are_delivered_and_the_spans_counted_as_dropped() {
    let (world, collector) = (World::new().await, Collector::new().await);
    let receiver = Receiver::new().await;
    collector.behave(Taking::Refuses(400));
    let daemon = collector.of(signing(&world, &receiver)).ready().await;
    for id in ["a", "b"] {
        let before = metric(&daemon, "dropped").await;
        world.put(dispatch(id, 1, in_ms(HOUR), None));
        assert_eq!(daemon.webhook(id).await.status, 200);
        wait_until("it is delivered", async || {
            receiver.types_of(id) == ["dispatch.created"]
        })
        .await;
        wait_until("its spans are counted", async || {
            metric(&daemon, "dropped").await > before
        })
        .await;
    }
    assert_eq!(metric(&daemon, "sent").await, 0);
    let log = daemon.log();
    let about = log
        .iter()
        .filter(|line| line.contains("traces are dropped"));
    let about: Vec<&String> = about.collect();
    let [line] = about.as_slice() else {
        panic!("once a minute: {about:?}")
    };
    assert!(
        line.contains("the collector answered 400") && line.contains("/v1/traces"),
        "{line}"
    );

    collector.behave(Taking::All);
    assert_eq!(daemon.poll().await.status, 200);
    daemon.wait_for_log("traces are sent again").await;
    wait_until("they are counted", async || {
        metric(&daemon, "sent").await > 0
    })
    .await;
    let dropped = metric(&daemon, "dropped").await;
    collector.behave(Taking::AllButOne);
    assert_eq!(daemon.poll().await.status, 200);
    wait_until("what the collector refuses counts as dropped", async || {
        metric(&daemon, "dropped").await > dropped
    })
    .await;
}

#[apply(test)]
async fn more_spans_than_the_queue_holds_are_dropped_while_the_collector_hangs() {
    let (world, collector) = (World::new().await, Collector::new().await);
    collector.behave(Taking::Hangs);
    let setup = collector.of(world.setup().sink("stdout"));
    let setup = setup.variable("OTEL_BSP_MAX_QUEUE_SIZE", "4");
    let daemon = setup.ready().await;
    for place in 0..10 {
        let id = format!("d{place}");
        world.known(&daemon, &id).await;
        daemon.wait_for_event(&id, "dispatch.created").await;
    }
    assert!(metric(&daemon, "dropped").await > 0);
}

#[apply(test)]
async fn a_daemon_that_stops_sends_what_is_left_and_waits_for_no_collector_that_hangs() {
    for hangs in [false, true] {
        let (world, collector) = (World::new().await, Collector::new().await);
        let setup = collector.of(world.setup().sink("none"));
        let setup = setup.variable("OTEL_BSP_SCHEDULE_DELAY", "3600000");
        let mut daemon = setup.ready().await;
        world.known(&daemon, "d").await;
        assert!(collector.heads().is_empty(), "it is not time yet");
        if hangs {
            collector.behave(Taking::Hangs);
        }
        assert_eq!(daemon.stop(Signal::TERM).await.code(), Some(0));
        if hangs {
            daemon.wait_for_log("could not be sent within 2s").await;
        } else {
            let spans = collector.spans();
            assert!(spans.iter().any(|span| span.name == "webhook"), "{spans:?}");
        }
    }
}

#[apply(test)]
async fn a_collector_hears_which_daemon_sends_and_gets_the_headers_that_it_wants() {
    let (world, collector) = (World::new().await, Collector::new().await);
    let setup = collector.of(world.setup().sink("none"));
    let setup = setup
        .with("--node", "plant-a")
        .variable("OTEL_SERVICE_NAME", "curtailment")
        .variable(
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        )
        .variable("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=open%20sesame");
    let _daemon = setup.ready().await;
    collector.wait_for("poll", |_| true).await;
    let described = collector.described();
    for (key, value) in [
        ("service.name", "curtailment"),
        ("service.instance.id", "plant-a"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("deployment.environment.name", "test"),
        ("telemetry.sdk.language", "rust"),
    ] {
        assert_eq!(described[key], value);
    }
    let head = &collector.heads()[0];
    assert_eq!(head["content-type"], "application/x-protobuf");
    assert_eq!(head["x-api-key"], "open sesame");
}

#[apply(test)]
async fn a_variable_that_cannot_be_used_fails_the_check_and_keeps_no_daemon_down() {
    let (world, collector) = (World::new().await, Collector::new().await);
    let setup = collector.of(world.setup().sink("none"));
    let setup = setup.variable("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let daemon = setup.ready().await;
    let line = daemon.wait_for_log("no traces are sent").await;
    assert!(line.contains("WARN"), "{line}");
    assert!(
        line.contains("OTEL_EXPORTER_OTLP_PROTOCOL: `grpc` is not supported"),
        "{line}"
    );

    let mut check = setup.command();
    let words = check
        .get_args()
        .map(|word| word.to_str().unwrap().to_owned());
    let words: Vec<String> = words.skip(1).collect();
    let checked = |variables: &[(&str, &str)]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dispatchd"));
        command.env_clear().envs(variables.iter().copied());
        command
            .current_dir(world.folder())
            .arg("check")
            .args(&words);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        async move {
            let output = output.await.unwrap();
            let lines = String::from_utf8(output.stdout).unwrap();
            let line = lines.lines().find(|line| line.contains(" traces: "));
            line.unwrap_or_default().to_owned()
        }
    };
    check.env_clear();
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.url());
    let line = checked(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).await;
    assert!(
        line.starts_with("failed traces: OTEL_EXPORTER_OTLP_PROTOCOL: "),
        "{line}"
    );
    assert!(
        line.contains("http/protobuf") && line.contains("4318"),
        "{line}"
    );
    let line = checked(&[endpoint]).await;
    assert_eq!(
        line,
        format!("ok traces: {}/v1/traces takes them", collector.url())
    );
    collector.behave(Taking::Refuses(401));
    let line = checked(&[endpoint]).await;
    assert!(
        line.starts_with("failed traces: ") && line.contains("401"),
        "{line}"
    );
    assert!(line.contains("OTEL_EXPORTER_OTLP_HEADERS"), "{line}");
    assert_eq!(checked(&[]).await, "");
}

#[apply(test)]
async fn the_readme_names_every_variable_that_is_read() {
    let readme = include_str!("../../../README.md");
    for name in dispatchd::trace::VARIABLES {
        assert!(readme.contains(&format!("`{name}`")), "{name}");
    }
}
