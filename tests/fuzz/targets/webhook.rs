//! A webhook's body. Whatever is taken for a hint at a dispatch says so itself,
//! and its id can steer nobody.
#![no_main]

use dispatchd::fuzzing::{Hint, read_hint};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|body: &[u8]| {
    let Ok(hint) = read_hint(body) else { return };
    let json: Value = serde_json::from_slice(body).expect("only JSON is a hint");
    let name = json["event"]["name"].as_str().expect("it names an event");
    let resource = json["resource"].as_str().expect("it names a resource");
    match hint {
        Hint::Handshake => assert!(name.is_empty() && resource.is_empty()),
        Hint::Dispatch(id) => {
            let id = id.as_str();
            assert!((1..=64).contains(&id.len()));
            assert!(id.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)));
            assert_eq!(&resource[11..], format!("/dispatches/{id}"));
        }
        Hint::Other { kind } => {
            assert_ne!(kind, "dispatches");
            assert!(resource[11..].starts_with(&format!("/{kind}/")));
        }
    }
});
