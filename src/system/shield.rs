//! Keeps the daemon's secrets from the programs that it starts (rule R8).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

use rustix::process::{DumpableBehavior, geteuid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, capability_is_in_bounding_set, remove_capability_from_bounding_set,
};

/// The first descriptor behind standard input, output and error.
const FIRST_INHERITED: i32 = 3;

/// Where in `/proc/self/stat`, counted behind the program's name, stand the
/// addresses of the first byte of the environment and of the first behind it.
const ENVIRONMENT: (usize, usize) = (47, 48);

/// Variables whose values are removed: what the daemon was configured with.
const OURS: [&[u8]; 4] = [
    b"VOLTUS_",
    b"DISPATCHD_",
    b"PGPASSWORD=",
    b"OTEL_EXPORTER_OTLP_",
];

/// Keeps programs of `exec:` sinks from the key and the secrets that this
/// process was started with:
///
/// - The values of `VOLTUS_*`, `DISPATCHD_*`, `PGPASSWORD` and `OTEL_EXPORTER_OTLP_*` are gone from this
///   process's environment, and so from `/proc/PID/environ`.
/// - Without root's capabilities, no other process can open
///   `/proc/PID/environ`, `/proc/PID/mem` or `/proc/PID/fd/*` of this process.
///   It writes no core dump.
/// - No program that this process starts can get the capability
///   `CAP_SYS_PTRACE`, not even as root. Root needs it to read memory and
///   descriptors of this process.
/// - No program gets a descriptor that this process inherited, such as the one
///   of `--api-key-file <(...)`.
///
/// A program that runs as root still has root's other ways to a secret, such as
/// the file that holds it.
///
/// Call it when the configuration has been read and before the first thread is
/// started: a thread has the capabilities of the thread that started it.
///
/// # Errors
/// When the system refuses one of these. The daemon then works, but its secrets
/// are less well kept.
pub fn shield_secrets() -> io::Result<()> {
    close_fds::set_fds_cloexec(FIRST_INHERITED, &[]);
    // First, since a process that is not dumpable cannot open its memory.
    let blanked = blank_environment();
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Without root's capabilities there is nothing to remove.
    if geteuid().is_root() && capability_is_in_bounding_set(CapabilitySet::SYS_PTRACE)? {
        remove_capability_from_bounding_set(CapabilitySet::SYS_PTRACE)?;
    }
    blanked
}

/// Overwrites the values of [`OURS`] in the block that the kernel made when the
/// process was started. `/proc/PID/environ` shows that block, and removing a
/// variable leaves it as it is. Nothing refers to these bytes but the C
/// library's list of variables, which holds empty values afterwards.
fn blank_environment() -> io::Result<()> {
    let unknown = || io::Error::other("/proc/self/stat does not tell where the environment is");
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (start, end) = environment(&stat).ok_or_else(unknown)?;
    let length = end.checked_sub(start).ok_or_else(unknown)?;
    let mut block = vec![0; usize::try_from(length).map_err(|_| unknown())?];
    File::open("/proc/self/mem")?.read_exact_at(&mut block, start)?;
    if blank(&mut block) {
        let memory = OpenOptions::new().write(true).open("/proc/self/mem")?;
        memory.write_all_at(&block, start)?;
    }
    Ok(())
}

/// The addresses of the environment's first byte and of the first behind it.
fn environment(stat: &str) -> Option<(u64, u64)> {
    // The name of the program may hold anything, parentheses included.
    let (_, rest) = stat.rsplit_once(')')?;
    let field = |place: usize| rest.split_ascii_whitespace().nth(place)?.parse().ok();
    Some((field(ENVIRONMENT.0)?, field(ENVIRONMENT.1)?)).filter(|(start, _)| *start > 0)
}

/// Overwrites the values of [`OURS`] with zeros. Tells whether there were any.
fn blank(block: &mut [u8]) -> bool {
    let mut found = false;
    for variable in block.split_mut(|byte| *byte == 0) {
        let ours = OURS.iter().any(|name| variable.starts_with(name));
        let value = variable.iter().position(|byte| *byte == b'=');
        if let Some(value) = value.filter(|_| ours) {
            found = true;
            variable
                .iter_mut()
                .skip(value + 1)
                .for_each(|byte| *byte = 0);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_of_ours_are_blanked() {
        let mut block = b"PATH=/bin\0VOLTUS_API_KEY=k=1\0HOME=\0PGPASSWORD=p\0PGPASSFILE=f\0\
            DISPATCHD_SINKS=a,b\0MY_DISPATCHD_X=y\0broken\0"
            .to_vec();
        assert!(blank(&mut block));
        let after = b"PATH=/bin\0VOLTUS_API_KEY=\0\0\0\0HOME=\0PGPASSWORD=\0\0PGPASSFILE=f\0\
            DISPATCHD_SINKS=\0\0\0\0MY_DISPATCHD_X=y\0broken\0";
        assert_eq!(block, after);
        assert!(!blank(&mut b"PATH=/bin\0".to_vec()));
    }

    #[test]
    fn the_environment_is_found_behind_any_name_of_the_program() {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let (start, end) = environment(&stat).unwrap();
        let size = std::fs::read("/proc/self/environ").unwrap().len() as u64;
        assert_eq!(end - start, size);
        let odd = stat.replacen('(', "(odd) 1 2 (", 1);
        assert_eq!(environment(&odd), Some((start, end)));
        assert_eq!(environment("1 (short) S 1"), None);
    }
}
