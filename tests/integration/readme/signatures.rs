//! The README's receiver takes what dispatchd signs, and refuses everything else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use serde_json::json;
use sha2::Sha256;

use super::place::{Place, need_programs_of};
use super::{place, shell_blocks};
use crate::harness::{World, dispatch, in_ms, now, wait_until};

const SECRET: &str = "sink-secret";

/// The README's receiver, running, with the secret that the README makes or with
/// another one.
async fn receiver(secret: Option<&str>) -> Place {
    let blocks = shell_blocks();
    let making = blocks
        .iter()
        .find(|block| block.text.contains("> receiver.py"));
    let making = making.expect("the README makes a receiver");
    need_programs_of(&making.text);
    need_programs_of("python3 receiver.py");
    let mut place = place().await;
    place.run(&making.text).await;
    if let Some(secret) = secret {
        std::fs::write(place.path(SECRET), format!("{secret}\n")).unwrap();
    }
    place.run("python3 receiver.py").await;
    place
}

/// The headers of Standard Webhooks, for a body that is sent at a time in seconds.
fn signed(key: &[u8], id: &str, at: i64, body: &str) -> HeaderMap {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(format!("{id}.{at}.{body}").as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let mut head = HeaderMap::new();
    head.insert("webhook-id", id.parse().unwrap());
    head.insert("webhook-timestamp", at.to_string().parse().unwrap());
    head.insert(
        "webhook-signature",
        format!("v1,{signature}").parse().unwrap(),
    );
    head
}

/// What the receiver answers.
async fn answer(place: &Place, head: HeaderMap, body: &str) -> u16 {
    let client = dispatchd::http::client_builder()
        .no_proxy()
        .build()
        .unwrap();
    let url = format!("http://127.0.0.1:{}/events", place.receiver());
    let request = client.post(url).headers(head).body(body.to_owned());
    request.send().await.unwrap().status().as_u16()
}

#[apply(test)]
async fn the_receiver_takes_what_the_daemon_signs_and_refuses_another_secret() {
    let place = receiver(None).await;
    let world = World::new().await;
    let sink = format!("http://127.0.0.1:{}/events", place.receiver());
    let secret = place.path(SECRET).display().to_string();
    let setup = world.setup().sink(&sink).polling("500ms");
    let daemon = setup
        .clone()
        .with("--sink-secret-file", secret)
        .ready()
        .await;
    world.put(dispatch("a", 0, in_ms(-1000), None));
    let said = || place.of("the receiver").said();
    wait_until("it prints the command", async || {
        said().contains("site.curtail site-a 12")
    })
    .await;
    drop(daemon);

    let other = setup
        .with("--sink-secret", "another")
        .with("--state", "other.db");
    let daemon = other.ready().await;
    world.put(dispatch("b", 0, in_ms(-1000), None));
    wait_until("the daemon says that it is refused", async || {
        let status = daemon.get("/status").await.json;
        status["delivery"][0]["last_error"]
            .to_string()
            .contains("401")
    })
    .await;
    assert!(!said().contains("site-b"), "{}", said());
    place.leave().await;
}

#[apply(test)]
async fn the_receiver_refuses_what_is_altered_or_old_and_drops_duplicates() {
    for (secret, key) in [
        ("a text", b"a text".to_vec()),
        // Also without the padding that base64 asks for.
        ("whsec_AAEC/w==", vec![0, 1, 2, 255]),
        ("whsec_AAEC/w", vec![0, 1, 2, 255]),
    ] {
        let place = receiver(Some(secret)).await;
        let event = |sequence: u32| {
            let data = json!({"commitment_kw": 12, "until": null});
            json!({"type": "site.curtail", "subject": "s", "sequence": sequence, "data": data})
                .to_string()
        };
        let (body, at) = (event(7), now().timestamp());
        let good = signed(&key, "one", at, &body);
        for (what, head, body) in [
            ("nothing is signed", HeaderMap::new(), body.clone()),
            ("another body", good.clone(), event(8)),
            ("another key", signed(b"x", "one", at, &body), body.clone()),
            (
                "too old",
                signed(&key, "one", at - 320, &body),
                body.clone(),
            ),
            (
                "from the future",
                signed(&key, "one", at + 320, &body),
                body.clone(),
            ),
        ] {
            assert_eq!(answer(&place, head, &body).await, 401, "{secret}: {what}");
        }
        assert_eq!(place.of("the receiver").said(), "");
        assert_eq!(answer(&place, good.clone(), &body).await, 204, "{secret}");
        assert_eq!(answer(&place, good, &body).await, 204, "{secret}");
        let older = event(6);
        let late = signed(&key, "two", at, &older);
        assert_eq!(answer(&place, late, &older).await, 204, "{secret}");
        assert_eq!(place.of("the receiver").said(), "site.curtail s 12 None\n");
        place.leave().await;
    }
}
