//! Who is told: takes batches of events, and notes when.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::Fault;
use crate::clock::elapsed;
use crate::message::Connection;

/// What came in one request, and when.
#[derive(Debug, Clone, Copy, Default)]
pub struct Batch {
    /// When it came, in the time that had elapsed.
    pub at: Duration,
    /// Events that tell of a new dispatch.
    pub created: usize,
    /// Events that tell of a start.
    pub started: usize,
    /// Commands to curtail.
    pub curtail: usize,
}

/// A receiver of events, until this is dropped.
pub struct Receiver {
    address: SocketAddr,
    batches: watch::Receiver<Vec<Batch>>,
    _stop: DropGuard,
}

impl Receiver {
    /// Starts it.
    pub async fn start() -> Result<Self, Fault> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (noted, batches) = watch::channel(Vec::new());
        let noted = Arc::new(noted);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks
            .clone()
            .spawn(stop.clone().run_until_cancelled_owned(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tasks.spawn(take(stream, Arc::clone(&noted)));
                }
            }));
        Ok(Self {
            address,
            batches,
            _stop: stop.drop_guard(),
        })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}/?batch=true", self.address)
    }

    /// What has come so far.
    pub fn batches(&self) -> Vec<Batch> {
        self.batches.borrow().clone()
    }

    /// What has come so far, as one.
    pub fn sum(&self) -> Batch {
        sum(&self.batches.borrow())
    }

    /// Waits until so many commands to curtail have come, and tells when they had.
    pub async fn curtailed(&self, commands: usize) -> Result<Duration, Fault> {
        let mut batches = self.batches.clone();
        let all = batches.wait_for(|batches| sum(batches).curtail >= commands);
        Ok(sum(&all.await?).at)
    }
}

fn sum(batches: &[Batch]) -> Batch {
    batches.iter().fold(Batch::default(), |sum, batch| Batch {
        at: batch.at,
        created: sum.created + batch.created,
        started: sum.started + batch.started,
        curtail: sum.curtail + batch.curtail,
    })
}

/// Takes events until the other end closes or breaks off.
async fn take(stream: tokio::net::TcpStream, batches: Arc<watch::Sender<Vec<Batch>>>) {
    let Ok(mut connection) = Connection::new(stream) else {
        return;
    };
    while let Ok(Some(request)) = connection.receive().await {
        let at = elapsed();
        if connection
            .send(b"HTTP/1.1 204 No Content\r\n\r\n")
            .await
            .is_err()
        {
            return;
        }
        let text = String::from_utf8_lossy(&request.body);
        let count = |kind: &str| text.matches(&format!(r#""type":"{kind}""#)).count();
        let batch = Batch {
            at,
            created: count("dispatch.created"),
            started: count("dispatch.started"),
            curtail: count("site.curtail"),
        };
        batches.send_modify(|batches| batches.push(batch));
    }
}
