//! What a pass over the list costs.

use std::time::Duration;

use chrono::TimeDelta;

use super::{NO_POLLS, mebibytes, milliseconds, thousands};
use crate::Fault;
use crate::clock::now;
use crate::figures::{Figures, Unit, Who, median};
use crate::options::Options;
use crate::process::Process;
use crate::stage::{Daemon, Limit, Poller, Stage};
use crate::world::{Shape, World};

/// Lengths of lists of dispatches of two sites.
const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];

/// Above that the peers are left out, or nothing else would be measured.
const PEERS_TO: usize = 10_000;

/// Measures all lengths, round after round.
pub async fn measure(stage: &Stage, options: &Options, figures: &mut Figures) -> Result<(), Fault> {
    let largest = if options.short {
        10_000
    } else {
        options.largest
    };
    for round in 1..=options.rounds() {
        for size in SIZES.into_iter().filter(|size| *size <= largest) {
            eprintln!("polls of {size} dispatches, round {round}");
            let repeats = match size {
                ..=1_000 => 11,
                1_001..=10_000 => 5,
                _ => 3,
            };
            let name = format!("{} x 2 sites", thousands(size));
            let peers = size <= PEERS_TO && (size == 10_000 || !options.short);
            let case = Case {
                name,
                shape: Shape::own(size, 2),
                repeats,
                peers,
            };
            case.measure(stage, options, figures).await?;
        }
        growth(figures);
    }
    Ok(())
}

/// A million pairs of dispatch and site.
pub async fn pairs(stage: &Stage, options: &Options, figures: &mut Figures) -> Result<(), Fault> {
    // What is read is always the same, and much: more rounds tell nothing new.
    let rounds = if options.short { 1 } else { options.rounds() };
    for round in 1..=rounds {
        eprintln!("a million pairs, round {round}");
        let case = Case {
            name: "100 x 10,000 sites".to_owned(),
            shape: Shape {
                dispatches: 100,
                sites: 10_000,
                shared: true,
            },
            repeats: 3,
            peers: false,
        };
        let memory = case.measure(stage, options, figures).await?;
        let what = "a million pairs: memory, as multiple of the JSON";
        figures.add(what, Who::Daemon, Unit::Times, memory);
    }
    Ok(())
}

/// What a dispatch costs in the longest list, by what it costs in a short one.
fn growth(figures: &mut Figures) {
    for state in ["unchanged", "1 % changed", "first sight"] {
        for who in [Who::Daemon, Who::Limit] {
            let last = |size: &str| {
                let values = figures.of(&format!("{size} x 2 sites, {state}: time"), who)?;
                values.last().copied()
            };
            if let (Some(short), Some(long)) = (last("1,000"), last("100,000")) {
                let what =
                    format!("{state}: a dispatch's cost at 100,000, as multiple of that at 1,000");
                figures.add(&what, who, Unit::Times, long / 100.0 / short);
            }
        }
    }
}

struct Case {
    name: String,
    shape: Shape,
    /// How often an unchanged and a changed list is read in one round.
    repeats: usize,
    /// Whether the peers are measured too.
    peers: bool,
}

/// All who read the list, one after the other.
struct Readers {
    daemon: Daemon,
    limit: Option<Limit>,
    pollers: Vec<(Who, Poller)>,
}

/// What one read in one round.
struct Read {
    who: Who,
    took: Vec<f64>,
    cpu: f64,
    peak: f64,
}

impl Case {
    /// One round. Tells the daemon's resident memory afterwards, as a multiple
    /// of the list.
    async fn measure(
        &self,
        stage: &Stage,
        options: &Options,
        figures: &mut Figures,
    ) -> Result<f64, Fault> {
        let world = World {
            shape: self.shape,
            start: now() + TimeDelta::hours(6),
        };
        stage.api.clear();
        let daemon = stage
            .daemon(&[&NO_POLLS[..], &["--sink", "none"]].concat())
            .await?;
        let mut readers = Readers {
            daemon,
            limit: None,
            pollers: Vec::new(),
        };
        if !options.alone {
            readers.limit = Some(stage.limit().await?);
            // So that a first sight does not bear the cost of connecting.
            readers.limit()?.poll().await?;
        }
        if self.peers && !options.alone {
            for (who, parser) in [(Who::Python, "fromisoformat"), (Who::Dateutil, "dateutil")] {
                readers.pollers.push((who, stage.poller(parser)?));
            }
            for (_, poller) in &mut readers.pollers {
                poller.poll().await?;
            }
        }

        let list = world.list(0);
        let length = list.len() as f64;
        stage.api.show(list);
        self.note(figures, "first sight", readers.read(1, || ()).await?);
        let first = readers.daemon.process.memory()?;
        self.note(
            figures,
            "unchanged",
            readers.read(self.repeats, || ()).await?,
        );
        let unchanged = readers.daemon.process.memory()?;
        let mut changes = 0;
        let change = || {
            changes += 1;
            stage.api.show(world.list(changes));
        };
        self.note(
            figures,
            "1 % changed",
            readers.read(self.repeats, change).await?,
        );
        let changed = readers.daemon.process.memory()?;
        stage.api.clear();
        let memory = first.max(unchanged).max(changed);
        let what = format!("{}: resident memory after polls", self.name);
        figures.add(&what, Who::Daemon, Unit::Mebibytes, mebibytes(memory));
        Ok(memory as f64 / length)
    }

    fn note(&self, figures: &mut Figures, state: &str, all: Vec<Read>) {
        let name = &self.name;
        for Read {
            who,
            took,
            cpu,
            peak,
        } in all
        {
            let mut add = |measure, unit, value| {
                figures.add(&format!("{name}, {state}: {measure}"), who, unit, value);
            };
            add("time", Unit::Milliseconds, median(&took));
            add("processor", Unit::Milliseconds, cpu / took.len() as f64);
            add("peak memory", Unit::Mebibytes, peak);
        }
    }
}

impl Readers {
    fn limit(&self) -> Result<&Limit, Fault> {
        self.limit.as_ref().ok_or_else(|| "no limit".into())
    }

    /// Lets all read so many times, in turn, each time after `prepare`.
    async fn read(
        &mut self,
        repeats: usize,
        mut prepare: impl FnMut(),
    ) -> Result<Vec<Read>, Fault> {
        let mut all = vec![Read::begin(Who::Daemon, &self.daemon.process)?];
        if let Some(limit) = &self.limit {
            all.push(Read::begin(Who::Limit, &limit.process)?);
        }
        for (who, poller) in &self.pollers {
            all.push(Read::begin(*who, &poller.process)?);
        }
        for _ in 0..repeats {
            prepare();
            for read in &mut all {
                let took = match read.who {
                    Who::Daemon => self.daemon.poll().await?,
                    Who::Limit => self.limit()?.poll().await?,
                    who => {
                        let found = self.pollers.iter_mut().find(|(other, _)| *other == who);
                        found.ok_or("no such poller")?.1.poll().await?
                    }
                };
                read.took.push(milliseconds(took));
            }
        }
        for read in &mut all {
            let process = match read.who {
                Who::Daemon => &self.daemon.process,
                Who::Limit => &self.limit()?.process,
                who => {
                    let found = self.pollers.iter().find(|(other, _)| *other == who);
                    &found.ok_or("no such poller")?.1.process
                }
            };
            read.end(process)?;
        }
        Ok(all)
    }
}

impl Read {
    fn begin(who: Who, process: &Process) -> Result<Self, Fault> {
        process.forget_peak()?;
        Ok(Self {
            who,
            took: Vec::new(),
            // Until the end it holds the time before.
            cpu: milliseconds(process.cpu()?),
            peak: 0.0,
        })
    }

    fn end(&mut self, process: &Process) -> Result<(), Fault> {
        let before = Duration::from_secs_f64(self.cpu / 1000.0);
        self.cpu = milliseconds(process.cpu()?.saturating_sub(before));
        self.peak = mebibytes(process.peak()?);
        Ok(())
    }
}
