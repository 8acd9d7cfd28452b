//! The words of the field: dispatch, site, commitment, program, phase.
//!
//! Plain data, read by every other module. Units: commitments in kW, times in
//! UTC.

mod answer;
mod change;
mod dispatch;
mod doubt;
mod entry;
mod event;
mod extra;
mod history;
mod id;
mod order;
mod reading;
mod route;
mod site_override;
mod site_state;
pub(crate) mod time;
mod words;

pub use answer::{Answer, List};
pub use change::{CancelReason, Change, ChangeKind, Field};
pub use dispatch::{Dispatch, Kilowatts, Program, Site};
pub use doubt::{Doubt, DoubtKind, FirstAnswer, Inquiry};
pub use entry::{Entry, Phase, Source};
pub use event::{CommandOrigin, DAEMON, Event};
pub use extra::{EXTRA_DEPTH_MAX, EXTRA_MAX, Extra, Json};
pub use history::{FromTo, HistoryItem, OVERRIDDEN, SKIPPED, SiteOverride, SkippedEvent};
pub use id::{DispatchId, InvalidId, SiteId};
pub use order::Asked;
pub use reading::{Reading, UnreadParts};
pub use route::{EVENT_TYPES, ProgramName, Route, RouteError, SinkRoute, SiteNames};
pub use site_override::{OVERRIDE_MAX, Override, OverrideError, OverrideNote, OverrideOrder};
pub use site_state::{NextDispatch, SiteMode, SiteState};
pub use time::rfc3339;
pub use words::{count, first_of, plain};

/// The path of the webhook endpoint, on the listener and in what is registered at
/// the API. A secret may follow it.
pub const WEBHOOK_PATH: &str = "/dispatch-listener";
