//! A sandbox and a daemon in one process, for the tests of commands.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::FromArgMatches;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::daemon_client::DaemonClient;
use super::{Cli, Commands, command};
use crate::clock::SystemClock;
use crate::config::{Config, ConfigError, DaemonAccess, Origins};
use crate::daemon::Daemon;
use crate::sandbox::{Options, Sandbox};
use crate::voltus::{Admin, ApiKey, ClientSettings};

/// Longer than any test should need.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// What `dispatchd run` with these arguments would run with.
pub(super) fn config(args: &[&str]) -> Result<Config, ConfigError> {
    let args = ["dispatchd", "run"].iter().chain(args);
    let matches = command().try_get_matches_from(args).unwrap();
    let Commands::Run(options) = Cli::from_arg_matches(&matches).unwrap().command else {
        panic!("not the options of run");
    };
    let command = command();
    let origins = Origins::new(&command, &matches, None).within();
    Config::check(*options, &origins, &|_| None)
}

/// Arguments with those of `defaults`, an option and its value each, that are
/// not among them.
pub(super) fn with_defaults<'a>(args: &[&'a str], defaults: &[[&'a str; 2]]) -> Vec<&'a str> {
    let missing = defaults.iter().filter(|[option, _]| !args.contains(option));
    args.iter().chain(missing.flatten()).copied().collect()
}

/// A sandbox without its fixture.
pub(super) async fn sandbox() -> Sandbox {
    let options = Options {
        fixture: false,
        seed: Some(1),
        ..Options::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Sandbox::start(options, listener, CancellationToken::new()).unwrap()
}

/// A daemon that asks `sandbox`. It ends with the test.
pub(super) struct Running {
    pub listen: SocketAddr,
    pub status: SocketAddr,
    stop: CancellationToken,
}

impl Running {
    pub async fn start(sandbox: &Sandbox, args: &[&str]) -> Self {
        let api = sandbox.url();
        let defaults = [
            ["--api-url", &api],
            ["--listen", "127.0.0.1:0"],
            ["--status-listen", "127.0.0.1:0"],
            ["--state", ":memory:"],
            ["--sink", "none"],
        ];
        let all = with_defaults(args, &defaults);
        let daemon = Daemon::start(&Arc::new(config(&all).unwrap()))
            .await
            .unwrap();
        let stop = CancellationToken::new();
        let running = Self {
            listen: daemon.listen(),
            status: daemon.status_listen(),
            stop: stop.clone(),
        };
        TaskTracker::new().spawn(daemon.run(stop));
        running
    }

    pub fn client(&self) -> DaemonClient {
        client(self.status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A client of the status listener at `address`.
pub(super) fn client(address: SocketAddr) -> DaemonClient {
    DaemonClient::new(DaemonAccess {
        url: format!("http://{address}").parse().unwrap(),
        token: None,
    })
    .unwrap()
}

/// A client of the sandbox's API.
pub(super) fn admin(sandbox: &Sandbox) -> Admin<SystemClock> {
    let settings = ClientSettings {
        base: sandbox.url().parse().unwrap(),
        version: "2022-04-15".into(),
        max_body: 1024 * 1024,
    };
    let key = ApiKey::fixed(&"secret".into()).unwrap();
    Admin::new(&settings, key.into(), SystemClock::new()).unwrap()
}

/// An address that nobody listens at.
pub(super) async fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}
