//! The daemon as a process: started, asked, killed.

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::Fault;
use crate::clock::elapsed;

/// How long a start may take.
const START: Duration = Duration::from_secs(30);

/// How long an end that was asked for may take.
const STOP: Duration = Duration::from_secs(25);

/// Ports that no system gives to those who ask for any, so that nobody takes
/// them while the daemon is dead.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// How the daemon is started, life after life.
#[derive(Clone)]
pub struct Setup {
    pub program: PathBuf,
    pub folder: PathBuf,
    /// Its name for people, and for receivers: see [`crate::senders`].
    pub node: &'static str,
    /// Its state file, in the folder, or its database.
    pub state: String,
    pub api: String,
    pub sinks: Vec<String>,
    pub listen: SocketAddr,
    pub status: SocketAddr,
}

impl Setup {
    /// The state file, if it has one.
    pub fn state(&self) -> PathBuf {
        self.folder.join(&self.state)
    }

    /// What the daemon says, over all its lives.
    pub fn log(&self) -> PathBuf {
        self.folder.join("daemon.log")
    }

    /// Starts a life.
    pub fn spawn(&self) -> Result<Life, Fault> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())?;
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("RUST_LOG", "warn")
            .current_dir(&self.folder)
            .arg("run")
            .args(["--api-url", &self.api])
            .args(["--listen", &self.listen.to_string()])
            .args(["--status-listen", &self.status.to_string()])
            .args(["--node", self.node])
            .args(["--state", &self.state])
            .args(["--poll-interval", "1s"])
            .args(["--api-rate", "600"])
            .args(["--webhook-deadline", "3s"])
            .args(["--pre-curtail", "1s"])
            .args(["--retain", &format!("{}s", crate::RETAIN.as_secs())]);
        for sink in &self.sinks {
            let mark = match sink.contains('?') {
                _ if !sink.starts_with("http") => String::new(),
                true => format!("&by={}", self.node),
                false => format!("?by={}", self.node),
            };
            command.args(["--sink", &format!("{sink}{mark}")]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Life {
            child,
            status: self.status,
            http: dispatchd::http::client_builder()
                .no_proxy()
                .timeout(Duration::from_secs(10))
                .build()?,
        })
    }
}

/// Addresses of this machine that are free.
pub fn addresses<const N: usize>(random: &mut SmallRng) -> Result<[SocketAddr; N], Fault> {
    for _ in 0..100 {
        let mut port = random.random_range(PORTS);
        let addresses: [SocketAddr; N] = std::array::from_fn(|_| {
            port += 1;
            SocketAddr::from((Ipv4Addr::LOCALHOST, port))
        });
        if addresses
            .iter()
            .all(|address| TcpListener::bind(address).is_ok())
        {
            return Ok(addresses);
        }
    }
    Err("no free ports were found".into())
}

/// One life of the daemon. It is killed when this is dropped.
pub struct Life {
    child: Child,
    status: SocketAddr,
    http: reqwest::Client,
}

impl Life {
    /// Waits until it answers.
    pub async fn wait_until_up(&mut self) -> Result<(), Fault> {
        let begun = elapsed();
        while elapsed() < begun + START {
            self.check()?;
            if self.get("/healthz").await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(format!("the daemon does not answer within {START:?}").into())
    }

    /// An error if it has ended by itself.
    pub fn check(&mut self) -> Result<(), Fault> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("the daemon ended by itself: {status}").into()),
        }
    }

    /// Asks the status listener.
    pub async fn get(&self, path: &str) -> Result<Value, Fault> {
        let url = format!("http://{}{path}", self.status);
        let answer = self.http.get(url).send().await?.error_for_status()?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    /// Its resident memory, in KiB. 0 if it cannot be read.
    pub fn memory(&self) -> u64 {
        let read = || {
            let file = format!("/proc/{}/status", self.child.id()?);
            let status = std::fs::read_to_string(Path::new(&file)).ok()?;
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.split_whitespace().next()?.parse().ok()
        };
        read().unwrap_or(0)
    }

    /// Whether it says that it leads. Not while it says nothing.
    pub async fn leads(&self) -> bool {
        let url = format!("http://{}/leader", self.status);
        let asked = self
            .http
            .get(url)
            .timeout(Duration::from_millis(300))
            .send();
        asked.await.is_ok_and(|answer| answer.status().is_success())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), Fault> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        let id = id.and_then(Pid::from_raw).ok_or("the daemon has no id")?;
        Ok(kill_process(id, signal)?)
    }

    /// Ends it at once, in the middle of whatever it does.
    pub async fn kill(mut self) -> Result<(), Fault> {
        self.check()?;
        Ok(self.child.kill().await?)
    }

    /// Asks it to end, and waits for that.
    pub async fn stop(mut self) -> Result<(), Fault> {
        self.check()?;
        self.signal(Signal::TERM)?;
        let status = tokio::time::timeout(STOP, self.child.wait())
            .await
            .map_err(|_| format!("the daemon does not end within {STOP:?} of SIGTERM"))??;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the daemon ended with {status} after SIGTERM").into())
        }
    }
}
