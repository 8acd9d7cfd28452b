//! A broker without persistence that is restarted now and then, and a subscriber
//! that checks what it retains: [`Broker`].

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rumqttc::{AsyncClient, Event, Incoming as Packet, MqttOptions, QoS};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Fault;
use crate::clock::{elapsed, now};
use crate::heard::{Heard, Incoming};
use crate::spans::Away;

/// Where packages put the broker; `sbin` is often not in `PATH`.
const PLACES: [&str; 3] = [
    "mosquitto",
    "/usr/sbin/mosquitto",
    "/usr/local/sbin/mosquitto",
];

/// What all topics of the daemon begin with.
const PREFIX: &str = "soak";

/// How long after the daemon's reconnect every site's state must be there again.
const RESTORED_WITHIN: TimeDelta = TimeDelta::seconds(5);

/// How long after daemon and broker are both up the daemon may take to connect:
/// its longest pause without a broker, and a second.
const CONNECTED_WITHIN: TimeDelta = TimeDelta::seconds(6);

/// How long a start may take.
const START: Duration = Duration::from_secs(10);

/// The life of the broker that is, and what the subscriber knows of it.
#[derive(Debug, Default)]
struct BrokerLife {
    /// When it listened, UTC. `None` while it is down.
    listens_since: Option<DateTime<Utc>>,
    /// The sites that must be retained: those that an earlier life retained.
    expected: BTreeSet<String>,
    /// When the daemon connected last, UTC.
    online_since: Option<DateTime<Utc>>,
    /// Whether the check of this life has been made.
    checked: bool,
}

/// What came of the restarts.
#[derive(Debug, Default)]
pub struct Restarts {
    pub made: u64,
    /// How often the retained states were found complete in time, or not.
    pub checked: u64,
    pub violations: Vec<String>,
}

/// The broker. Clones are handles of the same one.
#[derive(Clone)]
pub struct Broker {
    pub sink: String,
    program: &'static str,
    port: u16,
    conf: PathBuf,
    away: Away,
    life: Arc<Mutex<BrokerLife>>,
    heard: Arc<Mutex<Heard>>,
    restarts: Arc<Mutex<Restarts>>,
}

impl Broker {
    /// A broker at a port that is free, and its subscriber, until `stop`. It is
    /// restarted until `well`. `None` if mosquitto is not installed.
    pub async fn start(
        port: u16,
        folder: &std::path::Path,
        away: Away,
        seed: u64,
        tasks: (&TaskTracker, &TaskTracker),
        well: CancellationToken,
        stop: CancellationToken,
    ) -> Result<Option<Self>, Fault> {
        let installed = |place: &&str| std::process::Command::new(place).arg("-h").output().is_ok();
        let Some(program) = PLACES.into_iter().find(installed) else {
            return Ok(None);
        };
        let conf = folder.join("mosquitto.conf");
        // Without `user`, a broker that root starts could not read its files.
        let text = format!(
            "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n\
             max_queued_messages 0\n"
        );
        std::fs::write(&conf, text)?;
        let broker = Self {
            sink: format!("mqtt://127.0.0.1:{port}/{PREFIX}"),
            program,
            port,
            conf,
            away,
            life: Arc::new(Mutex::new(BrokerLife {
                // Nothing was lost yet.
                checked: true,
                ..BrokerLife::default()
            })),
            heard: Arc::default(),
            restarts: Arc::default(),
        };
        let child = broker.spawn().await?;
        let (tasks, weather) = tasks;
        let subscriber = broker.clone();
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            subscriber.subscribe().await;
        }));
        let watch = broker.clone();
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            watch.watch().await;
        }));
        let (restarted, ended) = (broker.clone(), tokio::sync::oneshot::channel());
        weather.spawn(async move {
            let child = restarted.restart(child, seed, well).await;
            let _ = ended.0.send(child);
        });
        tasks.spawn(async move {
            // It is killed when it is dropped.
            let _child = ended.1.await;
            stop.cancelled().await;
        });
        Ok(Some(broker))
    }

    /// What the subscriber heard, and what is retained: [`Heard::newest`].
    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        locked(&self.heard)
    }

    /// What came of the restarts so far.
    pub fn restarts(&self) -> MutexGuard<'_, Restarts> {
        locked(&self.restarts)
    }

    /// The sites that must be retained and are not.
    pub fn missing(&self) -> Vec<String> {
        let life = locked(&self.life);
        let heard = self.heard();
        let retained = |site: &&String| !heard.newest.contains_key(&format!("site/{site}"));
        life.expected.iter().filter(retained).cloned().collect()
    }

    /// Starts a life of the broker.
    async fn spawn(&self) -> Result<Child, Fault> {
        let begun = elapsed();
        while elapsed() < begun + START {
            let mut child = Command::new(self.program)
                .arg("-c")
                .arg(&self.conf)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()?;
            while child.try_wait()?.is_none() && elapsed() < begun + START {
                if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                    locked(&self.life).listens_since = Some(now());
                    return Ok(child);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Err(format!("mosquitto does not listen at port {}", self.port).into())
    }

    /// Kills the broker every 12 to 40 s and starts it again, until `well`.
    async fn restart(&self, mut child: Child, seed: u64, well: CancellationToken) -> Child {
        let mut random = SmallRng::seed_from_u64(seed);
        loop {
            let pause = Duration::from_secs_f64(random.random_range(12.0..40.0));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = well.cancelled() => return child,
            }
            self.goes();
            let _ = child.kill().await;
            let down = Duration::from_secs_f64(random.random_range(0.0..3.0));
            tokio::time::sleep(down).await;
            child = match self.spawn().await {
                Ok(child) => child,
                Err(error) => {
                    self.restarts().violations.push(error.to_string());
                    return child;
                }
            };
            self.restarts().made += 1;
        }
    }

    /// The broker is about to lose all that it retains.
    fn goes(&self) {
        let mut life = locked(&self.life);
        let mut heard = self.heard();
        heard.faults.begin(now());
        let sites = heard.newest.keys();
        let sites = sites.filter_map(|key| key.strip_prefix("site/"));
        life.expected.extend(sites.map(str::to_owned));
        heard.newest.clear();
        *life = BrokerLife {
            expected: std::mem::take(&mut life.expected),
            ..BrokerLife::default()
        };
    }

    /// Listens to every life of the broker.
    async fn subscribe(&self) {
        loop {
            self.listen().await;
            self.heard().faults.begin(now());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn listen(&self) {
        let options = MqttOptions::new(String::new(), ("127.0.0.1", self.port));
        let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
        let topics = format!("{PREFIX}/#");
        if client.subscribe(topics, QoS::AtLeastOnce).await.is_err() {
            return;
        }
        while let Ok(event) = events.poll().await {
            if let Event::Incoming(Packet::Publish(publish)) = event {
                self.hear(&publish.topic, &publish.payload);
            }
        }
    }

    fn hear(&self, topic: &[u8], payload: &[u8]) {
        let topic = String::from_utf8_lossy(topic);
        let family = topic.split('/').nth(1).unwrap_or_default();
        let mut life = locked(&self.life);
        if life.listens_since.is_none() {
            // The last words of a broker that is killed: nobody has them any more.
            return;
        }
        if family == "status" {
            if payload == b"online" {
                self.daemon_connected(&mut life);
            }
            return;
        }
        let event: Incoming = serde_json::from_slice(payload).unwrap();
        self.heard().take(event, now());
    }

    fn daemon_connected(&self, life: &mut BrokerLife) {
        let time = now();
        let away = self.away.spans();
        let daemon_up = away.good_since();
        if let (Some(daemon_up), Some(broker_up)) = (daemon_up, life.listens_since) {
            let took = time - broker_up.max(daemon_up);
            if life.online_since.is_none() && took > CONNECTED_WITHIN {
                self.restarts().violations.push(format!(
                    "mqtt: the daemon connected {} ms after it and the broker were up",
                    took.num_milliseconds()
                ));
            }
        }
        life.online_since = Some(time);
        let mut heard = self.heard();
        let lost = heard.faults.until(time).last().map(|(begun, _)| begun);
        heard.faults.end(time);
        if let Some(lost) = lost.filter(|_| !life.checked) {
            heard.restorations.push((lost, time + RESTORED_WITHIN));
        }
    }

    /// Checks after each restart that every site's state is there again in time.
    async fn watch(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let online = {
                let life = locked(&self.life);
                life.online_since.filter(|_| !life.checked)
            };
            let Some(online) = online.filter(|online| *online + RESTORED_WITHIN <= now()) else {
                continue;
            };
            let away = {
                let spans = self.away.spans();
                spans.touch(online, online + RESTORED_WITHIN)
            };
            let missing = self.missing();
            let mut life = locked(&self.life);
            if life.online_since != Some(online) {
                continue;
            }
            if !missing.is_empty() && away {
                // The daemon was killed meanwhile: its next connection is checked.
                life.online_since = None;
                continue;
            }
            life.checked = true;
            let mut restarts = self.restarts();
            restarts.checked += 1;
            if !missing.is_empty() {
                restarts.violations.push(format!(
                    "mqtt: {} ms after the daemon connected at {online} to a broker that had lost \
                     all, the states of {} of {} sites are not retained: {}",
                    RESTORED_WITHIN.num_milliseconds(),
                    missing.len(),
                    life.expected.len(),
                    missing.join(", ")
                ));
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
