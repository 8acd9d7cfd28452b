//! The `stdout` sink prints one JSON event a line.

use std::future::Future;
use std::io::{self, ErrorKind, Write};
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{Attempt, causes, failed, spoken};
use crate::delivery::{DeliveryTrace, Envelopes, Sink};
use crate::model::Event;
use crate::system::unbuffered_stdout;

/// How long the reader may keep the pipe full.
const LIMIT: Duration = Duration::from_secs(10);

/// How long the writer rests when a pipe that someone made non-blocking is
/// full.
const PAUSE: Duration = Duration::from_millis(20);

/// Writes events to standard output, through a thread of its own.
///
/// A reader that stops reading blocks that thread and nothing else. It is not
/// one of the runtime's threads, since those hold up the end of the process.
pub struct StdoutSink {
    writer: mpsc::Sender<Job>,
    limit: Duration,
}

struct Job {
    lines: Vec<u8>,
    done: oneshot::Sender<io::Result<()>>,
}

impl StdoutSink {
    /// Writes to the process's standard output.
    pub fn standard() -> io::Result<Self> {
        Self::over(unbuffered_stdout()?, LIMIT)
    }

    fn over(out: impl Write + Send + 'static, limit: Duration) -> io::Result<Self> {
        // One place: what the thread cannot take yet waits with its attempt,
        // and is gone when that gives up.
        let (writer, jobs) = mpsc::channel(1);
        std::thread::Builder::new()
            .name("sink-stdout".to_owned())
            .spawn(move || write_all(out, jobs))?;
        Ok(Self { writer, limit })
    }

    async fn write(&self, lines: Vec<u8>) -> Attempt {
        let (done, written) = oneshot::channel();
        let job = Job { lines, done };
        let ended = || failed("the thread that writes standard output has ended");
        let outcome = timeout(self.limit, async {
            self.writer.send(job).await.ok()?;
            written.await.ok()
        });
        match outcome.await {
            Ok(Some(Ok(()))) => Attempt::Delivered,
            Ok(Some(Err(error))) if error.kind() == ErrorKind::BrokenPipe => {
                failed("the reader of standard output has closed it")
            }
            Ok(Some(Err(error))) => failed(format!("standard output: {}", causes(&error))),
            Ok(None) => ended(),
            Err(_) => failed(format!(
                "the reader of standard output took nothing for {}",
                spoken(self.limit)
            )),
        }
    }
}

fn write_all(mut out: impl Write, mut jobs: mpsc::Receiver<Job>) {
    // Whether the last line broke off. The next one then begins on a new line,
    // so that a reader loses half an event and not two.
    let mut torn = false;
    while let Some(job) = jobs.blocking_recv() {
        // Nobody waits any more: it will come again, in its proper order.
        if job.done.is_closed() {
            continue;
        }
        let outcome = write_lines(&mut out, &job.lines, &mut torn);
        // An attempt that gave up meanwhile tries again.
        let _ = job.done.send(outcome);
    }
}

fn write_lines(out: &mut impl Write, lines: &[u8], torn: &mut bool) -> io::Result<()> {
    if *torn {
        push(out, b"\n").map_err(|(_, error)| error)?;
        *torn = false;
    }
    push(out, lines).map_err(|(written, error)| {
        *torn = written > 0 && lines.get(written - 1) != Some(&b'\n');
        error
    })?;
    out.flush()
}

/// Writes everything, or tells how much it wrote.
fn push(out: &mut impl Write, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match out.write(rest) {
            Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

impl Sink for StdoutSink {
    fn name(&self) -> &str {
        "stdout"
    }

    fn batch(&self) -> usize {
        100
    }

    fn at_once(&self) -> usize {
        1
    }

    fn deliver<'a>(
        &'a self,
        events: &'a [Event],
        trace: Option<&'a DeliveryTrace>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        Box::pin(async move {
            let mut lines = Vec::new();
            for envelope in Envelopes::new(events, trace).each() {
                if let Err(error) = serde_json::to_writer(&mut lines, &envelope) {
                    return failed(format!("event {}: {error}", envelope.event.id));
                }
                lines.push(b'\n');
            }
            self.write(lines).await
        })
    }
}

#[cfg(test)]
mod tests;
