//! What happened around one dispatch, for settlement and disputes: [`Report`] tells what
//! the API said, when each site was commanded and when each sink acknowledged it.

mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Entry, ProgramName, Route};
use crate::store::{CommandLine, DeliveryLine, DispatchRecord, Way};

/// A command that is acknowledged within so many seconds counts as on time.
pub const ON_TIME_SECONDS: f64 = 2.0;

/// What happened around one dispatch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The schedule entry.
    pub dispatch: Value,
    /// The states that the API told, oldest first.
    pub states: Vec<State>,
    /// How many states in the middle were left out, so that the store stays bounded.
    pub states_left_out: u64,
    /// One row for each site and sink.
    pub deliveries: Vec<Row>,
    /// How many commands to sites were left out.
    pub commands_left_out: u64,
    /// All rows counted.
    pub totals: Totals,
}

/// A state that the API told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in `StateLine`")]
pub struct State {
    pub number: u64,
    pub way: Way,
    pub asked: DateTime<Utc>,
    pub answered: DateTime<Utc>,
    pub last_seen: DateTime<Utc>,
    /// The dispatch. `null` if the API did not know it any more.
    pub body: Value,
}

/// Whether a sink was told in time what a site must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No command was due.
    NotDue,
    /// Every command was acknowledged within [`ON_TIME_SECONDS`].
    OnTime,
    /// Every command was acknowledged, one or more of them late.
    Late,
    /// A command was not acknowledged, and no later one made up for it.
    Never,
}

/// What one sink was told of one site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The site's id.
    pub site: String,
    /// Its name.
    pub name: String,
    /// The customer's name for it.
    pub customer_location_id: String,
    /// The sink's name.
    pub sink: String,
    /// Whether it was told in time.
    pub verdict: Verdict,
    /// The longest lateness of a command, in seconds.
    pub lateness_seconds: Option<f64>,
    /// The commands, oldest first.
    pub commands: Vec<Command>,
}

/// A command to a site at one sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// `site.curtail`, `site.adjust` or `site.release`.
    pub command: String,
    /// When it had to be given by the schedule.
    pub due: DateTime<Utc>,
    /// When the daemon learned of that; the same as `due` if it was known before.
    pub known: DateTime<Utc>,
    /// When the first attempt began.
    pub first_attempt: Option<DateTime<Utc>>,
    /// When the last attempt began.
    pub last_attempt: Option<DateTime<Utc>>,
    /// How many attempts began.
    pub attempts: u64,
    /// When this command, or a later one to the same effect, was acknowledged.
    pub acknowledged: Option<DateTime<Utc>>,
    /// The time from `due`, or from `known` if that is later, to `acknowledged`.
    pub lateness_seconds: Option<f64>,
    /// Why the last attempt that failed did.
    pub last_error: Option<String>,
    /// Whether a site was told by this sink at all: a site that was never to be
    /// curtailed there needs no release.
    pub needed: bool,
}

/// All rows counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Up to how many seconds count as on time.
    pub on_time_within_seconds: f64,
    /// Sites at sinks that were told on time.
    pub on_time: u64,
    /// Sites at sinks that were told late.
    pub late: u64,
    /// The longest lateness among them, in seconds.
    pub latest_seconds: Option<f64>,
    /// Sites at sinks that were not told.
    pub never: u64,
    /// Sites at sinks for which nothing was due.
    pub not_due: u64,
}

impl Report {
    /// The report of the dispatch that is in the schedule as `entry`.
    pub fn new(entry: &Entry, record: DispatchRecord) -> Self {
        let last = record.states.last().map(|state| state.number);
        let states_left_out = last.unwrap_or_default() - record.states.len() as u64;
        let mut states: Vec<State> = record.states.iter().map(State::from).collect();
        if let Some(last) = states.last_mut() {
            last.last_seen = last.last_seen.max(entry.last_confirmed);
        }
        let rows = rows(entry, &record);
        let totals = Totals::of(&rows);
        let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
        for line in &record.commands {
            newest.insert(line.site.as_str(), line.number);
        }
        Self {
            dispatch: serde_json::to_value(entry).unwrap_or_default(),
            states,
            states_left_out,
            deliveries: rows,
            commands_left_out: newest.values().sum::<u64>() - record.commands.len() as u64,
            totals,
        }
    }
}

impl From<&crate::store::StateLine> for State {
    fn from(line: &crate::store::StateLine) -> Self {
        let body = line.body.as_deref().map(serde_json::from_str);
        Self {
            number: line.number,
            way: line.way,
            asked: line.asked,
            answered: line.answered,
            last_seen: line.last_seen,
            body: body.transpose().ok().flatten().unwrap_or_default(),
        }
    }
}

fn rows(entry: &Entry, record: &DispatchRecord) -> Vec<Row> {
    let mut commands: BTreeMap<&str, Vec<&CommandLine>> = BTreeMap::new();
    for line in &record.commands {
        commands.entry(line.site.as_str()).or_default().push(line);
    }
    let mut deliveries: BTreeMap<(&str, &str), BTreeMap<u64, &DeliveryLine>> = BTreeMap::new();
    for line in &record.deliveries {
        let at = deliveries
            .entry((line.site.as_str(), &*line.sink))
            .or_default();
        at.insert(line.position, line);
    }
    let named = entry.dispatch.sites.iter();
    let named: BTreeMap<&str, _> = named.map(|site| (site.id.as_str(), site)).collect();
    let sites: BTreeSet<&str> = named.keys().chain(commands.keys()).copied().collect();
    let program = ProgramName::from(&entry.dispatch.program);
    let routes: Vec<(&Arc<str>, Option<Route>)> = record
        .sinks
        .iter()
        .map(|(sink, route)| (sink, route.as_deref().and_then(route_of)))
        .collect();
    let mut rows = Vec::new();
    for site in sites {
        let (name, location) = named.get(site).map_or(("", ""), |site| {
            (site.name.as_str(), site.customer_location_id.as_str())
        });
        let mut sinks: BTreeSet<&str> = deliveries
            .range((site, "")..)
            .take_while(|((of, _), _)| *of == site)
            .map(|((_, sink), _)| *sink)
            .collect();
        sinks.extend(routes.iter().filter_map(|(sink, route)| {
            let takes = route.as_ref().is_none_or(|route| {
                route.takes_type("site.curtail")
                    && route.takes_program(&program)
                    && route.takes_site(site, location)
            });
            takes.then_some(&***sink)
        }));
        let commands = commands.get(site).map_or(&[][..], |lines| lines);
        for sink in sinks {
            let delivered = deliveries.get(&(site, sink));
            rows.push(row(site, (name, location), sink, commands, delivered));
        }
    }
    rows
}

fn row(
    site: &str,
    (name, location): (&str, &str),
    sink: &str,
    commands: &[&CommandLine],
    delivered: Option<&BTreeMap<u64, &DeliveryLine>>,
) -> Row {
    let of = |line: &CommandLine| delivered.and_then(|lines| lines.get(&line.position));
    let mut attempted = false;
    let mut lines = Vec::new();
    for (index, line) in commands.iter().enumerate() {
        let own = of(line);
        let release = is_release(line);
        let later = commands.iter().skip(index);
        let later = later.take_while(|later| is_release(later) == release);
        let acknowledged = later.filter_map(|later| of(later)?.acknowledged).min();
        let from = line.due.max(line.known);
        lines.push(Command {
            command: line.command.to_string(),
            due: line.due,
            known: line.known,
            first_attempt: own.map(|own| own.first_attempt),
            last_attempt: own.map(|own| own.last_attempt),
            attempts: own.map_or(0, |own| own.attempts),
            acknowledged,
            lateness_seconds: acknowledged.map(|at| (at - from).as_seconds_f64().max(0.0)),
            last_error: own.and_then(|own| own.last_error.as_deref().map(str::to_owned)),
            needed: !release || attempted || own.is_some(),
        });
        attempted |= own.is_some();
    }
    let needed = || lines.iter().filter(|line| line.needed);
    let lateness = needed().filter_map(|line| line.lateness_seconds);
    let lateness = lateness.reduce(f64::max);
    let verdict = if needed().next().is_none() {
        Verdict::NotDue
    } else if needed().any(|line| line.acknowledged.is_none()) {
        Verdict::Never
    } else if lateness.is_some_and(|lateness| lateness > ON_TIME_SECONDS) {
        Verdict::Late
    } else {
        Verdict::OnTime
    };
    Row {
        site: site.to_owned(),
        name: name.to_owned(),
        customer_location_id: location.to_owned(),
        sink: sink.to_owned(),
        verdict,
        lateness_seconds: lateness,
        commands: lines,
    }
}

fn is_release(line: &CommandLine) -> bool {
    &*line.command == "site.release"
}

/// A route as the store keeps it. `None` if it cannot be read: then the sink may have
/// every site.
fn route_of(text: &str) -> Option<Route> {
    #[derive(Deserialize)]
    struct Lists {
        sites: Vec<String>,
        programs: Vec<String>,
        events: Vec<String>,
    }
    let lists: Lists = serde_json::from_str(text).ok()?;
    Route::parse(&lists.sites, &lists.programs, &lists.events).ok()
}

impl Totals {
    fn of(rows: &[Row]) -> Self {
        let mut totals = Self {
            on_time_within_seconds: ON_TIME_SECONDS,
            ..Self::default()
        };
        for row in rows {
            match row.verdict {
                Verdict::NotDue => totals.not_due += 1,
                Verdict::OnTime => totals.on_time += 1,
                Verdict::Never => totals.never += 1,
                Verdict::Late => {
                    totals.late += 1;
                    let latest = totals.latest_seconds.unwrap_or_default();
                    totals.latest_seconds = row.lateness_seconds.map(|one| one.max(latest));
                }
            }
        }
        totals
    }
}
