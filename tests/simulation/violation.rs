//! A rule that was broken.

use std::time::Duration;

/// What was broken, when and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule, in a few words.
    pub rule: &'static str,
    /// What was seen.
    pub detail: String,
    /// When, since the begin of the run.
    pub at: Duration,
}

/// Whether all is well.
pub(super) type Checked = Result<(), Violation>;

/// Breaks `rule` unless `holds`.
pub(super) fn must(
    holds: bool,
    at: Duration,
    rule: &'static str,
    detail: impl FnOnce() -> String,
) -> Checked {
    if holds {
        return Ok(());
    }
    Err(Violation {
        rule,
        detail: detail(),
        at,
    })
}
