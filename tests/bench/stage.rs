//! Who is measured: the daemon, the limit, the peers; each a process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};

use crate::Fault;
use crate::api::Api;
use crate::clock::elapsed;
use crate::process::{Process, address, ask, quiet};

/// Where all of it happens.
pub struct Stage {
    /// The upstream of all.
    pub api: Api,
    daemon: PathBuf,
    python: PathBuf,
    folder: TempDir,
}

impl Stage {
    /// A stage with an empty list. State files are made in `folder`.
    pub fn new(daemon: PathBuf, python: PathBuf, folder: &Path) -> Result<Self, Fault> {
        std::fs::create_dir_all(folder)?;
        Ok(Self {
            api: Api::start()?,
            daemon,
            python,
            folder: tempfile::tempdir_in(folder)?,
        })
    }

    /// A state file that is not there yet.
    pub fn new_state(&self) -> PathBuf {
        self.folder
            .path()
            .join(format!("{:016x}.db", rand::random::<u64>()))
    }

    /// The file that all processes log to.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Where files may be made.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a daemon with a new state file and these arguments besides, and
    /// waits until it is ready.
    pub async fn daemon(&self, arguments: &[&str]) -> Result<Daemon, Fault> {
        self.daemon_at(&self.new_state(), arguments).await
    }

    /// Starts a daemon with this state file, and waits until it is ready.
    pub async fn daemon_at(&self, state: &Path, arguments: &[&str]) -> Result<Daemon, Fault> {
        let (listen, status) = (address()?, address()?);
        let mut command = quiet(&self.daemon);
        command
            .env_clear()
            .env("RUST_LOG", "error")
            .current_dir(self.folder())
            .arg("run")
            .args(["--api-url", &self.api.url()])
            .args(["--listen", &listen.to_string()])
            .args(["--status-listen", &status.to_string()])
            .arg("--state")
            .arg(state)
            .args(["--api-rate", "4000000000", "--peer-rate", "0"])
            .args(["--api-max-body", "1GiB"])
            .args(arguments);
        let begun = elapsed();
        let mut process = Process::start(command, &self.log())?;
        let ready = process.ready(status, "/readyz").await?;
        Ok(Daemon {
            process,
            listen,
            status,
            state: state.to_owned(),
            took: ready - begun,
        })
    }

    /// Starts the limit.
    pub async fn limit(&self) -> Result<Limit, Fault> {
        self.limit_with(&[]).await
    }

    /// Starts the limit of the chain from a webhook to the receiver at `url`.
    pub async fn relay(&self, url: &str) -> Result<Limit, Fault> {
        self.limit_with(&["--receiver", url]).await
    }

    /// Starts a limit that writes and syncs as often as the daemon does, on the way to the
    /// receiver at `url` if there is one.
    pub async fn synced(&self, url: Option<&str>) -> Result<Limit, Fault> {
        let journal = self.folder().join("journal").display().to_string();
        let mut arguments = vec!["--journal", &journal];
        if let Some(url) = url {
            arguments.extend(["--receiver", url]);
        }
        self.limit_with(&arguments).await
    }

    async fn limit_with(&self, arguments: &[&str]) -> Result<Limit, Fault> {
        let address = address()?;
        let mut command = quiet(&std::env::current_exe()?);
        command
            .args(["--limit", &address.to_string(), "--api", &self.api.url()])
            .args(arguments);
        let mut process = Process::start(command, &self.log())?;
        process.ready(address, "/healthz").await?;
        Ok(Limit { process, address })
    }

    /// Starts the listener in Python, under gunicorn.
    pub async fn gunicorn(&self) -> Result<Gunicorn, Fault> {
        let address = address()?;
        let mut command = quiet(&self.python);
        command
            .env("API_URL", self.api.url())
            .args(["-m", "gunicorn", "--workers", "2", "--threads", "8"])
            .args(["--bind", &address.to_string(), "--log-level", "warning"])
            .args(["--chdir", PEERS, "listener:app"]);
        let process = Process::start(command, &self.log())?;
        let mut gunicorn = Gunicorn { process, address };
        // It has no path for GET: any answer is a sign of life.
        gunicorn.wait().await?;
        Ok(gunicorn)
    }

    /// Starts a poller in Python that reads times with this parser.
    pub fn poller(&self, parser: &str) -> Result<Poller, Fault> {
        let mut command = Command::new(&self.python);
        command
            .arg(Path::new(PEERS).join("poller.py"))
            .args([parser, &format!("{}/2022-04-15/dispatches", self.api.url())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::start(command, &self.log())?;
        let child = process.child();
        let input = child.stdin.take().ok_or("no pipe to the poller")?;
        let output = child.stdout.take().ok_or("no pipe from the poller")?;
        let output = BufReader::new(output).lines();
        Ok(Poller {
            process,
            input,
            output,
        })
    }
}

/// Where the peers' programs are.
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/peers");

/// The daemon.
pub struct Daemon {
    /// Its process.
    pub process: Process,
    /// Where webhooks go.
    pub listen: SocketAddr,
    /// Where its status is.
    pub status: SocketAddr,
    /// Its state file.
    pub state: PathBuf,
    /// From its start until it was ready.
    pub took: Duration,
}

impl Daemon {
    /// How long its write-ahead log is, in bytes.
    pub fn wal(&self) -> u64 {
        let mut path = self.state.clone().into_os_string();
        path.push("-wal");
        std::fs::metadata(path).map_or(0, |file| file.len())
    }

    /// Polls once, and tells how long that took.
    pub async fn poll(&self) -> Result<Duration, Fault> {
        poll(self.status).await
    }
}

async fn poll(address: SocketAddr) -> Result<Duration, Fault> {
    let begun = elapsed();
    let answer = ask(address, "POST", "/poll").await?;
    let took = elapsed() - begun;
    match answer.status() {
        Some(200) => Ok(took),
        _ => Err(format!("a poll failed: {}", String::from_utf8_lossy(&answer.body)).into()),
    }
}

/// The limit.
pub struct Limit {
    /// Its process.
    pub process: Process,
    /// Where webhooks and polls go.
    pub address: SocketAddr,
}

impl Limit {
    /// One pass over the list, and how long it took.
    pub async fn poll(&self) -> Result<Duration, Fault> {
        poll(self.address).await
    }
}

/// The listener in Python.
pub struct Gunicorn {
    process: Process,
    /// Where webhooks go.
    pub address: SocketAddr,
}

impl Gunicorn {
    async fn wait(&mut self) -> Result<(), Fault> {
        let give_up = elapsed() + Duration::from_secs(30);
        while ask(self.address, "GET", "/").await.is_err() {
            if let Some(status) = self.process.child().try_wait()? {
                return Err(format!("gunicorn ended by itself: {status}").into());
            }
            if elapsed() > give_up {
                return Err("gunicorn does not answer".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Asks it to end: killed, it would leave its workers behind.
    pub async fn stop(self) -> Result<(), Fault> {
        self.process.stop().await
    }
}

/// A poller in Python.
pub struct Poller {
    /// Its process.
    pub process: Process,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Poller {
    /// One pass over the list, and how long it took.
    pub async fn poll(&mut self) -> Result<Duration, Fault> {
        let begun = elapsed();
        self.input.write_all(b"\n").await?;
        let answer = self.output.next_line().await?;
        answer.ok_or("the poller in Python has ended")?;
        Ok(elapsed() - begun)
    }
}
