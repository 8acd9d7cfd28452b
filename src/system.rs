//! What differs between operating systems. Nothing else of the crate asks on which it runs,
//! or for anything that another has not.
//!
//! dispatchd is made for Linux and tested there. `unix` has what Linux and other Unixes
//! offer, `plain` the same functions for systems without it: each does the plain thing that
//! its own comment names, so that the daemon works there with less protection or
//! information, and says so. The README lists what is lost.

#[cfg(not(unix))]
mod plain;
#[cfg(target_os = "linux")]
mod shield;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
pub use plain::*;
#[cfg(target_os = "linux")]
pub use shield::shield_secrets;
#[cfg(unix)]
pub use unix::*;

/// As on Linux, where it keeps programs of `exec:` sinks from the key and the secrets that
/// this process was started with.
///
/// # Errors
/// Always: this system has no way to.
#[cfg(not(target_os = "linux"))]
pub fn shield_secrets() -> std::io::Result<()> {
    Err(std::io::Error::other(
        "only on Linux can a process keep them from programs that it starts",
    ))
}

/// What a service manager is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceNews<'a> {
    /// The daemon has started, or has read its files again.
    Ready,
    /// It reads its files again.
    Reloading,
    /// Its end has begun.
    Stopping,
    /// How it is, in a line.
    Status(&'a str),
    /// It is alive.
    Alive,
}
