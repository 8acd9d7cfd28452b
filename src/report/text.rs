//! Writes a report as CSV and as a table for people.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use super::{Command, Report, Row, Verdict};
use crate::model::{plain, rfc3339};
use crate::store::Way;

const HEAD: &str = "dispatch,site,name,customer_location_id,sink,verdict,lateness_seconds,\
curtail_due,curtail_known,curtail_first_attempt,curtail_last_attempt,curtail_attempts,\
curtail_acknowledged,curtail_lateness_seconds,release_due,release_known,\
release_first_attempt,release_last_attempt,release_attempts,release_acknowledged,\
release_lateness_seconds,commands,last_error";

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::NotDue => "not_due",
            Self::OnTime => "on_time",
            Self::Late => "late",
            Self::Never => "never",
        }
    }
}

impl Row {
    /// The first curtail and the last release.
    fn ends(&self) -> [Option<&Command>; 2] {
        let mut commands = self.commands.iter();
        let curtail = commands.find(|line| line.command != "site.release");
        let release = self.commands.last();
        [
            curtail,
            release.filter(|line| line.command == "site.release"),
        ]
    }
}

impl Report {
    /// One row a site and sink, with a head line (RFC 4180).
    pub fn csv(&self) -> String {
        let id = self.dispatch["id"].as_str().unwrap_or_default();
        let mut text = format!("{HEAD}\r\n");
        for row in &self.deliveries {
            let mut cells = vec![
                id.to_owned(),
                row.site.clone(),
                row.name.clone(),
                row.customer_location_id.clone(),
                row.sink.clone(),
                row.verdict.name().to_owned(),
                seconds(row.lateness_seconds),
            ];
            for command in row.ends() {
                let at = |time: fn(&Command) -> Option<DateTime<Utc>>| {
                    command.and_then(time).map(rfc3339).unwrap_or_default()
                };
                cells.push(at(|line| Some(line.due)));
                cells.push(at(|line| Some(line.known)));
                cells.push(at(|line| line.first_attempt));
                cells.push(at(|line| line.last_attempt));
                cells.push(command.map_or_else(String::new, |line| line.attempts.to_string()));
                cells.push(at(|line| line.acknowledged));
                cells.push(seconds(command.and_then(|line| line.lateness_seconds)));
            }
            cells.push(row.commands.len().to_string());
            let errors = row.commands.iter().rev();
            let error = errors.filter_map(|line| line.last_error.clone()).next();
            cells.push(error.unwrap_or_default());
            let cells: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
            text.push_str(&cells.join(","));
            text.push_str("\r\n");
        }
        text
    }

    /// The report for people to read.
    pub fn table(&self) -> String {
        let of = |name: &str| match &self.dispatch[name] {
            serde_json::Value::String(text) => plain(text),
            serde_json::Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        let mut text = format!(
            "dispatch {}: {}, from {} to {}\n",
            of("id"),
            of("phase"),
            of("start_time"),
            of("end_time")
        );
        self.write_states(&mut text);
        self.write_overrides(&mut text);
        self.write_deliveries(&mut text);
        let totals = &self.totals;
        let latest = totals.latest_seconds;
        let latest = latest.map_or_else(String::new, |late| format!(" (up to {late:.3} s)"));
        let _ = writeln!(
            text,
            "\nsites at sinks: {} on time (within {} s), {} late{latest}, {} never, {} not due",
            totals.on_time,
            totals.on_time_within_seconds,
            totals.late,
            totals.never,
            totals.not_due
        );
        text
    }

    fn write_states(&self, text: &mut String) {
        text.push_str("\nwhat the API said\n");
        for state in &self.states {
            let what = match &state.body {
                serde_json::Value::Null => "it does not know the dispatch".to_owned(),
                body => format!(
                    "authorized {}, from {} to {}",
                    body["authorized"], body["start_time"], body["end_time"]
                ),
            };
            let _ = writeln!(
                text,
                "  {:>4}  asked {}  answered {}  by {}: {}",
                state.number,
                time(state.asked),
                time(state.answered),
                state.way.map_or("-", Way::name),
                plain(&what)
            );
        }
        if self.states_left_out > 0 {
            let _ = writeln!(
                text,
                "  {} in the middle were left out",
                self.states_left_out
            );
        }
    }

    fn write_overrides(&self, text: &mut String) {
        if !self.overrides.is_empty() {
            text.push_str("\nwhat an operator decided\n");
        }
        for line in &self.overrides {
            let what = match &*line.order {
                "normal" => "is kept out",
                "curtailed" => "is curtailed",
                _ => "follows its dispatches again",
            };
            let until = line.until.map(|until| format!(" until {}", rfc3339(until)));
            let reason = line
                .reason
                .as_deref()
                .map(|reason| format!(": {}", plain(reason)));
            let _ = writeln!(
                text,
                "  {}  {} {what}{}{}",
                rfc3339(line.at),
                plain(&line.site),
                until.unwrap_or_default(),
                reason.unwrap_or_default()
            );
        }
    }

    fn write_deliveries(&self, text: &mut String) {
        text.push_str("\nwhat the sinks were told\n");
        for row in &self.deliveries {
            let _ = writeln!(
                text,
                "  {} at {}: {}",
                plain(&row.site),
                plain(&row.sink),
                row.verdict.name().replace('_', " ")
            );
            for line in &row.commands {
                let _ = writeln!(
                    text,
                    "    {:<12}  due {}{}  acknowledged {}  {}  {} attempt{}",
                    plain(&line.command),
                    rfc3339(line.due),
                    match line.known > line.due {
                        true => format!(" (known {})", rfc3339(line.known)),
                        false => String::new(),
                    },
                    line.acknowledged.map_or("never".to_owned(), rfc3339),
                    line.lateness_seconds
                        .map_or_else(String::new, |late| format!("{late:.3} s after")),
                    line.attempts,
                    if line.attempts == 1 { "" } else { "s" },
                );
            }
        }
        if self.commands_left_out > 0 {
            let left_out = self.commands_left_out;
            let _ = writeln!(text, "  {left_out} commands in the middle were left out");
        }
    }
}

fn time(time: Option<DateTime<Utc>>) -> String {
    time.map_or_else(|| "-".to_owned(), rfc3339)
}

fn seconds(seconds: Option<f64>) -> String {
    seconds.map_or_else(String::new, |seconds| format!("{seconds:.3}"))
}

/// A cell. Where it begins like a formula, a spreadsheet would calculate it.
fn quoted(cell: &str) -> String {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let cell = match formula {
        true => format!("'{cell}"),
        false => cell.to_owned(),
    };
    match cell.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell,
    }
}
