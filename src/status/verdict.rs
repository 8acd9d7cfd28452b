//! Judges what an operator must know first: whether the schedule is right, and
//! whether every site has been told what it must do (rule R10).
//!
//! The page, `dispatchd status`, `/status` and the metrics all show these two
//! verdicts. A schedule can be right although nobody has been told.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::routing::Unrouted;
use crate::clock::Now;
use crate::delivery::SinkCondition;
use crate::inventory::Inventory;
use crate::model::{Event, SiteId, count as counted};
use crate::sync::{State, View};
use crate::voltus::{Part, Problems};

/// How many sites, sinks or commands a verdict's sentence names.
const NAMED: usize = 3;

/// What to do about sites that no sink is routed for.
const ROUTE_THEM: &str =
    "Name them in `sites` of a [[sink]] in the configuration file and restart dispatchd.";

/// How many untold sites and due commands are listed one by one.
const LISTED: usize = 100;

/// How grave a verdict is. The graver one comes first wherever only one is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// All is well.
    Ok,
    /// Somebody should look at it.
    Warning,
    /// Somebody must act: sites may do the wrong thing now.
    Error,
}

/// One verdict, in a sentence or more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    pub level: Level,
    pub text: String,
}

impl Verdict {
    fn ok(text: &str) -> Self {
        Self {
            level: Level::Ok,
            text: text.to_owned(),
        }
    }

    /// Takes in one more finding. The graver ones are said first.
    fn add(findings: &mut Vec<Self>, level: Level, text: String) {
        findings.push(Self { level, text });
    }

    fn of(mut findings: Vec<Self>, well: &str) -> Self {
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        let Some(first) = findings.first() else {
            return Self::ok(well);
        };
        Self {
            level: first.level,
            text: findings
                .iter()
                .map(|finding| &*finding.text)
                .collect::<Vec<_>>()
                .join(" "),
        }
    }
}

/// Whether the schedule is right.
pub(super) fn on_schedule(view: &View, now: Now) -> Verdict {
    let health = &view.health;
    let mut findings = Vec::new();
    if let Some(since) = health.suspended_since(now) {
        let text = format!(
            "Suspended: this daemon does not know whether it still leads, for {}. It takes nothing \
             in, and answers webhooks 503.",
            age(now.wall - since)
        );
        Verdict::add(&mut findings, Level::Error, text);
    }
    match health.state(now.mono) {
        State::Fresh => {}
        State::Starting => Verdict::add(
            &mut findings,
            Level::Warning,
            format!("No poll has succeeded yet: {}.", health.why_no_poll()),
        ),
        State::Stale => {
            let age = match health.last_success {
                Some(last) => format!("for {}", age(now.wall - last)),
                None => "yet".to_owned(),
            };
            let text = format!(
                "The schedule may be wrong: no poll has succeeded {age}: {}.",
                health.why_no_poll()
            );
            Verdict::add(&mut findings, Level::Error, text);
        }
    }
    if let Some(error) = &health.store_error {
        let text = format!("Nothing can be stored: {error}. Webhooks are answered 503.");
        Verdict::add(&mut findings, Level::Error, text);
    }
    if let Some(mass) = view.schedule.mass_absence() {
        let text = format!(
            "The API's list lacks {} of {} live dispatches; none is called off for that yet.",
            mass.absent, mass.live
        );
        Verdict::add(&mut findings, Level::Warning, text);
    }
    if let Some(text) = unread(&health.unreadable_now) {
        Verdict::add(&mut findings, Level::Warning, text);
    }
    if let Some(registration) = &health.registration
        && let Some(error) = &registration.error
        && !registration.registered
    {
        let text = format!(
            "The webhook is not registered, so only polls bring changes: {error}. If the API cannot reach \
             it, check the way from --public-url to --listen: proxy, firewall, certificate."
        );
        Verdict::add(&mut findings, Level::Warning, text);
    }
    if health.unannounced > 0 {
        let text = format!(
            "A webhook is registered and none has come since the start, although polls have found \
             {}: webhooks do not get in, and only polls keep the schedule right.",
            counted(health.unannounced, "change", "changes")
        );
        Verdict::add(&mut findings, Level::Warning, text);
    }
    Verdict::of(findings, "The schedule is right.")
}

/// Which dispatches and sites the API tells of that cannot be read. `None` if all can.
fn unread(problems: &Problems) -> Option<String> {
    let counts = problems.counts();
    let of_kind = [
        (counts.dispatches, "dispatch", "dispatches"),
        (counts.sites, "site", "sites"),
    ];
    let how_many: Vec<String> = of_kind
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, one, many)| counted(count, one, many))
        .collect();
    if how_many.is_empty() {
        return None;
    }
    let commands = |part| matches!(part, Part::Dispatch | Part::Site);
    let mut parts = problems.detailed().iter();
    let first = parts.find(|problem| commands(problem.part));
    let which = first.map_or_else(String::new, |first| format!(" ({first})"));
    Some(format!(
        "Of what the API tells, {} cannot be read{which}. What was known stays as it was, and \
         of what is new nobody is told: look at it in the portal, and act by hand.",
        how_many.join(" and ")
    ))
}

/// Whether every site has been told what it must do. `untold` are those that have
/// waited longest of `untold_sites`.
pub(super) fn on_delivery(
    view: &View,
    untold: &[UntoldSite],
    untold_sites: usize,
    unrouted: &Unrouted,
    inventory: &Inventory,
    now: Now,
) -> Verdict {
    let health = &view.health;
    let mut findings = Vec::new();
    if health.suspended_since(now).is_some() {
        let text = "Nobody is told anything while this daemon is suspended.".to_owned();
        Verdict::add(&mut findings, Level::Error, text);
    }
    if view.sinks.is_empty() {
        let text = "No sink is configured: nobody is told.".to_owned();
        Verdict::add(&mut findings, Level::Warning, text);
    }
    if untold_sites > 0 {
        let text = not_told(untold, untold_sites, now);
        Verdict::add(&mut findings, Level::Error, text);
    }
    if let Some(text) = due_and_not_sent(view, now) {
        Verdict::add(&mut findings, Level::Error, text);
    }
    if unrouted.sites > 0 {
        let (level, text) = routed_to_no_sink(unrouted);
        Verdict::add(&mut findings, level, text);
    } else if let Some(last) = &health.last_unrouted {
        let text = format!(
            "Since the start {} went to no sink, the last one {} {}. {}",
            counted(health.unrouted_commands, "command", "commands"),
            command(last),
            site_name(view, &last.subject),
            ROUTE_THEM,
        );
        Verdict::add(&mut findings, Level::Warning, text);
    }
    if let Some(text) = enrolled_and_routed_to_no_sink(inventory) {
        Verdict::add(&mut findings, Level::Warning, text);
    }
    for sink in &view.sinks {
        let reason = sink.last_error.as_deref().unwrap_or("no reason is known");
        let name = &sink.name;
        let text = match sink.condition {
            SinkCondition::Paused => {
                format!("{name} is paused: it answers that it wants no more events ({reason}).")
            }
            SinkCondition::Failing => format!("{name} cannot be reached or fails: {reason}."),
            SinkCondition::Ok | SinkCondition::Retrying => continue,
        };
        Verdict::add(&mut findings, Level::Warning, text);
    }
    Verdict::of(findings, "Every site has been told.")
}

/// Which sites have not been told, with those first that have waited longest.
fn not_told(untold: &[UntoldSite], untold_sites: usize, now: Now) -> String {
    let longest = untold.get(..NAMED).unwrap_or(untold);
    let alike = longest.chunk_by(UntoldSite::is_like);
    let mut named: Vec<String> = alike
        .filter_map(|sites| {
            let first = sites.first()?;
            let names: Vec<&str> = sites.iter().map(UntoldSite::shown_name).collect();
            Some(format!(
                "{} {} ({}: {}, {})",
                first.command,
                names.join(", "),
                first.sink,
                first.reason,
                age(now.wall - first.since)
            ))
        })
        .collect();
    let sites: BTreeSet<&str> = longest.iter().map(|one| one.site).collect();
    let others = untold_sites.saturating_sub(sites.len());
    let elsewhere = untold.len() - longest.len();
    if others > 0 {
        named.push(format!("and {others} more"));
    } else if elsewhere > 0 {
        named.push(format!("and {elsewhere} more at other sinks"));
    }
    format!(
        "{} not told: {}.",
        counted(untold_sites as u64, "site", "sites"),
        named.join("; ")
    )
}

/// Which commands are due and cannot be sent. `None` if none is.
fn due_and_not_sent(view: &View, now: Now) -> Option<String> {
    let due = &view.health.due_commands;
    if due.is_empty() {
        return None;
    }
    let first = due.iter().take(NAMED);
    let named: Vec<String> = first
        .map(|event| format!("{} {}", command(event), site_name(view, &event.subject)))
        .collect();
    let verb = if due.len() == 1 { "is" } else { "are" };
    let health = &view.health;
    let meanwhile = if health.suspended_since(now).is_some() {
        "while this daemon is suspended"
    } else if health.store_error.is_some() {
        "while nothing can be stored"
    } else {
        "until what told of them is stored"
    };
    Some(format!(
        "{} {verb} due and cannot be sent {meanwhile}: {}.",
        counted(due.len() as u64, "command", "commands"),
        list(&named, due.len())
    ))
}

/// Which sites of live dispatches go to no sink, and how grave that is.
fn routed_to_no_sink(unrouted: &Unrouted) -> (Level, String) {
    let first = unrouted.first.iter().take(NAMED);
    let named: Vec<String> = first.map(|site| site.shown_name().to_owned()).collect();
    let verb = if unrouted.sites == 1 { "is" } else { "are" };
    let (level, active) = match unrouted.active {
        0 => (Level::Warning, String::new()),
        active => (
            Level::Error,
            format!("; {active} of active ones, to be commanded by hand"),
        ),
    };
    let text = format!(
        "{} of live dispatches {verb} routed to no sink: {}; nobody is told what to do there{active}. {}",
        counted(unrouted.sites as u64, "site", "sites"),
        list(&named, unrouted.sites),
        ROUTE_THEM,
    );
    (level, text)
}

/// Which enrolled sites go to no sink. `None` if all do, as far as is known.
fn enrolled_and_routed_to_no_sink(inventory: &Inventory) -> Option<String> {
    let known = inventory.known.as_ref()?;
    let sites = known.comparison.unrouted;
    if sites == 0 {
        return None;
    }
    let first = known.comparison.first_unrouted.iter().take(NAMED);
    let named = first.map(|id| match known.get(id) {
        Some(site) if !site.name.is_empty() => site.name.clone(),
        _ => id.to_string(),
    });
    let named: Vec<String> = named.collect();
    let verb = if sites == 1 { "is" } else { "are" };
    Some(format!(
        "{} {verb} routed to no sink: {}; nobody will be told when a dispatch calls on them. {}",
        counted(sites as u64, "enrolled site", "enrolled sites"),
        list(&named, sites),
        ROUTE_THEM,
    ))
}

/// A site that a sink has not been told of.
#[derive(Debug, Serialize)]
pub(super) struct UntoldSite<'a> {
    pub site: &'a str,
    pub name: &'a str,
    pub sink: &'a str,
    pub command: &'a str,
    pub since: DateTime<Utc>,
    pub reason: &'a str,
}

impl UntoldSite<'_> {
    /// Whether all but the site is the same.
    fn is_like(&self, other: &Self) -> bool {
        (self.sink, self.reason, self.command) == (other.sink, other.reason, other.command)
    }

    fn shown_name(&self) -> &str {
        if self.name.is_empty() {
            self.site
        } else {
            self.name
        }
    }
}

/// A command that is due and waits for the store.
#[derive(Debug, Serialize)]
pub(super) struct DueCommand<'a> {
    pub site: &'a str,
    pub name: &'a str,
    pub command: &'a str,
    pub since: DateTime<Utc>,
}

/// How many sites some sink has not been told of.
pub(super) fn untold_sites(view: &View) -> usize {
    let mut with = view.sinks.iter().filter(|sink| !sink.untold.is_empty());
    match (with.next(), with.next()) {
        (None, _) => 0,
        (Some(one), None) => one.untold.len(),
        _ => {
            let sites = view.sinks.iter().flat_map(|sink| sink.untold.keys());
            sites.collect::<HashSet<&Arc<str>>>().len()
        }
    }
}

/// The sites that have waited longest, at most a hundred.
pub(super) fn untold(view: &View) -> Vec<UntoldSite<'_>> {
    let mut all: Vec<_> = view
        .sinks
        .iter()
        .flat_map(|sink| {
            let sites = sink.untold.iter();
            sites.map(move |(site, untold)| (untold.since, site, sink, untold))
        })
        .collect();
    let since = |one: &(DateTime<Utc>, _, _, _)| one.0;
    if all.len() > LISTED {
        all.select_nth_unstable_by_key(LISTED - 1, since);
        all.truncate(LISTED);
    }
    all.sort_by_key(since);
    all.into_iter()
        .map(|(since, site, sink, untold)| UntoldSite {
            site,
            name: name(view, site),
            sink: &sink.name,
            command: untold.command,
            since,
            reason: untold.why(sink.unreachable.as_ref()),
        })
        .collect()
}

/// The commands that are due and cannot be sent, at most a hundred.
pub(super) fn due(view: &View) -> Vec<DueCommand<'_>> {
    let due = view.health.due_commands.iter().take(LISTED);
    due.map(|event| DueCommand {
        site: &event.subject,
        name: name(view, &event.subject),
        command: command(event),
        since: event.time,
    })
    .collect()
}

fn command(event: &Event) -> &str {
    let event_type = &*event.event_type;
    event_type.strip_prefix("site.").unwrap_or(event_type)
}

fn name<'a>(view: &'a View, site: &str) -> &'a str {
    let site = SiteId::new(site).and_then(|id| view.plan.get(&id));
    site.map_or("", |site| &site.name)
}

fn site_name<'a>(view: &'a View, site: &'a str) -> &'a str {
    match name(view, site) {
        "" => site,
        name => name,
    }
}

/// The named ones, and how many there are beside them.
fn list(named: &[String], of: usize) -> String {
    let mut list = named.join("; ");
    if of > named.len() {
        list += &format!("; and {} more", of - named.len());
    }
    list
}

/// How long ago, in the largest unit that fits.
fn age(age: TimeDelta) -> String {
    let seconds = age.num_seconds().max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Mono;

    #[test]
    fn what_is_not_named_of_the_sites_that_were_not_told_is_counted() {
        let now = Now {
            wall: DateTime::UNIX_EPOCH,
            mono: Mono::ZERO,
        };
        let one = |(site, sink)| UntoldSite {
            site,
            name: "",
            sink,
            command: "curtail",
            since: now.wall,
            reason: "down",
        };
        let pairs = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("c", "x")];
        let ends = |count: usize, sites| {
            let text = not_told(&pairs.map(one)[..count], sites, now);
            text.rsplit("; ").next().unwrap().to_owned()
        };
        assert_eq!(ends(4, 2), "and 1 more at other sinks.");
        assert_eq!(ends(5, 3), "and 1 more.");
        assert!(ends(3, 2).starts_with("curtail b (x"));
    }
}
