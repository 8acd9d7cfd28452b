//! The environment of a program that an `exec:` sink runs.

use tokio::process::Command;

use crate::delivery::Envelope;

/// The daemon's variables that a program inherits: what it needs to find other
/// programs and to write text and times. Everything else may hold a secret of
/// the daemon, of the service manager or of another program.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// Gives `command` the [`INHERITED`] variables and what describes the event, and
/// nothing else.
pub(super) fn set(command: &mut Command, envelope: &Envelope<'_>) {
    let event = envelope.event;
    command.env_clear();
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .env("DISPATCHD_EVENT_TYPE", value(&event.event_type))
        .env("DISPATCHD_EVENT_ID", value(&event.id))
        .env("DISPATCHD_EVENT_SUBJECT", value(&event.subject))
        .env("DISPATCHD_EVENT_TERM", event.term.to_string());
    for (name, text) in envelope.trace_fields() {
        command.env(name.to_ascii_uppercase(), text);
    }
}

/// A text as a variable can hold it. Ids come from the API and may hold any
/// character, but a variable ends at the first NUL.
fn value(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
