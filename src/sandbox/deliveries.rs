//! Brings webhooks to their receivers, or loses them on purpose.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Inner;
use super::dice::Handling;
use super::log::{ContactEmail, Delivery, Outcome};
use super::state::State;
use super::webhooks::{Event, Webhook};
use crate::clock::Clock;

/// How often an event is tried: once, and 5 resends.
const ATTEMPTS: u32 = 6;

/// How much of a receiver's answer is read, in bytes. It is read so that the
/// connection can serve the next one.
const ANSWER_READ: usize = 64 * 1024;

/// What one webhook is to be told.
struct Letter {
    webhook: Webhook,
    event: Event,
    resource: String,
    /// It is the copy: it is tried once, and nobody waits for it.
    duplicate: bool,
}

/// Sends `event` about the dispatch `id` to every webhook that wants it. Who
/// gets it, and what becomes of it, is settled here and now, so that the order
/// of events settles the order of chances.
pub(super) fn announce(inner: &Arc<Inner>, state: &mut State, id: &str, event: Event) {
    for webhook in subscribers(state, event) {
        let handling = state.dice.handling(&state.faults);
        send(inner, state, webhook, id, event, handling);
    }
}

/// The same, but nothing happens to it on the way.
pub(super) fn announce_safely(inner: &Arc<Inner>, state: &mut State, id: &str, event: Event) {
    let handling = Handling {
        dropped: false,
        delay: Duration::ZERO,
        copy: None,
    };
    for webhook in subscribers(state, event) {
        send(inner, state, webhook, id, event, handling);
    }
}

fn subscribers(state: &State, event: Event) -> Vec<Webhook> {
    let wanting = state.webhooks.iter().filter(|w| w.events.contains(&event));
    wanting.cloned().collect()
}

fn send(
    inner: &Arc<Inner>,
    state: &mut State,
    webhook: Webhook,
    id: &str,
    event: Event,
    handling: Handling,
) {
    let resource = format!("/{}/dispatches/{id}", webhook.version);
    let letter = |duplicate| Letter {
        webhook: webhook.clone(),
        event,
        resource: resource.clone(),
        duplicate,
    };
    if handling.dropped {
        let entry = letter(false).entry(inner, 1, Outcome::Dropped);
        state.deliveries.push(entry);
    } else {
        inner.spawn(deliver(Arc::clone(inner), letter(false), handling.delay));
    }
    // A copy of what was lost would undo the loss.
    if let (Some(delay), false) = (handling.copy, handling.dropped) {
        inner.spawn(deliver(Arc::clone(inner), letter(true), delay));
    }
}

async fn deliver(inner: Arc<Inner>, letter: Letter, delay: Duration) {
    let body = json!({"event": letter.event, "resource": letter.resource});
    let attempts = if letter.duplicate { 1 } else { ATTEMPTS };
    let mut wait = delay;
    for attempt in 1..=attempts {
        tokio::time::sleep(wait).await;
        if !inner.look(|state| state.webhooks.contains(&letter.webhook)) {
            let entry = letter.entry(&inner, attempt, Outcome::Unregistered);
            inner.with(|state| state.deliveries.push(entry));
            return;
        }
        let mut entry = letter.entry(&inner, attempt, Outcome::Dropped);
        entry.outcome = post(&inner, &letter.webhook.url, &body).await;
        let succeeded = entry.outcome.succeeded();
        let retry_base = inner.with(|state| {
            state.deliveries.push(entry);
            state.faults.retry_base_ms
        });
        if succeeded {
            return;
        }
        wait = Duration::from_millis(retry_base << (attempt - 1));
    }
    if !letter.duplicate {
        let email = letter.contact_email(&inner);
        tracing::info!(resource = %letter.resource, "contact email: curtail by hand");
        inner.with(|state| state.contact_emails.push(email));
    }
}

impl Letter {
    fn entry(&self, inner: &Inner, attempt: u32, outcome: Outcome) -> Delivery {
        Delivery {
            at: inner.clock.now().wall,
            url: self.webhook.url.clone(),
            event: self.event.name().to_owned(),
            resource: self.resource.clone(),
            attempt,
            duplicate: self.duplicate,
            outcome,
        }
    }

    fn contact_email(&self, inner: &Inner) -> ContactEmail {
        let resource = &self.resource;
        ContactEmail {
            at: inner.clock.now().wall,
            url: self.webhook.url.clone(),
            event: self.event.name().to_owned(),
            resource: resource.clone(),
            attempts: ATTEMPTS,
            text: format!(
                "contact email: your webhook took none of {ATTEMPTS} deliveries about {resource}. \
                 Please curtail by hand."
            ),
        }
    }
}

/// One post, and what came of it.
pub(super) async fn post(inner: &Inner, url: &str, body: &Value) -> Outcome {
    match inner.http.post(url).json(body).send().await {
        Ok(mut response) => {
            let mut read = 0;
            while read < ANSWER_READ
                && let Ok(Some(chunk)) = response.chunk().await
            {
                read += chunk.len();
            }
            Outcome::Answered(response.status().as_u16())
        }
        Err(error) if error.is_timeout() => Outcome::Failed("timed out".into()),
        Err(error) if error.is_connect() => Outcome::Failed("could not connect".into()),
        Err(error) => Outcome::Failed(error.without_url().to_string()),
    }
}
