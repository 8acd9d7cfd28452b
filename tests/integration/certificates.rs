//! An API whose certificate is not to be trusted. A proxy with TLS stands in
//! front of the sandbox; the daemon trusts the authority that signs for it.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::harness::{World, wait_until};

/// Signs certificates, and is trusted for it.
pub struct Authority {
    pub issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub pem: String,
}

impl Authority {
    /// One with a key of its own.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// A certificate for `name` that ends with the year `last_year`.
    fn certify(&self, name: &str, last_year: i32) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 12, 31);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Takes off TLS and passes on to `upstream`.
struct Proxy {
    address: SocketAddr,
    acceptor: Arc<ArcSwap<TlsAcceptor>>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    async fn start(upstream: SocketAddr, acceptor: TlsAcceptor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = Arc::new(ArcSwap::from_pointee(acceptor));
        let current = Arc::clone(&acceptor);
        let connections = TaskTracker::new();
        let task = TaskTracker::new().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::clone(&current.load());
                connections.spawn(async move {
                    // Whoever does not trust us hangs up.
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        let mut upstream = TcpStream::connect(upstream).await.unwrap();
                        let _ = copy_bidirectional(&mut stream, &mut upstream).await;
                    }
                });
            }
        });
        Self {
            address,
            acceptor,
            _task: AbortOnDropHandle::new(task),
        }
    }

    fn show(&self, acceptor: TlsAcceptor) {
        self.acceptor.store(Arc::new(acceptor));
    }
}

#[apply(test)]
async fn an_api_whose_certificate_is_expired_or_anothers_gets_no_request_and_is_taken_when_mended()
{
    let world = World::new().await;
    let authority = Authority::new("ours");
    let trusted = world.path("authority.pem");
    std::fs::write(&trusted, &authority.pem).unwrap();
    let upstream = world.sandbox.url().replace("http://", "");
    let proxy = Proxy::start(
        upstream.parse().unwrap(),
        authority.certify("127.0.0.1", 2020),
    )
    .await;
    let daemon = world
        .setup()
        .with("--api-url", format!("https://{}", proxy.address))
        .variable("SSL_CERT_FILE", trusted.display())
        .polling("100ms")
        .start()
        .await;
    let error = async || {
        let health = daemon.health().await;
        let error = &health["sync"]["last_poll"]["error"];
        error.as_str().unwrap_or_default().to_lowercase()
    };

    wait_until("a word on the expired certificate", async || {
        error().await.contains("expired")
    })
    .await;
    assert_eq!(daemon.webhook("d").await.status, 503);

    proxy.show(authority.certify("elsewhere.example", 2999));
    wait_until("a word on the other name", async || {
        error().await.contains("not valid for")
    })
    .await;

    proxy.show(Authority::new("another").certify("127.0.0.1", 2999));
    wait_until("a word on the unknown authority", async || {
        error().await.contains("unknown")
    })
    .await;
    assert_eq!(world.sandbox.requests().len(), 0, "the key stayed at home");

    let twice = |line: &String| line.contains("failed to verify");
    assert!(!daemon.log().iter().any(twice), "one line a fact");

    proxy.show(authority.certify("127.0.0.1", 2999));
    daemon.wait_until_ready().await;
    world.known(&daemon, "d").await;
}
