//! A process that is measured: what it uses, as the system tells it.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::Fault;
use crate::clock::{elapsed, sleep_until};
use crate::message::{Connection, Message};

/// How long a start may take.
const START: Duration = Duration::from_secs(60);

/// Ports that no system gives to those who ask for any.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// An address of this machine that is free.
pub fn address() -> Result<SocketAddr, Fault> {
    for _ in 0..100 {
        // Drawn, so that two benches on one machine do not meet.
        let port = PORTS.start + rand::random::<u16>() % (PORTS.end - PORTS.start);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err("no free port was found".into())
}

/// A process. It is killed when this is dropped.
pub struct Process {
    child: Child,
    id: u32,
}

impl Process {
    /// Starts it. What it says goes to the file `log`.
    pub fn start(mut command: Command, log: &Path) -> Result<Self, Fault> {
        let log = File::options().create(true).append(true).open(log)?;
        let child = command
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                format!(
                    "{:?} does not start: {error}",
                    command.as_std().get_program()
                )
            })?;
        let id = child.id().ok_or("a process without an id")?;
        Ok(Self { child, id })
    }

    /// Waits until `path` at `address` is answered with 200, and tells when it
    /// was, in the time that has elapsed.
    pub async fn ready(&mut self, address: SocketAddr, path: &str) -> Result<Duration, Fault> {
        let give_up = elapsed() + START;
        while elapsed() < give_up {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("it ended by itself: {status}").into());
            }
            if let Ok(answer) = ask(address, "GET", path).await
                && answer.status() == Some(200)
            {
                return Ok(elapsed());
            }
            sleep_until(elapsed() + Duration::from_millis(1)).await;
        }
        Err(format!("it does not answer {path} within {START:?}").into())
    }

    /// The time that its threads have run, those that have ended left out.
    pub fn cpu(&self) -> Result<Duration, Fault> {
        let mut nanoseconds = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.id))? {
            // A thread may end meanwhile.
            if let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) {
                let ran = text
                    .split(' ')
                    .next()
                    .and_then(|ran| ran.parse::<u64>().ok());
                nanoseconds += ran.ok_or("/proc has no schedstat")?;
            }
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Its resident memory, in bytes.
    pub fn memory(&self) -> Result<u64, Fault> {
        self.status("VmRSS:")
    }

    /// The most resident memory since [`forget_peak`](Self::forget_peak), in bytes.
    pub fn peak(&self) -> Result<u64, Fault> {
        self.status("VmHWM:")
    }

    /// From now on the peak is counted anew.
    pub fn forget_peak(&self) -> Result<(), Fault> {
        Ok(std::fs::write(
            format!("/proc/{}/clear_refs", self.id),
            "5",
        )?)
    }

    fn status(&self, field: &str) -> Result<u64, Fault> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.id))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kibibytes.ok_or_else(|| format!("/proc does not tell {field}"))? * 1024)
    }

    /// Its standard streams, if they are pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Asks it to end, and waits for that.
    pub async fn stop(mut self) -> Result<(), Fault> {
        let id = rustix::process::Pid::from_raw(i32::try_from(self.id)?).ok_or("no id")?;
        rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
        let ended = tokio::time::timeout(START, self.child.wait()).await;
        ended.map_err(|_| "it does not end after SIGTERM")??;
        Ok(())
    }

    /// Ends it at once.
    pub async fn kill(mut self) -> Result<(), Fault> {
        Ok(self.child.kill().await?)
    }
}

/// Asks once, on a connection of its own, and reads the whole answer.
pub async fn ask(address: SocketAddr, method: &str, path: &str) -> Result<Message, Fault> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let mut connection = Connection::new(stream)?;
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n");
    connection.send(request.as_bytes()).await?;
    Ok(connection
        .receive()
        .await?
        .ok_or("closed without an answer")?)
}

/// A command that reads nothing and says nothing.
pub fn quiet(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}
