//! Reads the URL of a PostgreSQL database.
//!
//! `tokio_postgres` reads most of it. What it refuses or takes too lightly is read here:
//! `sslmode`, `sslrootcert`, `options`, and whether a connection may go unencrypted.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use crate::secret::{Secret, SecretError};

/// The schema, unless the URL names another.
const SCHEMA: &str = "dispatchd";

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);

/// How long what was sent may stay unacknowledged before the connection counts as cut.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// Where a database is, and how it is reached.
#[derive(Clone)]
pub struct PostgresTarget {
    pub(super) config: Config,
    pub(super) tls: Tls,
    /// The schema that holds the tables.
    pub(super) schema: String,
    /// The password, if the URL has none.
    password: Option<Secret>,
    /// The URL without a password.
    shown: String,
}

/// How connections are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tls {
    /// Not at all.
    Off,
    /// The server proves who it is, by a certificate of the system or of this file.
    Verified(Option<PathBuf>),
}

/// Why a URL of a database cannot be used. No message repeats the URL: it may hold a
/// password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It is no URL of a database.
    #[error(
        "is not a URL of a PostgreSQL database ({0}); write postgres://USER@HOST:PORT/DATABASE"
    )]
    Url(String),
    /// User or password hold a character that means something in a URL.
    #[error(
        "has @ or ? in its user, its password or its database's name, where a URL cannot have \
         them; write %40 for @ and %3F for ?, or give the password in PGPASSWORD or \
         --state-password-file"
    )]
    Unescaped,
    /// No user is named.
    #[error("names no user; write postgres://USER@HOST:PORT/DATABASE")]
    NoUser,
    /// No database is named.
    #[error("names no database; write postgres://USER@HOST:PORT/DATABASE")]
    NoDatabase,
    /// The mode of encryption is not verified, or unknown.
    #[error(
        "has sslmode={0}, which does not make sure that the server is the right one; leave it \
         out, or write verify-full, with sslrootcert=FILE if the system does not know the \
         certificate's authority"
    )]
    SslMode(String),
    /// The connection would be readable on its way.
    #[error(
        "has sslmode=disable, and the host {0} is another machine: everything would be readable \
         on its way; leave sslmode out, or add &allow_plaintext=1 if the network is trusted"
    )]
    Plaintext(String),
    /// A value is none of those that are known.
    #[error("has {name}={value}; {remedy}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        remedy: &'static str,
    },
}

/// What the URL says that `tokio_postgres` does not read.
#[derive(Default)]
struct Ours {
    sslmode: Option<String>,
    sslrootcert: Option<PathBuf>,
    schema: Option<String>,
    allow_plaintext: bool,
}

impl PostgresTarget {
    /// Whether `text` is the URL of a database.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("postgres://") || text.starts_with("postgresql://")
    }

    /// Whether `text` looks like the URL of a database with a typing error, such as
    /// `postgres:/HOST` or `postgress://HOST`.
    pub fn is_nearly_meant(text: &str) -> bool {
        let scheme = text.split_once(':').map(|(scheme, _)| scheme);
        let scheme = scheme.unwrap_or_default().to_ascii_lowercase();
        scheme.starts_with("postg") || matches!(&*scheme, "pg" | "pgsql" | "psql")
    }

    /// Reads a URL. `password` counts if the URL has none.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn parse(text: &str, password: Option<Secret>) -> Result<Self, TargetError> {
        // Whatever the parser took for a host or an option then, it would be told.
        if is_ambiguous(text) {
            return Err(TargetError::Unescaped);
        }
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let mut ours = Ours::default();
        let rest = ours.take_from(query)?;
        let mut config = format!("{base}{}{rest}", if rest.is_empty() { "" } else { "?" })
            .parse::<Config>()
            .map_err(|error| TargetError::Url(plain(&error)))?;
        if config.get_user().is_none_or(str::is_empty) {
            return Err(TargetError::NoUser);
        }
        if config.get_dbname().is_none_or(str::is_empty) {
            return Err(TargetError::NoDatabase);
        }
        if config.get_hosts().is_empty() {
            config.host("localhost");
        }
        let password = password.filter(|_| config.get_password().is_none());
        let tls = ours.tls(&config)?;
        config.ssl_mode(match tls {
            Tls::Off => SslMode::Disable,
            Tls::Verified(_) => SslMode::Require,
        });
        if config.get_hosts().len() > 1 {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        config.connect_timeout(CONNECT);
        config.tcp_user_timeout(UNACKNOWLEDGED);
        config.keepalives_idle(Duration::from_secs(5));
        config.keepalives_interval(Duration::from_secs(2));
        config.keepalives_retries(3);
        Ok(Self {
            shown: shown(base),
            schema: ours.schema.unwrap_or_else(|| SCHEMA.to_owned()),
            config,
            tls,
            password,
        })
    }

    /// The file that the password comes from.
    pub fn password_file(&self) -> Option<&Path> {
        self.password.as_ref()?.file()
    }

    /// What its file says now is the password of the next connection. `None` if there is no
    /// file, or if it says the same.
    ///
    /// # Errors
    /// When the file cannot be read. Then the password stays as it was.
    pub fn read_password_again(&self) -> Result<Option<()>, SecretError> {
        let Some(password) = &self.password else {
            return Ok(None);
        };
        let fresh = password.read_again()?;
        Ok(fresh.map(|fresh| password.set(fresh)))
    }

    /// How to connect now. A password is read anew from its file: one that was changed at
    /// the server counts from the next connection on.
    pub(super) fn config(&self) -> Config {
        let mut config = self.config.clone();
        if let Some(password) = &self.password {
            if let Err(error) = self.read_password_again() {
                tracing::warn!(%error, "--state-password-file: the password from before is used");
            }
            config.password(password.get().expose_secret());
        }
        config
    }
}

/// Whether `@` or `?` stand where they end something else than the one who wrote them meant.
fn is_ambiguous(text: &str) -> bool {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    match rest.split_once('@') {
        Some((user, rest)) => {
            let (hosts, _) = rest.split_once('?').unwrap_or((rest, ""));
            user.contains('?') || hosts.contains('@')
        }
        None => false,
    }
}

impl Ours {
    /// Takes what is read here out of a query, and gives the rest.
    fn take_from(&mut self, query: &str) -> Result<String, TargetError> {
        let mut rest = url::form_urlencoded::Serializer::new(String::new());
        let mut any = false;
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "sslmode" => self.sslmode = Some(value.into_owned()),
                "sslrootcert" if value == "system" => {}
                "sslrootcert" => self.sslrootcert = Some(PathBuf::from(&*value)),
                "options" => self.schema = Some(search_path(&value)?),
                "allow_plaintext" => {
                    self.allow_plaintext = match &*value {
                        "1" | "true" => true,
                        "0" | "false" => false,
                        _ => {
                            return Err(TargetError::Value {
                                name: "allow_plaintext",
                                value: value.into_owned(),
                                remedy: "write 1 or 0",
                            });
                        }
                    };
                }
                _ => {
                    rest.append_pair(&name, &value);
                    any = true;
                }
            }
        }
        // Spaces are percent-encoded for a parser that takes a plus as it is.
        Ok(if any {
            rest.finish().replace('+', "%20")
        } else {
            String::new()
        })
    }

    fn tls(&self, config: &Config) -> Result<Tls, TargetError> {
        match self.sslmode.as_deref() {
            Some("disable") => {
                let far = config.get_hosts().iter().find_map(|host| match host {
                    Host::Tcp(name) if !is_loopback(name) => Some(name.clone()),
                    _ => None,
                });
                match far {
                    Some(host) if !self.allow_plaintext => Err(TargetError::Plaintext(host)),
                    _ => Ok(Tls::Off),
                }
            }
            // The weaker ones of these are held to more than they ask for.
            None | Some("require" | "verify-ca" | "verify-full") => {
                // Some systems have no other host than these.
                let local = |host: &Host| !matches!(host, Host::Tcp(_));
                if config.get_hosts().iter().all(local) {
                    return Ok(Tls::Off);
                }
                Ok(Tls::Verified(self.sslrootcert.clone()))
            }
            Some(other) => Err(TargetError::SslMode(other.to_owned())),
        }
    }
}

/// The schema that `options=-csearch_path=NAME` names.
fn search_path(options: &str) -> Result<String, TargetError> {
    let name = options
        .trim()
        .strip_prefix("-c")
        .map(str::trim_start)
        .and_then(|rest| rest.strip_prefix("search_path="));
    let is_name = |name: &&str| {
        let first = |c: char| c.is_ascii_lowercase() || c == '_';
        let all = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        name.len() < 64 && name.starts_with(first) && name.chars().all(all)
    };
    name.filter(is_name)
        .map(str::to_owned)
        .ok_or_else(|| TargetError::Value {
            name: "options",
            value: options.to_owned(),
            remedy: "only -csearch_path=SCHEMA can be given, with lower-case letters, digits and _",
        })
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

/// What the parser says, without what it was given.
fn plain(error: &tokio_postgres::Error) -> String {
    let mut source = std::error::Error::source(error);
    let mut text = "it cannot be read".to_owned();
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    text
}

/// The URL as people may see it: without what stands between the first `:` and the `@`,
/// where the password is.
fn shown(base: &str) -> String {
    let (scheme, rest) = base.split_once("://").unwrap_or(("postgres", base));
    match rest.split_once('@') {
        Some((user, behind)) => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}@{behind}")
        }
        None => base.to_owned(),
    }
}

/// With the schema, if that is not the usual one.
impl fmt::Display for PostgresTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)?;
        if self.schema == SCHEMA {
            return Ok(());
        }
        write!(f, " (schema {})", self.schema)
    }
}

impl fmt::Debug for PostgresTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresTarget({self})")
    }
}

impl PartialEq for PostgresTarget {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config && self.tls == other.tls && self.schema == other.schema
    }
}

impl Eq for PostgresTarget {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PostgresTarget, TargetError> {
        PostgresTarget::parse(text, None)
    }

    fn refused(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_plain_url_is_verified_by_tls_and_shown_without_its_password() {
        let target = parse("postgres://me:s3cret@db.example.com:6000/power").unwrap();
        assert_eq!(target.tls, Tls::Verified(None));
        assert_eq!(target.schema, "dispatchd");
        assert_eq!(
            target.to_string(),
            "postgres://me@db.example.com:6000/power"
        );
        assert!(!format!("{target:?}").contains("s3cret"));
        assert_eq!(target.config.get_password(), Some(&b"s3cret"[..]));
        let two = parse("postgres://me:s3cret@one,two/power").unwrap();
        assert!(!two.to_string().contains("s3cret"));
        assert_eq!(
            two.config.get_target_session_attrs(),
            TargetSessionAttrs::ReadWrite
        );
    }

    #[test]
    fn a_password_given_apart_counts_where_the_url_has_none() {
        let apart = || Some(Secret::fixed("apart".into()));
        let target = PostgresTarget::parse("postgres://me@h/d", apart()).unwrap();
        assert_eq!(target.config().get_password(), Some(&b"apart"[..]));
        let target = PostgresTarget::parse("postgres://me:own@h/d", apart()).unwrap();
        assert_eq!(target.config().get_password(), Some(&b"own"[..]));
    }

    #[test]
    fn a_password_that_its_file_has_anew_counts_from_the_next_connection_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "first\n").unwrap();
        let secret = Secret::from_file(path.clone()).unwrap();
        let target = PostgresTarget::parse("postgres://me@h/d", Some(secret)).unwrap();
        let copy = target.clone();
        assert_eq!(target.config().get_password(), Some(&b"first"[..]));
        std::fs::write(&path, "second\n").unwrap();
        assert_eq!(copy.config().get_password(), Some(&b"second"[..]));
        assert!(target.read_password_again().unwrap().is_none());
        std::fs::remove_file(&path).unwrap();
        assert!(target.read_password_again().is_err());
        assert_eq!(target.config().get_password(), Some(&b"second"[..]));
    }

    #[test]
    fn a_password_is_not_shown_whatever_it_is_made_of() {
        for password in ["5/s3cret", "s3cret:5", "s3cret#", "%40s3cret"] {
            for hosts in ["h", "one:1,two:2"] {
                let target = parse(&format!("postgres://me:{password}@{hosts}/d")).unwrap();
                assert_eq!(target.to_string(), format!("postgres://me@{hosts}/d"));
            }
        }
    }

    #[test]
    fn another_schema_than_the_usual_one_is_shown() {
        let target = parse("postgres://me:s3cret@h/d?options=-csearch_path%3Dpower").unwrap();
        assert_eq!(target.to_string(), "postgres://me@h/d (schema power)");
    }

    #[test]
    fn a_url_with_a_typing_error_is_known_as_one() {
        for near in [
            "postgres:/me@h/d",
            "postgres:me@h/d",
            "postgress://me@h/d",
            "Postgres://me@h/d",
            "postgre://me@h/d",
            "psql://h/d",
        ] {
            assert!(PostgresTarget::is_nearly_meant(near), "{near}");
        }
        for file in ["dispatchd.db", "/var/lib/postgres/d.db", "a:b", "postgres"] {
            assert!(!PostgresTarget::is_nearly_meant(file), "{file}");
        }
    }

    #[test]
    fn what_the_library_refuses_or_takes_lightly_is_read_here() {
        let target = parse(
            "postgres://me@h/d?sslmode=verify-full&sslrootcert=/etc/ca.pem&options=-csearch_path%3Dpower&application_name=a%20b",
        )
        .unwrap();
        assert_eq!(target.tls, Tls::Verified(Some("/etc/ca.pem".into())));
        assert_eq!(target.schema, "power");
        assert_eq!(target.config.get_application_name(), Some("a b"));
        for weak in ["prefer", "allow", "off"] {
            let message = refused(&format!("postgres://me@h/d?sslmode={weak}"));
            assert!(message.contains("verify-full"), "{message}");
        }
        assert!(refused("postgres://me@h/d?options=-cwork_mem=4MB").contains("search_path"));
        assert!(
            refused("postgres://me@h/d?options=-csearch_path%3Da;drop").contains("search_path")
        );
    }

    #[test]
    fn another_machine_is_not_reached_in_the_clear_unless_that_is_said() {
        for near in ["localhost", "127.0.0.1", "[::1]"] {
            let target = parse(&format!("postgres://me@{near}/d?sslmode=disable")).unwrap();
            assert_eq!(target.tls, Tls::Off, "{near}");
        }
        let message = refused("postgres://me@10.0.0.7/d?sslmode=disable");
        assert!(message.contains("allow_plaintext"), "{message}");
        let message = refused("postgres://me@127.0.0.1,db/d?sslmode=disable");
        assert!(message.contains("db"), "{message}");
        let allowed = parse("postgres://me@db/d?sslmode=disable&allow_plaintext=1").unwrap();
        assert_eq!(allowed.tls, Tls::Off);
        let socket = parse("postgres://me@/d?host=/var/run/postgresql").unwrap();
        assert_eq!(socket.tls, Tls::Off, "a socket of this machine");
    }

    #[test]
    fn no_message_repeats_a_password() {
        for wrong in [
            "postgres://me:s3cret@h:port/d",
            "postgres://me:s3cret@h/d?sslmode=prefer",
            "postgres://me:s3cret@h/d?unknown=1",
            "postgres://me:s3cret@h/",
            "postgres://:s3cret@h/d",
            "postgres://me:s3cret@h/d?options=-cx",
            "postgres://me:p@s3cret@h/d?sslmode=disable",
            "postgres://me:p@s3cret@h/d?sslmode=verify-full",
            "postgres://me:p?s3cret@h/d",
            "postgres://me:p?sslmode=s3cret@h/d",
        ] {
            let message = refused(wrong);
            assert!(!message.contains("s3c"), "{message}");
        }
    }
}
