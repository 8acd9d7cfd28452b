//! Several daemons that share a database, of which some are made up.

use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::cli::status::look;
use crate::cli::status::tests::{PLAIN, answering, standby};
use crate::cli::testing::{Running, client, free_address, sandbox};

#[tokio::test]
async fn of_several_daemons_the_one_that_leads_is_shown() {
    let sandbox = sandbox().await;
    let daemon = Running::start(&sandbox, &[]).await;
    let nobody = client(free_address().await);
    let clients = [answering(standby()).await, nobody, daemon.client()];
    let drawn = look(&clients, false, PLAIN).await.unwrap().text;
    let lines: Vec<&str> = drawn.lines().take(3).collect();
    assert_eq!(lines[0], format!("{} leads", clients[2].name()));
    assert_eq!(lines[1], format!("{} stands by", clients[0].name()));
    assert!(lines[2].starts_with("cannot connect to "), "{drawn}");
    assert!(drawn.contains("(leader)"), "{drawn}");
    let [first, ..] = clients;
    let pair = [first, answering(standby()).await];
    let looked = look(&pair, false, PLAIN).await.unwrap();
    let drawn = looked.text;
    assert!(
        drawn.starts_with("none of these daemons leads\n"),
        "{drawn}"
    );
    assert!(drawn.contains("\nSTANDBY   "), "{drawn}");
    let trouble = looked.trouble.unwrap();
    assert_eq!(trouble, "none of these daemons leads");
}

#[tokio::test]
async fn of_several_daemons_each_that_is_not_ready_is_named_and_the_gravest_is_shown() {
    let sandbox = sandbox().await;
    let daemon = Running::start(&sandbox, &[]).await;
    let with = |level: &str, text: &str| {
        let mut status = standby();
        status["verdict"]["schedule"] = json!({"level": level, "text": text});
        status
    };
    let differs = "This daemon stands by: plant-a leads; it is not ready: sinks differ.";
    let blind = "This daemon stands by: no daemon is known to lead.";
    let clients = [
        answering(with("warning", differs)).await,
        daemon.client(),
        answering(standby()).await,
    ];
    let looked = look(&clients, false, PLAIN).await.unwrap();
    let lines: Vec<&str> = looked.text.lines().take(3).collect();
    let [first, _, third] = [0, 1, 2].map(|at: usize| clients[at].name());
    assert_eq!(lines[0], format!("{} leads", clients[1].name()));
    assert_eq!(
        lines[1],
        format!("{first} stands by: plant-a leads; it is not ready: sinks differ.")
    );
    assert_eq!(lines[2], format!("{third} stands by"));
    assert_eq!(looked.trouble.unwrap(), format!("not ready: {first}"));
    let json = look(&clients, true, PLAIN).await.unwrap().text;
    let json: Value = serde_json::from_str(&json).unwrap();
    let ready = json["daemons"].as_array().unwrap().iter();
    let ready: Vec<bool> = ready.filter_map(|one| one["ready"].as_bool()).collect();
    assert_eq!(ready, [false, true, true]);
    // Nobody leads: what is worst goes first.
    let pair = [
        answering(with("warning", differs)).await,
        answering(with("error", blind)).await,
    ];
    let drawn = look(&pair, false, PLAIN).await.unwrap().text;
    assert!(drawn.contains(&format!("STANDBY   {blind}")), "{drawn}");
    let well = [daemon.client(), answering(standby()).await];
    assert_eq!(look(&well, false, PLAIN).await.unwrap().trouble, None);
}

/// A daemon that takes connections and says nothing, as a process that was stopped.
#[tokio::test]
async fn a_daemon_that_hangs_holds_the_picture_up_for_three_seconds_at_most() {
    let sandbox = sandbox().await;
    let daemon = Running::start(&sandbox, &[]).await;
    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let clients = [client(hangs.local_addr().unwrap()), daemon.client()];
    let clock = crate::clock::SystemClock::new();
    let looked = look(&clients, false, PLAIN).await.unwrap();
    let took = crate::clock::Clock::now(&clock).mono;
    assert!(took < Duration::from_secs(8), "{took:?}");
    let expected = format!("{}: no answer within 3s", clients[0].name());
    assert!(looked.text.contains(&expected), "{}", looked.text);
    assert!(looked.text.contains("(leader)"), "{}", looked.text);
    let trouble = format!("not ready: {}", clients[0].name());
    assert_eq!(looked.trouble.unwrap(), trouble);
}

#[tokio::test]
async fn when_no_daemon_answers_each_is_named() {
    let nobody = [free_address().await, free_address().await].map(client);
    let error = look(&nobody, false, PLAIN).await.unwrap_err().to_string();
    for client in &nobody {
        assert!(error.contains(&client.name()), "{error}");
    }
}

#[tokio::test]
async fn two_daemons_that_both_lead_are_trouble_and_one_that_is_named_twice_is_not() {
    let sandbox = sandbox().await;
    let one = Running::start(&sandbox, &[]).await;
    let two = Running::start(&sandbox, &["--node", "two"]).await;
    let looked = look(&[one.client(), two.client()], false, PLAIN).await;
    let looked = looked.unwrap();
    assert!(looked.text.starts_with("2 of these daemons lead: "));
    assert!(looked.trouble.unwrap().contains("stop all but one"));
    let looked = look(&[one.client(), one.client()], false, PLAIN).await;
    assert_eq!(looked.unwrap().trouble, None);
}
