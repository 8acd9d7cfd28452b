//! The answer to `GET /dispatches`. Nothing in it is lost or made up, and what
//! was read is read again from what we write of it.
#![no_main]

use dispatchd::model::Reading;
use dispatchd::voltus::read_list;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|body: &[u8]| {
    let Ok((list, _)) = read_list(body) else { return };
    if let Ok(json) = serde_json::from_slice::<Value>(body) {
        let elements = json["dispatches"].as_array().expect("a list was read").len();
        // One that is there twice counts once.
        assert!(list.readings().len() + list.nameless() <= elements);
        assert_eq!(list.readings().is_empty() && list.nameless() == 0, elements == 0);
    }
    for reading in list.readings() {
        let Reading::Dispatch(dispatch) = reading else { continue };
        let written = json!({"dispatches": [dispatch]}).to_string();
        let (again, problems) = read_list(written.as_bytes()).expect("what we write can be read");
        assert_eq!(again.readings(), [reading.clone()], "{written}");
        assert!(again.nameless() == 0 && problems.is_empty(), "{written}: {problems:?}");
    }
});
