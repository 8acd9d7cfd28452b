//! What the tables of the report show: rows of text, however many fit.

use chrono::{DateTime, Utc};

use super::report::{Dispatch, DueCommand, Overridden, Report, Site, Status, Untold};
use super::table::Colour;
use super::words::{end, relative, time};

/// A table, whether or not it fits.
#[derive(Default)]
pub(super) struct Table {
    /// What stands there instead if it has no rows.
    pub none: &'static str,
    /// Whether it is shown without rows.
    pub always: bool,
    /// Names, and the most columns of text that each takes.
    pub columns: &'static [(&'static str, usize)],
    pub rows: Vec<(Colour, Vec<String>)>,
    /// How many rows it would have if the daemon told all.
    pub of: usize,
}

/// Commands that are due and cannot be sent.
pub(super) fn due_commands(status: &Status) -> Table {
    let row = |due: &DueCommand| {
        let cells = [
            due.site.clone(),
            due.name.clone(),
            due.command.clone(),
            time(due.since),
        ];
        (Colour::Red, cells.to_vec())
    };
    Table {
        columns: &[("DUE", 12), ("NAME", 16), ("COMMAND", 8), ("SINCE", 12)],
        rows: status.due_commands.iter().map(row).collect(),
        ..Table::default()
    }
}

/// Sites that were not told what they must do.
pub(super) fn untold(status: &Status) -> Table {
    let row = |untold: &Untold| {
        let cells = [
            untold.site.clone(),
            untold.command.clone(),
            untold.name.clone(),
            relative(untold.since, status.now),
            untold.sink.clone(),
            untold.reason.clone(),
        ];
        (Colour::Red, cells.to_vec())
    };
    Table {
        columns: &[
            ("NOT TOLD", 10),
            ("MUST", 7),
            ("NAME", 12),
            ("SINCE", 10),
            ("SINK", 14),
            ("REASON", 17),
        ],
        rows: status.untold.iter().map(row).collect(),
        of: status.untold_sites,
        ..Table::default()
    }
}

/// Sites for which an operator has ordered something.
pub(super) fn overridden(status: &Status) -> Table {
    let row = |overridden: &Overridden| {
        let order = &overridden.order;
        let cells = [
            overridden.site.clone(),
            overridden.name.clone(),
            match &*order.state {
                "normal" => "kept out".to_owned(),
                state => state.to_owned(),
            },
            time(order.until),
            order.reason.clone(),
        ];
        (Colour::Yellow, cells.to_vec())
    };
    Table {
        columns: &[
            ("BY HAND", 12),
            ("NAME", 14),
            ("ORDER", 9),
            ("UNTIL", 12),
            ("REASON", 24),
        ],
        rows: status.overridden.iter().map(row).collect(),
        of: status.overridden_sites,
        ..Table::default()
    }
}

/// Dispatches that are not over.
pub(super) fn dispatches(report: &Report) -> Table {
    let now = report.status.now;
    let mut shown: Vec<&Dispatch> = report
        .schedule
        .dispatches
        .iter()
        .filter(|dispatch| !dispatch.is_over())
        .collect();
    shown.sort_by_key(|dispatch| (dispatch.phase != "active", dispatch.start_time));
    let row = |dispatch: &Dispatch| {
        let colour = match &*dispatch.phase {
            "active" => Colour::Yellow,
            _ => Colour::None,
        };
        let cells = [
            dispatch.phase.clone(),
            dispatch.id.clone(),
            time(dispatch.start_time),
            end(dispatch.end_time),
            next(dispatch, now),
            dispatch.sites.len().to_string(),
            if dispatch.test { "test" } else { "" }.to_owned(),
        ];
        (colour, cells.to_vec())
    };
    Table {
        none: "No dispatch is active or scheduled.",
        always: true,
        columns: &[
            ("PHASE", 9),
            ("DISPATCH", 10),
            ("START", 12),
            ("END", 12),
            ("NEXT", 16),
            ("SITES", 5),
            ("", 4),
        ],
        rows: shown.into_iter().map(row).collect(),
        ..Table::default()
    }
}

/// Sites that are curtailed.
pub(super) fn curtailed(report: &Report) -> Table {
    let Some(sites) = &report.sites else {
        return Table {
            none: "This daemon does not tell what its sites are to do.",
            always: true,
            ..Table::default()
        };
    };
    let row = |site: &Site| {
        let cells = [
            site.id.clone(),
            site.name.clone(),
            site.customer_location_id.clone(),
            site.commitment_kw
                .map_or_else(|| "?".into(), |kw| kw.to_string()),
            site.since.map_or_else(|| "?".into(), time),
            end(site.until),
            match &site.sinks {
                None => "?".to_owned(),
                Some(sinks) if sinks.is_empty() => "nobody".to_owned(),
                Some(sinks) => sinks.join(", "),
            },
        ];
        let colour = match is_told(site) {
            true => Colour::Yellow,
            false => Colour::Red,
        };
        (colour, cells.to_vec())
    };
    let curtailed = sites.sites.iter().filter(|site| site.state == "curtailed");
    let mut curtailed: Vec<&Site> = curtailed.collect();
    curtailed.sort_by_key(|site| is_told(site));
    Table {
        none: "No site is curtailed.",
        always: true,
        columns: &[
            ("CURTAILED", 10),
            ("NAME", 11),
            ("LOCATION", 8),
            ("KW", 6),
            ("SINCE", 12),
            ("UNTIL", 12),
            ("SINKS", 9),
        ],
        rows: curtailed.into_iter().map(row).collect(),
        ..Table::default()
    }
}

/// Whether no sink is late with its commands, and there is one that gets them.
fn is_told(site: &Site) -> bool {
    let nobody = site.sinks.as_ref().is_some_and(Vec::is_empty);
    site.untold.is_empty() && !nobody
}

/// What is due next for it.
fn next(dispatch: &Dispatch, now: DateTime<Utc>) -> String {
    let (what, due) = if dispatch.phase == "active" {
        ("ends", dispatch.end_time)
    } else {
        ("starts", Some(dispatch.start_time))
    };
    match due {
        Some(due) if due > now => format!("{what} {}", relative(due, now)),
        Some(_) => format!("{what} now"),
        None => "end not known".to_owned(),
    }
}
