//! The path in a webhook, against another description of what it may be.
#![no_main]

use dispatchd::fuzzing::{Hint, HintError, read_hint};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fn is_dispatch(resource: &str) -> bool {
    const DATE: &[u8] = b"/0000-00-00";
    let bytes = resource.as_bytes();
    let dated = bytes.len() > DATE.len()
        && bytes.iter().zip(DATE).all(|(byte, like)| match like {
            b'0' => byte.is_ascii_digit(),
            other => byte == other,
        });
    dated
        && resource[DATE.len()..]
            .strip_prefix("/dispatches/")
            .is_some_and(|id| {
                let alphabet = ('a'..='z').chain('A'..='Z').chain('0'..='9').chain(['_', '-']);
                let letters: Vec<char> = alphabet.collect();
                !id.is_empty() && id.len() <= 64 && id.chars().all(|c| letters.contains(&c))
            })
}

fuzz_target!(|resource: &str| {
    let body = json!({"event": {"name": "dispatch.update"}, "resource": resource}).to_string();
    let read = read_hint(body.as_bytes());
    assert_eq!(matches!(read, Ok(Hint::Dispatch(_))), is_dispatch(resource));
    assert!(!matches!(read, Ok(Hint::Handshake)), "the event has a name");
    assert!(!matches!(read, Err(HintError::NotJson | HintError::Shape)));
});
