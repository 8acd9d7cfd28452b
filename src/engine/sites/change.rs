//! A change of a site that its controller must act on.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::model::{DispatchId, SiteState, Source};

/// What a site is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SiteChangeKind {
    /// It must curtail from now.
    Curtail,
    /// It is still curtailed, but the amount, the end, the dispatches, their programs,
    /// its unknown fields or what an operator ordered are other than before.
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
                    || before.site_override != after.site_override
                    || (before.programs != after.programs && !before.programs.is_empty()) =>
            {
                Some(Self::Adjust)
            }
            _ => None,
        }
    }
}

/// Why a site is told something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// This dispatch. Where several changed at once: the first that took hold, else
    /// the last that let go.
    Dispatch(DispatchId),
    /// An operator gave an order, or what was ordered has ended. The operator's reason.
    Operator(Arc<str>),
}

impl Cause {
    /// How it is named beside dispatch ids.
    const OPERATOR: &str = "operator";

    /// The dispatch, if it is one.
    pub fn dispatch(&self) -> Option<&DispatchId> {
        match self {
            Self::Dispatch(id) => Some(id),
            Self::Operator(_) => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dispatch(id) => id.fmt(f),
            Self::Operator(_) => f.write_str(Self::OPERATOR),
        }
    }
}

/// As `cause`, and an operator's `reason`. A dispatch may have the id `operator`: then
/// there is no reason.
impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::Dispatch(id) => map.serialize_entry("cause", id)?,
            Self::Operator(reason) => {
                map.serialize_entry("cause", Self::OPERATOR)?;
                map.serialize_entry("reason", reason)?;
            }
        }
        map.end()
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
    /// What caused it.
    #[serde(flatten)]
    pub cause: Cause,
    /// It is delivered whatever was attempted before, as far as the state tells: a
    /// release for a site that an earlier life of the daemon may have curtailed (rule R6),
    /// or what a site is told once more because commits were lost. The state may be new,
    /// or an older copy.
    #[serde(skip)]
    pub unconditional: bool,
}
