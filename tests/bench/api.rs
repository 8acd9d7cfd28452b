//! The upstream: answers at once, from what was made before.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::Fault;
use crate::clock::now;
use crate::message::Connection;
use crate::world::write_lone;

/// The upstream, on a thread of its own.
pub struct Api {
    address: SocketAddr,
    list: Arc<ArcSwap<Bytes>>,
}

/// What the ids of dispatches begin with that are active when they are asked for. Of the
/// others that are asked for by their id nothing starts while it is measured.
pub const ACTIVE: char = 'a';

const EMPTY: &[u8] = br#"{"dispatches":[],"page":0,"perPage":0}"#;

impl Api {
    /// Starts it. The list is empty.
    pub fn start() -> Result<Self, Fault> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let list = Arc::new(ArcSwap::from_pointee(Bytes::from_static(EMPTY)));
        let shown = Arc::clone(&list);
        let later = now() + TimeDelta::hours(6);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("api".into())
            .spawn(move || {
                runtime.block_on(async move {
                    let listener = TcpListener::from_std(listener).unwrap();
                    let mut connections = JoinSet::new();
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        let connection = Connection::new(stream).unwrap();
                        connections.spawn(answer(connection, Arc::clone(&shown), later));
                        while connections.try_join_next().is_some() {}
                    }
                });
            })?;
        Ok(Self { address, list })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the list is from now on.
    pub fn show(&self, list: Bytes) {
        self.list.store(Arc::new(list));
    }

    /// The list is empty from now on.
    pub fn clear(&self) {
        self.show(Bytes::from_static(EMPTY));
    }
}

/// Answers until the other end closes or breaks off, as ends that are killed do.
async fn answer(mut connection: Connection, list: Arc<ArcSwap<Bytes>>, later: DateTime<Utc>) {
    let mut one = Vec::new();
    let mut out = Vec::new();
    while let Ok(Some(request)) = connection.receive().await {
        let mut parts = request.path().unwrap_or_default().split('/').skip(2);
        let sent = match (parts.next(), parts.next()) {
            (Some("dispatches"), None) => {
                let list = Arc::clone(&list.load());
                head(&mut out, "200 OK", list.len());
                match connection.send(&out).await {
                    Ok(()) => connection.send(&list).await,
                    failed => failed,
                }
            }
            (Some("dispatches"), Some(id)) => {
                one.clear();
                let start = if id.starts_with(ACTIVE) {
                    now() - TimeDelta::minutes(1)
                } else {
                    later
                };
                write_lone(&mut one, id, start);
                head(&mut out, "200 OK", one.len());
                out.extend_from_slice(&one);
                connection.send(&out).await
            }
            _ => {
                head(&mut out, "404 Not Found", 0);
                connection.send(&out).await
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

fn head(out: &mut Vec<u8>, status: &str, length: usize) {
    use std::io::Write;
    out.clear();
    write!(
        out,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
    .unwrap();
}
