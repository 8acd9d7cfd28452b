//! The `exec:` sink runs a program of the operator's for each event.

mod environment;
mod lines;
mod starter;

use std::future::{Future, ready};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::FusedFuture as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::time::timeout;

use self::lines::Lines;
pub use self::starter::become_program;
use super::{Attempt, failed, spoken};
use crate::delivery::{DeliveryTrace, Envelope, Envelopes, Sink};
use crate::model::Event;
use crate::seldom::Lately;
use crate::system::{ProcessGroup, may_execute};

/// How long the program may take.
const LIMIT: Duration = Duration::from_secs(30);

/// How long a killed program may take to be gone. Only a process stuck inside
/// the system takes any time at all.
const KILL: Duration = Duration::from_secs(5);

/// How long the last words on standard error are waited for. They are in the
/// pipe already; only a process that the program left behind keeps it open.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Runs a program for each event: the event as JSON on standard input, its
/// type, id, subject and term in `DISPATCHD_EVENT_TYPE`, `_ID`, `_SUBJECT` and
/// `_TERM`, and its trace, if it belongs to one, in `TRACEPARENT` and `TRACESTATE`.
///
/// Exit status 0 means delivered. The sink logs what the program writes to
/// standard error and drops what it writes to standard output, which belongs
/// to the daemon. A program that runs for 30 seconds is killed with its process
/// group; so is one whose attempt is dropped. A daemon that is killed takes the program along,
/// but not what that has started. A process that the program leaves
/// behind when it ends in time keeps running, with standard error closed.
///
/// The program gets none of the daemon's variables but `PATH`, `HOME`, `LANG`
/// and `TZ`. See [`shield_secrets`](crate::system::shield_secrets) for what else
/// keeps it away from the daemon's secrets.
pub struct ExecSink {
    name: String,
    program: PathBuf,
    limit: Duration,
    /// What programs have said lately.
    said: Lately,
}

impl ExecSink {
    pub(super) fn new(name: String, program: PathBuf) -> Self {
        Self {
            name,
            program,
            limit: LIMIT,
            said: Lately::new(),
        }
    }

    async fn run(&self, envelope: &Envelope<'_>) -> Attempt {
        let body = match serde_json::to_vec(envelope) {
            Ok(body) => body,
            Err(error) => return failed(format!("event {}: {error}", envelope.event.id)),
        };
        let started = self.may_run().and_then(|()| {
            let spawned = self.command(envelope).spawn();
            spawned.map_err(|error| format!("the program cannot be run: {error}"))
        });
        let mut child = match started {
            Ok(child) => child,
            Err(reason) => return failed(reason),
        };
        let mut group = Group::of(&child);
        let stdin = child.stdin.take();
        let stderr = child.stderr.take();
        let ended = timeout(self.limit, self.attend(&mut child, stdin, stderr, &body)).await;
        match ended {
            Ok(Ok(status)) => {
                group.forget();
                judged(status)
            }
            Ok(Err(error)) => failed(format!("the program cannot be waited for: {error}")),
            Err(_) => {
                group.kill();
                if timeout(KILL, child.wait()).await.is_ok() {
                    group.forget();
                }
                failed(format!(
                    "the program was still running after {} and was killed",
                    spoken(self.limit)
                ))
            }
        }
    }

    /// Looks whether the program is there and may be run.
    fn may_run(&self) -> Result<(), String> {
        let may_run = may_execute(&self.program);
        may_run.map_err(|error| format!("the program cannot be run: {error}"))
    }

    fn command(&self, envelope: &Envelope<'_>) -> Command {
        let mut command = starter::command(&self.program);
        environment::set(&mut command, envelope);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        ProcessGroup::begin_with(&mut command);
        command
    }

    /// Feeds the child and listens to it until it ends.
    async fn attend(
        &self,
        child: &mut Child,
        stdin: Option<ChildStdin>,
        stderr: Option<ChildStderr>,
        body: &[u8],
    ) -> std::io::Result<ExitStatus> {
        let mut feed = pin!(feed(stdin, body).fuse());
        let mut listen = pin!(self.listen(stderr).fuse());
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                () = &mut feed, if !feed.is_terminated() => {}
                () = &mut listen, if !listen.is_terminated() => {}
            }
        };
        if !listen.is_terminated() && timeout(LAST_WORDS, listen).await.is_err() {
            tracing::debug!(sink = self.name, "the program left a process behind");
        }
        Ok(status)
    }

    async fn listen(&self, stderr: Option<ChildStderr>) {
        let Some(mut stderr) = stderr else { return };
        let mut lines = Lines::default();
        let mut buffer = [0; 4096];
        let log = |line: String| {
            // Many events make a program say the same many times.
            if self.said.is_new(&line) {
                tracing::warn!(sink = self.name, %line, "the program says");
            }
        };
        // Read to the end even when no more is logged: a full pipe would stop
        // the program.
        while let Ok(n) = stderr.read(&mut buffer).await {
            let Some(bytes) = buffer.get(..n).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            lines.take(bytes).into_iter().for_each(log);
        }
        lines.finish().into_iter().for_each(log);
    }
}

/// Writes the event. A program that does not read it is judged by how it ends.
async fn feed(stdin: Option<ChildStdin>, body: &[u8]) {
    let Some(mut stdin) = stdin else { return };
    match stdin.write_all(body).await {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            tracing::debug!(%error, "a program's standard input broke");
        }
        _ => {}
    }
}

fn judged(status: ExitStatus) -> Attempt {
    if status.success() {
        Attempt::Delivered
    } else {
        // "exit status: 3", "signal: 11 (SIGSEGV)".
        failed(format!("the program ended with {status}"))
    }
}

/// The processes that an attempt started. They die with it, also when it is
/// dropped in the middle. process-wrap would kill the first process alone then,
/// and would wait for processes that the program leaves behind.
struct Group(Option<ProcessGroup>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(ProcessGroup::of))
    }

    fn kill(&self) {
        if let Some(group) = self.0 {
            group.kill();
        }
    }

    /// The first of them has been waited for: its number may soon be another's.
    fn forget(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Sink for ExecSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn at_once(&self) -> usize {
        64
    }

    fn probe(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(ready(self.may_run()))
    }

    fn deliver<'a>(
        &'a self,
        events: &'a [Event],
        trace: Option<&'a DeliveryTrace>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        Box::pin(async move {
            for envelope in Envelopes::new(events, trace).each() {
                let attempt = self.run(&envelope).await;
                if attempt != Attempt::Delivered {
                    return attempt;
                }
            }
            Attempt::Delivered
        })
    }
}

#[cfg(test)]
mod tests;
