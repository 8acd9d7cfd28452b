//! What happened around one dispatch, for settlement and disputes: [`Report`] tells what
//! the API said, when each site was commanded and when each sink acknowledged it.

mod text;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Entry, Event, HistoryItem, ProgramName, Route, SiteId, SiteNames};
use crate::store::{
    CommandLine, DeliveryEnd, DispatchRecord, SettledCommand, SinkLine, StateLine, Tried, Way,
};

/// A command that is acknowledged within so many seconds counts as on time: every sink
/// is to have its commands within that time of a start, also with 20,000 sites.
pub const ON_TIME_SECONDS: f64 = 2.0;

/// What only a running daemon knows of deliveries: all of its sinks, and what is pending
/// there.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// The sinks that it delivers to, and the pending events of each, by position.
    pub sinks: BTreeMap<Arc<str>, BTreeMap<u64, Pending>>,
}

/// The attempts to deliver a pending event.
#[derive(Debug, Clone, Default)]
pub struct Pending {
    /// When attempts began, and how many.
    pub tried: Option<Tried>,
    /// Why the last one that failed did.
    pub last_error: Option<Arc<str>>,
}

/// What happened around one dispatch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The schedule entry.
    pub dispatch: Value,
    /// The states that the API told, oldest first.
    pub states: Vec<State>,
    /// How many states in the middle were left out, so that the store stays bounded.
    pub states_left_out: u64,
    /// What operators decided about sites that the dispatch would hold, oldest first.
    #[serde(default)]
    pub overrides: Vec<OverrideLine>,
    /// One row for each site and sink.
    pub deliveries: Vec<Row>,
    /// How many commands to sites were left out.
    pub commands_left_out: u64,
    /// All rows counted.
    pub totals: Totals,
}

/// A state that the API told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Which one, counted from 1.
    pub number: u64,
    /// By which way. As the next two: `null` of a state that an older version stored.
    pub way: Option<Way>,
    /// When the request was issued, UTC.
    pub asked: Option<DateTime<Utc>>,
    /// When its answer arrived, UTC.
    pub answered: Option<DateTime<Utc>>,
    /// The dispatch. `null` if the API did not know it any more.
    pub body: Value,
}

/// What an operator decided about a site of the dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideLine {
    /// Since when it bears on the dispatch, UTC.
    pub at: DateTime<Utc>,
    /// The site.
    pub site: String,
    /// `curtailed`, `normal` (it is kept out), or `auto`: what was ordered has ended.
    pub order: String,
    /// Until when it was ordered, UTC.
    pub until: Option<DateTime<Utc>>,
    /// The operator's reason.
    pub reason: Option<String>,
}

impl OverrideLine {
    /// What a line of the dispatch's history tells, if it is about an override.
    fn of(line: &HistoryItem) -> Option<Self> {
        let told = line.site_override.as_ref()?;
        let order = told.order.as_ref();
        Some(Self {
            at: line.at,
            site: told.site.to_string(),
            order: order.map_or("auto", |order| order.state.name()).to_owned(),
            until: order.map(|order| order.until),
            reason: order.map(|order| order.reason.to_string()),
        })
    }
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

/// How the delivery of a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// The receiver acknowledged it.
    Acknowledged,
    /// A newer command of the site went instead.
    Superseded,
    /// An operator gave it up.
    Skipped,
    /// It is still to be delivered.
    Pending,
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
    /// `site.curtail`, `site.adjust` or `site.release`: what was sent, or is to be.
    pub command: String,
    /// When it had to be given by the schedule, UTC.
    pub due: DateTime<Utc>,
    /// When the daemon learned of that, UTC; the same as `due` if it was known before.
    pub known: DateTime<Utc>,
    /// When the first attempt began, UTC. If a crash interrupted that one, the first of
    /// those after it.
    pub first_attempt: Option<DateTime<Utc>>,
    /// When the last attempt began, UTC.
    pub last_attempt: Option<DateTime<Utc>>,
    /// How many attempts began. Of those that a restart interrupted, as many as were
    /// written down.
    pub attempts: u64,
    /// How its delivery stands.
    pub delivery: Delivery,
    /// When this command, or a later one to the same effect, was acknowledged, UTC.
    pub acknowledged: Option<DateTime<Utc>>,
    /// The time from `due`, or from `known` if that is later, to `acknowledged`.
    pub lateness_seconds: Option<f64>,
    /// Why the last attempt that failed did.
    pub last_error: Option<String>,
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
    /// The report of the dispatch that is in the schedule as `entry`, with this history. `live` is what a
    /// running daemon knows besides; without it, a sink that the store knows counts as
    /// one that is delivered to.
    pub fn new(
        entry: &Entry,
        history: &[HistoryItem],
        record: &DispatchRecord,
        live: Option<&Live>,
    ) -> Self {
        let last = record.states.last().map(|state| state.number);
        let states_left_out = last.unwrap_or_default() - record.states.len() as u64;
        let rows = Rows::of(entry, record, live).finish();
        Self {
            dispatch: serde_json::to_value(entry).unwrap_or_default(),
            states: record.states.iter().map(State::from).collect(),
            states_left_out,
            overrides: history.iter().filter_map(OverrideLine::of).collect(),
            totals: Totals::of(&rows),
            deliveries: rows,
            commands_left_out: record.commands_left_out,
        }
    }
}

impl From<&StateLine> for State {
    fn from(line: &StateLine) -> Self {
        let body = line.body.as_deref().map(serde_json::from_str);
        Self {
            number: line.number,
            way: line.told.map(|told| told.way),
            asked: line.told.map(|told| told.asked),
            answered: line.told.map(|told| told.answered),
            body: body.transpose().ok().flatten().unwrap_or_default(),
        }
    }
}

/// The commands of a dispatch by site and sink. A sink that a site is routed to is there
/// also without commands.
struct Rows<'r> {
    entry: &'r Entry,
    rows: BTreeMap<(&'r str, &'r str), Vec<(u64, Command)>>,
}

impl<'r> Rows<'r> {
    fn of(entry: &'r Entry, record: &'r DispatchRecord, live: Option<&Live>) -> Self {
        let mut rows: BTreeMap<(&str, &str), Vec<(u64, Command)>> = BTreeMap::new();
        for line in &record.commands {
            let key = (&*line.settled.site, &*line.sink);
            let command = (line.settled.position, Command::from(line));
            rows.entry(key).or_default().push(command);
        }
        let program = ProgramName::from(&entry.dispatch.program);
        let newest = record.newest.iter();
        let newest: BTreeMap<&str, &Event> = newest.map(|event| (&*event.subject, event)).collect();
        // With 200 sinks and 20,000 sites, to look at each pair takes seconds.
        let sites = &entry.dispatch.sites;
        let names = sites.iter();
        let names = names.map(|site| [site.id.as_str(), &*site.customer_location_id]);
        let names: SiteNames<&str> = names.collect();
        let by_id = sites.iter().enumerate();
        let by_id: HashMap<&str, usize> = by_id.map(|(at, site)| (site.id.as_str(), at)).collect();
        let mut told: HashMap<&str, Vec<&str>> = HashMap::new();
        for (site, sink) in rows.keys() {
            told.entry(sink).or_default().push(site);
        }
        let sinks = record.sinks.iter();
        for sink in sinks.filter(|sink| live.is_none_or(|live| live.sinks.contains_key(&sink.sink)))
        {
            let mut numbers: Vec<usize> = match sink.route.as_deref().and_then(route_of) {
                None => (0..sites.len()).collect(),
                Some(route) if route.takes_program(&program) => route.commanded_among(&names),
                Some(_) => Vec::new(),
            };
            let told = told.get(&*sink.sink).into_iter().flatten();
            numbers.extend(told.filter_map(|site| by_id.get(site)));
            numbers.sort_unstable();
            numbers.dedup();
            for site in numbers.into_iter().filter_map(|number| sites.get(number)) {
                let commands = rows.entry((site.id.as_str(), &sink.sink)).or_default();
                if let Some(event) = newest.get(site.id.as_str())
                    && commands.iter().all(|(at, _)| *at != event.position)
                    && let Some(command) = pending(event, sink, live)
                {
                    commands.push((event.position, command));
                }
            }
        }
        Self { entry, rows }
    }

    fn finish(self) -> Vec<Row> {
        let named = self.entry.dispatch.sites.iter();
        let named: BTreeMap<&str, _> = named.map(|site| (site.id.as_str(), site)).collect();
        let rows = self.rows.into_iter();
        rows.map(|((site, sink), commands)| {
            let name = named.get(site);
            let commands: Vec<Command> = commands.into_iter().map(|(_, command)| command).collect();
            let (verdict, lateness_seconds) = judge(&commands);
            Row {
                site: site.to_owned(),
                name: name.map(|site| site.name.clone()).unwrap_or_default(),
                customer_location_id: name
                    .map(|site| site.customer_location_id.clone())
                    .unwrap_or_default(),
                sink: sink.to_owned(),
                verdict,
                lateness_seconds,
                commands,
            }
        })
        .collect()
    }
}

/// A site's newest command at a sink where its delivery has not come to an end. `None` if
/// the sink need not be told.
fn pending(event: &Event, sink: &SinkLine, live: Option<&Live>) -> Option<Command> {
    let origin = event.origin.as_ref()?;
    let site = SiteId::new(&event.subject)?;
    let last = sink.attempted.get(&site);
    let is_needed = match last {
        // No curtail was attempted there.
        None => !event.is_release() || event.unconditional,
        // An older version delivered it, or an operator gave it up.
        Some(last) if last.position == event.position => !last.acknowledged,
        Some(_) => true,
    };
    if !is_needed {
        return None;
    }
    let live = live.and_then(|live| live.sinks.get(&sink.sink)?.get(&event.position));
    let stored = sink.retries.get(&site);
    let of_this = last.is_some_and(|last| last.position == event.position);
    let tried = match live {
        Some(live) => live.tried,
        None => stored.filter(|_| of_this).and_then(|retry| retry.tried),
    };
    let error = live.and_then(|live| live.last_error.as_deref());
    Some(Command {
        command: event.event_type.to_string(),
        due: origin.due,
        known: origin.known,
        first_attempt: tried.map(|tried| tried.first),
        last_attempt: tried.map(|tried| tried.last),
        attempts: tried.map_or(0, |tried| tried.count),
        delivery: Delivery::Pending,
        acknowledged: None,
        lateness_seconds: None,
        last_error: error.map(str::to_owned),
    })
}

impl From<&CommandLine> for Command {
    fn from(line: &CommandLine) -> Self {
        let settled: &SettledCommand = &line.settled;
        let acknowledged = settled.end.acknowledged().or(line.made_up);
        let from = settled.due.max(settled.known);
        Self {
            command: settled.command.to_string(),
            due: settled.due,
            known: settled.known,
            first_attempt: settled.tried.map(|tried| tried.first),
            last_attempt: settled.tried.map(|tried| tried.last),
            attempts: settled.tried.map_or(0, |tried| tried.count),
            delivery: match settled.end {
                DeliveryEnd::Acknowledged(_) => Delivery::Acknowledged,
                DeliveryEnd::Superseded => Delivery::Superseded,
                DeliveryEnd::Skipped => Delivery::Skipped,
            },
            acknowledged,
            lateness_seconds: acknowledged.map(|at| (at - from).as_seconds_f64().max(0.0)),
            last_error: settled.last_error.as_deref().map(str::to_owned),
        }
    }
}

/// Whether all of these commands were acknowledged in time, and the longest lateness.
fn judge(commands: &[Command]) -> (Verdict, Option<f64>) {
    let lateness = commands.iter().filter_map(|line| line.lateness_seconds);
    let lateness = lateness.reduce(f64::max);
    let verdict = if commands.is_empty() {
        Verdict::NotDue
    } else if commands.iter().any(|line| line.acknowledged.is_none()) {
        Verdict::Never
    } else if lateness.is_some_and(|lateness| lateness > ON_TIME_SECONDS) {
        Verdict::Late
    } else {
        Verdict::OnTime
    };
    (verdict, lateness)
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

#[cfg(test)]
mod tests;
