//! What `tests/fuzz` reaches that others do not. No part of what this library
//! promises.

pub use crate::listener::hint::{Hint, HintError, read as read_hint};
