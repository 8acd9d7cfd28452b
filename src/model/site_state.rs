//! The state of a site: what it must do now.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{DispatchId, Extra, Kilowatts, Override, ProgramName, SiteId, time};

/// Whether a site must curtail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SiteMode {
    /// Nothing holds it, or an operator keeps it out.
    Normal,
    /// At least one dispatch holds it, or an operator curtails it.
    Curtailed,
}

impl SiteMode {
    /// The name used in JSON and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Curtailed => "curtailed",
        }
    }
}

/// The dispatch that will hold a site next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextDispatch {
    /// When it starts, UTC. Its lead begins earlier.
    #[serde(serialize_with = "time::write")]
    pub start_time: DateTime<Utc>,
    /// Its id.
    pub dispatch: DispatchId,
}

/// A site as `/sites` shows it, `site.*` events carry it and the store keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SiteState {
    /// The upstream's id for it.
    pub id: SiteId,
    /// Its name, from a dispatch that holds it, else from the one that holds it
    /// next, else from the last one.
    pub name: String,
    /// The customer's own name for it, from the same dispatch.
    pub customer_location_id: String,
    /// What it must do.
    pub state: SiteMode,
    /// Since when it must, UTC: when that was decided. For a site that never
    /// was curtailed: when it was first heard of.
    #[serde(serialize_with = "time::write")]
    pub since: DateTime<Utc>,
    /// The end of the unbroken chain of dispatches, and of an override that curtails,
    /// UTC. `None` while any of them is open, and for a site that is normal.
    #[serde(serialize_with = "time::write_optional")]
    pub until: Option<DateTime<Utc>>,
    /// The largest known commitment among those that hold it, in kW.
    pub commitment_kw: Option<Kilowatts>,
    /// The dispatches that hold it now, by id. None while an operator keeps it out.
    pub dispatches: Vec<DispatchId>,
    /// The programs of these dispatches, each once. Empty in a state that was stored
    /// before programs were kept with sites.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<Arc<ProgramName>>,
    /// The fields of the site that we do not know, of each dispatch that holds it and
    /// has any. Those of a dispatch itself are not here: they may name other sites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Arc<BTreeMap<DispatchId, Extra>>>,
    /// The next one that will, and does not hold it yet.
    pub next: Option<NextDispatch>,
    /// What an operator has ordered for it, while that lasts.
    #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
    pub site_override: Option<Arc<Override>>,
}

impl SiteState {
    /// A site of which nothing is known but its id, heard of at `since`.
    pub fn unknown(id: SiteId, since: DateTime<Utc>) -> Self {
        Self {
            id,
            name: String::new(),
            customer_location_id: String::new(),
            state: SiteMode::Normal,
            since,
            until: None,
            commitment_kw: None,
            dispatches: Vec::new(),
            programs: Vec::new(),
            extra: None,
            next: None,
            site_override: None,
        }
    }

    /// Whether it must curtail now.
    pub fn is_curtailed(&self) -> bool {
        self.state == SiteMode::Curtailed
    }
}
