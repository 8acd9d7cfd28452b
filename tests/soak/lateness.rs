//! How late site commands came to a receiver, beyond what the receiver itself and
//! the daemon's deaths explain: [`lateness`].
//!
//! A command is due at a receiver from the time of its event until the receiver
//! has it or a newer one of its site. A release is due where the receiver holds the
//! site curtailed. A newer command does not restart the count. From that time is
//! taken off in which
//!
//! - the receiver was at fault, for all subjects or for this site;
//! - the receiver had an attempt for this site, and had not answered it;
//! - a failed attempt for this site explains a pause: before the same command
//!   [`OWN_PAUSE_MAX`], before a newer one [`PAUSE_MAX`], or what the receiver asked
//!   for up to [`ASKED_PAUSE_MAX`];
//! - the daemon was down or starting.
//!
//! What is left is the command's lateness.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::catalogue::Committed;
use crate::heard::{Arrival, Attempt, Ended, Heard};
use crate::spans::{Span, Spans, outside};

/// **The bound**: the most lateness that a command may have.
pub const LATENESS_MAX: TimeDelta = TimeDelta::seconds(1);

/// The longest pause that a failed attempt explains before a newer command.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The same before another attempt of the command that failed.
const OWN_PAUSE_MAX: Duration = Duration::from_secs(15);

/// The same if the receiver asked for one with `Retry-After`.
const ASKED_PAUSE_MAX: Duration = Duration::from_secs(60);

/// A request that breaks off so close to a kill broke off because of it.
const AROUND_A_KILL: TimeDelta = TimeDelta::milliseconds(500);

/// How much of what came before a late command is shown with it.
const SHOWN_BEFORE: TimeDelta = TimeDelta::seconds(10);

/// The lateness of the commands at one receiver.
#[derive(Debug, Default)]
pub struct Lateness {
    /// Of each command that was due.
    pub late: Vec<TimeDelta>,
    /// How long each was due, with nothing taken off.
    pub due: Vec<TimeDelta>,
    /// Those beyond [`LATENESS_MAX`], with their history.
    pub violations: Vec<String>,
}

/// All site commands, by site.
pub type Commands<'c> = BTreeMap<&'c str, Vec<&'c Committed>>;

/// Sorts the site commands.
pub fn commands(events: &[Committed]) -> Commands<'_> {
    let mut commands = Commands::new();
    for event in events.iter().filter(|event| !event.must_arrive()) {
        commands.entry(&event.subject).or_default().push(event);
    }
    commands
}

/// The lateness of all commands at a receiver, until `now`.
pub fn lateness(
    receiver: &str,
    heard: &Heard,
    commands: &Commands<'_>,
    away: &Spans,
    now: DateTime<Utc>,
) -> Lateness {
    let mut lateness = Lateness::default();
    for (site, commands) in commands {
        let mut one = Site {
            receiver,
            site,
            commands,
            heard,
            away,
            now,
            lateness: &mut lateness,
        };
        one.judge();
    }
    lateness
}

/// One site at one receiver.
struct Site<'a> {
    receiver: &'a str,
    site: &'a str,
    /// Oldest first.
    commands: &'a [&'a Committed],
    heard: &'a Heard,
    away: &'a Spans,
    now: DateTime<Utc>,
    lateness: &'a mut Lateness,
}

/// Where a receiver stands with a site.
#[derive(Debug, Default)]
struct Standing {
    /// The highest sequence that it has.
    seen: u64,
    /// Whether that is no release.
    curtailed: bool,
    /// How many commands were committed so far.
    committed: usize,
    /// Since when a command is due, UTC.
    due_since: Option<DateTime<Utc>>,
}

impl Site<'_> {
    /// Goes through commits and arrivals in the order of time.
    fn judge(&mut self) {
        let empty = Vec::new();
        let arrivals = self.heard.arrivals.get(self.site).unwrap_or(&empty);
        let mut arrivals = arrivals.iter().peekable();
        let mut standing = Standing::default();
        let commands = self.commands;
        for command in commands {
            // What has arrived was committed before, whatever the clocks say.
            while let Some(arrival) = arrivals
                .next_if(|arrival| arrival.at < command.time && arrival.sequence < command.sequence)
            {
                self.arrives(&mut standing, arrival);
            }
            self.is_committed(&mut standing, command);
        }
        for arrival in arrivals {
            self.arrives(&mut standing, arrival);
        }
    }

    fn is_committed(&mut self, standing: &mut Standing, command: &Committed) {
        standing.committed += 1;
        if command.kind == "site.release" && !standing.curtailed {
            // Nothing is due any more; what was due until now may have been late.
            if let Some(since) = standing.due_since.take() {
                self.note((since, command.time));
            }
        } else {
            standing.due_since.get_or_insert(command.time);
        }
    }

    fn arrives(&mut self, standing: &mut Standing, arrival: &Arrival) {
        if arrival.sequence <= standing.seen {
            return;
        }
        standing.seen = arrival.sequence;
        standing.curtailed = !arrival.release;
        let was_due = standing.due_since.take();
        if let Some(since) = was_due {
            self.note((since, arrival.at.max(since)));
        }
        let mut newer = self.commands[..standing.committed]
            .iter()
            .filter(|command| command.sequence > arrival.sequence);
        let (first, newest) = (newer.next(), newer.next_back());
        let Some(first) = first else { return };
        let newest = newest.unwrap_or(first);
        if newest.kind != "site.release" || standing.curtailed {
            // It may be that nothing newer was due before this came.
            standing.due_since = Some(match was_due {
                Some(_) => first.time,
                None => arrival.at,
            });
        }
    }

    /// A command was due from the first to the second.
    fn note(&mut self, due: Span) {
        let spans = self.explained(due);
        let late = outside(due, spans);
        self.lateness.late.push(late);
        self.lateness.due.push(due.1 - due.0);
        if late > LATENESS_MAX {
            let history = self.history(due);
            self.lateness.violations.push(format!(
                "{}: a command of {} was due at {} and came (or was superseded) at {}, {} ms late \
                 beyond what explains it{history}",
                self.receiver,
                self.site,
                clock(due.0),
                clock(due.1),
                late.num_milliseconds()
            ));
        }
    }

    /// The times that are no lateness.
    fn explained(&self, due: Span) -> Vec<Span> {
        let mut spans: Vec<Span> = self.away.until(self.now).collect();
        spans.extend(self.heard.faults.until(self.now));
        if let Some(faults) = self.heard.subject_faults.get(self.site) {
            spans.extend(faults.until(self.now));
        }
        let lost = self.heard.restorations.iter();
        spans.extend(lost.filter(|(begun, _)| due.0 <= *begun));
        for attempt in self.attempts() {
            spans.push((attempt.begun, self.pause_ends(attempt)));
        }
        spans.retain(|(begun, ended)| *begun < due.1 && *ended > due.0);
        spans
    }

    fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.heard.attempts.get(self.site).into_iter().flatten()
    }

    /// When the pause ends that an attempt explains, UTC.
    fn pause_ends(&self, attempt: &Attempt) -> DateTime<Utc> {
        let ended_at = attempt.ended_at;
        let asked = match attempt.ended {
            Ended::Acknowledged => return ended_at,
            Ended::GivenUp if self.is_killed_around(ended_at) => return ended_at,
            Ended::Refused { retry_after } => retry_after.unwrap_or_default(),
            Ended::GivenUp => 0,
        };
        let asked = ended_at + Duration::from_secs(asked).min(ASKED_PAUSE_MAX);
        let newer = self
            .commands
            .partition_point(|command| command.sequence <= attempt.sequence);
        let own = ended_at + OWN_PAUSE_MAX;
        let pause = match self.commands.get(newer) {
            Some(newer) => own.min(newer.time.max(ended_at + PAUSE_MAX)),
            None => own,
        };
        pause.max(asked)
    }

    /// Whether the daemon was killed so close to `time`.
    fn is_killed_around(&self, time: DateTime<Utc>) -> bool {
        let around = (time - AROUND_A_KILL)..=(time + AROUND_A_KILL);
        let mut kills = self.away.until(self.now).map(|(killed, _)| killed);
        kills.any(|killed| around.contains(&killed))
    }

    /// What happened at this site around a time, a line each.
    fn history(&self, (from, to): Span) -> String {
        let shown = (from - SHOWN_BEFORE, to + TimeDelta::seconds(1));
        let within = |at: DateTime<Utc>| shown.0 <= at && at <= shown.1;
        let mut lines: Vec<(DateTime<Utc>, String)> = Vec::new();
        for command in self.commands.iter().filter(|one| within(one.time)) {
            let text = format!("{} {} is committed", command.kind, command.sequence);
            lines.push((command.time, text));
        }
        for attempt in self.attempts().filter(|one| within(one.ended_at)) {
            let took = (attempt.ended_at - attempt.begun).num_milliseconds();
            let ended = match attempt.ended {
                Ended::Acknowledged => "acknowledged".to_owned(),
                Ended::Refused { retry_after: None } => "refused".to_owned(),
                Ended::Refused {
                    retry_after: Some(seconds),
                } => format!("refused, Retry-After {seconds}"),
                Ended::GivenUp => "given up by the daemon".to_owned(),
            };
            let text = format!("attempt of {}, {ended} after {took} ms", attempt.sequence);
            lines.push((attempt.begun, text));
        }
        let arrivals = self.heard.arrivals.get(self.site).into_iter().flatten();
        for arrival in arrivals.filter(|one| within(one.at)) {
            lines.push((arrival.at, format!("{} arrives", arrival.sequence)));
        }
        let mut add = |spans: Option<&Spans>, what: &str| {
            let spans = spans.map(|spans| spans.until(self.now));
            for (begun, ended) in spans.into_iter().flatten() {
                if begun <= shown.1 && ended >= shown.0 {
                    lines.push((begun, format!("{what} until {}", clock(ended))));
                }
            }
        };
        add(Some(self.away), "the daemon is down or starting");
        add(Some(&self.heard.faults), "the receiver is at fault");
        let faults = self.heard.subject_faults.get(self.site);
        add(faults, "the receiver is at fault for this site");
        lines.sort();
        lines.iter().fold(String::new(), |mut text, (at, line)| {
            let _ = write!(text, "\n      {} {line}", clock(*at));
            text
        })
    }
}

fn clock(time: DateTime<Utc>) -> String {
    time.format("%H:%M:%S%.3f").to_string()
}
