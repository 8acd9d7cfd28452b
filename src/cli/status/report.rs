//! What the daemon tells, as far as it is shown. What it does not tell, being of
//! another version, is left out rather than refused.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// All that is shown.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Report {
    pub status: Status,
    pub schedule: Schedule,
    /// `None` when the daemon tells none.
    pub sites: Option<Sites>,
}

/// `GET /status`
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Status {
    #[serde(default)]
    pub version: String,
    pub started_at: Option<DateTime<Utc>>,
    pub now: DateTime<Utc>,
    pub sync: Sync,
    #[serde(default)]
    pub store: Store,
    #[serde(default)]
    pub schedule: Counts,
    #[serde(default)]
    pub delivery: Vec<Delivery>,
    #[serde(default)]
    pub node: String,
    #[serde(default)]
    pub role: String,
    pub leadership: Option<Leadership>,
    pub api: Option<Api>,
    pub verdict: Option<Verdicts>,
    #[serde(default)]
    pub untold_sites: usize,
    #[serde(default)]
    pub untold: Vec<Untold>,
    #[serde(default)]
    pub due_commands: Vec<DueCommand>,
    #[serde(default)]
    pub overridden_sites: usize,
    #[serde(default)]
    pub overridden: Vec<Overridden>,
}

/// A site for which an operator has ordered something.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Overridden {
    pub site: String,
    #[serde(default)]
    pub name: String,
    #[serde(rename = "override")]
    pub order: Order,
}

/// What an operator has ordered.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Order {
    pub state: String,
    pub until: DateTime<Utc>,
    #[serde(default)]
    pub reason: String,
}

/// What a daemon with a shared state knows of it.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Leadership {
    /// When it last took the lead of a database that may lack the last commits.
    pub commits_lost_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Api {
    pub host: String,
    pub environment: String,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Verdicts {
    pub schedule: Option<Verdict>,
    pub told: Verdict,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Verdict {
    pub level: String,
    pub text: String,
}

/// A site that a sink has not told what it must do.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Untold {
    pub site: String,
    /// What it must be told.
    #[serde(default)]
    pub command: String,
    #[serde(default)]
    pub name: String,
    pub sink: String,
    pub since: DateTime<Utc>,
    #[serde(default)]
    pub reason: String,
}

/// A command that is due while nothing can be stored.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct DueCommand {
    pub site: String,
    #[serde(default)]
    pub name: String,
    pub command: String,
    pub since: DateTime<Utc>,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Sync {
    pub state: String,
    #[serde(default)]
    pub poll_interval_seconds: f64,
    pub last_poll: Option<Poll>,
    pub last_successful_poll: Option<DateTime<Utc>>,
    pub next_poll: Option<DateTime<Utc>>,
    #[serde(default)]
    pub webhooks: Webhooks,
    #[serde(default)]
    pub missed_webhooks: u64,
    #[serde(default)]
    pub heals: u64,
    #[serde(default)]
    pub unannounced_changes: u64,
    #[serde(default)]
    pub polled_only_changes: u64,
    /// There if the daemon keeps its webhook registered.
    pub registration: Option<IgnoredAny>,
    #[serde(default)]
    pub in_doubt: InDoubt,
    pub mass_absence: Option<MassAbsence>,
    pub slowdown: Option<Slowdown>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct InDoubt {
    pub absent: u64,
    pub lower: u64,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct MassAbsence {
    pub seconds: u64,
    pub absent: u64,
    pub live: u64,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Slowdown {
    pub since: DateTime<Utc>,
    pub reason: String,
    pub next_request: Option<DateTime<Utc>>,
    pub silent_until: Option<DateTime<Utc>>,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Poll {
    pub at: DateTime<Utc>,
    pub error: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Webhooks {
    pub received: u64,
    pub accepted: u64,
    pub rejected: u64,
    pub failed: u64,
    pub wrong_path: u64,
    pub passed_on: u64,
    pub last_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Store {
    pub error: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Counts {
    pub revision: u64,
    pub scheduled: u64,
    pub active: u64,
    pub ended: u64,
    pub cancelled: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Delivery {
    pub sink: String,
    pub pending: u64,
    pub oldest_pending_seconds: Option<f64>,
    pub failed_attempts: u64,
    pub state: String,
    pub last_error: Option<String>,
}

/// `GET /schedule`
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Schedule {
    pub dispatches: Vec<Dispatch>,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Dispatch {
    pub id: String,
    pub phase: String,
    #[serde(default)]
    pub test: bool,
    pub start_time: DateTime<Utc>,
    pub end_time: Option<DateTime<Utc>>,
    #[serde(default)]
    pub sites: Vec<serde::de::IgnoredAny>,
    pub first_seen: DateTime<Utc>,
    #[serde(default)]
    pub discovered_by: String,
}

impl Dispatch {
    pub fn is_over(&self) -> bool {
        matches!(&*self.phase, "ended" | "cancelled")
    }
}

/// `GET /sites`
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Sites {
    pub sites: Vec<Site>,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Site {
    pub id: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub customer_location_id: String,
    pub state: String,
    pub since: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
    pub commitment_kw: Option<f64>,
    /// The sinks that get its commands. `None` if the daemon does not tell.
    pub sinks: Option<Vec<String>>,
    /// The sinks that have not told it what it must do.
    #[serde(default)]
    pub untold: Vec<serde::de::IgnoredAny>,
}
