//! How times are written.

use chrono::{DateTime, SecondsFormat, Utc};

/// A time as RFC 3339 in UTC, with fractions only where there are any.
pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
