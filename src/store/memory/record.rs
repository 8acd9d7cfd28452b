//! Keeps in memory what proves how a dispatch was carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::Kept;
use crate::model::{CancelReason, DispatchId, Entry, Event, SiteId};
use crate::store::record::{KEPT, is_to_count, left_out};
use crate::store::{
    Batch, CommandLine, DeliveryEnd, DispatchRecord, SettledCommand, SinkLine, StateLine, Told,
};

/// What is kept of one dispatch.
#[derive(Debug, Clone, Default)]
pub(super) struct RecordLines {
    /// The answer that told the newest state.
    told: Option<Told>,
    /// The states that others replaced.
    states: Vec<StateLine>,
    /// By position and sink.
    commands: BTreeMap<(u64, Arc<str>), SettledCommand>,
    commands_left_out: u64,
}

impl RecordLines {
    fn next_number(&self) -> u64 {
        self.states.last().map_or(1, |last| last.number + 1)
    }

    fn replace(&mut self, before: &Entry) {
        let number = self.next_number();
        let line = state_line(number, self.told, before);
        self.states.push(line);
        let sizes: Vec<(u64, u64)> = self
            .states
            .iter()
            .map(|line| (line.number, line.bytes))
            .collect();
        let out = left_out(&sizes);
        self.states.retain(|line| !out.contains(&line.number));
        if is_to_count(number) {
            self.count_commands();
        }
    }

    fn count_commands(&mut self) {
        let mut of: BTreeMap<(Arc<str>, Arc<str>), Vec<u64>> = BTreeMap::new();
        for ((position, sink), settled) in &self.commands {
            let at = of.entry((Arc::clone(&settled.site), Arc::clone(sink)));
            at.or_default().push(*position);
        }
        let kept = usize::try_from(KEPT).unwrap_or(usize::MAX);
        for ((_, sink), positions) in of {
            let middle = positions.len().saturating_sub(2 * kept);
            for position in positions.into_iter().skip(kept).take(middle) {
                self.commands.remove(&(position, Arc::clone(&sink)));
                self.commands_left_out += 1;
            }
        }
    }
}

fn state_line(number: u64, told: Option<Told>, entry: &Entry) -> StateLine {
    let body = (!is_withdrawn(entry)).then(|| serde_json::to_string(&entry.dispatch));
    let body: Option<Arc<str>> = body.and_then(Result::ok).map(Arc::from);
    StateLine {
        number,
        told,
        bytes: body.as_ref().map_or(0, |body| body.len() as u64),
        body,
    }
}

fn is_withdrawn(entry: &Entry) -> bool {
    entry.cancel_reason == Some(CancelReason::Withdrawn)
}

impl Kept {
    /// Takes in the new states of a batch, before its entries.
    pub(super) fn new_states(&mut self, batch: &Batch) {
        let mut newer: BTreeMap<&DispatchId, &Arc<Entry>> = BTreeMap::new();
        for state in &batch.states {
            let id = state.entry.id();
            let lines = self.records.entry(id.clone()).or_default();
            let before = newer.get(id).copied().or_else(|| self.entries.get(id));
            let another = before.is_none_or(|before| {
                is_withdrawn(before) != is_withdrawn(&state.entry)
                    || before.dispatch != state.entry.dispatch
            });
            if another {
                if let Some(before) = before {
                    lines.replace(before);
                }
                lines.told = Some(state.told);
            }
            newer.insert(id, &state.entry);
        }
    }

    /// Takes in the commands whose delivery has come to an end.
    pub(super) fn settled_commands(&mut self, batch: &Batch) {
        for record in &batch.sinks {
            for settled in &record.settled {
                if !self.entries.contains_key(&settled.cause) {
                    continue;
                }
                let lines = self.records.entry(settled.cause.clone()).or_default();
                let key = (settled.position, Arc::clone(&record.sink));
                let last_error = settled.short_error().map(Arc::from);
                let settled = SettledCommand {
                    last_error,
                    ..settled.clone()
                };
                lines.commands.insert(key, settled);
            }
        }
    }

    /// All that is kept of a dispatch.
    pub(super) fn record(&self, id: &DispatchId) -> DispatchRecord {
        let Some(entry) = self.entries.get(id) else {
            return DispatchRecord::default();
        };
        let lines = self.records.get(id).cloned().unwrap_or_default();
        let newest = state_line(lines.next_number(), lines.told, entry);
        let commands: Vec<CommandLine> = lines
            .commands
            .iter()
            .map(|((_, sink), settled)| CommandLine {
                sink: Arc::clone(sink),
                settled: settled.clone(),
                made_up: self.made_up(sink, settled),
            })
            .collect();
        let named = entry.dispatch.sites.iter().map(|site| site.id.as_str());
        let commanded = commands.iter().map(|line| &*line.settled.site);
        let sites: BTreeSet<&str> = named.chain(commanded).collect();
        let caused = |event: &&Event| {
            let origin = event.origin.as_ref();
            sites.contains(&*event.subject) && origin.is_some_and(|origin| origin.cause == *id)
        };
        let mut newest_commands: Vec<Event> =
            self.newest_of_sites().filter(caused).cloned().collect();
        newest_commands.sort_by_key(|event| event.position);
        let sinks = self.stored.sinks.iter().map(|(sink, state)| {
            let is_named = |site: &str| SiteId::new(site).filter(|_| sites.contains(site));
            SinkLine {
                sink: Arc::clone(sink),
                route: state.route.clone(),
                attempted: state
                    .attempted
                    .iter()
                    .filter_map(|(site, last)| Some((is_named(site)?, *last)))
                    .collect(),
                retries: state
                    .retries
                    .iter()
                    .filter_map(|(lane, retry)| {
                        Some((is_named(lane.strip_prefix("site/")?)?, *retry))
                    })
                    .collect(),
            }
        });
        DispatchRecord {
            sinks: sinks.collect(),
            newest: newest_commands,
            states: lines.states.into_iter().chain([newest]).collect(),
            commands_left_out: lines.commands_left_out,
            commands,
        }
    }

    /// When a later command to the same effect was acknowledged at the same sink, if this
    /// one was not: whichever dispatch caused it.
    fn made_up(&self, sink: &Arc<str>, settled: &SettledCommand) -> Option<DateTime<Utc>> {
        if settled.end.acknowledged().is_some() {
            return None;
        }
        let release = &*settled.command == "site.release";
        self.events
            .range(settled.position.saturating_add(1)..)
            .map(|(_, event)| event)
            .filter(|event| event.family() == "site" && *event.subject == *settled.site)
            .take_while(|event| event.is_release() == release)
            .find_map(|event| {
                let cause = &event.origin.as_ref()?.cause;
                let key = (event.position, Arc::clone(sink));
                let later = self.records.get(cause)?.commands.get(&key)?;
                match later.end {
                    DeliveryEnd::Acknowledged(at) => Some(at),
                    DeliveryEnd::Superseded | DeliveryEnd::Skipped => None,
                }
            })
    }
}
