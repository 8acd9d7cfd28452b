//! The story itself, faster.

use std::io::Write;
use std::sync::{Arc, Mutex};

use super::*;

/// Keeps what is told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<u8>>>);

impl Told {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn play(pace: &Pace) -> (Outcome, String) {
    let told = Told::default();
    let teller = Teller::new(told.clone(), false);
    let stage = Stage::set(pace, &teller).await.unwrap();
    let outcome = tell(&stage, pace, &teller).await;
    stage.strike().await.unwrap();
    (outcome, told.text())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_lost_webhook_is_healed() {
    let (outcome, told) = play(&Pace {
        poll: Duration::from_millis(500),
        known_end: Duration::from_secs(3),
        patience: Duration::from_secs(30),
    })
    .await;
    assert!(outcome.missing.is_empty(), "{told}");
    assert_eq!((outcome.lost, outcome.healed.len()), (6, 6), "{told}");
    assert_eq!(told.matches("  HEALED  ").count(), 6, "{told}");
    assert_eq!(told.matches("  MISSING  ").count(), 0, "{told}");
    for event in [
        "site.curtail",
        "site.release",
        "sync.stale",
        "sync.recovered",
    ] {
        assert!(told.contains(event), "{told}");
    }
    let (median, worst) = outcome.delays().unwrap();
    assert!(median <= worst);
}

/// A story that could not fail would prove nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_polls_nothing_is_healed_and_the_story_says_so() {
    let (outcome, told) = play(&Pace {
        poll: Duration::from_secs(3600),
        known_end: Duration::from_secs(3600),
        patience: Duration::from_secs(2),
    })
    .await;
    assert!(outcome.healed.is_empty(), "{told}");
    assert!(!outcome.missing.is_empty(), "{told}");
    let first = &outcome.missing[0];
    assert!(first.contains("no dispatch.created of bravo"), "{first}");
    assert!(told.contains("thanks to the webhook"), "{told}");
    assert_eq!(
        told.matches("  MISSING  ").count(),
        outcome.missing.len(),
        "{told}"
    );
}
