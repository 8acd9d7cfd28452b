//! The options of `dispatchd run`, as the operator writes them.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use secrecy::SecretString;

use super::ApiOptions;

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// The option that names the configuration file. The program reads the file before it
/// reads the other options, and takes their defaults from it.
#[derive(Debug, Args)]
pub struct FileOption {
    /// A TOML file with options by their names and a table for each sink; command line
    /// and environment win over it
    #[arg(long, global = true, value_name = "PATH", env = "DISPATCHD_CONFIG")]
    pub config: Option<PathBuf>,
}

/// The options of `dispatchd run`. Each has a variable and a key in the file; the option
/// wins over the variable, and that over the file.
#[derive(Debug, Args)]
pub struct RunOptions {
    /// The configuration file.
    #[command(flatten)]
    pub file: FileOption,

    /// How the API is reached.
    #[command(flatten)]
    pub api: ApiOptions,

    /// Requests to the API a minute at most, a quarter of them at once
    #[arg(long, value_name = "N", env = "DISPATCHD_API_RATE", default_value = "240", value_parser = api_rate, allow_hyphen_values = true, help_heading = API)]
    pub api_rate: NonZeroU32,

    /// The longest answer taken from the API
    #[arg(long, value_name = "BYTES", env = "DISPATCHD_API_MAX_BODY", default_value = "128MiB", value_parser = size, allow_hyphen_values = true, help_heading = API)]
    pub api_max_body: ByteSize,

    /// The time between two polls, 100ms at least
    #[arg(long, value_name = "D", env = "DISPATCHD_POLL_INTERVAL", default_value = "30s", value_parser = duration, allow_hyphen_values = true, help_heading = API)]
    pub poll_interval: Duration,

    /// Where webhooks come in, at /dispatch-listener
    #[arg(long, value_name = "ADDR", env = "DISPATCHD_LISTEN", default_value = "127.0.0.1:5000", value_parser = address, help_heading = LISTENER)]
    pub listen: SocketAddr,

    /// With it webhooks come in at /dispatch-listener/S only
    #[arg(long, value_name = "S", env = "DISPATCHD_WEBHOOK_SECRET", hide_env_values = true, help_heading = LISTENER)]
    pub webhook_secret: Option<SecretString>,

    /// A file with that secret
    #[arg(long, value_name = "PATH", env = "DISPATCHD_WEBHOOK_SECRET_FILE", help_heading = LISTENER)]
    pub webhook_secret_file: Option<PathBuf>,

    /// The longest that a webhook is kept waiting for its answer
    #[arg(long, value_name = "D", env = "DISPATCHD_WEBHOOK_DEADLINE", default_value = "5s", value_parser = duration, allow_hyphen_values = true, help_heading = LISTENER)]
    pub webhook_deadline: Duration,

    /// Where webhooks reach the listener from outside: keeps it registered
    #[arg(long, value_name = "URL", env = "DISPATCHD_PUBLIC_URL", hide_env_values = true, help_heading = LISTENER)]
    pub public_url: Option<SecretString>,

    /// Requests a second from one peer of the listener, 1,000 at once; 0 is off
    #[arg(long, value_name = "N", env = "DISPATCHD_PEER_RATE", default_value = "200", value_parser = whole_number(0..=u32::MAX), allow_hyphen_values = true, help_heading = LISTENER)]
    pub peer_rate: u32,

    /// A proxy is in front: the peer is the last address in X-Forwarded-For
    #[arg(long, env = "DISPATCHD_TRUST_FORWARDED_FOR", value_parser = yes_or_no, help_heading = LISTENER)]
    pub trust_forwarded_for: bool,

    /// Where events go: stdout, exec:PATH, http(s)://..., mqtt(s)://host:port/prefix
    /// or none; repeatable [env: DISPATCHD_SINKS=, comma-separated] [default: stdout]
    #[arg(long = "sink", value_name = "SINK", help_heading = DELIVERY)]
    pub sinks: Vec<String>,

    /// A sink that is gone for good, whatever it was told; repeatable
    /// [env: DISPATCHD_FORGET_SINKS=, comma-separated]
    #[arg(long = "forget-sink", value_name = "NAME", help_heading = DELIVERY)]
    pub forget_sinks: Vec<String>,

    /// Signs what the HTTP sinks send, as Standard Webhooks do
    #[arg(long, value_name = "S", env = "DISPATCHD_SINK_SECRET", hide_env_values = true, help_heading = DELIVERY)]
    pub sink_secret: Option<SecretString>,

    /// A file with that secret
    #[arg(long, value_name = "PATH", env = "DISPATCHD_SINK_SECRET_FILE", help_heading = DELIVERY)]
    pub sink_secret_file: Option<PathBuf>,

    /// How long before a start its sites are curtailed
    #[arg(long, value_name = "D", env = "DISPATCHD_PRE_CURTAIL", default_value = "0s", value_parser = duration, allow_hyphen_values = true, help_heading = DELIVERY)]
    pub pre_curtail: Duration,

    /// Test dispatches curtail sites too
    #[arg(long, env = "DISPATCHD_CURTAIL_ON_TEST", value_parser = yes_or_no, help_heading = DELIVERY)]
    pub curtail_on_test: bool,

    /// Where status and schedule are asked for
    #[arg(long, value_name = "ADDR", env = "DISPATCHD_STATUS_LISTEN", default_value = "127.0.0.1:5001", value_parser = address, help_heading = STATUS)]
    pub status_listen: SocketAddr,

    /// With it the status listener wants Authorization: Bearer T
    #[arg(long, value_name = "T", env = "DISPATCHD_STATUS_TOKEN", hide_env_values = true, help_heading = STATUS)]
    pub status_token: Option<SecretString>,

    /// A file with that token
    #[arg(long, value_name = "PATH", env = "DISPATCHD_STATUS_TOKEN_FILE", help_heading = STATUS)]
    pub status_token_file: Option<PathBuf>,

    /// A name under which the status listener may be asked; repeatable
    /// [env: DISPATCHD_STATUS_HOSTS=, comma-separated]
    #[arg(long = "status-host", value_name = "NAME", help_heading = STATUS)]
    pub status_hosts: Vec<String>,

    /// Lets the status listener be reached from elsewhere without a token
    #[arg(long, env = "DISPATCHD_ALLOW_REMOTE_STATUS", value_parser = yes_or_no, help_heading = STATUS)]
    pub allow_remote_status: bool,

    /// Where the schedule is kept: a file; postgres://USER@HOST/DATABASE, which several
    /// daemons can share; :memory: keeps nothing
    #[arg(long, value_name = "PATH", env = "DISPATCHD_STATE", default_value = "dispatchd.db", hide_env_values = true, help_heading = STATE)]
    pub state: PathBuf,

    /// A file with the password for the database, read anew for each connection; PGPASSWORD
    /// works too
    #[arg(long, value_name = "PATH", env = "DISPATCHD_STATE_PASSWORD_FILE", help_heading = STATE)]
    pub state_password_file: Option<PathBuf>,

    /// Where other daemons of the same database reach this one's webhook listener
    /// [default: http:// and --listen]
    #[arg(long, value_name = "URL", env = "DISPATCHD_ADVERTISE", help_heading = STATE)]
    pub advertise: Option<String>,

    /// How long ended and cancelled dispatches are kept
    #[arg(long, value_name = "D", env = "DISPATCHD_RETAIN", default_value = "30d", value_parser = duration, allow_hyphen_values = true, help_heading = STATE)]
    pub retain: Duration,

    /// A name for this daemon, for people [default: the host's name]
    #[arg(long, value_name = "NAME", env = "DISPATCHD_NODE", help_heading = STATE)]
    pub node: Option<String>,

    /// How logs are written, to standard error; RUST_LOG filters them, such as
    /// RUST_LOG=debug
    #[arg(long, value_name = "FORMAT", env = "DISPATCHD_LOG_FORMAT", default_value = "text", value_enum, help_heading = STATE)]
    pub log_format: LogFormat,
}

pub(super) const API: &str = "The API";
const LISTENER: &str = "The webhook listener";
const DELIVERY: &str = "Sites and sinks";
pub(super) const STATUS: &str = "The status listener";
const STATE: &str = "State and logs";

/// Reads a whole number within `range`.
pub fn whole_number<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + fmt::Display + Clone,
{
    move |text| {
        text.parse()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                format!(
                    "it must be a whole number from {} to {}",
                    range.start(),
                    range.end()
                )
            })
    }
}

/// Requests a minute.
fn api_rate(text: &str) -> Result<NonZeroU32, String> {
    let number = whole_number(1..=u32::MAX)(text)?;
    NonZeroU32::new(number).ok_or_else(|| "it must be 1 at least".to_owned())
}

/// The value of the variable of an option that takes none.
fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.trim().to_lowercase().as_str() {
        "true" | "yes" | "on" | "1" | "t" | "y" => Ok(true),
        "" | "false" | "no" | "off" | "0" | "f" | "n" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// An address to listen on, such as `127.0.0.1:5000`. `localhost` is this
/// machine without asking anybody.
///
/// # Errors
/// With what would be right.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numeric.parse().map_err(|_| {
        "write an IP address and a port, such as 127.0.0.1:5000 or [::]:5000".to_owned()
    })
}

/// The largest size that any option takes: 1 TiB.
const LARGEST_SIZE: ByteSize = ByteSize::tib(1);

/// A size such as `128MiB`, of at most 1 TiB.
///
/// # Errors
/// With what would be right.
fn size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text
        .parse()
        .map_err(|_| "write a number and its unit, such as 128MiB".to_owned())?;
    if size > LARGEST_SIZE {
        return Err("must be 1TiB at most".to_owned());
    }
    Ok(size)
}

/// The longest duration that any option takes: ten years of 365.25 days. Sums
/// of a few of them, and a time that is moved by one, do not overflow.
pub const LONGEST_DURATION: Duration = Duration::from_secs(10 * 31_557_600);

/// A duration such as `30s`, `500ms`, `5m`, of at most ten years.
///
/// # Errors
/// With what would be right.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| match error {
        humantime::DurationError::NumberOverflow => "must be 10y at most",
        _ => "write a number and its unit, such as 30s, 500ms or 5m",
    })?;
    if duration > LONGEST_DURATION {
        return Err("must be 10y at most".to_owned());
    }
    Ok(duration)
}
