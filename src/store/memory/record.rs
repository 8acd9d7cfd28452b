//! Keeps in memory what proves how a dispatch was carried out.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{DispatchId, SiteId};
use crate::store::record::{KEPT, left_out};
use crate::store::{
    Batch, CommandLine, DeliveryLine, DispatchRecord, NewCommand, NewState, SinkRecord, StateLine,
};

/// The records of all dispatches.
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    states: BTreeMap<DispatchId, Vec<StateLine>>,
    commands: BTreeMap<DispatchId, BTreeMap<SiteId, Vec<CommandLine>>>,
    deliveries: BTreeMap<(Arc<str>, u64, Arc<str>), DeliveryLine>,
}

impl Records {
    /// Takes in what a batch has for the dispatches that are `stored`.
    pub fn write(&mut self, batch: &Batch, stored: impl Fn(&DispatchId) -> bool) {
        for line in &batch.states {
            if stored(&line.dispatch) {
                self.state(line);
            }
        }
        for line in &batch.commands {
            for dispatch in line.dispatches.iter().filter(|id| stored(id)) {
                self.command(dispatch, line);
            }
        }
        for record in &batch.sinks {
            self.attempts(record);
        }
    }

    fn state(&mut self, line: &NewState) {
        let lines = self.states.entry(line.dispatch.clone()).or_default();
        if let Some(last) = lines.last_mut() {
            if let Some(seen) = line.before_seen {
                last.last_seen = seen;
            }
            if last.body == line.body {
                last.last_seen = line.answered;
                return;
            }
        }
        lines.push(StateLine {
            number: lines.last().map_or(1, |last| last.number + 1),
            way: line.way,
            asked: line.asked,
            answered: line.answered,
            last_seen: line.answered,
            bytes: line.bytes(),
            body: line.body.clone(),
        });
        let sizes: Vec<(u64, u64)> = lines.iter().map(|line| (line.number, line.bytes)).collect();
        let out = left_out(&sizes);
        lines.retain(|line| !out.contains(&line.number));
    }

    fn command(&mut self, dispatch: &DispatchId, line: &NewCommand) {
        let sites = self.commands.entry(dispatch.clone()).or_default();
        let lines = sites.entry(line.site.clone()).or_default();
        let number = lines.last().map_or(1, |last| last.number + 1);
        lines.push(CommandLine {
            site: line.site.clone(),
            position: line.position,
            number,
            command: line.command.into(),
            due: line.due,
            known: line.known,
        });
        if number > 2 * KEPT {
            let out = number - KEPT;
            let gone = lines.iter().find(|line| line.number == out).cloned();
            lines.retain(|line| line.number != out);
            self.forget(gone.into_iter());
        }
    }

    fn attempts(&mut self, record: &SinkRecord) {
        for (position, attempts) in &record.attempts {
            let key = (
                Arc::clone(&attempts.site),
                *position,
                Arc::clone(&record.sink),
            );
            let known = self.deliveries.get_mut(&key);
            match (known, &attempts.begun) {
                (Some(known), begun) => {
                    if let Some((command, _, last)) = begun {
                        known.command = Arc::clone(command);
                        known.last_attempt = *last;
                    }
                    known.attempts += attempts.attempts;
                    known.acknowledged = known.acknowledged.or(attempts.acknowledged);
                    if attempts.last_error.is_some() {
                        known.last_error.clone_from(&attempts.last_error);
                    }
                }
                (None, Some((command, first, last))) => {
                    if let Some(site) = SiteId::new(&attempts.site)
                        && self.has_command(&site, *position)
                    {
                        let line = DeliveryLine {
                            site,
                            position: *position,
                            sink: Arc::clone(&record.sink),
                            command: Arc::clone(command),
                            first_attempt: *first,
                            last_attempt: *last,
                            attempts: attempts.attempts,
                            acknowledged: attempts.acknowledged,
                            last_error: attempts.last_error.clone(),
                        };
                        self.deliveries.insert(key, line);
                    }
                }
                (None, None) => {}
            }
        }
    }

    fn has_command(&self, site: &SiteId, position: u64) -> bool {
        let of_site = self.commands.values().filter_map(|sites| sites.get(site));
        of_site.flatten().any(|line| line.position == position)
    }

    /// Forgets a dispatch.
    pub fn prune(&mut self, id: &DispatchId) {
        self.states.remove(id);
        let commands = self.commands.remove(id).unwrap_or_default();
        self.forget(commands.into_values().flatten());
    }

    /// Commands have gone: their deliveries go, unless another dispatch has them too.
    fn forget(&mut self, gone: impl Iterator<Item = CommandLine>) {
        for line in gone {
            if !self.has_command(&line.site, line.position) {
                let site = line.site.as_str();
                self.deliveries
                    .retain(|(of, position, _), _| &**of != site || *position != line.position);
            }
        }
    }

    /// What is kept of a dispatch, apart from the sinks.
    pub fn read(&self, id: &DispatchId) -> DispatchRecord {
        let commands = self.commands.get(id).into_iter().flatten();
        let commands: Vec<CommandLine> = commands.flat_map(|(_, lines)| lines.clone()).collect();
        let deliveries = commands.iter().flat_map(|line| {
            let site: Arc<str> = line.site.as_str().into();
            let from = (Arc::clone(&site), line.position, Arc::from(""));
            let to = (site, line.position + 1, Arc::from(""));
            self.deliveries
                .range(from..to)
                .map(|(_, line)| line.clone())
        });
        DispatchRecord {
            states: self.states.get(id).cloned().unwrap_or_default(),
            deliveries: deliveries.collect(),
            commands,
            sinks: Vec::new(),
        }
    }
}
