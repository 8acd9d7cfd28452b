//! The difference between what a sink was last told of a site and what must be
//! now.

use crate::model::Event;
use crate::store::Told;

/// What to tell a sink of a site, given its newest event and what was last
/// attempted. `None` where it knows all it needs.
///
/// ```text
/// last attempted                now curtailed            now normal
/// nothing                       curtail                  nothing
/// curtail, none confirmed yet   curtail                  release
/// curtail, one confirmed        adjust, if that is news  release
/// release, unknown              curtail                  release
/// ```
///
/// A release that was confirmed leaves nothing to remember.
pub(super) fn command(newest: &Event, told: Option<Told>) -> Option<&'static str> {
    match (told, is_curtailed(newest)) {
        (None, false) => None,
        (Some(_), false) => Some("site.release"),
        (Some(told), true) if told.curtailed && told.held => {
            let news = !told.acknowledged || told.position < newest.position;
            news.then_some("site.adjust")
        }
        (_, true) => Some("site.curtail"),
    }
}

/// What is written down when a site's newest event is attempted.
pub(super) fn attempted(newest: &Event, told: Option<Told>) -> Told {
    let curtailed = is_curtailed(newest);
    Told {
        position: newest.position,
        curtailed,
        acknowledged: false,
        held: curtailed && told.is_some_and(|told| told.held),
    }
}

/// Whether a site event says that the site must curtail.
fn is_curtailed(event: &Event) -> bool {
    &*event.event_type != "site.release"
}
