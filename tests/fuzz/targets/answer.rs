//! The answer to `GET /dispatches/{id}`. It is about the id that was asked for,
//! and both forms of it read the same.
#![no_main]

use dispatchd::model::{DispatchId, Reading};
use dispatchd::voltus::read_dispatch_answer;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|body: &[u8]| {
    let id = DispatchId::new("dkmq").expect("an id");
    let Ok((reading, _)) = read_dispatch_answer(body, &id) else { return };
    assert_eq!(reading.id(), &id);
    let Reading::Dispatch(dispatch) = &reading else { return };
    let bare = serde_json::to_string(dispatch).expect("it can be written");
    let wrapped = json!({"dispatches": [dispatch], "page": 0, "perPage": 0}).to_string();
    for form in [bare, wrapped] {
        let (again, _) = read_dispatch_answer(form.as_bytes(), &id).expect("it can be read");
        assert_eq!(again, reading, "{form}");
    }
});
