//! Stands between a daemon and PostgreSQL, and cuts the connection where that is worst.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

/// What the proxy does with what passes through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// It passes everything on.
    Pass,
    /// The next COMMIT does not reach the server: both sides are cut off. Then it passes.
    CutBeforeCommit,
    /// The next COMMIT reaches the server, and its answer does not come back. Then it
    /// passes.
    CutAfterCommit,
    /// Nothing passes in either direction, and no connection ends: a cable is cut.
    Stall,
}

/// A proxy in front of one server. It ends with the process.
pub struct Proxy {
    port: u16,
    mode: Arc<AtomicU8>,
}

impl Proxy {
    /// Listens on loopback, for the server at this port.
    ///
    /// # Panics
    /// When the system gives no port.
    pub fn start(server: u16) -> Self {
        Self::on(TcpListener::bind(("127.0.0.1", 0)).expect("a port"), server)
    }

    /// The same on a listener that is there already.
    ///
    /// # Panics
    /// When the system does not say its port.
    pub fn on(listener: TcpListener, server: u16) -> Self {
        let port = listener.local_addr().expect("an address").port();
        let mode = Arc::new(AtomicU8::new(Mode::Pass as u8));
        let shared = Arc::clone(&mode);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else {
                    continue;
                };
                pass(client, server, &shared);
            }
        });
        Self { port, mode }
    }

    /// The port on which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes what it does.
    pub fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }
}

/// Passes on what comes, on two threads.
fn pass(client: TcpStream, server: TcpStream, mode: &Arc<AtomicU8>) {
    let copies = (client.try_clone(), server.try_clone());
    let (Ok(client_back), Ok(server_back)) = copies else {
        return;
    };
    let mode = Arc::clone(mode);
    let back = Arc::clone(&mode);
    thread::spawn(move || to_server(client, server, &mode));
    thread::spawn(move || to_client(server_back, client_back, &back));
}

/// Waits while nothing passes.
fn stall(mode: &AtomicU8) {
    while mode.load(Ordering::SeqCst) == Mode::Stall as u8 {
        thread::sleep(Duration::from_millis(10));
    }
}

fn to_client(mut server: TcpStream, mut client: TcpStream, mode: &AtomicU8) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(length @ 1..) = server.read(&mut bytes) {
        stall(mode);
        let read = bytes.get(..length).unwrap_or_default();
        if client.write_all(read).is_err() {
            break;
        }
    }
    stall(mode);
    let _ = client.shutdown(Shutdown::Both);
}

fn to_server(mut client: TcpStream, mut server: TcpStream, mode: &AtomicU8) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(length @ 1..) = client.read(&mut bytes) {
        stall(mode);
        let read = bytes.get(..length).unwrap_or_default();
        // A simple query of its own.
        let commits = read.starts_with(b"Q") && read.ends_with(b"COMMIT\0");
        let cuts = commits && mode.load(Ordering::SeqCst) != Mode::Pass as u8;
        if cuts {
            let was = mode.swap(Mode::Pass as u8, Ordering::SeqCst);
            // Nothing of the answer comes back.
            let _ = client.shutdown(Shutdown::Both);
            if was == Mode::CutAfterCommit as u8 {
                let _ = server.write_all(read);
            }
            // What was sent is carried out before the server sees the end.
            let _ = server.shutdown(Shutdown::Write);
            return;
        }
        if server.write_all(read).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}
