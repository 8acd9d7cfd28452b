//! How incidents begin and end.

use std::time::Duration;

use rand::RngExt;

use super::checks::{Checks, SETTLED_AFTER};
use super::plan::{Incident, Timed, Whom};
use super::{Event, World};
use crate::daemon::PATIENCE;
use crate::violation::Checked;

impl World {
    pub fn begin(&mut self, number: usize) {
        let Timed { whom, what, .. } = self.plan.incidents[number].clone();
        let leader = || (self.processes.iter()).position(|process| process.leads(self.now));
        let process = match whom {
            Whom::Leader => leader().unwrap_or_default(),
            Whom::Process(process) => process,
        };
        self.line(|| format!("{process}: {what:?}"));
        self.counts.add(name(&what), 1);
        let it = &mut self.processes[process];
        let (life, since) = (it.life, self.now);
        let lasts = match what {
            Incident::StoreAway { lasts, refuses } => return self.store_away(lasts, refuses),
            Incident::Promote { lag } => return self.promote(lag),
            Incident::CutFromApi { lasts } => {
                it.cut_from_api += 1;
                lasts
            }
            Incident::CutFromReceivers { lasts } => {
                it.cut_from_receivers += 1;
                lasts
            }
            Incident::Crash { down } => {
                if it.up {
                    self.end(process, down);
                }
                return;
            }
            Incident::Stop { down } => {
                if it.up && it.paused == 0 {
                    it.leaving = true;
                    it.well_since = None;
                    let shown = it.mono(self.now);
                    let limit = match &mut it.lead {
                        Some(lead) => {
                            lead.daemon.stop(shown);
                            lead.daemon.wake();
                            PATIENCE
                        }
                        None => {
                            it.lease.give_back();
                            Duration::ZERO
                        }
                    };
                    self.act(process);
                    let limit = limit + Duration::from_secs(4);
                    self.after(
                        limit,
                        Event::Exit {
                            process,
                            life,
                            down,
                        },
                    );
                }
                return;
            }
            Incident::Pause { lasts } => {
                it.paused += 1;
                lasts
            }
            Incident::Hang { lasts } => {
                it.hung += 1;
                lasts
            }
            Incident::Cut { lasts, .. } => {
                it.cut += 1;
                lasts
            }
            Incident::Lossy { lasts } => {
                it.lossy += 1;
                lasts
            }
        };
        it.well_since = it.well_since.filter(|_| it.is_well());
        self.after(
            lasts,
            Event::Over {
                process,
                life,
                what,
                since,
            },
        );
    }

    fn store_away(&mut self, lasts: Duration, refuses: bool) {
        let before = self.checks.before(&self.processes, self.now);
        self.away += 1;
        // The first decides how it is away.
        if self.away == 1 {
            self.refuses = u32::from(refuses);
        }
        self.checks.store(None);
        self.after(lasts, Event::StoreBack);
        let settled = lasts + SETTLED_AFTER + Duration::from_millis(1);
        self.after(settled, Event::Settled(before));
    }

    pub fn over(&mut self, process: usize, life: u64, what: &Incident, since: Duration) -> Checked {
        let now = self.now;
        let it = &mut self.processes[process];
        match what {
            Incident::Cut { late, .. } => {
                it.cut -= 1;
                if it.cut == 0 {
                    let stuck = std::mem::take(&mut it.stuck);
                    for event in stuck.into_iter().filter(|_| *late) {
                        let pause = self.roll("stuck", process).random_range(1..300);
                        self.after(Duration::from_millis(pause), event);
                    }
                }
            }
            Incident::Lossy { .. } => it.lossy -= 1,
            Incident::CutFromApi { .. } => it.cut_from_api -= 1,
            Incident::CutFromReceivers { .. } => it.cut_from_receivers -= 1,
            // Another process runs there.
            _ if it.life != life => return Ok(()),
            Incident::Pause { .. } => {
                it.paused -= 1;
                if it.paused == 0 && it.up {
                    Checks::goes_on(it, since, now)?;
                    for event in std::mem::take(&mut it.held) {
                        self.handle(event)?;
                    }
                }
            }
            Incident::Hang { .. } => it.hung -= 1,
            Incident::Crash { .. }
            | Incident::Stop { .. }
            | Incident::StoreAway { .. }
            | Incident::Promote { .. } => {}
        }
        let it = &mut self.processes[process];
        if it.is_well() {
            it.well_since.get_or_insert(now);
        }
        self.line(|| format!("{process}: {} is over", name(what)));
        Ok(())
    }
}

/// An incident's name in the counts.
fn name(what: &Incident) -> &'static str {
    match what {
        Incident::Crash { .. } => "lease: crash",
        Incident::Stop { .. } => "lease: stop",
        Incident::Pause { .. } => "lease: pause",
        Incident::Hang { .. } => "lease: coordinator hangs",
        Incident::Cut { .. } => "lease: cut off from the store",
        Incident::Lossy { .. } => "lease: answers get lost",
        Incident::StoreAway { .. } => "lease: store away",
        Incident::CutFromApi { .. } => "daemons: cut off from the API",
        Incident::CutFromReceivers { .. } => "daemons: cut off from the receivers",
        Incident::Promote { .. } => "daemons: promotion of the database",
    }
}
