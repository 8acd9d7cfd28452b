//! A dispatch as the API shows it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::{DispatchId, Extra, SiteId, time};

/// Power, in kW. Written without a fraction where it is whole, as the
/// upstream does.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Deserialize)]
#[serde(transparent)]
pub struct Kilowatts(pub f64);

impl Serialize for Kilowatts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// Every whole number up to here is exact in an `f64`.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if self.0.fract() == 0.0 && self.0.abs() < EXACT {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "whole and within the exact range, checked above"
            )]
            serializer.serialize_i64(self.0 as i64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

/// A call to curtail load at some sites for some time.
///
/// Fields and their meaning are the upstream's (`GET /dispatches`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dispatch {
    /// The upstream's id for it.
    pub id: DispatchId,
    /// `false` means cancelled: curtailment can stop at once.
    pub authorized: bool,
    /// `true` for one made as a test: sites need not curtail.
    pub test: bool,
    /// When curtailment begins, UTC.
    #[serde(serialize_with = "time::write")]
    pub start_time: DateTime<Utc>,
    /// When curtailment ends, UTC. `None` while the upstream has not said.
    #[serde(serialize_with = "time::write_optional")]
    pub end_time: Option<DateTime<Utc>>,
    /// When the upstream made it, UTC. Absent in answers before 2025-08.
    #[serde(serialize_with = "time::write_optional")]
    pub creation_time: Option<DateTime<Utc>>,
    /// Counts the upstream's updates from 0. Absent in answers before 2025-08.
    pub modification_number: Option<i64>,
    /// The demand-response program that it belongs to.
    pub program: Program,
    /// The sites that it calls on, each named once. Dispatches share them, for
    /// most name the same ones again and again.
    pub sites: Vec<Arc<Site>>,
    /// Free-form extras. An empty object when there are none.
    pub metadata: Value,
    /// Fields that we do not know.
    #[serde(default, skip_serializing_if = "Extra::is_empty")]
    pub extra: Extra,
}

/// The program that a dispatch belongs to. Nothing is decided by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The upstream's number for it. Absent in answers before 2024-11.
    pub id: Option<i64>,
    /// Its name.
    pub name: Option<String>,
    /// The market it sells into.
    pub market: Option<String>,
    /// `capacity`, `energy`, ...: an open set, so it stays a text.
    pub program_type: Option<String>,
    /// Kept and shown. The upstream says not to use it for times.
    pub timezone: Option<String>,
}

/// A site that a dispatch calls on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// The upstream's id for it.
    pub id: SiteId,
    /// Its name, possibly empty.
    pub name: String,
    /// The customer's own name for it, possibly empty.
    pub customer_location_id: String,
    /// What it has promised to curtail, in kW, when known.
    pub commitment: Option<Kilowatts>,
    /// Fields that we do not know.
    #[serde(default, skip_serializing_if = "Extra::is_empty")]
    pub extra: Extra,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_commitment_is_written_without_a_fraction() {
        assert_eq!(serde_json::to_string(&Kilowatts(12.0)).unwrap(), "12");
        assert_eq!(serde_json::to_string(&Kilowatts(12.5)).unwrap(), "12.5");
        let huge = serde_json::to_string(&Kilowatts(1e300)).unwrap();
        assert_eq!(huge.parse::<f64>().unwrap(), 1e300);
    }
}
