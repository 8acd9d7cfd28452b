//! Writes times as RFC 3339, UTC.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

/// A time as RFC 3339 in UTC, with fractions only where there are any.
pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// A time in JSON, as [`rfc3339`] writes it. chrono gives the same text one
/// character at a time, which costs several times as much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written(pub DateTime<Utc>);

impl Serialize for Written {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(self.0))
    }
}

/// For `serialize_with`.
pub(crate) fn write<S: Serializer>(time: &DateTime<Utc>, to: S) -> Result<S::Ok, S::Error> {
    Written(*time).serialize(to)
}

/// For `serialize_with`.
#[expect(clippy::ref_option, reason = "serde gives it so")]
pub(crate) fn write_optional<S: Serializer>(
    time: &Option<DateTime<Utc>>,
    to: S,
) -> Result<S::Ok, S::Error> {
    time.map(Written).serialize(to)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn a_time_is_written_as_chrono_would() {
        for nanoseconds in [0, 95_000_000, 1_001_000, 7] {
            for seconds in [-1, 0, 1_795_000_000, 253_402_300_799, 253_402_300_800] {
                let time = DateTime::UNIX_EPOCH
                    + TimeDelta::seconds(seconds)
                    + TimeDelta::nanoseconds(nanoseconds);
                assert_eq!(
                    serde_json::to_string(&Written(time)).unwrap(),
                    serde_json::to_string(&time).unwrap()
                );
            }
        }
    }
}
