//! The operator's hand: what a site must do for a time, whatever dispatches say.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{DispatchId, SiteId, SiteMode, rfc3339, time};

/// The longest that an override may last.
pub const OVERRIDE_MAX: TimeDelta = TimeDelta::hours(48);

/// The longest reason, in characters.
const REASON_MAX: usize = 500;

/// Why an override is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OverrideError {
    /// It would be over already.
    #[error("`until`: {} has passed; give a time that is ahead, 48 hours at most", rfc3339(*.0))]
    Past(DateTime<Utc>),
    /// It would last too long.
    #[error(
        "`until`: {} is more than 48 hours ahead, the longest that an override may last; give an earlier time, and renew it then if need be",
        rfc3339(*.0)
    )]
    TooLong(DateTime<Utc>),
    /// Nobody could tell later why.
    #[error("`reason`: say why, for those who read it later")]
    NoReason,
    /// The reason is too long.
    #[error("`reason`: has {0} characters, and 500 are the most; shorten it")]
    LongReason(usize),
    /// The reason has characters that a terminal or a log would obey.
    #[error("`reason`: has a line break or another control character; write one line of text")]
    ControlCharacter,
}

/// What an operator has ordered for a site, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// What the site must do.
    pub state: SiteMode,
    /// When the operator ordered it, UTC.
    #[serde(serialize_with = "time::write")]
    pub since: DateTime<Utc>,
    /// Until when, UTC. From then on the site follows its dispatches again.
    #[serde(serialize_with = "time::write")]
    pub until: DateTime<Utc>,
    /// Why, in the operator's words.
    pub reason: Arc<str>,
}

impl Override {
    /// An override that an operator orders at `now`.
    ///
    /// # Errors
    /// If it is over already or lasts longer than [`OVERRIDE_MAX`], or has no reason of
    /// one line of 1 to 500 characters.
    pub fn new(
        state: SiteMode,
        until: DateTime<Utc>,
        reason: &str,
        now: DateTime<Utc>,
    ) -> Result<Self, OverrideError> {
        let reason = reason.trim();
        let length = reason.chars().count();
        if until <= now {
            Err(OverrideError::Past(until))
        } else if until - now > OVERRIDE_MAX {
            Err(OverrideError::TooLong(until))
        } else if reason.is_empty() {
            Err(OverrideError::NoReason)
        } else if length > REASON_MAX {
            Err(OverrideError::LongReason(length))
        } else if reason.chars().any(char::is_control) {
            Err(OverrideError::ControlCharacter)
        } else {
            Ok(Self {
                state,
                since: now,
                until,
                reason: reason.into(),
            })
        }
    }

    /// The same, over for good: also for a clock that is set back.
    #[must_use]
    pub fn over(&self) -> Self {
        Self {
            until: self.since,
            ..self.clone()
        }
    }

    /// Whether it is over at `now`.
    pub fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.until <= now.max(self.since)
    }

    /// When it will be over, UTC. `None` if it is over whatever the clock shows.
    pub fn end(&self) -> Option<DateTime<Utc>> {
        (self.until > self.since).then_some(self.until)
    }

    /// Whether the site must curtail.
    pub fn curtails(&self) -> bool {
        self.state == SiteMode::Curtailed
    }
}

/// What an operator orders for a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverrideOrder {
    /// The site.
    pub site: SiteId,
    /// Its name, should no dispatch have named it yet.
    pub name: String,
    /// The customer's own name for it, likewise.
    pub customer_location_id: String,
    /// The override. `None` ends the one there is: the site follows its dispatches.
    pub site_override: Option<Arc<Override>>,
}

/// How an override bears on a dispatch: the dispatch would hold the site, and the
/// operator decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverrideNote {
    /// The dispatch.
    pub dispatch: DispatchId,
    /// The site.
    pub site: SiteId,
    /// The override from now. `None` if it has ended.
    pub site_override: Option<Arc<Override>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hours)
    }

    #[test]
    fn an_override_has_an_end_within_48_hours_and_a_reason_of_one_line() {
        let order = |until, reason: &str| Override::new(SiteMode::Normal, until, reason, at(10));
        assert_eq!(&*order(at(58), " new meter ").unwrap().reason, "new meter");
        assert_eq!(order(at(10), "new meter"), Err(OverrideError::Past(at(10))));
        let late = at(58) + TimeDelta::milliseconds(1);
        assert_eq!(order(late, "new meter"), Err(OverrideError::TooLong(late)));
        assert_eq!(order(at(11), " "), Err(OverrideError::NoReason));
        assert!(order(at(11), &"é".repeat(500)).is_ok());
        assert_eq!(
            order(at(11), &"é".repeat(501)),
            Err(OverrideError::LongReason(501))
        );
        for reason in ["new\nmeter", "\u{1b}[31mnew meter"] {
            let refused = order(at(11), reason);
            assert_eq!(refused, Err(OverrideError::ControlCharacter), "{reason:?}");
        }
    }
}
