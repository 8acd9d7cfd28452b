//! Changes, told to the operator.

use crate::engine::SiteChange;
use crate::model::{Change, ChangeKind, rfc3339};

/// How many changes of one commit are told one by one.
const TOLD: usize = 50;

/// Tells what a commit changed.
pub(super) fn changes(changes: &[Change]) {
    for change in changes.iter().take(TOLD) {
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
    told_in_part(changes.len());
}

/// Tells what the sites must do from now.
pub(super) fn sites(changes: &[SiteChange]) {
    for change in changes.iter().take(TOLD) {
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
    told_in_part(changes.len());
}

fn told_in_part(changes: usize) {
    if let Some(more) = changes.checked_sub(TOLD).filter(|more| *more > 0) {
        tracing::info!("and {more} more in the same commit");
    }
}
