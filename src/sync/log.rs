//! Writes changes to the log.

use crate::clock::Mono;
use crate::engine::{DoubtChange, MassAbsence, SiteChange};
use crate::model::{Change, ChangeKind, DoubtKind, rfc3339};
use crate::seldom::Seldom;

/// How many changes of one commit are told one by one.
const MOST_LINES: usize = 50;

/// Tells what a commit changed.
pub(super) fn changes(changes: &[Change]) {
    for change in changes.iter().take(MOST_LINES) {
        let dispatch = &change.entry.dispatch;
        let what = change.kind.event_type().trim_start_matches("dispatch.");
        let fields = match &change.kind {
            ChangeKind::Updated { changed } => format!(" {changed:?}"),
            ChangeKind::Cancelled(reason) => format!(" ({})", reason.name()),
            _ => String::new(),
        };
        tracing::info!(
            dispatch = %change.id,
            source = change.source.name(),
            revision = change.revision,
            start = %rfc3339(dispatch.start_time),
            end = %dispatch.end_time.map_or_else(|| "open".to_owned(), rfc3339),
            sites = dispatch.sites.len(),
            "{what}{fields}"
        );
    }
    log_rest(changes.len());
}

/// Tells what the API seems to say and is not believed yet. During a mass absence
/// nothing is looked up, and one line has said so.
pub(super) fn doubts(
    doubts: &[DoubtChange],
    mass_absence: bool,
    lower_numbers: &Seldom,
    now: Mono,
) {
    let mut logged = 0;
    for doubt in doubts {
        match doubt.kind {
            DoubtKind::Absent if !mass_absence => {
                logged += 1;
                if logged <= MOST_LINES {
                    tracing::info!(
                        dispatch = %doubt.id,
                        "the list lacks a live dispatch; it is looked up before it is cancelled"
                    );
                }
            }
            DoubtKind::Absent => {}
            DoubtKind::Lower => {
                if let Some(count) = lower_numbers.count(now) {
                    tracing::info!(
                        dispatch = %doubt.id,
                        count,
                        "the API shows a lower modification_number than before; the dispatch is looked up before it is believed (logged once a minute)"
                    );
                }
            }
        }
    }
    log_rest(logged);
}

/// Tells when lists begin or cease to lack most of the live dispatches.
pub(super) fn mass_absence(before: Option<MassAbsence>, after: Option<MassAbsence>) {
    match (before, after) {
        (None, Some(mass)) => tracing::error!(
            absent = mass.absent,
            live = mass.live,
            "the API's list lacks most of the live dispatches: nothing is cancelled for that, \
             and nothing looked up, until it has lasted ten minutes; check the API and the key"
        ),
        (Some(_), None) => {
            tracing::info!("the API's list shows most of the live dispatches again");
        }
        _ => {}
    }
}

/// Tells what the sites must do from now.
pub(super) fn sites(changes: &[SiteChange]) {
    for change in changes.iter().take(MOST_LINES) {
        let site = &change.site;
        let what = change.kind.event_type().trim_start_matches("site.");
        tracing::info!(
            site = %site.id,
            source = change.source.name(),
            cause = %change.cause,
            kw = site.commitment_kw.map(|commitment| commitment.0),
            until = %site.until.map_or_else(|| "unknown".to_owned(), rfc3339),
            "{what}"
        );
    }
    log_rest(changes.len());
}

fn log_rest(changes: usize) {
    if let Some(more) = changes.checked_sub(MOST_LINES).filter(|more| *more > 0) {
        tracing::info!("and {more} more in the same commit");
    }
}
