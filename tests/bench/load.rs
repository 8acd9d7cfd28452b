//! Clients that send webhooks, each on a connection that it keeps.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Fault;
use crate::api::ACTIVE;
use crate::clock::{elapsed, sleep_until};
use crate::message::Connection;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Each webhook is about a dispatch that nobody has heard of.
    New,
    /// Each is about one of [`KNOWN`] dispatches.
    Duplicate,
    /// None is JSON.
    Junk,
}

/// How many dispatches duplicates are about, in turn. So many that no two of
/// them are under way at once.
pub const KNOWN: usize = 1024;

/// What the ids of dispatches begin with that do not start while it is measured.
const LATER: char = 'w';

/// Counts the dispatches over the whole run, so that none comes twice.
static NEXT: AtomicUsize = AtomicUsize::new(KNOWN);

/// A load on one listener.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// The listener.
    pub to: SocketAddr,
    /// What is sent to it.
    pub kind: Kind,
    /// By how many at once.
    pub clients: usize,
    /// How many a second, over all clients. Without it as many as can be.
    pub rate: Option<f64>,
    /// For how long it is sent without being measured.
    pub warm_up: Duration,
    /// For how long it is measured.
    pub time: Duration,
}

/// What was measured.
pub struct Measured {
    /// Answers a second.
    pub rate: f64,
    /// How long each took, in nanoseconds.
    pub latency: Histogram<u64>,
}

impl Measured {
    /// A quantile of the latency, in milliseconds.
    pub fn quantile(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e6
    }

    /// The 99th percentile in milliseconds as it would be if each of so many clients had
    /// sent at the mean rate whatever became of its last webhook: one that waits for an
    /// answer does not send those that would have waited with it.
    pub fn corrected(&self, clients: usize) -> f64 {
        let interval = clients as f64 / self.rate * 1e9;
        let corrected = self.latency.clone_correct(interval as u64);
        corrected.value_at_quantile(0.99) as f64 / 1e6
    }

    /// The longest, in milliseconds.
    pub fn worst(&self) -> f64 {
        self.latency.max() as f64 / 1e6
    }
}

impl Load {
    /// Puts the load on, and measures.
    ///
    /// # Errors
    /// When a single webhook is not answered as it should be: a rate of refusals
    /// would be no rate.
    pub async fn run(&self) -> Result<Measured, Fault> {
        let latency = Histogram::new_with_bounds(1_000, 120_000_000_000, 3)?;
        let latency = Arc::new(Mutex::new(latency));
        let begin = elapsed() + self.warm_up;
        let mut clients = JoinSet::new();
        for number in 0..self.clients {
            let client = Client {
                load: *self,
                number,
                from: begin,
                until: begin + self.time,
                latency: Arc::clone(&latency),
            };
            clients.spawn(client.run());
        }
        while let Some(ended) = clients.join_next().await {
            ended??;
        }
        let latency = latency.lock().unwrap().clone();
        Ok(Measured {
            rate: latency.len() as f64 / self.time.as_secs_f64(),
            latency,
        })
    }
}

struct Client {
    load: Load,
    number: usize,
    from: Duration,
    until: Duration,
    latency: Arc<Mutex<Histogram<u64>>>,
}

impl Client {
    async fn run(self) -> Result<(), Fault> {
        let mut connection = Connection::new(TcpStream::connect(self.load.to).await?)?;
        let mut request = Vec::new();
        let begun = elapsed();
        for sent in 0.. {
            let mut asked = elapsed();
            if let Some(rate) = self.load.rate {
                let place = (sent * self.load.clients + self.number) as f64;
                let due = begun + Duration::from_secs_f64(place / rate);
                // A client that is behind counts from when it should have
                // asked; one that waits is not charged for the timer.
                if asked < due {
                    sleep_until(due).await;
                    asked = elapsed();
                } else {
                    asked = due;
                }
            }
            if asked >= self.until {
                return Ok(());
            }
            write_request(&mut request, self.load.kind);
            let right = if self.load.kind == Kind::Junk {
                400
            } else {
                200
            };
            if let Err(error) = exchange(&mut connection, &request, right).await {
                return Err(format!("a webhook to {} failed: {error}", self.load.to).into());
            }
            let done = elapsed();
            if done >= self.from && done < self.until {
                let took = (done - asked).as_nanos();
                self.latency.lock().unwrap().record(u64::try_from(took)?)?;
            }
        }
        Ok(())
    }
}

/// Sends a request that is to be answered with this status.
async fn exchange(connection: &mut Connection, request: &[u8], right: u16) -> Result<(), Fault> {
    connection.send(request).await?;
    let answer = connection.receive().await?;
    let status = answer.and_then(|answer| answer.status());
    if status == Some(right) {
        Ok(())
    } else {
        Err(format!("answered {status:?} instead of {right}").into())
    }
}

/// Sends webhooks of active dispatches, one after the other, on a connection that it keeps.
pub struct Sender(Connection);

impl Sender {
    /// Connects to a listener.
    pub async fn connect(to: SocketAddr) -> Result<Self, Fault> {
        Ok(Self(Connection::new(TcpStream::connect(to).await?)?))
    }

    /// Sends one of a dispatch that nobody has heard of, and waits for the answer.
    pub async fn active(&mut self) -> Result<(), Fault> {
        let mut request = Vec::new();
        write_about(&mut request, ACTIVE, NEXT.fetch_add(1, Ordering::Relaxed));
        exchange(&mut self.0, &request, 200).await
    }
}

/// Sends one webhook for each of the [`KNOWN`] dispatches, so that they are
/// known there.
pub async fn make_known(to: SocketAddr) -> Result<(), Fault> {
    let mut connection = Connection::new(TcpStream::connect(to).await?)?;
    let mut request = Vec::new();
    for number in 0..KNOWN {
        write_about(&mut request, LATER, number);
        exchange(&mut connection, &request, 200).await?;
    }
    Ok(())
}

fn write_request(out: &mut Vec<u8>, kind: Kind) {
    match kind {
        Kind::New => write_about(out, LATER, NEXT.fetch_add(1, Ordering::Relaxed)),
        Kind::Duplicate => {
            write_about(out, LATER, NEXT.fetch_add(1, Ordering::Relaxed) % KNOWN);
        }
        Kind::Junk => write_post(out, br#"{"event":{"name":"dispatch.create"},"resource":"#),
    }
}

fn write_about(out: &mut Vec<u8>, kind: char, number: usize) {
    let body = format!(
        r#"{{"event":{{"name":"dispatch.create"}},"resource":"/2022-04-15/dispatches/{kind}{number:09}"}}"#
    );
    write_post(out, body.as_bytes());
}

fn write_post(out: &mut Vec<u8>, body: &[u8]) {
    use std::io::Write;
    out.clear();
    write!(
        out,
        "POST /dispatch-listener HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    out.extend_from_slice(body);
}
