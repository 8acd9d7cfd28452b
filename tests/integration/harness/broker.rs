//! A mosquitto of the test's own, and someone who listens to it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{need, wait_for, wait_until};

/// Where Debian's package puts the broker; `sbin` is often not in `PATH`.
const PLACES: [&str; 3] = [
    "mosquitto",
    "/usr/sbin/mosquitto",
    "/usr/local/sbin/mosquitto",
];

/// A broker that keeps nothing when it ends.
pub struct Broker {
    pub port: u16,
    dir: TempDir,
    program: &'static str,
    child: Child,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Broker {
    /// One without any restriction.
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// One that `acl` forbids sites, or that has an `acl without discovery`, or that wants a
    /// `password`. Any other `option`
    /// goes to its configuration.
    pub async fn with(option: &str) -> Self {
        let there = |place: &&str| Command::new(place).arg("-h").output().is_ok();
        let program = PLACES.into_iter().find(there);
        need("mosquitto", program.is_some());
        let program = program.unwrap();
        // Another test may take the port before the broker does; then it ends
        // at once, and another port is tried.
        for _ in 0..10 {
            let dir = tempfile::tempdir().unwrap();
            let port = std::net::TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr())
                .unwrap()
                .port();
            std::fs::write(
                dir.path().join("conf"),
                configuration(port, option, dir.path()),
            )
            .unwrap();
            let child = spawn(program, dir.path());
            let mut broker = Self {
                port,
                dir,
                program,
                child,
            };
            if broker.listens().await {
                return broker;
            }
        }
        panic!("mosquitto does not start");
    }

    /// The URL of a sink that publishes here.
    pub fn sink(&self) -> String {
        format!("mqtt://127.0.0.1:{}/plant", self.port)
    }

    async fn listens(&mut self) -> bool {
        for _ in 0..1000 {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts again on the same port, all retained messages lost.
    pub async fn restart(&mut self) {
        self.kill();
        for _ in 0..100 {
            self.child = spawn(self.program, self.dir.path());
            if self.listens().await {
                return;
            }
        }
        panic!("mosquitto does not start again");
    }
}

fn spawn(program: &str, dir: &Path) -> Child {
    Command::new(program)
        .arg("-c")
        .arg(dir.join("conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn configuration(port: u16, option: &str, dir: &Path) -> String {
    let file = |name: &str, text: &str| -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let option = match option {
        "acl" => {
            let rules = "topic readwrite plant/dispatch/#\ntopic readwrite plant/status\n";
            format!("acl_file {}", file("acl", rules).display())
        }
        "acl without discovery" => {
            let rules = "topic readwrite plant/#\ntopic readwrite marker\n";
            format!("acl_file {}", file("acl", rules).display())
        }
        "password" => {
            let path = file("passwords", "me:open/sesame\n");
            let hashed = Command::new("mosquitto_passwd")
                .arg("-U")
                .arg(&path)
                .status();
            assert!(hashed.unwrap().success());
            format!("password_file {}", path.display())
        }
        line => line.to_owned(),
    };
    let anonymous = !option.starts_with("password_file");
    // Without `user`, a broker that root starts could not read its files.
    format!("user root\nlistener {port} 127.0.0.1\nallow_anonymous {anonymous}\n{option}\n")
}

/// What was published.
#[derive(Debug, Clone)]
pub struct Message {
    pub topic: String,
    pub payload: String,
    pub retained: bool,
    pub content_type: String,
}

impl Message {
    /// The id of the event it carries, or nothing.
    pub fn id(&self) -> String {
        let event: serde_json::Value = serde_json::from_str(&self.payload).unwrap_or_default();
        event["id"].as_str().unwrap_or_default().to_owned()
    }
}

/// Hears everything that is published.
pub struct Subscriber {
    seen: Arc<Mutex<Vec<Message>>>,
    _stop: DropGuard,
}

impl Subscriber {
    /// Returns once the broker knows of it.
    pub async fn start(port: u16) -> Self {
        let options = MqttOptions::new(String::new(), ("127.0.0.1", port));
        let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
        client.subscribe("#", QoS::AtLeastOnce).await.unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let log = Arc::clone(&seen);
        let ready = Arc::new(Mutex::new(false));
        let subscribed = Arc::clone(&ready);
        let listen = async move {
            // Held, since the loop ends when nobody can ask it anything.
            let _client = client;
            while let Ok(event) = events.poll().await {
                match event {
                    Event::Incoming(Incoming::SubAck(_)) => *subscribed.lock().unwrap() = true,
                    Event::Incoming(Incoming::Publish(publish)) => {
                        let properties = publish.properties.unwrap_or_default();
                        log.lock().unwrap().push(Message {
                            topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                            payload: String::from_utf8_lossy(&publish.payload).into_owned(),
                            retained: publish.retain,
                            content_type: properties.content_type.unwrap_or_default(),
                        });
                    }
                    _ => {}
                }
            }
        };
        TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(listen));
        wait_until("subscribed", async || *ready.lock().unwrap()).await;
        Self {
            seen,
            _stop: stop.drop_guard(),
        }
    }

    /// All that was published so far.
    pub fn seen(&self) -> Vec<Message> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits for a message.
    pub async fn wait(&self, wanted: impl Fn(&Message) -> bool) -> Message {
        wait_for("the message arrives", async || {
            self.seen().into_iter().find(&wanted)
        })
        .await
    }
}
