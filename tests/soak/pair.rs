//! Two daemons that share one PostgreSQL database, each by way of a proxy of its own. Every
//! 10 to 30 s one of them is killed, stopped for a while, or cut off from the database.
//!
//! Beside what holds of one daemon, it must hold that another one leads within ten
//! seconds, and that no receiver hears from both at once.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::RngExt;
use rand::rngs::SmallRng;
use rustix::process::Signal;
use serde_json::Value;

use crate::Fault;
use crate::catalogue::SCHEMA;
use crate::clock::{elapsed, now};
use crate::cluster::Cluster;
use crate::daemon::{Life, Setup, addresses};
use crate::proxy::{Mode, Proxy};
use crate::run::World;

/// How often it is asked who leads.
const LOOK: Duration = Duration::from_millis(50);

/// How long nobody may lead while a daemon is well, on a machine that is busy with all of
/// this world.
const TAKE_OVER_WITHIN: Duration = Duration::from_secs(10);

/// How often the database is read, which takes a process.
const READ: Duration = Duration::from_secs(1);

/// A database for two daemons.
pub fn database() -> Result<Arc<Cluster>, Fault> {
    let cluster = Cluster::start(&[]).ok_or("PostgreSQL is not installed")?;
    Ok(Arc::new(cluster))
}

/// What happens to a daemon.
#[derive(Debug, Clone, Copy)]
enum Incident {
    Kill { down: Duration },
    Stop { lasts: Duration },
    Stall { lasts: Duration },
    CutAtCommit(Mode),
}

impl Incident {
    fn draw(random: &mut SmallRng) -> Self {
        let lasts = Duration::from_secs_f64(random.random_range(0.5..20.0));
        match random.random_range(0..8) {
            0..3 => Self::Kill {
                down: lasts.mul_f64(0.3),
            },
            3 | 4 => Self::Stop { lasts },
            5 => Self::CutAtCommit(Mode::CutBeforeCommit),
            6 => Self::CutAtCommit(Mode::CutAfterCommit),
            _ => Self::Stall { lasts },
        }
    }
}

/// One of the two.
struct Machine {
    setup: Setup,
    proxy: Proxy,
    /// `None` while it is down.
    life: Option<Life>,
    /// It is stopped, or cut off.
    unwell: bool,
}

/// The two daemons.
pub struct Pair {
    machines: [Machine; 2],
    /// Who was last seen to lead, and when.
    led: Option<(usize, Duration)>,
    read: Duration,
    health: [Value; 2],
}

impl Pair {
    /// Two that have not started yet, with the receivers and the API of this world.
    pub fn new(world: &mut World, cluster: &Cluster) -> Result<Self, Fault> {
        let [listen, status] = addresses(&mut world.random)?;
        let hears = format!("http://{listen}/dispatch-listener");
        world.sandbox.add_webhook(hears);
        let machine = |node, listen, status| {
            let proxy = Proxy::start(cluster.port());
            let setup = Setup {
                node,
                state: cluster.url_at(proxy.port(), SCHEMA),
                listen,
                status,
                ..world.setup.clone()
            };
            Machine {
                setup,
                proxy,
                life: None,
                unwell: false,
            }
        };
        let first = (world.setup.listen, world.setup.status);
        Ok(Self {
            machines: [
                machine("one", first.0, first.1),
                machine("two", listen, status),
            ],
            led: None,
            read: Duration::ZERO,
            health: [Value::Null, Value::Null],
        })
    }

    /// Some quiet, and then an incident, until all is well again.
    pub async fn live(&mut self, world: &mut World, end: Duration) -> Result<(), Fault> {
        self.start().await?;
        self.wait_for_leader(world).await?;
        world.away.spans().end(now());
        let quiet = Duration::from_secs_f64(world.random.random_range(10.0..30.0));
        self.watch(world, end.min(elapsed() + quiet)).await?;
        let leader = self.who_leads(world).await;
        let hit = match leader {
            Some(leader) if world.random.random_bool(0.75) => leader,
            _ => world.random.random_range(0..2),
        };
        let incident = Incident::draw(&mut world.random);
        if leader == Some(hit) {
            world.away.spans().begin(now());
        }
        // In half of the cases all that is there comes from the database.
        let without_api = world.random.random();
        world.sandbox.down(without_api);
        self.befalls(world, hit, incident).await?;
        let leads = self.wait_for_leader(world).await?;
        world.away.spans().end(now());
        world.webhooks.read(&world.sandbox, &world.upstream.books());
        let life = self.machines[leads].life.as_ref();
        if let Some(Ok(schedule)) = asked(life, "/schedule").await {
            world.hold_against(&schedule);
        }
        world.sandbox.down(false);
        Ok(())
    }

    /// Starts who is down.
    async fn start(&mut self) -> Result<(), Fault> {
        for machine in &mut self.machines {
            if machine.life.is_none() {
                let mut life = machine.setup.spawn()?;
                life.wait_until_up().await?;
                machine.life = Some(life);
            }
        }
        Ok(())
    }

    async fn befalls(
        &mut self,
        world: &mut World,
        hit: usize,
        incident: Incident,
    ) -> Result<(), Fault> {
        let incidents = &mut world.figures.incidents;
        let machine = &mut self.machines[hit];
        let lasts = match incident {
            Incident::Kill { down } => {
                incidents.kills += 1;
                if let Some(life) = machine.life.take() {
                    world.figures.add_health(&self.health[hit].take());
                    life.kill().await?;
                }
                down
            }
            Incident::Stop { lasts } => {
                incidents.stops += 1;
                machine.signal(Signal::STOP)?;
                lasts
            }
            Incident::Stall { lasts } => {
                incidents.stalls += 1;
                machine.proxy.set(Mode::Stall);
                lasts
            }
            Incident::CutAtCommit(mode) => {
                incidents.cuts += 1;
                machine.proxy.set(mode);
                return Ok(());
            }
        };
        machine.unwell = true;
        let began = elapsed();
        // The other one takes over meanwhile, if this one led for that long.
        self.watch(world, began + lasts).await?;
        let machine = &mut self.machines[hit];
        machine.unwell = false;
        machine.proxy.set(Mode::Pass);
        if machine.life.is_some() {
            machine.signal(Signal::CONT)?;
        }
        self.start().await
    }

    /// Looks at all until then, and notes when nobody leads for too long.
    async fn watch(&mut self, world: &mut World, until: Duration) -> Result<(), Fault> {
        let mut led = elapsed();
        let mut told = false;
        while elapsed() < until {
            self.look(world).await?;
            if self.who_leads(world).await.is_some() {
                world.away.spans().end(now());
                led = elapsed();
            } else if elapsed() > led + TAKE_OVER_WITHIN && !std::mem::replace(&mut told, true) {
                let at: DateTime<Utc> = now();
                world.violations.push(format!(
                    "nobody leads for {TAKE_OVER_WITHIN:?} until {at} while a daemon is well"
                ));
            }
        }
        Ok(())
    }

    /// Waits until one leads that is well.
    async fn wait_for_leader(&mut self, world: &mut World) -> Result<usize, Fault> {
        let began = elapsed();
        loop {
            self.look(world).await?;
            if let Some(leads) = self.who_leads(world).await {
                return Ok(leads);
            }
            if elapsed() > began + 3 * TAKE_OVER_WITHIN {
                return Err("nobody leads although all is well".into());
            }
        }
    }

    async fn look(&mut self, world: &mut World) -> Result<(), Fault> {
        tokio::time::sleep(LOOK).await;
        let reads = elapsed() > self.read + READ;
        for (machine, health) in self.machines.iter_mut().zip(&mut self.health) {
            let Some(life) = machine.life.as_mut() else {
                continue;
            };
            life.check()?;
            if reads && !machine.unwell {
                world.figures.look(life, &machine.setup.folder);
                if let Ok(newer) = life.get("/status").await {
                    *health = newer;
                }
            }
        }
        if reads {
            self.read = elapsed();
            // It may be busy; what is not read now is read later.
            let _ = world.catalogue.read();
        }
        Ok(())
    }

    /// Who leads and is well. Notes for how long nobody did if that is another one than
    /// before.
    async fn who_leads(&mut self, world: &mut World) -> Option<usize> {
        for (number, machine) in self.machines.iter().enumerate() {
            let well = machine.life.as_ref().filter(|_| !machine.unwell);
            if let Some(life) = well
                && life.leads().await
            {
                let time = elapsed();
                let before = self.led.replace((number, time));
                if let Some((_, last)) = before.filter(|(before, _)| *before != number) {
                    world.figures.incidents.nobody_led.push(time - last);
                }
                return Some(number);
            }
        }
        None
    }

    /// Everything is well from now on: the one that leads. The other one is stopped.
    pub async fn leader(&mut self, world: &mut World) -> Result<Life, Fault> {
        self.start().await?;
        let leads = self.wait_for_leader(world).await?;
        world.away.spans().end(now());
        if let Some(other) = self.machines[1 - leads].life.take() {
            other.stop().await?;
        }
        let life = self.machines[leads].life.take();
        life.ok_or_else(|| "the leader is gone".into())
    }
}

async fn asked(life: Option<&Life>, path: &str) -> Option<Result<Value, Fault>> {
    Some(life?.get(path).await)
}

impl Machine {
    fn signal(&self, signal: Signal) -> Result<(), Fault> {
        self.life
            .as_ref()
            .map_or(Ok(()), |life| life.signal(signal))
    }
}
