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
/// Where it must go whatever was attempted, the news is a curtail too: what is known of the
/// attempts may be older than what the receiver knows.
///
/// A release that was acknowledged leaves nothing to remember.
pub(super) fn command(newest: &Event, last: Option<Attempted>, owed: bool) -> Option<&'static str> {
    match (last, !newest.is_release()) {
        (None, false) => (newest.unconditional || owed).then_some("site.release"),
        (Some(_), false) => Some("site.release"),
        (Some(last), true) if last.curtailed && last.held => {
            let news = !last.acknowledged || last.position < newest.position;
            let command = match newest.unconditional {
                true => "site.curtail",
                false => "site.adjust",
            };
            news.then_some(command)
        }
        // The operator gave this very command up.
        (Some(last), true) if last.acknowledged && last.position == newest.position => None,
        (_, true) => Some("site.curtail"),
    }
}

/// What is written down when a site's newest event is attempted.
pub(super) fn attempted(newest: &Event, last: Option<Attempted>) -> Attempted {
    let curtailed = !newest.is_release();
    Attempted {
        position: newest.position,
        curtailed,
        acknowledged: false,
        held: curtailed && last.is_some_and(|last| last.held),
    }
}

/// What to send of a site once more. A receiver that lost everything must curtail
/// by it, so that it is no adjustment.
pub(super) fn refreshed(newest: &Event) -> Event {
    let command = match newest.is_release() {
        false => "site.curtail",
        true => "site.release",
    };
    Event {
        event_type: command.into(),
        ..newest.clone()
    }
}
