//! PgBouncer between the daemons and PostgreSQL: refused with one line, unless each
//! connection has a server process of its own and keeps its settings.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::harness::{dispatch, in_ms, need, wait_for, wait_until};
use crate::two_machines::{Shared, leads};

const HOUR: i64 = 3_600_000;

/// Where Debian's package has it.
const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// A pooler in front of a server. It ends when this is dropped.
struct Pooler {
    port: u16,
    process: Child,
    folder: TempDir,
}

impl Pooler {
    /// With these lines beside what each needs.
    async fn start(server: u16, lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let file = folder.path().join("pgbouncer.ini");
        let settings = format!(
            "[databases]\n\
             postgres = host=127.0.0.1 port={server} user=tester\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             logfile = {}/log\n\
             {lines}\n",
            folder.path().display()
        );
        fs::write(&file, settings).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let mut command = Command::new("setpriv");
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            // It refuses to run as root.
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
        }
        let process = command
            .args(["--pdeathsig=KILL", PROGRAM])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut pooler = Self {
            port,
            process,
            folder,
        };
        wait_until("the pooler answers", async || {
            let ended = pooler.process.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", pooler.log());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .await;
        pooler
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server whose user's connections have the settings that a daemon asks for, so that no
/// setting gives a pooler away.
async fn shared() -> Shared {
    need("PgBouncer", fs::metadata(PROGRAM).is_ok());
    let shared = Shared::new().await;
    shared.cluster.sql(
        "ALTER ROLE tester SET search_path = dispatchd;
         ALTER ROLE tester SET statement_timeout = '10s';
         ALTER ROLE tester SET lock_timeout = '1s';
         ALTER ROLE tester SET idle_in_transaction_session_timeout = '5s'",
    );
    shared
}

#[apply(test)]
async fn a_pooler_that_gives_no_connection_a_server_process_of_its_own_is_refused_with_one_line() {
    let shared = shared().await;
    let ignoring = "ignore_startup_parameters = options";
    let refused = [
        ("pool_mode = transaction".to_owned(), "startup parameter"),
        (
            format!("pool_mode = transaction\n{ignoring}"),
            "the server process behind a connection changes",
        ),
        (
            format!("pool_mode = transaction\nserver_round_robin = 1\n{ignoring}"),
            "the server process behind a connection changes",
        ),
        (
            format!("pool_mode = statement\n{ignoring}"),
            "the server process behind a connection changes",
        ),
    ];
    for (lines, reason) in refused {
        let pooler = Pooler::start(shared.cluster.port(), &lines).await;
        let url = shared.cluster.url_at(pooler.port, "dispatchd");
        refuses(&shared, &url, reason).await;
    }
    // It keeps processes apart, and not what it was told.
    let lines = format!("pool_mode = session\n{ignoring}");
    let pooler = Pooler::start(shared.cluster.port(), &lines).await;
    shared
        .cluster
        .sql("ALTER ROLE tester SET lock_timeout = '0'");
    let url = shared.cluster.url_at(pooler.port, "dispatchd");
    refuses(&shared, &url, "the setting lock_timeout").await;
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'dispatchd'";
    assert_eq!(shared.cluster.sql(tables), "0", "nothing was made");
}

/// Neither `run` nor `check` nor `state copy` goes on with this database, and all say why.
async fn refuses(shared: &Shared, url: &str, reason: &str) {
    let setup = shared.setup("one").with("--state", url);
    let mut process = setup.spawn();
    let ended = wait_for("the end", async || process.ended()).await;
    let log = process.log();
    assert_eq!(ended.code(), Some(2), "{log:?}");
    let line = log.last().unwrap();
    for words in ["--state", reason, "PgBouncer", "name PostgreSQL itself"] {
        assert!(line.contains(words), "{words}: {log:?}");
    }
    let mut check = setup.command();
    let arguments: Vec<_> = check.get_args().map(ToOwned::to_owned).collect();
    check = Command::new(check.get_program());
    check.env_clear().arg("check").args(&arguments[1..]);
    check.current_dir(shared.world.folder());
    // It asks the API, which this process is.
    let output = spawn_blocking(move || check.output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(reason)).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(lines[0].contains("name PostgreSQL itself"), "{text}");
    for sides in [["absent.db", url], [url, "to.db"]] {
        let mut copy = Command::new(setup.command().get_program());
        copy.env_clear().args(["state", "copy"]).args(sides);
        let output = copy.current_dir(shared.world.folder()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        for words in [reason, "name PostgreSQL itself"] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}

#[apply(test)]
async fn a_pooler_that_keeps_connections_apart_and_their_settings_is_taken() {
    let shared = shared().await;
    let lines = "pool_mode = session\nignore_startup_parameters = options";
    let pooler = Pooler::start(shared.cluster.port(), lines).await;
    let url = shared.cluster.url_at(pooler.port, "dispatchd");
    let mut one = shared.setup("one").with("--state", &url).start().await;
    leads(&one).await;
    let two = shared.setup("two").with("--state", &url).start().await;
    two.wait_for_log("this one stands by").await;
    shared
        .world
        .put(dispatch("d", 0, in_ms(-HOUR), Some(in_ms(HOUR))));
    assert_eq!(one.webhook("d").await.status, 200);
    shared.told("d", &["site.curtail"]).await;
    one.kill();
    leads(&two).await;
    shared
        .world
        .put(dispatch("e", 0, in_ms(-HOUR), Some(in_ms(HOUR))));
    assert_eq!(two.webhook("e").await.status, 200);
    shared.told("e", &["site.curtail"]).await;
}
