//! The files that the daemon makes, and who can read them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;

use crate::harness::{Setup, World};

/// Every file of the state, while a daemon has it.
const FILES: [&str; 4] = ["state.db", "state.db-wal", "state.db-shm", "state.db.lock"];

fn mode(file: &Path) -> u32 {
    fs::metadata(file)
        .expect("it is there")
        .permissions()
        .mode()
        & 0o777
}

/// A daemon that is started with this umask.
fn with_umask(world: &World, umask: &str) -> Setup {
    let script = format!("umask {umask}; exec \"$@\"");
    world.setup().wrapped(&["sh", "-c", &script, "sh"])
}

#[apply(test)]
async fn the_state_is_for_its_owner_alone_whatever_the_umask() {
    for umask in ["000", "022", "077"] {
        let world = World::new().await;
        let daemon = with_umask(&world, umask).ready().await;
        world.known(&daemon, "a").await;
        for file in FILES {
            assert_eq!(mode(&world.path(file)), 0o600, "{file} with umask {umask}");
        }
    }
}

#[apply(test)]
async fn the_state_is_for_its_owner_alone_behind_a_link() {
    let world = World::new().await;
    std::os::unix::fs::symlink("elsewhere.db", world.path("state.db")).unwrap();
    let _daemon = with_umask(&world, "000").ready().await;
    for file in ["elsewhere.db", "elsewhere.db-wal", "elsewhere.db-shm"] {
        assert_eq!(mode(&world.path(file)), 0o600, "{file}");
    }
}

#[apply(test)]
async fn the_mode_of_a_file_that_is_there_stays_and_is_told_of_if_everybody_can_read_it() {
    let world = World::new().await;
    let mut daemon = world.setup().ready().await;
    assert!(daemon.stop(Signal::TERM).await.success());
    let file = world.path("state.db");
    for (chosen, told) in [(0o640, false), (0o600, false), (0o644, true)] {
        fs::set_permissions(&file, Permissions::from_mode(chosen)).unwrap();
        let mut daemon = world.setup().ready().await;
        assert_eq!(mode(&file), chosen);
        assert_eq!(mode(&world.path("state.db-wal")), chosen);
        let log = daemon.log().join("\n");
        assert_eq!(log.contains("chmod 600"), told, "{chosen:o}: {log}");
        assert!(daemon.stop(Signal::TERM).await.success());
    }
}
