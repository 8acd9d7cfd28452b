//! A place where the README's commands are run.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::deploy::{PROGRAM, free_port, tool};
use crate::harness::{World, dispatch, in_ms, wait_for, wait_until};

/// The programs that commands need, by what stands in such a command.
const PROGRAMS: [(&str, &str); 5] = [
    ("| jq", "jq"),
    ("mqtt://", "mosquitto"),
    ("mosquitto_sub", "mosquitto_sub"),
    ("sqlite3 ", "sqlite3"),
    ("curl ", "curl"),
];

/// Ends the test if it needs a program for these commands that this machine lacks.
pub fn need_programs_of(commands: &[String]) {
    for (part, program) in PROGRAMS {
        if commands.iter().any(|command| command.contains(part)) {
            tool(program);
        }
    }
}

/// A folder, ports of its own, and a sandbox in the place of Voltus.
pub struct Place {
    listener: u16,
    status: u16,
    /// Where the README's own stand-in listens, once it runs.
    stand_in: u16,
    receiver: u16,
    broker: u16,
    /// The daemon is the last one, if there is one.
    running: Vec<Running>,
    rounds: usize,
    http: reqwest::Client,
    // Dropped last: the others use its folder.
    world: World,
}

/// Something that goes on until it is told to end: a command, and all that it
/// has started.
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
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // It may have ended by itself.
        let _ = kill_process_group(id.unwrap(), signal);
    }

    async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for(&self.command, async || child.try_wait().unwrap()).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "{}\n{}",
                self.command,
                std::fs::read_to_string(&self.log).unwrap_or_default()
            );
        }
    }
}

impl Place {
    pub async fn new() -> Self {
        let world = World::new().await;
        // What the reader has made beforehand.
        std::fs::write(world.path("key"), "secret\n").unwrap();
        std::fs::write(world.path("webhook-secret"), "s3cret\n").unwrap();
        // An answer that is an error is one to curl as well.
        std::fs::write(world.path(".curlrc"), "fail\n").unwrap();
        // What the sandbox was told of this server at an earlier time.
        world
            .sandbox
            .add_webhook("http://127.0.0.1:1/dispatch-listener");
        Self {
            listener: free_port(),
            status: free_port(),
            stand_in: free_port(),
            receiver: free_port(),
            broker: free_port(),
            running: Vec::new(),
            rounds: 0,
            http: dispatchd::http::client_builder()
                .no_proxy()
                .build()
                .unwrap(),
            world,
        }
    }

    /// All that is changed in a command before it is run: the addresses, files
    /// and durations of this place for those of the README.
    fn substitutions(&self) -> Vec<(&'static str, String)> {
        let local = |port: u16| format!("http://127.0.0.1:{port}");
        let folder = format!("{}/", self.world.folder().display());
        let registered = self.world.sandbox.webhooks();
        let id = registered
            .last()
            .map_or("none".to_owned(), |last| last.id.clone());
        vec![
            // First, since what is put in place of others may lie there.
            ("/tmp/", folder.clone()),
            ("cargo run --release --", "dispatchd".to_owned()),
            (
                "dispatchd sandbox",
                format!("dispatchd sandbox --listen 127.0.0.1:{}", self.stand_in),
            ),
            ("http://127.0.0.1:5050", local(self.stand_in)),
            ("http://127.0.0.1:5000", local(self.listener)),
            ("http://127.0.0.1:8000", local(self.receiver)),
            ("https://api.voltus.co", self.world.sandbox.url()),
            ("https://hooks.example.com", local(self.listener)),
            ("broker.example:1883", format!("127.0.0.1:{}", self.broker)),
            (
                "-h broker.example",
                format!("-h 127.0.0.1 -p {}", self.broker),
            ),
            ("/etc/dispatchd/", folder.clone()),
            ("/var/lib/dispatchd/", folder),
            ("delete ID", format!("delete {id}")),
            // A reader has the patience to wait for it.
            ("--start-in 1m", "--start-in 1s".to_owned()),
        ]
    }

    /// Runs a command to its end, or until it does what it is for.
    pub async fn run(&mut self, written: &str) {
        let command = self
            .substitutions()
            .iter()
            .fold(written.to_owned(), |text, (from, to)| {
                text.replace(from, to)
            });
        if command.contains("dispatchd run") {
            self.run_daemon(&command).await;
        } else if command.starts_with("dispatchd sandbox") {
            self.start(&command);
            let port = self.stand_in;
            self.wait_for_answer(port, "/control/faults").await;
        } else if command.starts_with("mosquitto_sub") {
            self.start(&command);
            let subscriber = self.running.pop().unwrap();
            wait_until("the state of a site is told", async || {
                subscriber.said().contains("plant/site/site-")
            })
            .await;
        } else {
            let mut running = self.spawn(&command);
            let ended = running.ended().await;
            assert!(
                ended.success(),
                "{command}: {ended}\n{}{}",
                running.said(),
                running.log()
            );
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

    /// Starts a daemon in the place of a former one, lets something happen, and
    /// sees that it comes out where it should.
    async fn run_daemon(&mut self, command: &str) {
        self.end_daemon().await;
        if command.contains("mqtt://") {
            self.start_broker().await;
        }
        self.start(command);
        self.wait_for_answer(self.status, "/readyz").await;
        if command.contains("--public-url") {
            let url = format!("http://127.0.0.1:{}/dispatch-listener", self.listener);
            wait_until("it is registered", async || {
                let webhooks = self.world.sandbox.webhooks();
                webhooks.iter().any(|webhook| webhook.url.starts_with(&url))
            })
            .await;
        }
        self.rounds += 1;
        let id = format!("round-{}", self.rounds);
        self.world.put(dispatch(&id, 0, in_ms(-1000), None));
        let url = format!("http://127.0.0.1:{}/poll", self.status);
        assert_eq!(self.http.post(url).send().await.unwrap().status(), 200);
        let daemon = self.running.last().unwrap();
        if command.contains("exec:") {
            let relays = self.world.path("relays");
            let off = format!("site-{id} off");
            wait_until("the relay is off", async || {
                std::fs::read_to_string(&relays).is_ok_and(|text| text.contains(&off))
            })
            .await;
        } else if command.contains("| jq") {
            let line = format!(r#"["site.curtail","site-{id}",null]"#);
            wait_until("jq prints that", async || daemon.said().contains(&line)).await;
        }
    }

    /// Ends the daemon, if there is one. It ends well.
    async fn end_daemon(&mut self) {
        let Some(at) = self
            .running
            .iter()
            .position(|one| one.command.contains("dispatchd run"))
        else {
            return;
        };
        let mut daemon = self.running.remove(at);
        daemon.signal(Signal::TERM);
        let ended = daemon.ended().await;
        let piped = daemon.command.contains('|');
        assert!(
            ended.success() || piped,
            "{}: {ended}\n{}",
            daemon.command,
            daemon.log()
        );
    }

    /// Ends all that runs.
    pub async fn leave(mut self) {
        self.end_daemon().await;
        for running in &mut self.running {
            running.signal(Signal::TERM);
            running.ended().await;
        }
    }

    /// Runs the receiver, with its port changed.
    pub fn python(&self, program: &str) -> Running {
        tool("python3");
        let program = program.replace("8000", &self.receiver.to_string());
        std::fs::write(self.world.path("receiver.py"), program).unwrap();
        self.spawn("python3 -u receiver.py")
    }

    async fn start_broker(&mut self) {
        let configuration = format!("listener {} 127.0.0.1\nallow_anonymous true\n", self.broker);
        std::fs::write(self.world.path("mosquitto.conf"), configuration).unwrap();
        self.start("mosquitto -c mosquitto.conf");
        let port = self.broker;
        wait_until("the broker listens", async || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .await;
    }

    fn start(&mut self, command: &str) {
        let running = self.spawn(command);
        self.running.push(running);
    }

    /// Gives a command to a shell that finds the program that was built.
    fn spawn(&self, command: &str) -> Running {
        let number = self.rounds * 100 + self.running.len();
        let mut run = Command::new("bash");
        run.args(["-e", "-o", "pipefail", "-c", command]);
        run.env_clear().env("PATH", search_path());
        run.env("CURL_HOME", self.world.folder());
        // What the README leaves to the defaults, which are addresses of others.
        let local = |port: u16| format!("127.0.0.1:{port}");
        run.env("VOLTUS_API_URL", self.world.sandbox.url());
        run.env("DISPATCHD_LISTEN", local(self.listener));
        run.env("DISPATCHD_STATUS_LISTEN", local(self.status));
        run.env(
            "DISPATCHD_STATUS_URL",
            format!("http://{}", local(self.status)),
        );
        let file = |kind: &str| self.world.path(&format!("{kind}-{number}"));
        let (out, log) = (file("out"), file("log"));
        run.stdin(Stdio::null()).stdout(File::create(&out).unwrap());
        run.stderr(File::create(&log).unwrap());
        run.current_dir(self.world.folder()).process_group(0);
        Running {
            command: command.to_owned(),
            child: run.spawn().unwrap(),
            out,
            log,
        }
    }
}

fn search_path() -> OsString {
    let built = Path::new(PROGRAM).parent().unwrap().to_owned();
    let system = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"].map(PathBuf::from);
    std::env::join_paths([built].into_iter().chain(system)).unwrap()
}
