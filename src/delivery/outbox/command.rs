//! Decides which command a site is sent: the difference to what was last attempted.

use crate::model::Event;
use crate::store::Attempted;

/// What to send of a site, given its newest event, what was last attempted, and
/// whether an unconditional release was superseded before it was attempted. `None`
/// where the receiver knows all it needs.
///
/// ```text
/// last attempted                     now curtailed            now normal
/// nothing                            curtail                  nothing, unless a
///                                                             release is unconditional
/// curtail, none acknowledged yet     curtail, unless skipped  release
/// curtail, one acknowledged          adjust, if that is news  release
/// release, unknown                   curtail                  release
/// ```
///
/// A release that was acknowledged leaves nothing to remember.
pub(super) fn command(newest: &Event, told: Option<Attempted>, owed: bool) -> Option<&'static str> {
    match (told, is_curtailed(newest)) {
        (None, false) => (newest.unconditional || owed).then_some("site.release"),
        (Some(_), false) => Some("site.release"),
        (Some(told), true) if told.curtailed && told.held => {
            let news = !told.acknowledged || told.position < newest.position;
            news.then_some("site.adjust")
        }
        // The operator gave this very command up.
        (Some(told), true) if told.acknowledged && told.position == newest.position => None,
        (_, true) => Some("site.curtail"),
    }
}

/// What is written down when a site's newest event is attempted.
pub(super) fn attempted(newest: &Event, told: Option<Attempted>) -> Attempted {
    let curtailed = is_curtailed(newest);
    Attempted {
        position: newest.position,
        curtailed,
        acknowledged: false,
        held: curtailed && told.is_some_and(|told| told.held),
    }
}

/// What to send of a site once more. A receiver that lost everything must curtail
/// by it, so that it is no adjustment.
pub(super) fn refreshed(newest: &Event) -> Event {
    let command = match is_curtailed(newest) {
        true => "site.curtail",
        false => "site.release",
    };
    Event {
        event_type: command.into(),
        ..newest.clone()
    }
}

/// Whether a site event says that the site must curtail.
fn is_curtailed(event: &Event) -> bool {
    &*event.event_type != "site.release"
}
