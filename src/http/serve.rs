//! Serves a warp filter over hyper, with every connection bounded in time and
//! number.
//!
//! `warp::serve` sets no timers, so a silent peer would hold its connection
//! for ever.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;
use tower_http::catch_panic::CatchPanicLayer;

/// The address of the peer, as a request extension. warp's own
/// `addr::remote()` knows none under an accept loop of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// The connection that a request came on, as a request extension, for answers
/// that have no end: a peer that reads nothing would hold it for ever.
#[derive(Debug, Clone)]
pub struct Hangup(CancellationToken);

impl Hangup {
    /// Lets the connection end by itself, and cuts it off after `patience`.
    pub async fn within(&self, patience: Duration) {
        // It is cancelled as well when the connection has ended.
        if tokio::time::timeout(patience, self.0.cancelled())
            .await
            .is_err()
        {
            self.0.cancel();
        }
    }
}

/// What one listener takes on.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at once. More wait in the system's backlog.
    pub connections: usize,
    /// How long a peer may take for a request's head, and stay silent between
    /// requests.
    pub head: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 4096,
            head: Duration::from_secs(15),
        }
    }
}

/// What a request's head may be long, in bytes. Also what is held of a body that
/// nobody reads.
const HEAD_MAX: usize = 32 * 1024;

/// How long the accept loop rests after the system refused it a connection,
/// for want of file descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How many connections the system completes and keeps until they are accepted.
/// tokio asks for 128. Of a burst above that the system drops some, and those
/// peers try again after a second, or believe for ever that they are connected.
const BACKLOG: u32 = 4096;

/// Listens at `address`, and has the system keep a burst of connections.
///
/// # Errors
/// When the system refuses the address, as it does when it is taken.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart must not wait for connections of before to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Answers connections with `service` until `stop`, then ends when those that
/// are open have ended. Each is told to end after its present answer.
pub async fn serve<S>(listener: TcpListener, service: S, bounds: Bounds, stop: CancellationToken)
where
    S: Service<Request<Incoming>, Response = warp::reply::Response, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(bounds.connections));
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => match place {
                Ok(place) => place,
                // The semaphore is never closed.
                Err(_) => break,
            },
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Answers are small and awaited: they must not wait to be filled up.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let service = service.clone();
        let stop = stop.clone();
        connections.spawn(async move {
            let over = CancellationToken::new();
            let _ends = over.clone().drop_guard();
            let hangup = Hangup(over.clone());
            let service = tower::ServiceBuilder::new()
                .map_request(move |mut request: Request<Incoming>| {
                    request.extensions_mut().insert(Peer(peer));
                    request.extensions_mut().insert(hangup.clone());
                    request
                })
                .layer(CatchPanicLayer::new())
                .service(service);
            let mut connection = std::pin::pin!(
                http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(bounds.head)
                    .max_buf_size(HEAD_MAX)
                    .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
            );
            let served = async {
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = stop.cancelled() => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                }
            };
            let ended = over.run_until_cancelled(served).await.unwrap_or(Ok(()));
            if let Err(error) = ended {
                tracing::debug!(%peer, %error, "a connection broke off");
            }
            drop(place);
        });
    }
    // Late peers are refused by the system rather than left without an answer.
    drop(listener);
    connections.close();
    connections.wait().await;
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_burst_of_connections_is_kept_until_each_is_accepted() {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        // One that the system drops is tried again after a second.
        let connecting = join_all((0..200).map(|_| TcpStream::connect(address)));
        let peers = timeout(Duration::from_millis(900), connecting).await;
        assert!(peers.unwrap().iter().all(Result::is_ok));
        for _ in 0..200 {
            let accepting = timeout(Duration::from_millis(900), listener.accept());
            accepting.await.expect("it was kept").unwrap();
        }
    }
}
