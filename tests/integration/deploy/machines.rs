//! The way from one daemon with a file to two with a database and back, as `deploy/README.md`
//! describes it: its commands are run one after another, by a real PostgreSQL.
//!
//! Where a reader is root and has systemd, the test has folders of its own, and starts and
//! stops daemons with what the unit and its environment file say.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use tokio::task::spawn_blocking;

use super::{PROGRAM, path_of, said, text_of};
use crate::harness::{Daemon, Process, Receiver, World, dispatch, in_ms, need, wait_until};
use crate::readme::blocks::{Block, blocks};
use crate::state_copy::cluster::Cluster;

const HOUR: i64 = 3_600_000;

/// What the page calls the database.
const DATABASE: &str = "postgres://dispatchd@db.example.com/dispatchd";

/// What is not run, and why.
const LEFT_OUT: [(&str, &str); 4] = [
    ("cargo build", "a build of minutes"),
    (
        "sudo install -m 0755 target/release",
        "the program is there",
    ),
    ("sudo systemctl daemon-reload", "nothing is loaded"),
    ("sudo systemctl enable", "nothing is booted"),
];

/// A machine with a daemon, as systemd would keep it.
struct Machine {
    folder: PathBuf,
    /// `None` while it is stopped.
    daemon: Option<Daemon>,
}

struct Place {
    world: World,
    receiver: Receiver,
    cluster: Cluster,
}

impl Place {
    fn machine(&self, name: &str) -> Machine {
        let folder = self.world.path(name);
        for inner in ["etc", "state"] {
            std::fs::create_dir_all(folder.join(inner)).unwrap();
        }
        for secret in ["api-key", "webhook-secret"] {
            std::fs::write(folder.join("etc").join(secret), format!("{secret}-value\n")).unwrap();
        }
        for (file, to) in [
            ("systemd/dispatchd.service", "unit"),
            ("systemd/dispatchd.env", "etc/dispatchd.env"),
        ] {
            std::fs::copy(path_of(file), folder.join(to)).unwrap();
        }
        Machine {
            folder,
            daemon: None,
        }
    }

    /// The URL of the database that stands for the page's.
    fn url(&self) -> String {
        let port = self.cluster.port();
        format!("postgres://dispatchd@127.0.0.1:{port}/dispatchd?sslmode=disable")
    }

    /// Runs a command of the page on a machine.
    async fn run(&self, machine: &mut Machine, command: &str) -> String {
        if LEFT_OUT.iter().any(|(begin, _)| command.starts_with(begin)) {
            return String::new();
        }
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["sudo", "systemctl", "stop", "dispatchd"] => machine.stop().await,
            ["sudo", "systemctl", "start" | "restart", "dispatchd"] => {
                machine.stop().await;
                machine.start(self).await;
            }
            ["sudoedit", file, "#", "a", ..] => machine.edit(file, false),
            ["sudoedit", file, "#", ..] => machine.edit(file, true),
            _ => {
                // The API that commands ask lives on this thread.
                let mut paste = self.shell(machine, command);
                let output = spawn_blocking(move || paste.output())
                    .await
                    .unwrap()
                    .unwrap();
                assert!(output.status.success(), "{command}: {}", said(&output));
                return said(&output);
            }
        }
        String::new()
    }

    /// A shell with a command, which has the places of this test for those of the page.
    fn shell(&self, machine: &Machine, command: &str) -> Command {
        let folder = machine.folder.display();
        let status = machine.daemon.as_ref().map(|daemon| daemon.status);
        let status = status.map_or(String::new(), |status| status.to_string());
        let command = [
            ("sudo -u postgres ", ""),
            ("sudo ", ""),
            (DATABASE, &format!("'{}'", self.url())),
            ("/var/lib/dispatchd", &format!("{folder}/state")),
            ("/etc/dispatchd", &format!("{folder}/etc")),
            (
                "/etc/systemd/system/dispatchd.service",
                &format!("{folder}/unit"),
            ),
            ("127.0.0.1:5001", &status),
        ]
        .iter()
        .fold(command.to_owned(), |text, (from, to)| {
            text.replace(from, to)
        });
        let programs = PathBuf::from(PROGRAM)
            .parent()
            .unwrap()
            .display()
            .to_string();
        let postgres = Cluster::programs().unwrap().display().to_string();
        let mut shell = Command::new("bash");
        shell
            .args(["-e", "-o", "pipefail", "-c", &command])
            .env_clear()
            .env("PATH", format!("{programs}:{postgres}:/usr/bin:/bin"))
            .env("HOME", self.world.folder())
            // As PostgreSQL's own user finds its server.
            .envs([
                ("PGHOST", "127.0.0.1"),
                ("PGUSER", "tester"),
                ("PGDATABASE", "postgres"),
            ])
            .env("PGPORT", self.cluster.port().to_string())
            .env("VOLTUS_API_URL", self.world.sandbox.url())
            .env("VOLTUS_API_KEY", "api-key-value")
            .env("DISPATCHD_LISTEN", "127.0.0.1:0")
            .env("DISPATCHD_STATUS_LISTEN", "127.0.0.1:0")
            .env("DISPATCHD_SINKS", self.receiver.sink())
            .env("DISPATCHD_STATUS_URL", format!("http://{status}"))
            .current_dir(self.world.folder());
        shell
    }
}

impl Machine {
    async fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            assert!(daemon.stop(Signal::TERM).await.success());
        }
    }

    async fn start(&mut self, place: &Place) {
        let mut run = Command::new(PROGRAM);
        run.arg("run").env_clear().current_dir(&self.folder);
        run.envs(self.environment(place));
        let daemon = Daemon::of(Process::spawn(&mut run)).await;
        wait_until("it is ready", async || {
            daemon.get("/readyz").await.status == 200
        })
        .await;
        self.daemon = Some(daemon);
    }

    /// Does what the page says behind `sudoedit`: takes the example's lines about two
    /// machines into use, or out of use.
    fn edit(&self, file: &str, into_use: bool) {
        assert_eq!(file, "/etc/dispatchd/dispatchd.env");
        let path = self.folder.join("etc/dispatchd.env");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut changed = 0;
        let lines: Vec<String> = text
            .lines()
            .map(|line| {
                let bare = line.trim_start_matches('#');
                let named = [
                    "DISPATCHD_STATE=",
                    "DISPATCHD_LISTEN=",
                    "DISPATCHD_ADVERTISE=",
                ];
                if !named.iter().any(|name| bare.starts_with(name)) {
                    return line.to_owned();
                }
                changed += 1;
                format!("{}{bare}", if into_use { "" } else { "#" })
            })
            .collect();
        assert_eq!(changed, 3, "{text}");
        std::fs::write(path, lines.join("\n")).unwrap();
    }

    /// What systemd would give the service: the unit's lines, then the file's.
    fn environment(&self, place: &Place) -> BTreeMap<String, String> {
        let read = |name: &str| std::fs::read_to_string(self.folder.join(name)).unwrap();
        let (unit, file) = (read("unit"), read("etc/dispatchd.env"));
        let of_unit = unit
            .lines()
            .filter_map(|line| line.strip_prefix("Environment="));
        let of_file = file
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut all = BTreeMap::new();
        for pair in of_unit.chain(of_file) {
            let (name, value) = pair.split_once('=').unwrap();
            let value = value.replace("%d", &self.folder.join("etc").display().to_string());
            let value = value.replace(
                "%S/dispatchd",
                &self.folder.join("state").display().to_string(),
            );
            all.insert(name.to_owned(), value.replace(DATABASE, &place.url()));
        }
        let here = |name: &str, value: String| (name.to_owned(), value);
        all.extend([
            here("VOLTUS_API_URL", place.world.sandbox.url()),
            here("DISPATCHD_SINKS", place.receiver.sink()),
            here("DISPATCHD_LISTEN", "127.0.0.1:0".into()),
            here("DISPATCHD_STATUS_LISTEN", "127.0.0.1:0".into()),
            here("DISPATCHD_POLL_INTERVAL", "1s".into()),
            // The sandbox sends the handshake there, and nobody is there.
            here("DISPATCHD_PUBLIC_URL", "http://127.0.0.1:1".into()),
        ]);
        all
    }

    async fn leads(&self) -> bool {
        let daemon = self.daemon.as_ref().unwrap();
        daemon.get("/leader").await.status == 200
    }
}

/// The commands of the block below which text of the page has these words.
fn commands(page: &[Block], words: &str) -> Vec<String> {
    let mut found = page
        .iter()
        .filter(|block| block.heading == "Two machines" && block.before.contains(words));
    let block = found.next().unwrap_or_else(|| panic!("{words}"));
    assert!(found.next().is_none(), "{words}");
    block.commands()
}

#[apply(test)]
async fn the_page_leads_from_one_file_to_two_machines_through_an_upgrade_and_back() {
    need("PostgreSQL", Cluster::programs().is_some());
    let place = Place {
        world: World::with_key("api-key-value").await,
        receiver: Receiver::new().await,
        cluster: Cluster::start(&["fsync=off"]).unwrap(),
    };
    let page = blocks(&text_of("README.md"));
    let (mut one, mut two) = (place.machine("one"), place.machine("two"));
    one.start(&place).await;
    let put = |end| place.world.put(dispatch("d", 0, in_ms(-HOUR), Some(end)));
    put(in_ms(HOUR));
    let site = crate::harness::site_of("d");
    let told = async |types: &[&str]| {
        wait_until("the site was told", async || {
            place.receiver.types_of(&site) == types
        })
        .await;
    };
    told(&["site.curtail"]).await;

    for command in commands(&page, "Make a user and a database") {
        place.run(&mut one, &command).await;
    }
    for machine in [&mut one, &mut two] {
        for command in commands(&page, "**Check**") {
            let said = place.run(machine, &command).await;
            assert!(
                !command.contains("check") || said.contains("ok state"),
                "{said}"
            );
        }
    }
    let copied = commands(&page, "**Copy the state**");
    for command in &copied {
        let said = place.run(&mut one, command).await;
        assert!(
            !command.contains("copy") || said.contains("holds the same"),
            "{said}"
        );
    }
    for machine in [&mut one, &mut two] {
        let mut last = String::new();
        for command in commands(&page, "**Start both.**") {
            last = place.run(machine, &command).await;
        }
        assert!(last.contains("lead"), "{last}");
    }
    assert!(one.leads().await && !two.leads().await);
    told(&["site.curtail"]).await;

    // The standby first, then the leader.
    for machine in [&mut two, &mut one] {
        for command in commands(&page, "**Upgrade**") {
            place.run(machine, &command).await;
        }
    }
    wait_until("one of them leads", async || {
        one.leads().await != two.leads().await
    })
    .await;
    put(in_ms(-1000));
    told(&["site.curtail", "site.release"]).await;

    two.stop().await;
    for command in commands(&page, "**Go back**") {
        let said = place.run(&mut one, &command).await;
        assert!(
            !command.contains("copy") || said.contains("holds the same"),
            "{said}"
        );
    }
    let status = one.daemon.as_ref().unwrap().get("/status").await.json;
    assert_eq!(status["schedule"]["ended"], 1, "{status}");
    assert!(one.folder.join("state/dispatchd.db.before").exists());
    told(&["site.curtail", "site.release"]).await;
}
