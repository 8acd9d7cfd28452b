//! Writes changes to the log.

use std::sync::Arc;

use chrono::TimeDelta;

use super::heals::Correction;
use crate::clock::Mono;
use crate::engine::{Cause, DoubtChange, MassAbsence, SiteChange, SiteChangeKind};
use crate::model::{
    Change, ChangeKind, DispatchId, DoubtKind, SiteMode, SiteState, Source, rfc3339,
};
use crate::seldom::{Seldom, Trouble, spoken};

/// How many changes of one commit are told one by one.
const MOST_LINES: usize = 50;

/// Tells what a commit changed.
pub(super) fn changes(changes: &[Change]) {
    for change in changes.iter().take(MOST_LINES) {
        let dispatch = &change.entry.dispatch;
        let what = change.kind.event_type().trim_start_matches("dispatch.");
        let fields = match &change.kind {
            ChangeKind::Updated { changed } => {
                let names: Vec<_> = changed.iter().map(|field| field.name()).collect();
                format!(" ({})", names.join(", "))
            }
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

/// Tells which changes a poll brought that no webhook had brought.
pub(super) fn heals(corrections: &[Correction]) {
    for Correction { id, withdrawn } in corrections.iter().take(MOST_LINES) {
        tracing::info!(
            dispatch = %id,
            withdrawn,
            "healed: a poll found a change that no webhook had brought"
        );
    }
    log_rest(corrections.len());
}

/// Limits lines that can repeat with every answer of the API to one a minute.
#[derive(Debug, Default)]
pub(super) struct LogLimits {
    absent: Seldom,
    lower_numbers: Seldom,
    missed: Seldom,
    rewinds: Seldom,
    jumps: Seldom,
    mass_absence: Trouble,
    unannounced: Trouble,
    polled_only: Trouble,
}

impl LogLimits {
    /// Tells what the API seems to say and is not believed yet. During a mass absence
    /// nothing is looked up, and one line has said so.
    pub fn doubts(&self, doubts: &[DoubtChange], mass_absence: bool, now: Mono) {
        for doubt in doubts {
            match doubt.kind {
                DoubtKind::Absent if !mass_absence => {
                    if let Some(count) = self.absent.count(now) {
                        tracing::info!(
                            dispatch = %doubt.id,
                            count,
                            "the list lacks a live dispatch; it is looked up before it is cancelled (logged once a minute)"
                        );
                    }
                }
                DoubtKind::Absent => {}
                DoubtKind::Lower => {
                    if let Some(count) = self.lower_numbers.count(now) {
                        tracing::info!(
                            dispatch = %doubt.id,
                            count,
                            "the API shows a lower modification_number than before; the dispatch is looked up before it is believed (logged once a minute)"
                        );
                    }
                }
            }
        }
    }

    /// Tells of changes that polls found and whose webhooks did not come within a minute.
    pub fn missed(&mut self, dispatches: &[DispatchId], now: Mono) {
        for id in dispatches {
            if let Some(count) = self.missed.count(now) {
                tracing::warn!(
                    dispatch = %id,
                    count,
                    "missed a webhook: a poll found a change for which none has come; `dispatchd verify` \
                     shows whether webhooks get in (logged once a minute)"
                );
            }
        }
    }

    /// Tells that lower numbers were taken over.
    pub fn rewinds(&self, rewinds: u64, now: Mono) {
        if rewinds > 0 && self.rewinds.count(now).is_some() {
            tracing::warn!(
                dispatches = rewinds,
                "the API's numbers went back, as after a restore from a backup; taken over"
            );
        }
    }

    /// Tells that the wall clock jumped by so much.
    pub fn clock_jump(&self, jump: TimeDelta, now: Mono) {
        if let Some(count) = self.jumps.count(now) {
            tracing::warn!(
                seconds = jump.num_seconds(),
                count,
                "the wall clock jumped, or the machine slept; polling to catch up"
            );
        }
    }

    /// Tells when polls have found changes that no webhook announced, and none has come
    /// since the start; and when the first one comes.
    pub fn unannounced(&mut self, changes: u64, now: Mono) {
        if changes > 0 {
            if self.unannounced.begins(now) {
                tracing::warn!(
                    changes,
                    "a webhook is registered and none has come since the start, although polls have \
                     found changes: webhooks do not get in; see `dispatchd webhook list`, and check the \
                     way from the registered address to --listen (proxy, firewall, certificate)"
                );
            }
        } else if let Some(lasted) = self.unannounced.over(now) {
            tracing::info!(lasted = %spoken(lasted), "the first webhook since the start has come");
        }
    }

    /// Tells a daemon's operator that registers the webhook by hand, or none, when polls
    /// have found changes and no webhook has come since the start.
    pub fn polled_only(&mut self, changes: u64, now: Mono) {
        if changes > 0 {
            if self.polled_only.begins(now) {
                tracing::info!(
                    changes,
                    "polls have found changes, and no webhook has come since the start; dispatchd registers \
                     none without --public-url. One that was registered by hand does not get in: see \
                     `dispatchd webhook list`, and check the way from there to --listen (proxy, firewall, \
                     certificate, path, secret)"
                );
            }
        } else if let Some(lasted) = self.polled_only.over(now) {
            tracing::info!(lasted = %spoken(lasted), "the first webhook since the start has come");
        }
    }

    /// Tells when lists begin or cease to lack most of the live dispatches.
    pub fn mass_absence(
        &mut self,
        before: Option<MassAbsence>,
        after: Option<MassAbsence>,
        now: Mono,
    ) {
        if let (None, Some(mass)) = (before, after)
            && self.mass_absence.lasts(now).is_some()
        {
            tracing::error!(
                absent = mass.absent,
                live = mass.live,
                "the API's list lacks most of the live dispatches: nothing is cancelled for that, \
                 and nothing looked up, until it has lasted ten minutes; check the API and the key"
            );
        }
        if let (Some(_), None) = (before, after)
            && let Some(lasted) = self.mass_absence.over(now)
        {
            tracing::info!(
                lasted = %spoken(lasted),
                "the API's list shows most of the live dispatches again"
            );
        }
    }
}

/// Tells what the sites must do from now.
pub(super) fn sites(changes: &[SiteChange]) {
    for change in changes.iter().take(MOST_LINES) {
        let site = &change.site;
        let rerouted = change.kind == SiteChangeKind::Adjust
            && change.source == Source::Operator
            && matches!(change.cause, Cause::Dispatch(_));
        let what = match rerouted {
            true => {
                "routes have changed: curtail at sinks that gain the site, release at those that lose it"
            }
            false => change.kind.event_type().trim_start_matches("site."),
        };
        tracing::info!(
            site = %site.id,
            source = change.source.name(),
            cause = %change.cause,
            kw = site.commitment_kw.map(|commitment| commitment.0),
            // A site that is released is told no time.
            until = (site.state == SiteMode::Curtailed).then(|| {
                tracing::field::display(site.until.map_or_else(|| "open".to_owned(), rfc3339))
            }),
            "{what}"
        );
    }
    log_rest(changes.len());
}

/// Tells that commits were lost and made up for.
pub(super) fn retold(sites: usize) {
    tracing::warn!(
        sites,
        "commits may have been lost: each site of the schedule is told once more whether to curtail"
    );
}

/// Tells what operators ordered, and where that has ended.
pub(super) fn overridden(sites: &[Arc<SiteState>]) {
    for site in sites.iter().take(MOST_LINES) {
        match &site.site_override {
            Some(order) if order.end().is_some() => tracing::info!(
                site = %site.id,
                state = order.state.name(),
                until = %rfc3339(order.until),
                reason = &*order.reason,
                "an operator decides about a site"
            ),
            _ => tracing::info!(
                site = %site.id,
                state = site.state.name(),
                "a site follows its dispatches again: what an operator ordered has ended"
            ),
        }
    }
    log_rest(sites.len());
}

fn log_rest(changes: usize) {
    if let Some(more) = changes.checked_sub(MOST_LINES).filter(|more| *more > 0) {
        tracing::info!(changes = more, "the same commit changed more");
    }
}
