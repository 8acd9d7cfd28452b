//! The machine that all of it ran on.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::Fault;
use crate::clock::elapsed;
use crate::figures::median;

/// How often the disk is asked to sync.
const SYNCS: usize = 200;

/// One line about cores, memory, system and the disk under `folder`.
pub fn describe(folder: &Path) -> Result<String, Fault> {
    let cores = std::thread::available_parallelism()?;
    let read = |path: &str| std::fs::read_to_string(path);
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or_else(
            || "unknown".to_owned(),
            |(_, value)| value.trim().to_owned(),
        )
    };
    let processor = field(&read("/proc/cpuinfo")?, "model name");
    let memory = field(&read("/proc/meminfo")?, "MemTotal");
    let kibibytes: f64 = memory.trim_end_matches(" kB").parse()?;
    let kernel = read("/proc/sys/kernel/osrelease")?;
    let load = read("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or("unknown");
    Ok(format!(
        "{cores} cores of {processor}, {:.0} GiB, Linux {}, {}, {:.2} ms for a synced write of 4 KiB; load {load}",
        kibibytes / 1024.0 / 1024.0,
        kernel.trim(),
        file_system(folder)?,
        sync(folder)?,
    ))
}

/// The kind of file system that `folder` is on.
fn file_system(folder: &Path) -> Result<String, Fault> {
    let folder = folder.canonicalize()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let under = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (at, kind) = (fields.next()?, fields.next()?);
        folder.starts_with(at).then_some((at.len(), kind))
    });
    let (_, kind) = under
        .max_by_key(|(length, _)| *length)
        .ok_or("no file system")?;
    Ok(kind.to_owned())
}

/// How long the disk takes to sync a page, in milliseconds.
fn sync(folder: &Path) -> Result<f64, Fault> {
    let path = folder.join("sync");
    let mut file = File::create(&path)?;
    let mut took = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begun = elapsed();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        took.push((elapsed() - begun).as_secs_f64() * 1000.0);
    }
    std::fs::remove_file(path)?;
    Ok(median(&took))
}
