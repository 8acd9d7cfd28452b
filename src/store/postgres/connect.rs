//! Makes connections to a PostgreSQL database.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::target::{PostgresTarget, Tls};
use crate::store::error::DatabaseError;

/// How long all of making a connection may take, with looking names up.
const CONNECT: Duration = Duration::from_secs(5);

/// The name by which connections are known in `pg_stat_activity`.
pub(super) const APPLICATION: &str = "dispatchd";

/// Bounds that hold also when this process has stopped, as a server shows them.
pub(super) const SETTINGS: [(&str, &str); 5] = [
    ("statement_timeout", "10s"),
    ("lock_timeout", "1s"),
    ("idle_in_transaction_session_timeout", "5s"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
];

/// A connection, and the runtime of the thread that uses it.
///
/// The connection is driven while something is asked. Between that nobody looks at it:
/// whether it is still there shows at the next question.
pub(super) struct Link {
    /// Taken only when it is dropped.
    runtime: Option<Runtime>,
    client: Client,
    /// Set when the server has sent a warning.
    warned: Arc<AtomicBool>,
    /// Set when nothing can be asked on it any more.
    broken: AtomicBool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The server took too long.
    #[error(
        "the server did not answer within {} seconds; is the host right, and does a firewall let this machine in?",
        CONNECT.as_secs()
    )]
    TimedOut,
    /// The connection was refused or broken off.
    #[error("{0}")]
    Refused(String, #[source] tokio_postgres::Error),
    /// The certificates cannot be read.
    #[error("{0}")]
    Certificates(String),
    /// The system gives no runtime.
    #[error("the system gives no event loop: {0}")]
    Runtime(#[from] std::io::Error),
}

impl ConnectError {
    /// Whether the operator must change something before another try makes sense.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Certificates(_) => true,
            Self::Refused(_, error) => {
                let rejected = [
                    SqlState::INVALID_PASSWORD,
                    SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                    SqlState::INVALID_CATALOG_NAME,
                    SqlState::PROTOCOL_VIOLATION,
                ];
                let said = said(error);
                let wanting = ["does not support TLS", "password missing"];
                error.code().is_some_and(|code| rejected.contains(code))
                    || certificate_problem(error).is_some()
                    || wanting.iter().any(|words| said.contains(words))
            }
            Self::TimedOut | Self::Runtime(_) => false,
        }
    }
}

impl Link {
    /// Connects, and has the server bound how long statements and transactions take.
    pub fn connect(target: &PostgresTarget) -> Result<Self, ConnectError> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let warned = Arc::new(AtomicBool::new(false));
        let client = runtime
            .block_on(async { timeout(CONNECT, connect(target, &warned)).await })
            .map_err(|_| ConnectError::TimedOut)??;
        Ok(Self {
            runtime: Some(runtime),
            client,
            warned,
            broken: AtomicBool::new(false),
        })
    }

    /// Runs what asks the database, for `limit` at most.
    pub fn run<'l, T, F>(
        &'l self,
        limit: Duration,
        ask: impl FnOnce(&'l Client) -> F,
    ) -> Result<T, DatabaseError>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let runtime = self.runtime.as_ref().ok_or("the connection is closed")?;
        let result = runtime.block_on(async { timeout(limit, ask(&self.client)).await });
        let result = result.map_err(|_| format!("no answer within {} seconds", limit.as_secs()))?;
        result.map_err(|error| {
            if ends_connection(&error) {
                self.broken.store(true, Ordering::Relaxed);
            }
            spoken(error)
        })
    }

    /// Forgets warnings from before.
    pub fn expect_no_warning(&self) {
        self.warned.store(false, Ordering::Relaxed);
    }

    /// Whether the server has sent a warning since then.
    pub fn was_warned(&self) -> bool {
        self.warned.load(Ordering::Relaxed)
    }

    /// Whether the connection is known to be gone.
    pub fn is_closed(&self) -> bool {
        self.broken.load(Ordering::Relaxed) || self.client.is_closed()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // It may be dropped where nothing may block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn connect(
    target: &PostgresTarget,
    warned: &Arc<AtomicBool>,
) -> Result<Client, ConnectError> {
    let mut config = target.config();
    config.application_name(APPLICATION);
    // A server that does not know `options`, as PgBouncer, says so here.
    let mut options = format!("-c search_path={}", target.schema);
    for (name, value) in SETTINGS {
        options += &format!(" -c {name}={}", value.replace(' ', "\\ "));
    }
    config.options(options);
    match &target.tls {
        Tls::Off => {
            let (client, connection) = config.connect(NoTls).await.map_err(refused)?;
            drive(connection, warned);
            Ok(client)
        }
        Tls::Verified(roots) => {
            let tls = MakeRustlsConnect::new(tls(roots.as_deref())?);
            let (client, connection) = config.connect(tls).await.map_err(refused)?;
            drive(connection, warned);
            Ok(client)
        }
    }
}

fn refused(error: tokio_postgres::Error) -> ConnectError {
    ConnectError::Refused(why_refused(&error), error)
}

/// Says why a connection was refused, and what to do about it where that is known.
fn why_refused(error: &tokio_postgres::Error) -> String {
    let said = said(error);
    let code = error.code();
    let remedy = if code == Some(&SqlState::INVALID_PASSWORD)
        || code == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
    {
        "check user and password (in the URL, in PGPASSWORD, or in --state-password-file)"
    } else if code == Some(&SqlState::INVALID_CATALOG_NAME) {
        "create the database, or correct the URL"
    } else if code == Some(&SqlState::PROTOCOL_VIOLATION) && said.contains("startup parameter") {
        "this is a connection pooler, such as PgBouncer; name PostgreSQL itself"
    } else if certificate_problem(error).is_some() {
        "name the authority's certificate with sslrootcert=FILE, and the server by the name in its certificate"
    } else if said.contains("does not support TLS") {
        "turn TLS on at the server; without it, add sslmode=disable to the URL for a server on this machine, and sslmode=disable&allow_plaintext=1 for one on a trusted network"
    } else if said.contains("password missing") {
        "give the password in PGPASSWORD or in --state-password-file"
    } else if let Some(remedy) = network_remedy(error) {
        remedy
    } else {
        return said;
    };
    format!("{said}; {remedy}")
}

/// What to do when the network gave no connection, where that is known.
fn network_remedy(error: &tokio_postgres::Error) -> Option<&'static str> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return Some(match error.kind() {
                ErrorKind::ConnectionRefused => {
                    "does PostgreSQL run there, and does it listen at this address and port?"
                }
                ErrorKind::TimedOut
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable => {
                    "is the host right, and does a firewall let this machine in?"
                }
                _ if error.to_string().contains("lookup address") => {
                    "is the host's name right, and does DNS know it?"
                }
                _ => return None,
            });
        }
        source = error.source();
    }
    None
}

/// What rustls says of the server's certificate, if that is what is wrong.
fn certificate_problem(error: &tokio_postgres::Error) -> Option<String> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let text = error.to_string();
        if text.contains("certificate") {
            return Some(text);
        }
        source = error.source();
    }
    None
}

/// What the server or the network said, in one line.
pub(super) fn said(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return error.message().to_owned();
    }
    // The library's own words name the step only; what is below names the reason.
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    text
}

/// Whether nothing can be asked any more on the connection that had this error.
fn ends_connection(error: &tokio_postgres::Error) -> bool {
    let fatal = |severity| matches!(severity, Severity::Fatal | Severity::Panic);
    match error.as_db_error() {
        Some(error) => error.parsed_severity().is_some_and(fatal),
        None => error.is_closed(),
    }
}

/// A database's error, in the words of whoever said it.
pub(super) fn spoken(error: tokio_postgres::Error) -> DatabaseError {
    said(&error).into()
}

/// Drives the connection, and notes warnings: they come before the answer that they are
/// about.
#[expect(
    clippy::disallowed_methods,
    reason = "the task ends with the runtime of its connection, which runs nothing else"
)]
fn drive<S, T>(mut connection: Connection<S, T>, warned: &Arc<AtomicBool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let warned = Arc::clone(warned);
    tokio::spawn(async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            match message {
                Ok(AsyncMessage::Notice(notice)) => {
                    if notice.parsed_severity() == Some(Severity::Warning) {
                        warned.store(true, Ordering::Relaxed);
                        tracing::warn!(database = notice.message(), "the database warns");
                    }
                }
                Ok(_) => {}
                // Whoever asks next is told.
                Err(_) => return,
            }
        }
    });
}

/// Trusts what the system trusts, or the certificates in a file.
fn tls(roots: Option<&std::path::Path>) -> Result<ClientConfig, ConnectError> {
    let wrong = |error: &dyn std::fmt::Display| ConnectError::Certificates(error.to_string());
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?;
    let Some(path) = roots else {
        return Ok(builder
            .with_platform_verifier()
            .map_err(|error| wrong(&error))?
            .with_no_client_auth());
    };
    let unreadable = |error: &dyn std::fmt::Display| {
        ConnectError::Certificates(format!(
            "the file {} named by sslrootcert cannot be used: {error}; it must hold certificates in PEM",
            path.display()
        ))
    };
    let mut store = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        store.add(certificate).map_err(|error| unreadable(&error))?;
    }
    if store.is_empty() {
        return Err(unreadable(&"there is no certificate in it"));
    }
    Ok(builder.with_root_certificates(store).with_no_client_auth())
}
