//! The body of `PUT /control/faults`. What is taken is in range, and is what the
//! body says.
#![no_main]

use dispatchd::sandbox::Faults;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|body: &[u8]| {
    let Ok(patch) = serde_json::from_slice::<Value>(body) else { return };
    let before = Faults::default();
    let Ok(after) = before.patched(&patch) else { return };
    after.check().expect("what is out of range is refused");
    let shown = serde_json::to_value(&after).expect("faults can be shown");
    let kept = serde_json::to_value(&before).expect("faults can be shown");
    for (field, value) in shown.as_object().expect("an object") {
        match patch.get(field) {
            None => assert_eq!(value, &kept[field], "{field}"),
            Some(Value::Number(asked)) => {
                assert_eq!(value.as_f64(), asked.as_f64(), "{field}");
            }
            Some(asked) if asked.is_boolean() => assert_eq!(value, asked, "{field}"),
            Some(_) => {}
        }
    }
    assert_eq!(before.patched(&shown).as_ref(), Ok(&after), "what is shown can be set");
});
