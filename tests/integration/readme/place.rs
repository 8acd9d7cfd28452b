//! The place where a reader pastes the README: an empty folder, terminals, and what is
//! put where the world outside would be.

use std::ffi::OsString;
use std::fs::File;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use super::blocks::Block;
use crate::deploy::{PROGRAM, free_port, tool};
use crate::harness::{Receiver, World, wait_for, wait_until};

/// The programs that commands need, by what stands in such a command.
const PROGRAMS: [(&str, &str); 7] = [
    ("| jq", "jq"),
    ("mqtt://", "mosquitto"),
    ("mosquitto_sub", "mosquitto_sub"),
    ("sqlite3 ", "sqlite3"),
    ("curl ", "curl"),
    ("openssl ", "openssl"),
    ("python3 ", "python3"),
];

/// Ends the test if it needs a program for this text that this machine lacks.
pub fn need_programs_of(text: &str) {
    for (part, program) in PROGRAMS {
        if text.contains(part) {
            tool(program);
        }
    }
}

/// What goes on in a terminal of its own until it is stopped: what the README calls it,
/// and how its command begins.
pub const GOING_ON: [(&str, &str); 3] = [
    ("the sandbox", "dispatchd sandbox"),
    ("the daemon", "dispatchd run"),
    ("the receiver", "python3 receiver.py"),
];

/// Longer than any block takes that ends by itself.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(120);

/// The keys that Voltus has issued to the reader.
const SANDBOX_KEY: &str = "a sandbox key";
const PRODUCTION_KEY: &str = "a production key";

/// A folder, ports, and APIs in the place of Voltus's.
pub struct Place {
    listener: u16,
    status: u16,
    /// Where the README's own stand-in listens, once it runs.
    stand_in: u16,
    receiver: u16,
    broker: u16,
    /// What goes on, by the names of [`GOING_ON`]; and a broker.
    running: Vec<(&'static str, Running)>,
    started: usize,
    /// The block that started the daemon last.
    daemon: String,
    http: reqwest::Client,
    /// Voltus's sandbox as the public key shows it.
    public: World,
    /// Voltus's sandbox as the reader's own key shows it.
    own: World,
    production: World,
    controller: Receiver,
    // Dropped last: what runs uses it.
    folder: TempDir,
}

/// A command that runs, and all that it has started.
pub struct Running {
    command: String,
    child: Child,
    out: PathBuf,
    log: PathBuf,
}

impl Running {
    /// What it has printed so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // It may have ended by itself.
        let _ = kill_process_group(id.unwrap(), signal);
    }

    async fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let child = &mut self.child;
        wait_for(&self.command, async || child.try_wait().unwrap()).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}\n{}", self.command, self.log());
        }
    }
}

impl Place {
    /// An empty one, with the program where `cargo install` puts it, and a shell whose
    /// profile has this line.
    pub async fn new(profile: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let installed = folder.path().join("home/.cargo/bin");
        std::fs::create_dir_all(&installed).unwrap();
        symlink(PROGRAM, installed.join("dispatchd")).unwrap();
        std::fs::create_dir(folder.path().join("here")).unwrap();
        std::fs::write(folder.path().join("home/profile"), profile).unwrap();
        // An answer that is an error is one to curl as well.
        std::fs::write(folder.path().join("home/.curlrc"), "fail\n").unwrap();
        Self {
            listener: free_port(),
            status: free_port(),
            stand_in: free_port(),
            receiver: free_port(),
            broker: free_port(),
            running: Vec::new(),
            started: 0,
            daemon: String::new(),
            http: dispatchd::http::client_builder()
                .no_proxy()
                .build()
                .unwrap(),
            public: World::new().await,
            own: World::with_key(SANDBOX_KEY).await,
            production: World::with_key(PRODUCTION_KEY).await,
            controller: Receiver::new().await,
            folder,
        }
    }

    /// All that is changed in what is pasted: this place's addresses for those of the
    /// README, and shorter durations.
    fn substitutions(&self) -> Vec<(&'static str, String)> {
        let local = |port: u16| format!("127.0.0.1:{port}");
        let registered = self.own.sandbox.webhooks();
        let id = registered.last().map_or("none", |last| &last.id);
        vec![
            ("cargo run --release --", "dispatchd".to_owned()),
            (
                "dispatchd sandbox",
                format!("dispatchd sandbox --listen {}", local(self.stand_in)),
            ),
            ("127.0.0.1:5050", local(self.stand_in)),
            ("127.0.0.1:5000", local(self.listener)),
            ("127.0.0.1:5001", local(self.status)),
            ("127.0.0.1:8000", local(self.receiver)),
            (
                r#"("127.0.0.1", 8000)"#,
                format!(r#"("127.0.0.1", {})"#, self.receiver),
            ),
            ("127.0.0.1:1883", local(self.broker)),
            ("mosquitto_sub", format!("mosquitto_sub -p {}", self.broker)),
            ("https://api.voltus.co", self.production.sandbox.url()),
            (
                "https://hooks.example.com",
                format!("http://{}", local(self.listener)),
            ),
            ("https://controller.example/events", self.controller.sink()),
            ("sandbox-key ID", format!("sandbox-key {id}")),
            // A reader has the patience to wait for it.
            ("--start-in 1m", "--start-in 1s".to_owned()),
        ]
    }

    /// The environment, which has what the README leaves to the defaults.
    fn variables(&self, text: &str) -> [(&'static str, String); 4] {
        let local = |port: u16| format!("127.0.0.1:{port}");
        let own = text.contains("sandbox-key");
        let voltus = if own { &self.own } else { &self.public };
        [
            ("VOLTUS_API_URL", voltus.sandbox.url()),
            ("DISPATCHD_LISTEN", local(self.listener)),
            ("DISPATCHD_STATUS_LISTEN", local(self.status)),
            (
                "DISPATCHD_STATUS_URL",
                format!("http://{}", local(self.status)),
            ),
        ]
    }

    /// Does what a reader does with a block: stops what the text before it says, and
    /// pastes it, in the terminal that it is for. Returns what a block prints that ends.
    pub async fn paste(&mut self, block: &Block, text: &str) -> String {
        for name in block.stops(&GOING_ON.map(|(name, _)| name)) {
            self.stop(name).await;
        }
        let said = self.run(text).await;
        if block.before.contains("start the daemon as before") {
            let daemon = self.daemon.clone();
            self.run(&daemon).await;
        }
        said
    }

    /// Runs commands to their end, or until what they start does what it is for.
    pub async fn run(&mut self, text: &str) -> String {
        let going_on = GOING_ON.iter().find(|(_, begin)| text.starts_with(begin));
        let Some((name, _)) = going_on else {
            return self.run_to_the_end(text).await;
        };
        self.stop(name).await;
        if text.contains("mqtt://") {
            self.start_broker().await;
        }
        let running = self.spawn(text);
        self.running.push((name, running));
        match *name {
            "the sandbox" => self.wait_for_answer(self.stand_in, "/control/faults").await,
            "the receiver" => wait_for_connection(self.receiver).await,
            _ => {
                self.daemon = text.to_owned();
                self.wait_for_answer(self.status, "/readyz").await;
                if text.contains("--public-url") {
                    let log = || self.of("the daemon").log();
                    wait_until("the webhook is registered", async || {
                        let log = log();
                        let mut lines = log.lines();
                        lines.any(|line| {
                            line.contains("the webhook ") && line.contains(" registered ")
                        })
                    })
                    .await;
                }
            }
        }
        String::new()
    }

    async fn run_to_the_end(&mut self, text: &str) -> String {
        let mut running = self.spawn(text);
        let ending = async {
            loop {
                if let Some(ended) = running.child.try_wait().unwrap() {
                    return ended;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ended = tokio::time::timeout(BLOCK_TIMEOUT, ending).await;
        let ended = ended.unwrap_or_else(|_| panic!("{text} has not ended in {BLOCK_TIMEOUT:?}"));
        let said = running.said();
        assert!(ended.success(), "{text}: {ended}\n{said}{}", running.log());
        said
    }

    /// What goes on under this name of [`GOING_ON`].
    pub fn of(&self, name: &str) -> &Running {
        let found = self.running.iter().find(|(of, _)| *of == name);
        &found.unwrap_or_else(|| panic!("{name} does not run")).1
    }

    /// Stops it if it runs. A daemon ends well.
    async fn stop(&mut self, name: &str) {
        let at = self.running.iter().position(|(of, _)| *of == name);
        let Some(at) = at else { return };
        let (_, running) = self.running.remove(at);
        let (log, command) = (running.log(), running.command.clone());
        // The status of a pipe is that of a shell that was stopped with it.
        let must_end_well = name == "the daemon" && !command.contains('|');
        let ended = running.stop().await;
        assert!(
            ended.success() || !must_end_well,
            "{command}: {ended}\n{log}"
        );
    }

    /// Stops all that runs.
    pub async fn leave(mut self) {
        for name in ["the daemon", "the receiver", "the sandbox", "the broker"] {
            self.stop(name).await;
        }
    }

    async fn wait_for_answer(&self, port: u16, path: &str) {
        let url = format!("http://127.0.0.1:{port}{path}");
        wait_until(&url, async || {
            let answer = self.http.get(&url).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    /// The broker that the README takes for granted.
    async fn start_broker(&mut self) {
        let port = self.broker;
        let configuration = format!("listener {port} 127.0.0.1\nallow_anonymous true\n");
        std::fs::write(self.folder.path().join("mosquitto.conf"), configuration).unwrap();
        let broker = self.spawn("mosquitto -c ../mosquitto.conf");
        self.running.push(("the broker", broker));
        wait_for_connection(port).await;
    }

    /// A file in the reader's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("here").join(name)
    }

    /// Where the README's receiver listens.
    pub fn receiver(&self) -> u16 {
        self.receiver
    }

    /// Gives what a reader pastes to a new shell.
    fn spawn(&mut self, pasted: &str) -> Running {
        let substitutions = self.substitutions();
        let replace = |text: String, (from, to): &(&str, String)| text.replace(from, to);
        let command = substitutions.iter().fold(pasted.to_owned(), replace);
        self.started += 1;
        let number = self.started;
        let home = self.folder.path().join("home");
        let file = |kind: &str| home.join(format!("{kind}-{number}"));
        let (typed, out, log) = (file("typed"), file("out"), file("log"));
        // What is pasted where a command reads the terminal.
        let key = match pasted {
            text if text.contains("cat > sandbox-key") => SANDBOX_KEY,
            text if text.contains("cat > production-key") => PRODUCTION_KEY,
            _ => "",
        };
        std::fs::write(&typed, format!("{key}\n")).unwrap();
        let mut run = Command::new("bash");
        run.args(["-e", "-o", "pipefail", "-c", &command]);
        run.env_clear()
            .env("PATH", search_path())
            .env("HOME", &home);
        run.env("BASH_ENV", home.join("profile"));
        run.envs(self.variables(pasted));
        run.stdin(File::open(typed).unwrap());
        run.stdout(File::create(&out).unwrap());
        run.stderr(Stdio::from(File::create(&log).unwrap()));
        run.current_dir(self.folder.path().join("here"));
        run.process_group(0);
        Running {
            command,
            child: run.spawn().unwrap(),
            out,
            log,
        }
    }
}

async fn wait_for_connection(port: u16) {
    wait_until("it listens", async || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    })
    .await;
}

/// Where a shell finds programs before it has read its profile.
fn search_path() -> OsString {
    let folders = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"];
    std::env::join_paths(folders.map(Path::new)).unwrap()
}
