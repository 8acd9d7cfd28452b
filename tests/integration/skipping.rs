//! `dispatchd outbox`: what is pending, and how an operator gives it up.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::commands::{done, failed, run};
use crate::harness::{Daemon, World, dispatch, in_ms, wait_until};

/// A sink whose program never takes that `bad` was created.
fn choosy(world: &World, name: &str) -> String {
    let path = world.path(name);
    let seen = world.path(&format!("{name}.seen"));
    let text = format!(
        "#!/bin/sh\ncat > /dev/null\nwhat=\"$DISPATCHD_EVENT_TYPE $DISPATCHD_EVENT_SUBJECT\"
test \"$what\" = 'dispatch.created bad' && exit 3\necho \"$what\" >> {}\n",
        seen.display()
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("exec:{}", path.display())
}

fn seen(world: &World, name: &str) -> String {
    std::fs::read_to_string(world.path(&format!("{name}.seen"))).unwrap_or_default()
}

/// The ids that the sink has pending.
async fn pending(world: &World, daemon: &Daemon, sink: &str) -> Vec<String> {
    let arguments = ["outbox", "list", "--json", "--sink", sink];
    let json = done(&run(world, Some(daemon), &arguments).await);
    let json: Value = serde_json::from_str(&json).unwrap();
    let events = json["sinks"][0]["events"].as_array().unwrap().iter();
    events
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn an_event_that_is_refused_for_ever_is_named_and_can_be_skipped_at_one_sink() {
    let world = World::new().await;
    let (one, two) = (choosy(&world, "one"), choosy(&world, "two"));
    let setup = world.setup().sink(&one).sink(&two);
    let mut daemon = setup.ready().await;
    for id in ["bad", "good"] {
        world.put(dispatch(id, 0, in_ms(3_600_000), None));
    }
    assert_eq!(daemon.poll().await.status, 200);
    world.put(dispatch("bad", 1, in_ms(3_700_000), None));
    assert_eq!(daemon.webhook("bad").await.status, 200);
    wait_until(
        "the good one is delivered and the bad one fails",
        async || {
            let text = done(&run(&world, Some(&daemon), &["outbox", "list"]).await);
            text.matches("exit status: 3").count() >= 2
                && seen(&world, "one") == "dispatch.created good\n"
                && seen(&world, "two") == "dispatch.created good\n"
        },
    )
    .await;
    let ids = pending(&world, &daemon, &one).await;
    // Of a subject that fails, the rest waits in the store.
    assert_eq!(ids.len(), 1, "{ids:?}");
    let bad = ids[0].as_str();
    let text = done(&run(&world, Some(&daemon), &["outbox", "list"]).await);
    for part in [
        format!("{one}: retrying, 2 pending\n"),
        format!("  {bad}\n      dispatch.created bad, since "),
        " failed attempt".to_owned(),
        "  and 1 more\n".to_owned(),
    ] {
        assert!(text.contains(&part), "{part}: {text}");
    }

    let skip = async |arguments: &[&str]| {
        let arguments: Vec<&str> = [&["outbox", "skip"], arguments].concat();
        run(&world, Some(&daemon), &arguments).await
    };
    let said = failed(&skip(&[bad]).await, 2);
    assert!(said.contains("--sink") && said.contains(&one), "{said}");
    let said = failed(&skip(&["no-such-event"]).await, 1);
    assert!(said.contains("outbox list"), "{said}");
    let said = done(&skip(&[bad, "--sink", &one]).await);
    assert_eq!(said, format!("skipped {bad} at {one}\n"));
    failed(&skip(&[bad, "--sink", &one]).await, 1);
    // What waited behind it is delivered; the other sink still has it.
    wait_until("what waited goes on", async || {
        seen(&world, "one").ends_with("dispatch.updated bad\n")
    })
    .await;
    wait_until("nothing is pending", async || {
        pending(&world, &daemon, &one).await.is_empty()
    })
    .await;
    assert_eq!(pending(&world, &daemon, &two).await, ids);
    assert!(
        daemon
            .log()
            .iter()
            .any(|line| line.contains("skipped") && line.contains(bad)),
        "{:?}",
        daemon.log()
    );

    daemon.kill();
    let daemon = setup.start().await;
    wait_until("it is known what is pending", async || {
        pending(&world, &daemon, &two).await == ids
    })
    .await;
    assert!(pending(&world, &daemon, &one).await.is_empty());
    // At one sink only: it need not be named.
    done(&run(&world, Some(&daemon), &["outbox", "skip", bad]).await);
    wait_until("what waited goes on", async || {
        seen(&world, "two").ends_with("dispatch.updated bad\n")
    })
    .await;
}

#[tokio::test]
async fn the_outbox_wants_the_token_and_a_known_sink() {
    let world = World::new().await;
    let setup = world.setup().with("--status-token", "token-5e02");
    let daemon = setup.start().await;
    let said = failed(&run(&world, Some(&daemon), &["outbox", "list"]).await, 1);
    assert!(said.contains("--status-token"), "{said}");
    let arguments = ["outbox", "skip", "e", "--status-token", "wrong"];
    failed(&run(&world, Some(&daemon), &arguments).await, 1);
    let list = ["outbox", "list", "--status-token", "token-5e02"];
    let text = done(&run(&world, Some(&daemon), &list).await);
    assert_eq!(text, "stdout: ok, nothing pending\n");
    let arguments = [&list[..], &["--sink", "nobody"]].concat();
    let said = failed(&run(&world, Some(&daemon), &arguments).await, 2);
    assert!(said.contains("nobody"), "{said}");
    let said = failed(&run(&world, None, &["outbox", "list"]).await, 1);
    assert!(said.contains("--status-url"), "{said}");
}
