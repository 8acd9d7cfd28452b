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

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;
use tower_http::body::UnsyncBoxBody;
use tower_http::catch_panic::CatchPanicLayer;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::connection::{AnswerBody, RequestBody, Watched};
use super::places::{Admission, Bounds, Cut, Place, Places, peer_of};
use crate::clock::{Clock, SystemClock};
use crate::seldom::Seldom;
use crate::system::is_want_of_room;

/// Answers a request, or leaves it to the next route.
pub type Endpoint = BoxedFilter<(Response,)>;

/// The first of these routes that takes a request. Each is boxed: the type of a
/// long chain of filters takes the compiler a minute.
pub fn first_of<const N: usize>(first: Endpoint, others: [Endpoint; N]) -> Endpoint {
    let or = |all: Endpoint, next| all.or(next).unify().boxed();
    others.into_iter().fold(first, or)
}

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

/// Largest request head accepted, in bytes. Also what is held of a body that
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

/// How many connections that were turned away wait at once for their peers to
/// read why. The others are closed at once.
const TURNED_AWAY: usize = 64;

/// How long such a peer may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a peer is told for whom there is no place.
const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/json\r\ncontent-length: 32\r\n\
    retry-after: 1\r\nconnection: close\r\n\r\n\
    {\"error\":\"too many connections\"}";

/// Answers connections with `service` until `stop`, then ends when those that
/// are open have ended. Each is told to end after its present answer.
pub async fn serve<S>(listener: TcpListener, service: S, bounds: Bounds, stop: CancellationToken)
where
    S: Service<Request<RequestBody>, Response = Response, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    serve_at(listener, service, Places::new(bounds), stop).await;
}

/// As [`serve`], with `places` that somebody else counts.
pub async fn serve_at<S>(
    listener: TcpListener,
    service: S,
    places: Arc<Places>,
    stop: CancellationToken,
) where
    S: Service<Request<RequestBody>, Response = Response, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    let connections = TaskTracker::new();
    let farewells = Arc::new(Semaphore::new(TURNED_AWAY));
    let mut refusals = Refusals::default();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            // Its peer hung up first.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                refusals.log(&error);
                if is_want_of_room(&error) {
                    places.make_room();
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let cut = CancellationToken::new();
        let admission = admission(&places, peer, &cut);
        match stop.run_until_cancelled(admission).await {
            Some(Some(place)) => {
                let connection = Connection {
                    stream,
                    peer,
                    place: Arc::new(place),
                    cut,
                    bounds: places.bounds,
                };
                connections.spawn(connection.serve(service.clone(), stop.clone()));
            }
            Some(None) => {
                places.count(Cut::TurnedAway, Some(peer_of(peer.ip())));
                if let Ok(permit) = Arc::clone(&farewells).try_acquire_owned() {
                    connections.spawn(async move {
                        // A peer that hangs up first is told nothing.
                        let _ = timeout(FAREWELL, turn_away(stream)).await;
                        drop(permit);
                    });
                }
            }
            None => break,
        }
    }
    // Late peers are refused by the system rather than left without an answer.
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Waits for a place while all are busy: no peer can have one then. `None` if
/// only this peer can have none.
async fn admission(
    places: &Arc<Places>,
    peer: SocketAddr,
    cut: &CancellationToken,
) -> Option<Place> {
    loop {
        match places.admit(peer_of(peer.ip()), cut.clone()) {
            Admission::Place(place) => return Some(place),
            Admission::PeerIsBusy => return None,
            Admission::AllAreBusy => places.freed().await,
        }
    }
}

/// Says that there is no place. The connection stays open until the peer has
/// sent what it wants to send: closing earlier could take the answer with it.
async fn turn_away(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(NO_PLACE).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(())
}

/// Connections that the system did not give us.
#[derive(Default)]
struct Refusals {
    clock: SystemClock,
    line: Seldom,
}

impl Refusals {
    fn log(&mut self, error: &io::Error) {
        if let Some(count) = self.line.count(self.clock.now().mono) {
            tracing::warn!(%error, count, "the system refused to accept connections; if it lacks file descriptors, raise the limit (LimitNOFILE, ulimit -n)");
        }
    }
}

/// What an answer's body becomes where panics are caught.
type Caught = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Lets the place follow the answers.
fn watched(
    place: Arc<Place>,
) -> impl Fn(http::Response<Caught>) -> http::Response<AnswerBody<Caught>> + Clone {
    move |answer| answer.map(|body| AnswerBody::new(body, Arc::clone(&place)))
}

/// A connection that has a place.
struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    place: Arc<Place>,
    /// Cancelled when it must end at once.
    cut: CancellationToken,
    bounds: Bounds,
}

impl Connection {
    async fn serve<S>(self, service: S, stop: CancellationToken)
    where
        S: Service<Request<RequestBody>, Response = Response, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
    {
        let Self {
            stream,
            peer,
            place,
            cut,
            bounds,
        } = self;
        let _ends = cut.clone().drop_guard();
        // Answers are small and awaited: they must not wait to be filled up.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let (asked, answered) = (Arc::clone(&place), Arc::clone(&place));
        let hangup = Hangup(cut.clone());
        let service = tower::ServiceBuilder::new()
            .map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(Peer(peer));
                request.extensions_mut().insert(hangup.clone());
                request.map(|body| RequestBody::new(body, Arc::clone(&asked)))
            })
            .map_response(watched(answered))
            .layer(CatchPanicLayer::new())
            .service(service);
        let stream = Watched::new(stream, place, bounds.stall);
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
        let ended = cut.run_until_cancelled(served).await.unwrap_or(Ok(()));
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a connection broke off");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_burst_of_connections_is_kept_until_each_is_accepted() {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        // Beyond what the system keeps, none is made before another is accepted.
        let connecting = join_all((0..200).map(|_| TcpStream::connect(address)));
        let peers = timeout(Duration::from_secs(20), connecting).await;
        assert!(peers.unwrap().iter().all(Result::is_ok));
        // It does not wait: those that were kept are there.
        let listener = listener.into_std().unwrap();
        for _ in 0..200 {
            listener.accept().expect("it was kept");
        }
    }

    /// A listener whose answers are 64 MB long, and its places. A peer may `stall` for
    /// so long.
    fn long_answers(stall: Duration, stop: &CancellationToken) -> (SocketAddr, Arc<Places>) {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let places = Places::new(Bounds {
            stall,
            ..Bounds::default()
        });
        let answer = warp::any().map(|| vec![b'x'; 64 << 20]);
        let serving = serve_at(
            listener,
            warp::service(answer),
            Arc::clone(&places),
            stop.clone(),
        );
        TaskTracker::new().spawn(serving);
        (address, places)
    }

    async fn asked(address: SocketAddr) -> TcpStream {
        let mut peer = TcpStream::connect(address).await.unwrap();
        peer.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        peer
    }

    async fn is_stalled(places: &Places) {
        let looking = async {
            while places.cut(Cut::Stalled) == 0 || places.taken() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), looking)
            .await
            .expect("it is closed");
    }

    #[tokio::test]
    async fn a_peer_that_reads_nothing_of_its_answer_is_closed() {
        let stop = CancellationToken::new();
        let _stops = stop.clone().drop_guard();
        let (address, places) = long_answers(Duration::from_millis(300), &stop);
        let _peer = asked(address).await;
        is_stalled(&places).await;
    }

    #[tokio::test]
    async fn a_peer_that_reads_byte_by_byte_is_closed() {
        let stop = CancellationToken::new();
        let _stops = stop.clone().drop_guard();
        let (address, places) = long_answers(Duration::from_millis(300), &stop);
        let mut peer = asked(address).await;
        let reading = async {
            while peer.read_u8().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = reading => unreachable!("it never ends"),
            () = is_stalled(&places) => {}
        }
    }

    #[tokio::test]
    async fn a_peer_that_pauses_and_reads_on_gets_its_answer_whole() {
        let stop = CancellationToken::new();
        let _stops = stop.clone().drop_guard();
        let (address, places) = long_answers(Duration::from_secs(3), &stop);
        let mut peer = asked(address).await;
        let mut part = vec![0; 8 << 20];
        // All of it takes longer than one stall may.
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            peer.read_exact(&mut part).await.unwrap();
        }
        assert_eq!(places.cut(Cut::Stalled), 0);
    }
}
