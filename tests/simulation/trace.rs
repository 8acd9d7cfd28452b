//! What happened, line by line, for whoever must understand it.

use std::time::Duration;

/// The story of a run. It costs nothing while it is not told.
#[derive(Debug, Default)]
pub(super) struct Trace {
    lines: Option<Vec<String>>,
}

impl Trace {
    /// A trace that is kept if `told`.
    pub fn new(told: bool) -> Self {
        Self {
            lines: told.then(Vec::new),
        }
    }

    /// Adds a line.
    pub fn line(&mut self, at: Duration, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>9.3} {}", at.as_secs_f64(), line()));
        }
    }

    /// All lines.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
