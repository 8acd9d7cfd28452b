//! The run: bad times with many lives of the daemon, then good ones with one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dispatchd::sandbox::{self, Sandbox};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Fault;
use crate::broker::Broker;
use crate::catalogue::{Catalogue, Place};
use crate::clock::{elapsed, now};
use crate::cluster::Cluster;
use crate::daemon::{Life, Setup, addresses};
use crate::figures::Figures;
use crate::lateness::{Lateness, commands, lateness};
use crate::options::Options;
use crate::pair::{self, Pair};
use crate::receiver::{Manner, Receiver};
use crate::replica::Replica;
use crate::senders::Senders;
use crate::spans::Away;
use crate::upstream::Upstream;
use crate::verdict;
use crate::weather::{self, Picks};
use crate::webhooks::{Webhooks, states};

/// How often the daemon is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// The longest `Retry-After` that receivers ask for, and no longer than the run.
const ASKED_MAX: Duration = Duration::from_secs(300);

/// The receivers, and what more their addresses say.
const RECEIVERS: [(&str, &str); 6] = [
    ("flapping", ""),
    ("slow", "?batch=true"),
    ("lying", ""),
    ("hanging", ""),
    ("refusing", ""),
    ("picky", "?batch=true"),
];

/// How many tasks choose subjects for each receiver that is bad to some.
const PICKERS: u64 = 2;

/// How many lines of the daemon's log are shown with what is wrong.
const LOG_SHOWN: usize = 30;

/// Everything around the daemon.
pub struct World {
    pub setup: Setup,
    pub sandbox: Sandbox,
    pub upstream: Upstream,
    pub receivers: Vec<Receiver>,
    /// `None` if no broker is installed.
    pub broker: Option<Broker>,
    pub replica: Arc<Replica>,
    /// How late commands came, by receiver, once that was judged.
    pub lateness: Vec<(&'static str, Lateness)>,
    pub webhooks: Webhooks,
    pub catalogue: Catalogue,
    pub figures: Figures,
    /// What must not be.
    pub violations: Vec<String>,
    pub senders: Senders,
    pub away: Away,
    revision: u64,
    pub random: SmallRng,
}

/// Runs until the time is over, or the user has enough. Whether all was well.
pub async fn run(options: &Options) -> Result<bool, Fault> {
    let (folder, _guard) = folder(options)?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let tasks = TaskTracker::new();
    let stop = CancellationToken::new();
    let soaked = tokio::select! {
        soaked = soak(options, &folder, &tasks, stop.clone()) => soaked,
        _ = interrupt.recv() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
    };
    stop.cancel();
    tasks.close();
    // Nothing that is left holds a file.
    let _ = tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await;
    if !matches!(soaked, Ok(true)) {
        show_log(&folder.join("daemon.log"));
    }
    soaked
}

fn folder(options: &Options) -> Result<(PathBuf, Option<TempDir>), Fault> {
    match options.folder() {
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            let folder = folder.canonicalize()?;
            if folder.join("state.db").exists() {
                return Err(format!("{} holds a state already", folder.display()).into());
            }
            Ok((folder, None))
        }
        None => {
            let guard = tempfile::tempdir()?;
            Ok((guard.path().to_owned(), Some(guard)))
        }
    }
}

fn show_log(path: &Path) {
    let log = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LOG_SHOWN)..];
    if !shown.is_empty() {
        eprintln!("the end of the daemon's log:\n{}", shown.join("\n"));
    }
}

async fn soak(
    options: &Options,
    folder: &Path,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Result<bool, Fault> {
    let (seed, time) = (options.seed(), options.time());
    let bad = stop.child_token();
    let weather = TaskTracker::new();
    let program = options.daemon()?;
    let cluster = options.are_two().then(pair::database).transpose()?;
    let mut world = World::new(
        program,
        folder,
        seed,
        cluster.clone(),
        (tasks, &weather),
        (&bad, &stop),
    )
    .await?;
    println!(
        "{} for {} with seed {seed}",
        world.setup.program.display(),
        humantime::format_duration(time)
    );
    let end = elapsed() + time;
    if world.broker.is_none() && !options.are_two() {
        if std::env::var_os("CI").is_some_and(|value| value == "true") {
            return Err("CI=true, and mosquitto is not installed".into());
        }
        println!("left out: the broker, since mosquitto is not installed");
    }
    weather.spawn(world.upstream.clone().run(seed ^ 1, bad.clone()));
    weather.spawn(weather::api(world.sandbox.clone(), seed ^ 2, bad.clone()));
    let [flapping, slow, lies, hanging, refusing, picky] =
        std::array::from_fn(|index| world.receivers[index].clone());
    let longest = ASKED_MAX.min(time);
    weather.spawn(weather::flapping(flapping, seed ^ 3, bad.clone()));
    weather.spawn(weather::steady(slow, Manner::Slow, bad.clone()));
    weather.spawn(weather::steady(lies, Manner::Lies, bad.clone()));
    weather.spawn(weather::busy(
        refusing.clone(),
        longest,
        seed ^ 4,
        bad.clone(),
    ));
    for (receiver, picks) in [
        (hanging, Picks::Hangs),
        (refusing, Picks::Refuses),
        (picky, Picks::Both),
    ] {
        for _ in 0..PICKERS {
            weather.spawn(weather::picky(
                receiver.clone(),
                picks,
                world.upstream.clone(),
                longest,
                world.random.random(),
                bad.clone(),
            ));
        }
    }
    weather.close();

    let mut pair = match &cluster {
        Some(cluster) => Some(Pair::new(&mut world, cluster)?),
        None => None,
    };
    let mut told = elapsed();
    while elapsed() < end {
        match &mut pair {
            None => world.live(end).await?,
            Some(pair) => pair.live(&mut world, end).await?,
        }
        if elapsed() > told + Duration::from_secs(60) {
            told = elapsed();
            println!("{}", world.so_far());
        }
    }
    bad.cancel();
    weather.wait().await;
    let mut life = match &mut pair {
        None => world.start().await?,
        Some(pair) => pair.leader(&mut world).await?,
    };
    world.settle(&mut life, options.settle()).await?;
    world.figures.memory_end = life.memory();
    life.stop().await?;
    world.finish()?;
    Ok(world.violations.is_empty())
}

impl World {
    async fn new(
        program: PathBuf,
        folder: &Path,
        seed: u64,
        cluster: Option<Arc<Cluster>>,
        (tasks, weather): (&TaskTracker, &TaskTracker),
        (bad, stop): (&CancellationToken, &CancellationToken),
    ) -> Result<Self, Fault> {
        let mut random = SmallRng::seed_from_u64(seed);
        let options = sandbox::Options {
            fixture: false,
            seed: Some(seed),
            ..sandbox::Options::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let sandbox = Sandbox::start(options, listener, stop.clone())?;
        let senders = Senders::default();
        let mut receivers = Vec::new();
        for (name, query) in RECEIVERS {
            let seed = seed ^ receivers.len() as u64;
            receivers.push(
                Receiver::start(name, query, seed, senders.clone(), tasks, stop.clone()).await?,
            );
        }
        let [listen, status, mqtt] = addresses(&mut random)?;
        let away = Away::default();
        away.spans().begin(now());
        let broker = match &cluster {
            // Its checks are about one daemon that dies.
            Some(_) => None,
            None => {
                Broker::start(
                    mqtt.port(),
                    folder,
                    away.clone(),
                    seed ^ 5,
                    (tasks, weather),
                    bad.clone(),
                    stop.clone(),
                )
                .await?
            }
        };
        let upstream = Upstream::new(sandbox.clone());
        let (replica, api) = Replica::start(
            upstream.clone(),
            sandbox.clone(),
            seed ^ 6,
            tasks,
            bad.clone(),
            stop.clone(),
        )
        .await?;
        let sinks = receivers.iter().map(|one| &one.sink);
        let sinks = sinks.chain(broker.iter().map(|one| &one.sink));
        let setup = Setup {
            program,
            folder: folder.to_owned(),
            node: "one",
            state: "state.db".to_owned(),
            api: format!("http://{api}"),
            sinks: sinks.cloned().collect(),
            listen,
            status,
        };
        sandbox.add_webhook(format!("http://{listen}/dispatch-listener"));
        let place = match cluster {
            Some(cluster) => Place::Database(cluster),
            None => Place::File(setup.state()),
        };
        Ok(Self {
            catalogue: Catalogue::new(place),
            senders,
            upstream,
            setup,
            sandbox,
            receivers,
            broker,
            replica,
            lateness: Vec::new(),
            webhooks: Webhooks::default(),
            figures: Figures::default(),
            violations: Vec::new(),
            away,
            revision: 0,
            random,
        })
    }

    /// One life of the daemon, ended in the middle of whatever it does.
    async fn live(&mut self, end: Duration) -> Result<(), Fault> {
        if self.random.random_bool(0.15) {
            let starting = self.setup.spawn()?;
            let moment = self.random.random_range(0..400);
            tokio::time::sleep(Duration::from_millis(moment)).await;
            starting.kill().await?;
            self.figures.killed_at_start += 1;
        }
        let mut life = self.start().await?;
        // Now and then it lives long enough for memory to be worth a look.
        let seconds = match self.figures.killed % 12 {
            11 => self.random.random_range(25.0..40.0),
            _ => self.random.random_range(1.0..7.0),
        };
        let until = end.min(elapsed() + Duration::from_secs_f64(seconds));
        let mut health = Value::Null;
        while elapsed() < until {
            tokio::time::sleep(LOOK).await;
            life.check()?;
            self.figures.look(&life, &self.setup.state());
            if let Ok(newer) = life.get("/status").await {
                health = newer;
            }
            // It may be busy; what is not read now is read later.
            let _ = self.catalogue.read();
        }
        self.away.spans().begin(now());
        life.kill().await?;
        self.figures.killed += 1;
        self.figures.add_health(&health);
        self.webhooks.read(&self.sandbox, &self.upstream.books());
        Ok(())
    }

    /// A start with the API down, so that all that is there comes from the file.
    async fn start(&mut self) -> Result<Life, Fault> {
        self.sandbox.down(true);
        let mut life = self.setup.spawn()?;
        life.wait_until_up().await?;
        self.away.spans().end(now());
        let schedule = life.get("/schedule").await?;
        self.sandbox.down(false);
        self.hold_against(&schedule);
        Ok(life)
    }

    /// After a daemon died: what was promised, and what receivers were told, is there.
    pub fn hold_against(&mut self, schedule: &Value) {
        let books = self.upstream.books();
        self.violations
            .extend(self.webhooks.broken(schedule, &books));
        let revision = schedule["revision"].as_u64().unwrap_or_default();
        if revision < self.revision {
            let before = self.revision;
            self.violations.push(format!(
                "the revision went back from {before} to {revision}"
            ));
        }
        self.revision = revision;
        let states = states(schedule);
        for receiver in &self.receivers {
            for (key, word) in &receiver.heard().newest {
                let Some(id) = key.strip_prefix("dispatch/") else {
                    continue;
                };
                let told = word.data["metadata"]["state"].as_i64();
                let known = states.get(id).copied();
                let one = &books.dispatches[id];
                let excused = told.is_none_or(|told| one.is_excused(told, now()));
                let forgotten = known.is_none() && excused;
                if !forgotten && known < told {
                    self.violations.push(format!(
                        "{id}: {} was told state {told:?}, the schedule has {known:?} after a kill",
                        receiver.name
                    ));
                }
            }
        }
    }

    /// Waits until everything is as it must be.
    async fn settle(&mut self, life: &mut Life, most: Duration) -> Result<(), Fault> {
        let begun = elapsed();
        loop {
            tokio::time::sleep(LOOK).await;
            life.check()?;
            self.figures.look(life, &self.setup.state());
            let wrong = match self.catalogue.read() {
                Ok(()) => verdict::wrong(self, life).await?,
                Err(error) => vec![format!("the state cannot be read: {error}")],
            };
            self.figures.settled = elapsed() - begun;
            if wrong.is_empty() {
                break;
            }
            if elapsed() > begun + most {
                self.violations.extend(wrong);
                break;
            }
        }
        self.figures.add_health(&life.get("/status").await?);
        Ok(())
    }

    /// After the end: the last checks, and all figures.
    fn finish(&mut self) -> Result<(), Fault> {
        self.catalogue.read()?;
        self.webhooks.read(&self.sandbox, &self.upstream.books());
        if let Some(damage) = self.catalogue.damage()? {
            self.violations.push(format!("the state file: {damage}"));
        }
        if self.figures.rewinds > 0 {
            self.violations.push(format!(
                "{} lower numbers were believed, and none was right",
                self.figures.rewinds
            ));
        }
        let mut heard: Vec<_> = self
            .receivers
            .iter()
            .map(|receiver| (receiver.name, receiver.heard()))
            .collect();
        if let Some(broker) = &self.broker {
            heard.push(("mqtt", broker.heard()));
            let wrong = broker.restarts().violations.clone();
            self.violations.extend(wrong);
        }
        self.violations
            .extend(self.senders.sent().violations.clone());
        let (commands, time) = (commands(&self.catalogue.events), now());
        for (name, heard) in heard {
            let wrong = heard.disorder.iter().chain(&heard.late_curtails);
            self.violations
                .extend(wrong.map(|what| format!("{name}: {what}")));
            let judged = lateness(name, &heard, &commands, &self.away.spans(), time);
            self.violations.extend(judged.violations.iter().cloned());
            self.lateness.push((name, judged));
        }
        crate::figures::print(self);
        Ok(())
    }

    fn so_far(&self) -> String {
        format!(
            "{}s: {} changes, {} kills, {} events, {} violations",
            elapsed().as_secs(),
            self.upstream.books().changes.len(),
            self.figures.killed + self.figures.killed_at_start,
            self.catalogue.events.len(),
            self.violations.len()
        )
    }
}
