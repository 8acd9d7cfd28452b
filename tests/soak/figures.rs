//! Figures, and how they are shown.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use chrono::TimeDelta;
use serde_json::Value;

use crate::catalogue::Committed;
use crate::daemon::Life;
use crate::heard::Heard;
use crate::lateness::LATENESS_MAX;
use crate::run::World;
use crate::upstream::Change;
use crate::webhooks::id_of;

/// How many violations are shown.
const SHOWN: usize = 40;

/// What happened to two daemons that share a database.
#[derive(Debug, Default)]
pub struct Incidents {
    pub kills: u64,
    pub stops: u64,
    /// How often nothing passed between a daemon and the database.
    pub stalls: u64,
    /// How often a COMMIT, or its answer, did not arrive.
    pub cuts: u64,
    /// How long it took until another one led.
    pub nobody_led: Vec<Duration>,
}

/// What is counted while the daemon lives and dies.
#[derive(Debug, Default)]
pub struct Figures {
    pub incidents: Incidents,
    pub killed: u64,
    pub killed_at_start: u64,
    pub settled: Duration,
    /// KiB.
    pub memory_start: u64,
    pub memory_end: u64,
    pub memory_most: u64,
    /// Bytes.
    pub log_most: u64,
    pub heals: u64,
    pub polls: (u64, u64),
    pub outdated: u64,
    pub unreadable: u64,
    pub rewinds: u64,
}

impl Incidents {
    fn happened(&self) -> bool {
        self.kills + self.stops + self.stalls + self.cuts > 0
    }

    fn told(&self, changes: u64) -> String {
        format!(
            "{} killed, {} stopped for a while, {} cut off, {} cut at a commit; another one \
             began to send {changes} times",
            self.kills, self.stops, self.stalls, self.cuts
        )
    }

    fn nobody_led(&self) -> Vec<TimeDelta> {
        let spans = self.nobody_led.iter();
        spans
            .filter_map(|span| TimeDelta::from_std(*span).ok())
            .collect()
    }
}

impl Figures {
    /// Looks at the daemon from outside.
    pub fn look(&mut self, life: &Life, state: &Path) {
        let memory = life.memory();
        if self.memory_start == 0 {
            self.memory_start = memory;
        }
        self.memory_most = self.memory_most.max(memory);
        self.log_most = self.log_most.max(size(&with(state, "-wal")));
    }

    /// What a life said of itself at its end.
    pub fn add_health(&mut self, health: &Value) {
        let sync = &health["sync"];
        let count = |value: &Value| value.as_u64().unwrap_or_default();
        self.heals += count(&sync["heals"]);
        self.polls.0 += count(&sync["polls"]["succeeded"]);
        self.polls.1 += count(&sync["polls"]["failed"]);
        self.outdated += count(&sync["outdated_answers"]);
        self.unreadable += count(&sync["unreadable_dispatches"]);
        self.rewinds += count(&sync["rewinds"]);
    }
}

fn with(path: &Path, more: &str) -> std::path::PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(more);
    path.into()
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |data| data.len())
}

/// How changes whose webhook was lost came to be known.
#[derive(Debug, Default)]
struct Healing {
    by_poll: Vec<TimeDelta>,
    by_another_webhook: Vec<TimeDelta>,
    /// Taken away before anybody saw them.
    never: u64,
}

fn healing(world: &World) -> Healing {
    let books = world.upstream.books();
    let mut known: BTreeMap<&str, Vec<&Committed>> = BTreeMap::new();
    for event in &world.catalogue.events {
        known.entry(&event.subject).or_default().push(event);
    }
    let mut changes: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
    for change in &books.changes {
        changes.entry(&change.id).or_default().push(change);
    }
    let mut healing = Healing::default();
    for lost in &world.webhooks.lost {
        let id = id_of(lost);
        let of_id = changes.get(id).into_iter().flatten();
        // None of them: it was about a state that cannot be read.
        let Some(change) = of_id
            .rev()
            .find(|change| change.before <= lost.at && lost.at <= change.after)
        else {
            continue;
        };
        let mut events = known.get(id).into_iter().flatten();
        match events.find(|event| event.state.is_some_and(|known| known >= change.state)) {
            None => healing.never += 1,
            Some(event) if event.source == "webhook" => {
                healing.by_another_webhook.push(event.time - change.before);
            }
            Some(event) => healing.by_poll.push(event.time - change.before),
        }
    }
    healing
}

fn spread(mut delays: Vec<TimeDelta>) -> String {
    delays.sort();
    let at = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index"
        )]
        let index = ((delays.len().saturating_sub(1)) as f64 * share).round() as usize;
        delays
            .get(index)
            .map_or(0.0, |delay| delay.num_milliseconds() as f64 / 1000.0)
    };
    format!(
        "median {:.2} s, 99th {:.2} s, worst {:.2} s",
        at(0.5),
        at(0.99),
        at(1.0)
    )
}

fn deliveries(heard: &Heard) -> String {
    let distinct = heard.sequences.len() as u64;
    format!(
        "{distinct} delivered, {} duplicates, {} refused, {} dropped for their sequence; {} out of order, {} curtails after release",
        heard.arrived - distinct,
        heard.refused,
        heard.dropped,
        heard.disorder.len(),
        heard.late_curtails.len()
    )
}

/// Shows everything.
pub fn print(world: &World) {
    let line = |name: &str, text: String| println!("{name:<22}{text}");
    let Figures {
        killed,
        killed_at_start,
        ..
    } = world.figures;
    let figures = &world.figures;
    let webhooks = &world.webhooks;
    let healing = healing(world);
    let books = world.upstream.books();
    line(
        "upstream",
        format!(
            "{} changes of {} dispatches; {} withdrawn, {} hidden from the list, {} unreadable for a while",
            books.changes.len(),
            books.created,
            books.withdrawn,
            books.hidden,
            books.garbled
        ),
    );
    line(
        "webhooks",
        format!(
            "{} sent, {} lost, {} attempts ({} copies): {} answered 200, {} otherwise, {} not at all; {} contact emails",
            books.changes.len() as u64 + books.garbled,
            webhooks.lost.len(),
            webhooks.attempts,
            webhooks.copies,
            webhooks.answered_200,
            webhooks.answered_otherwise,
            webhooks.unanswered,
            webhooks.contact_emails
        ),
    );
    line(
        "healed",
        format!(
            "{} by the poller, {} by another webhook, {} taken away unseen; /status heals {}",
            healing.by_poll.len(),
            healing.by_another_webhook.len(),
            healing.never,
            figures.heals
        ),
    );
    line("healing delay", spread(healing.by_poll));
    line(
        "",
        format!(
            "{} (by another webhook)",
            spread(healing.by_another_webhook)
        ),
    );
    line(
        "polls",
        format!(
            "{} succeeded, {} failed; {} lagging answers, {} outdated, {} unreadable dispatches, {} rewinds",
            figures.polls.0,
            figures.polls.1,
            world.replica.lagged(),
            figures.outdated,
            figures.unreadable,
            figures.rewinds
        ),
    );
    if figures.incidents.happened() {
        let changes = world.senders.sent().changes;
        line("incidents survived", figures.incidents.told(changes));
        line("nobody led", spread(figures.incidents.nobody_led()));
        let both = world.senders.sent().violations.len();
        line("two at once", both.to_string());
    } else {
        line(
            "kills survived",
            format!(
                "{} ({killed_at_start} while it started)",
                killed + killed_at_start
            ),
        );
    }
    let of_dispatches = world
        .catalogue
        .events
        .iter()
        .filter(|event| event.must_arrive());
    line(
        "events",
        format!(
            "{} committed, {} of which must arrive",
            world.catalogue.events.len(),
            of_dispatches.count()
        ),
    );
    for receiver in &world.receivers {
        line(
            &format!("  {}", receiver.name),
            deliveries(&receiver.heard()),
        );
    }
    if let Some(broker) = &world.broker {
        line("  mqtt", deliveries(&broker.heard()));
        let restarts = broker.restarts();
        line(
            "broker restarts",
            format!(
                "{}; after {} of them the retained states were checked",
                restarts.made, restarts.checked
            ),
        );
    }
    let lateness = || world.lateness.iter().map(|(_, lateness)| lateness);
    line(
        "commands",
        format!(
            "{}, {} of them more than {} s late beyond faults, pauses and kills",
            lateness().map(|of| of.late.len()).sum::<usize>(),
            lateness().map(|of| of.violations.len()).sum::<usize>(),
            LATENESS_MAX.num_seconds()
        ),
    );
    for (name, lateness) in &world.lateness {
        line(
            &format!("  {name}"),
            format!(
                "{} commands: {}; {} too late (with faults: {})",
                lateness.late.len(),
                spread(lateness.late.clone()),
                lateness.violations.len(),
                spread(lateness.due.clone())
            ),
        );
    }
    line("promises checked", webhooks.promises_checked.to_string());
    line(
        "settled",
        format!("in {:.1} s", figures.settled.as_secs_f64()),
    );
    line(
        "memory",
        format!(
            "{} KiB at the start, {} at the end, {} at most",
            figures.memory_start, figures.memory_end, figures.memory_most
        ),
    );
    if !figures.incidents.happened() {
        line(
            "state file",
            format!(
                "{} bytes, write-ahead log {} at most",
                size(&world.setup.state()),
                figures.log_most
            ),
        );
    }
    line("violations", world.violations.len().to_string());
    for violation in world.violations.iter().take(SHOWN) {
        println!("  {violation}");
    }
}
