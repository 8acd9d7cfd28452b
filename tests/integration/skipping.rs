//! `dispatchd outbox`: what is pending, and how an operator gives it up, which the
//! history of the dispatch keeps.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::commands::{done, failed, run};
use crate::harness::{
    Daemon, Manner, Receiver, World, dispatch, in_ms, now, site_of, wait_for, wait_until,
};

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

/// The lines of the dispatch's history that tell of a skipped event.
async fn skips(daemon: &Daemon, id: &str) -> Vec<Value> {
    let entry = daemon.entry(id).await.unwrap();
    let lines = entry["history"].as_array().unwrap().iter();
    lines
        .filter(|line| line["type"] == "event.skipped")
        .cloned()
        .collect()
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

#[apply(test)]
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
        format!("{one}: retrying, 2 pending, "),
        " since the start\n".to_owned(),
        format!("  {bad}\n      dispatch.created bad, since "),
        " failed attempt".to_owned(),
        "  1 more are pending; they are listed once those before them are delivered".to_owned(),
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
    let entry = daemon.entry("bad").await.unwrap();
    let lines = skips(&daemon, "bad").await;
    assert_eq!(lines.len(), 1, "{entry}");
    let expected = json!({
        "event": bad,
        "type": "dispatch.created",
        "subject": "bad",
        "sink": one,
        "reason": lines[0]["skipped"]["reason"],
    });
    assert_eq!(lines[0]["skipped"], expected);
    let reason = lines[0]["skipped"]["reason"].as_str().unwrap();
    assert!(reason.contains("exit status: 3"), "{reason}");
    assert_eq!(lines[0]["source"], "operator");
    assert_eq!(lines[0]["phase"], "scheduled");
    // It stands behind what happened to the dispatch before.
    assert_eq!(entry["history"].as_array().unwrap().last(), lines.first());
    assert!(skips(&daemon, "good").await.is_empty());

    daemon.kill();
    let daemon = setup.start().await;
    assert_eq!(skips(&daemon, "bad").await, lines);
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

#[apply(test)]
async fn a_site_s_command_that_is_skipped_is_kept_in_the_history_of_each_dispatch_that_holds_the_site()
 {
    let world = World::new().await;
    let receiver = Receiver::new().await;
    receiver.behave_for(&site_of("one"), Manner::Refuses(400));
    let setup = world.setup().sink(receiver.sink());
    let mut daemon = setup.ready().await;
    let mut two = dispatch("two", 1, in_ms(-1000), None);
    two["sites"] = dispatch("one", 1, now(), None)["sites"].clone();
    world.put(dispatch("one", 1, in_ms(-2000), None));
    world.put(two);
    world.put(dispatch("other", 1, in_ms(-1000), None));
    assert_eq!(daemon.poll().await.status, 200);
    let skipped = wait_for("the command is refused", async || {
        let list = daemon.get("/outbox").await.json;
        let events = list["sinks"][0]["events"].as_array()?.clone();
        let mut events = events.into_iter();
        events.find(|event| event["last_error"].is_string())
    })
    .await;
    assert_eq!(skipped["type"], "site.curtail");
    let id = skipped["id"].as_str().unwrap();
    done(&run(&world, Some(&daemon), &["outbox", "skip", id]).await);
    daemon.kill();
    let daemon = setup.start().await;
    for dispatch in ["one", "two"] {
        let lines = skips(&daemon, dispatch).await;
        assert_eq!(lines.len(), 1, "{dispatch}: {lines:?}");
        assert_eq!(lines[0]["skipped"]["event"], id);
        assert_eq!(lines[0]["skipped"]["subject"], site_of("one").as_str());
        assert_eq!(lines[0]["phase"], "active");
    }
    assert!(skips(&daemon, "other").await.is_empty());
}

#[apply(test)]
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
