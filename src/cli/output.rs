//! Writes results to standard output.

use std::io::{ErrorKind, Write};

use super::Failure;
pub(super) use crate::model::plain;

/// Writes `text` as it is. A reader that has gone away wants no more, which is
/// no failure; `false` tells so.
pub(super) fn write(text: &str) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Runtime(format!(
            "standard output cannot be written: {error}"
        ))),
    }
}

/// Writes a line.
pub(super) fn line(text: &str) -> Result<bool, Failure> {
    write(&format!("{text}\n"))
}
