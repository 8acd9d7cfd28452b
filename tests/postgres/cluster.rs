//! A PostgreSQL server of its own for tests, in a temporary folder on loopback.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// If this is set, a missing PostgreSQL fails the tests that need it.
const REQUIRED: &str = "DISPATCHD_REQUIRE_POSTGRES";

/// How long the server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server. It ends when this is dropped, or when the process ends.
pub struct Cluster {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
    options: Vec<String>,
    server: Option<Server>,
    /// Deletes the folder when this process has ended without dropping this, as it does
    /// with what is static.
    _sweeper: Child,
}

/// The server process, and the thread that started it: the system ends the process when
/// that thread ends.
struct Server {
    process: Child,
    _starter: mpsc::Sender<()>,
}

impl Cluster {
    /// The folder of PostgreSQL's programs. `None` if it is not installed.
    ///
    /// # Panics
    /// When it must be there and is not.
    pub fn programs() -> Option<PathBuf> {
        let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
        let mut found: Vec<PathBuf> = debian
            .flatten()
            .map(|version| version.path().join("bin"))
            .filter(|programs| programs.join("initdb").exists())
            .collect();
        found.sort();
        let found = found.pop();
        assert!(
            found.is_some() || std::env::var_os(REQUIRED).is_none(),
            "PostgreSQL is not installed, and {REQUIRED} is set"
        );
        found
    }

    /// Makes a server with these settings (`name=value`) and starts it. `None` if
    /// PostgreSQL is not installed.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(options: &[&str]) -> Option<Self> {
        let mut cluster = Self::in_new_folder(Self::programs()?, options);
        let data = cluster.data();
        let made = cluster.run(
            "initdb",
            &["-A", "trust", "-U", "tester", "-N", "-D", &data],
        );
        assert!(made.status.success(), "initdb: {}", text(&made.stderr));
        cluster.start_again();
        Some(cluster)
    }

    /// Makes a standby of this server, which reaches it by way of this port, and starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn replica(&self, port: u16) -> Self {
        let mut replica = Self::in_new_folder(self.programs.clone(), &[]);
        let (data, port) = (replica.data(), port.to_string());
        let copied = replica.run(
            "pg_basebackup",
            &[
                "-R",
                "-c",
                "fast",
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-U",
                "tester",
                "-D",
                &data,
            ],
        );
        assert!(
            copied.status.success(),
            "pg_basebackup: {}",
            text(&copied.stderr)
        );
        replica.start_again();
        replica
    }

    /// Waits until a standby has all that this server has.
    ///
    /// # Panics
    /// When that does not come.
    pub fn wait_for_replica(&self, replica: &Self) {
        let written = self.sql("SELECT pg_current_wal_lsn()");
        let has = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
        assert!(wait_for(|| replica.sql(&has) == "t"), "{}", replica.log());
    }

    fn in_new_folder(programs: PathBuf, options: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("dispatchd-postgres")
            .tempdir()
            .expect("a folder");
        let sweeper = Command::new("sh")
            .args(["-c", "cat; sleep 2; rm -rf \"$0\""])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("sh");
        let cluster = Self {
            _sweeper: sweeper,
            programs,
            folder,
            port: free_port(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            server: None,
        };
        cluster.give_to_postgres();
        cluster
    }

    /// Starts the server after it has ended.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn start_again(&mut self) {
        let (program, mut arguments) = self.as_postgres("postgres");
        let port = self.port.to_string();
        arguments.extend(["-D", &self.data(), "-p", &port].map(str::to_owned));
        let fixed = ["listen_addresses=127.0.0.1", "unix_socket_directories="];
        let options = self.options.iter().map(String::as_str);
        for option in fixed.into_iter().chain(options) {
            arguments.extend(["-c".to_owned(), option.to_owned()]);
        }
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .expect("a log");
        let (started, process) = mpsc::channel();
        let (starter, stays) = mpsc::channel::<()>();
        thread::spawn(move || {
            let spawned = Command::new(program)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn();
            let _ = started.send(spawned);
            // Until the server is let go of.
            let _ = stays.recv();
        });
        let process = process.recv().expect("a thread").expect("postgres starts");
        self.server = Some(Server {
            process,
            _starter: starter,
        });
        let answers = || self.try_sql("SELECT 1").is_ok();
        assert!(wait_for(answers), "postgres: {}", self.log());
    }

    /// Ends the server with a signal: `INT` breaks connections off, `QUIT` ends it at
    /// once, as a crash does.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self, signal: &str) {
        if let Some(mut server) = self.server.take() {
            let pid = server.process.id().to_string();
            let _ = Command::new("kill").args(["-s", signal, &pid]).status();
            assert!(
                wait_for(|| matches!(server.process.try_wait(), Ok(Some(_)))),
                "postgres does not end: {}",
                self.log()
            );
        }
    }

    /// Runs a statement, and gives what it prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).expect("a statement that works")
    }

    /// The same for what may fail: then it gives what the server says.
    ///
    /// # Errors
    /// When the statement fails.
    pub fn try_sql(&self, sql: &str) -> Result<String, String> {
        let port = self.port.to_string();
        let output = Command::new("psql")
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"])
            .args(["-p", &port, "-U", "tester", "-d", "postgres", "-c", sql])
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(text(&output.stdout).trim_end().to_owned())
        } else {
            Err(text(&output.stderr))
        }
    }

    /// The URL of the server, for the tables in `schema`.
    pub fn url(&self, schema: &str) -> String {
        self.url_at(self.port, schema)
    }

    /// The same by way of another port, such as that of a proxy.
    pub fn url_at(&self, port: u16, schema: &str) -> String {
        format!(
            "postgres://tester@127.0.0.1:{port}/postgres?sslmode=disable&options=-csearch_path%3D{schema}"
        )
    }

    /// The port on which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder with its data.
    pub fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    /// Runs one of PostgreSQL's programs as the user that the server runs as.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let (program, prefix) = self.as_postgres(program);
        Command::new(program)
            .args(prefix)
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .expect("a program of PostgreSQL")
    }

    /// The last lines of the server's log.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// How a program is started: root is refused by PostgreSQL.
    fn as_postgres(&self, program: &str) -> (PathBuf, Vec<String>) {
        let program = self.programs.join(program).display().to_string();
        let mut arguments: Vec<String> = Vec::new();
        if is_root() {
            let user = ["--reuid=postgres", "--regid=postgres", "--init-groups"];
            arguments.extend(user.map(str::to_owned));
        }
        arguments.extend(["--pdeathsig=INT".to_owned(), program]);
        ("setpriv".into(), arguments)
    }

    fn give_to_postgres(&self) {
        if is_root() {
            let given = Command::new("chown")
                .arg("postgres:")
                .arg(self.folder.path())
                .status();
            assert!(given.is_ok_and(|status| status.success()), "chown");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let pid = server.process.id().to_string();
            let _ = Command::new("kill").args(["-s", "QUIT", &pid]).status();
            let _ = server.process.wait();
        }
    }
}

fn is_root() -> bool {
    fs::metadata(Path::new("/proc/self")).is_ok_and(|own| own.uid() == 0)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn wait_for(mut holds: impl FnMut() -> bool) -> bool {
    const STEP: Duration = Duration::from_millis(20);
    let steps = PATIENCE.as_millis() / STEP.as_millis();
    (0..steps).any(|_| {
        let held = holds();
        if !held {
            thread::sleep(STEP);
        }
        held
    })
}
