//! Keeps the one connection to the broker.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use rumqttc::{
    AsyncClient, ConnAck, ConnectionError, DisconnectProperties, DisconnectReasonCode, Event,
    Incoming, LastWill, MqttOptions, PublishOptions, QoS, StateError, Transport,
};
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls_platform_verifier::BuilderVerifierExt;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::discovery::Announced;
use crate::delivery::sinks::spec::MqttTarget;
use crate::http::{causes, io_reason};
use crate::retry::backoff;
use crate::seldom::{Lately, spoken};
use crate::trust::Trust;

/// Why there is no connection while this daemon may not act.
pub(super) const SUSPENDED: &str = "this daemon does not know whether it leads";

/// How long a quiet broker is trusted to be there, in seconds.
const KEEP_ALIVE: u16 = 20;

/// How long connecting may take, TLS and MQTT included.
const CONNECT: Duration = Duration::from_secs(5);

/// How long the goodbye may take.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// A connection that lasted this long was a good one: the pauses begin anew.
const PROVEN: Duration = Duration::from_secs(10);

/// The largest packet that MQTT knows.
const LARGEST: usize = 268_435_455;

/// The most events that one connection leaves without a confirmation.
const MOST_UNANSWERED: u64 = 1024;

/// The pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause after no connection could be made. A try costs little, and a
/// site's new command waits no longer than this for the broker.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause after a connection was lost: two daemons with one prefix
/// that push each other off do so no more often.
const LONGEST_PAUSE_AFTER_LOSS: Duration = Duration::from_secs(30);

/// Publishes that wait for their turn on the connection.
const WAITING: usize = 100;

/// The state of the connection.
#[derive(Clone)]
pub(super) enum Link {
    /// Not yet known whether there is a broker.
    Connecting,
    /// At work.
    Up(Up),
    /// None, and why. Another is tried.
    Down(String),
}

/// A connection at work.
#[derive(Clone)]
pub(super) struct Up {
    pub(super) client: AsyncClient,
    /// The largest packet that the broker takes.
    pub(super) largest: usize,
    /// Ends this connection, and with it all that waits on it.
    pub(super) give_up: CancellationToken,
    pub(super) confirmations: Arc<Confirmations>,
    /// The sites that Home Assistant was told of on this connection.
    pub(super) announced: Arc<Announced>,
}

/// What the broker confirms on one connection, and what it does not.
#[derive(Debug)]
pub(super) struct Confirmations {
    /// How many events it confirmed or refused.
    answered: AtomicU64,
    /// How many events it left without an answer until their attempts ended. Each
    /// keeps one of the numbers that the broker allows for events under way.
    unanswered: AtomicU64,
    /// The most of those.
    most: u64,
}

impl Confirmations {
    /// Of a broker that takes so many unconfirmed events.
    fn new(receive_maximum: u16) -> Self {
        Self {
            answered: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            most: u64::from(receive_maximum / 4).clamp(1, MOST_UNANSWERED),
        }
    }

    /// How many events the broker confirmed or refused so far.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// The broker confirmed or refused an event.
    pub(super) fn answer(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt ended without an answer; when it began, `answered` events had
    /// one. Tells whether the connection is of no more use: the broker answers
    /// nothing, or too little is left of what it takes.
    pub(super) fn miss(&self, answered: u64) -> bool {
        let unanswered = self.unanswered.fetch_add(1, Ordering::Relaxed) + 1;
        self.answered() == answered || unanswered >= self.most
    }
}

/// What the sink's connection to this broker needs.
pub(super) fn options(target: &MqttTarget) -> Result<MqttOptions, rustls::Error> {
    let mut options = options_of(target, client_id(target, ""))?;
    options.set_last_will(LastWill::new(
        super::topic::status(&target.prefix),
        "offline",
        QoS::AtLeastOnce,
        true,
        None,
    ));
    Ok(options)
}

/// What a connection needs that only looks at this broker: it has no will, and a client
/// id of its own, so that the broker closes no other connection for it.
pub(super) fn options_to_look(target: &MqttTarget) -> Result<MqttOptions, rustls::Error> {
    options_of(target, client_id(target, " look"))
}

fn options_of(target: &MqttTarget, client_id: String) -> Result<MqttOptions, rustls::Error> {
    let broker = (target.host.clone(), target.port);
    let mut options = MqttOptions::new(client_id, broker.clone());
    options
        .set_keep_alive(KEEP_ALIVE)
        .set_connect_timeout(CONNECT)
        .set_clean_start(true)
        // The library would join host and port to one text, which goes wrong
        // for an IPv6 address.
        .set_socket_connector(move |_, _| {
            let broker = broker.clone();
            async move {
                let stream = TcpStream::connect(broker).await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            }
        });
    if let Some(credentials) = &target.credentials {
        options.set_credentials(
            credentials.user.expose_secret(),
            credentials.password.expose_secret().to_owned(),
        );
    }
    if target.tls {
        options.set_transport(Transport::tls_with_config(tls()?.into()));
    }
    Ok(options)
}

/// Trusts what the system trusts, as the HTTP sinks do. The library's own
/// default gives up over one certificate of the system that it cannot read.
fn tls() -> Result<ClientConfig, rustls::Error> {
    Ok(
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_platform_verifier()?
            .with_no_client_auth(),
    )
}

/// The same after a restart, so that the broker replaces a connection that it
/// has not noticed to be dead. 23 letters and digits, which every broker takes.
fn client_id(target: &MqttTarget, purpose: &str) -> String {
    let place = format!("{}:{}/{}{purpose}", target.host, target.port, target.prefix);
    let hex: String = Sha256::digest(place.as_bytes())
        .iter()
        .take(7)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("dispatchd{hex}")
}

/// Keeps the connection.
pub(super) struct Keeper {
    pub(super) sink: String,
    pub(super) options: MqttOptions,
    pub(super) status: String,
    pub(super) link: watch::Sender<Link>,
    /// How many connections were made.
    pub(super) connections: watch::Sender<u64>,
    /// Until when this daemon may act.
    pub(super) trust: Trust,
    /// What the log has said lately.
    pub(super) said: Lately,
}

enum End {
    Stopped,
    Lost {
        reason: String,
        /// Whether there was a connection at all.
        made: bool,
        /// Whether it lasted.
        proven: bool,
    },
}

impl Keeper {
    /// Connects again and again until `stop`. A connection outlasts the trust of this
    /// daemon, but none is made without it: two daemons that share the client's id would
    /// push each other off.
    pub(super) async fn keep(self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            if self.trust.is_over() {
                self.link.send_replace(Link::Down(SUSPENDED.to_owned()));
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.trust.clone().begins() => {}
            }
            let End::Lost {
                reason,
                made,
                proven,
            } = self.guarded(&stop).await
            else {
                break;
            };
            if proven {
                failures = 0;
            }
            let pause = pause(failures, made);
            if self.said.is_new(&reason) {
                tracing::warn!(
                    sink = self.sink,
                    reason,
                    next_try = %format_args!("in {}", spoken(pause)),
                    "not connected to the broker"
                );
            }
            self.link.send_replace(Link::Down(reason));
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(pause) => failures += 1,
            }
        }
        let stopped = "the daemon is stopping".to_owned();
        self.link.send_replace(Link::Down(stopped));
    }

    /// One connection. A panic of the library costs that one only.
    async fn guarded(&self, stop: &CancellationToken) -> End {
        let connection = AssertUnwindSafe(self.connection(stop));
        connection
            .catch_unwind()
            .await
            .unwrap_or_else(|_| End::Lost {
                reason: "the MQTT library failed".to_owned(),
                made: true,
                proven: false,
            })
    }

    /// One connection from beginning to end.
    ///
    /// Client and event loop are made anew each time. The library would send
    /// again what was unconfirmed when a connection broke, but by then those
    /// attempts have failed, and a newer event may have overtaken them.
    async fn connection(&self, stop: &CancellationToken) -> End {
        let built = AsyncClient::builder(self.options.clone())
            .capacity(WAITING)
            .try_build();
        let (client, mut events) = match built {
            Ok(built) => built,
            Err(error) => {
                return End::Lost {
                    reason: causes(&error),
                    made: false,
                    proven: false,
                };
            }
        };
        let give_up = CancellationToken::new();
        let mut drive = pin!(async {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Incoming::ConnAck(ack))) => {
                        self.connected(&client, &ack, &give_up);
                    }
                    Ok(_) => {}
                    Err(error) => return said(&error),
                }
            }
        });
        let mut suspended = pin!(self.trust.clone().ends());
        let mut proof = pin!(sleep(PROVEN));
        let mut proven = false;
        let lost = |reason, proven| End::Lost {
            reason,
            made: matches!(*self.link.borrow(), Link::Up(_)),
            proven,
        };
        loop {
            tokio::select! {
                biased;
                () = give_up.cancelled() => {
                    let reason = "the broker left too much without a confirmation";
                    return lost(reason.to_owned(), proven);
                }
                () = stop.cancelled() => break,
                () = &mut suspended, if !matches!(*self.link.borrow(), Link::Up(_)) => {
                    return lost(SUSPENDED.to_owned(), false);
                }
                reason = &mut drive => return lost(reason, proven),
                () = &mut proof, if !proven => proven = true,
            }
        }
        if matches!(*self.link.borrow(), Link::Up(_)) {
            // The broker then publishes the will: nobody else can say `offline`
            // after our last event for certain.
            let goodbye = client.try_disconnect_with_properties_timeout(
                DisconnectReasonCode::DisconnectWithWillMessage,
                DisconnectProperties {
                    session_expiry_interval: None,
                    reason_string: None,
                    user_properties: Vec::new(),
                    server_reference: None,
                },
                FAREWELL,
            );
            if goodbye.is_ok() {
                // If it takes longer, the broker finds out by itself.
                let _ = timeout(FAREWELL, drive).await;
            }
        }
        End::Stopped
    }

    fn connected(&self, client: &AsyncClient, ack: &ConnAck, give_up: &CancellationToken) {
        if self.said.is_new("connected") {
            tracing::info!(sink = self.sink, "connected to the broker");
        }
        let retained = PublishOptions::at_least_once().retained();
        // The queue of a new connection is empty, so there is room.
        if client
            .try_publish(&self.status, "online", retained)
            .is_err()
            && self.said.is_new("status")
        {
            tracing::warn!(sink = self.sink, "the status topic cannot be published");
        }
        let largest = ack.properties.as_ref().and_then(|p| p.max_packet_size);
        let receive_maximum = ack.properties.as_ref().and_then(|p| p.receive_max);
        self.link.send_replace(Link::Up(Up {
            client: client.clone(),
            largest: largest.and_then(|n| n.try_into().ok()).unwrap_or(LARGEST),
            give_up: give_up.clone(),
            confirmations: Arc::new(Confirmations::new(receive_maximum.unwrap_or(u16::MAX))),
            announced: Arc::default(),
        }));
        self.connections.send_modify(|made| *made += 1);
    }
}

/// The name of a reason code in plain words: `NotAuthorized` is `not authorized`.
pub(super) fn words(code: impl fmt::Debug) -> String {
    let mut words = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

pub(super) fn said(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => {
            format!("the broker refused the connection: {}", words(code))
        }
        ConnectionError::Timeout(_) => "the broker did not answer in time".to_owned(),
        ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        }) => "another daemon with the same prefix took over the connection: \
               give each its own"
            .to_owned(),
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
            format!("the broker closed the connection: {}", words(reason_code))
        }
        // Not every broker says that it was a takeover.
        ConnectionError::MqttState(StateError::ConnectionAborted) => {
            "the broker closed the connection; if that repeats, look for another daemon with the \
             same prefix"
                .to_owned()
        }
        ConnectionError::Io(error) => io_reason(error),
        error => causes(error),
    }
}

/// How long to wait after so many failures in a row, and whether a connection was
/// made the last time.
fn pause(failures: u32, made: bool) -> Duration {
    let longest = match made {
        true => LONGEST_PAUSE_AFTER_LOSS,
        false => LONGEST_PAUSE,
    };
    // No chance in it: these are the tries of one daemon.
    backoff(failures.saturating_add(1), 1.0, FIRST_PAUSE, longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::sinks::spec::Kind;
    use crate::delivery::sinks::{SinkSecrets, SinkSpec};

    fn target(text: &str) -> MqttTarget {
        match SinkSpec::parse(text, &SinkSecrets::none()).unwrap().kind() {
            Kind::Mqtt(target) => target.clone(),
            _ => panic!("{text} is no MQTT sink"),
        }
    }

    #[test]
    fn the_client_id_is_the_same_after_a_restart_and_another_for_another_prefix() {
        let id = |text: &str| client_id(&target(text), "");
        // Written down, since a change would leave a dead connection in place.
        assert_eq!(id("mqtt://broker/plant7"), "dispatchdf622be6b5a1afb");
        assert_eq!(id("mqtt://me:pw@broker/plant7"), id("mqtt://broker/plant7"));
        assert_ne!(id("mqtt://broker/plant8"), id("mqtt://broker/plant7"));
        assert_eq!(id("mqtt://broker/plant7").len(), 23);
    }

    #[test]
    fn tls_starts_with_what_the_system_trusts() {
        assert!(options(&target("mqtts://broker/plant7")).is_ok());
    }

    #[test]
    fn pauses_grow_to_half_a_minute_and_without_a_broker_to_five_seconds() {
        assert_eq!(pause(0, false), Duration::from_millis(250));
        assert_eq!(pause(3, true), Duration::from_secs(2));
        assert_eq!(pause(1000, true), Duration::from_secs(30));
        assert_eq!(pause(1000, false), Duration::from_secs(5));
    }

    #[test]
    fn a_connection_is_given_up_when_nothing_is_confirmed_or_too_little_is_left() {
        let deaf = Confirmations::new(u16::MAX);
        assert!(deaf.miss(deaf.answered()));
        let choosy = Confirmations::new(20);
        for _ in 0..4 {
            let answered = choosy.answered();
            choosy.answer();
            assert!(!choosy.miss(answered));
        }
        let answered = choosy.answered();
        choosy.answer();
        assert!(choosy.miss(answered));
        let tiny = Confirmations::new(1);
        tiny.answer();
        assert!(tiny.miss(0));
    }
}
