//! Without trust nothing begins and nothing is promised (rule R15).

use std::time::Duration;

use crate::violation::{Checked, must};
use dispatchd::sync::WaiterReply;

/// Whether the daemon may act.
#[derive(Debug, Default)]
pub(super) struct Trusting {
    /// Since when it may not.
    since: Option<Duration>,
}

impl Trusting {
    pub fn ends(&mut self, now: Duration) {
        self.since = Some(now);
    }

    pub fn returns(&mut self) {
        self.since = None;
    }

    pub fn is_there(&self) -> bool {
        self.since.is_none()
    }

    pub fn asks(&self, now: Duration) -> Checked {
        self.must_be_there(now, "nothing is asked without trust")
    }

    pub fn starts(&self, now: Duration) -> Checked {
        self.must_be_there(now, "no attempt starts without trust")
    }

    pub fn commits(&self, now: Duration) -> Checked {
        self.must_be_there(now, "no commit begins without trust")
    }

    pub fn replies(&self, outcome: &WaiterReply, now: Duration) -> Checked {
        if !outcome.is_promise() {
            return Ok(());
        }
        self.must_be_there(now, "nothing is promised without trust")
    }

    fn must_be_there(&self, now: Duration, rule: &'static str) -> Checked {
        must(self.is_there(), now, rule, || {
            format!("there is none since {:?}", self.since)
        })
    }
}
