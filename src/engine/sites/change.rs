//! A change of a site that its controller must act on.

use std::sync::Arc;

use serde::Serialize;

use crate::model::{DispatchId, SiteState, Source};

/// What a site is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SiteChangeKind {
    /// It must curtail from now.
    Curtail,
    /// It is still curtailed, but the amount, the end, the dispatches, their programs
    /// or its unknown fields are other than before.
    Adjust,
    /// Nothing holds it any more.
    Release,
}

impl SiteChangeKind {
    /// The event type that announces it.
    pub fn event_type(self) -> &'static str {
        match self {
            Self::Curtail => "site.curtail",
            Self::Adjust => "site.adjust",
            Self::Release => "site.release",
        }
    }

    /// What leads from one state of a site to the next. `None` where the site
    /// has nothing to do: another name or another `next` moves no load.
    pub(super) fn between(before: &SiteState, after: &SiteState) -> Option<Self> {
        match (before.is_curtailed(), after.is_curtailed()) {
            (false, true) => Some(Self::Curtail),
            (true, false) => Some(Self::Release),
            (true, true)
                if before.until != after.until
                    || before.commitment_kw != after.commitment_kw
                    || before.dispatches != after.dispatches
                    || before.extra != after.extra
                    || (before.programs != after.programs && !before.programs.is_empty()) =>
            {
                Some(Self::Adjust)
            }
            _ => None,
        }
    }
}

/// What a site is told, and why. Serialized it is the `data` of the event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SiteChange {
    /// The site as it is from now.
    #[serde(flatten)]
    pub site: Arc<SiteState>,
    /// What kind of change.
    #[serde(skip)]
    pub kind: SiteChangeKind,
    /// What brought it.
    pub source: Source,
    /// The dispatch that caused it. Where several did at once: the first that
    /// took hold, else the last that let go.
    pub cause: DispatchId,
    /// It is delivered although no curtail was ever attempted, as far as the state
    /// tells: a release for a site that an earlier life of the daemon may have
    /// curtailed (rule R6). The state may be new, or an older copy.
    #[serde(skip)]
    pub unconditional: bool,
}
