//! How a daemon is to be started.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Daemon, Process};

/// The command line of a daemon. Whatever a test does not set stands out of
/// its way: ports of its own, no limit on requests, hours between two polls.
#[derive(Debug, Clone)]
pub struct Setup {
    options: BTreeMap<&'static str, String>,
    flags: Vec<&'static str>,
    sinks: Vec<String>,
    variables: Vec<(&'static str, String)>,
    user: Option<u32>,
    /// A command that runs the program, given its command line at the end.
    wrapper: Vec<String>,
    folder: PathBuf,
}

impl Setup {
    /// A daemon for the API at `api_url`, at home in `folder`.
    pub fn new(api_url: &str, folder: PathBuf) -> Self {
        let setup = Self {
            options: BTreeMap::new(),
            flags: Vec::new(),
            sinks: Vec::new(),
            variables: Vec::new(),
            user: None,
            wrapper: Vec::new(),
            folder,
        };
        setup
            .with("--api-url", api_url)
            .with("--api-rate", "60000")
            .with("--listen", "127.0.0.1:0")
            .with("--status-listen", "127.0.0.1:0")
            .with("--poll-interval", "1h")
            .with("--state", "state.db")
    }

    /// Sets an option that takes a value.
    pub fn with(mut self, option: &'static str, value: impl ToString) -> Self {
        self.options.insert(option, value.to_string());
        self
    }

    /// Sets an option that takes none.
    pub fn flag(mut self, option: &'static str) -> Self {
        self.flags.push(option);
        self
    }

    /// Sets an environment variable.
    pub fn variable(mut self, name: &'static str, value: impl ToString) -> Self {
        self.variables.push((name, value.to_string()));
        self
    }

    /// Starts the process with descriptor 7 open on `file`.
    pub fn inheriting(self, file: &Path) -> Self {
        let script = r#"file=$1; shift; exec "$@" 7< "$file""#;
        let file = file.to_str().unwrap();
        self.wrapped(&["/bin/sh", "-c", script, "sh", file])
    }

    /// Starts the process as this user, in the group of the same number.
    pub fn user(mut self, user: u32) -> Self {
        self.user = Some(user);
        self
    }

    /// Has this command run the program, whose command line comes at its end.
    pub fn wrapped(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(ToString::to_string).collect();
        self
    }

    /// The time between two polls.
    pub fn polling(self, interval: &str) -> Self {
        self.with("--poll-interval", interval)
    }

    /// One sink more; the first takes the place of standard output.
    pub fn sink(mut self, sink: impl ToString) -> Self {
        self.sinks.push(sink.to_string());
        self
    }

    /// The process, however far it gets.
    pub fn spawn(&self) -> Process {
        Process::spawn(&mut self.command())
    }

    /// How it is started.
    pub fn command(&self) -> Command {
        const PROGRAM: &str = env!("CARGO_BIN_EXE_dispatchd");
        let mut command = match self.wrapper.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(PROGRAM);
                command
            }
            None => Command::new(PROGRAM),
        };
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        // What the developer has set must not reach the tests.
        command.env_clear();
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command.current_dir(&self.folder).arg("run");
        for (option, value) in &self.options {
            command.args([option, value.as_str()]);
        }
        command.args(&self.flags);
        for sink in &self.sinks {
            command.args(["--sink", sink]);
        }
        command
    }

    /// A daemon whose first poll has succeeded, so that it brings no more news.
    pub async fn ready(&self) -> Daemon {
        let daemon = self.start().await;
        daemon.wait_until_ready().await;
        daemon
    }

    /// A daemon that answers.
    pub async fn start(&self) -> Daemon {
        Daemon::of(self.spawn()).await
    }
}
