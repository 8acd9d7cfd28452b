//! For systems that are no Unix, such as Windows: the plain thing, or nothing.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::ServiceNews;

/// How long this process has run. Whether that counts suspends is up to the system.
#[expect(
    clippy::disallowed_methods,
    reason = "the clock that everything else asks reads this"
)]
pub fn uptime() -> Duration {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGAN.elapsed()
}

/// The name of this machine, as its environment tells it.
pub fn host_name() -> String {
    let name = std::env::var("COMPUTERNAME").or_else(|_| std::env::var("HOSTNAME"));
    name.unwrap_or_else(|_| "localhost".to_owned())
}

/// There is no limit to be raised.
///
/// # Errors
/// None.
pub fn allow_open_files(_: u64) -> io::Result<()> {
    Ok(())
}

/// Nothing is known of a limit.
pub fn open_files_limit() -> Option<u64> {
    None
}

/// Whether the system has no room for another connection.
pub fn is_want_of_room(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
}

/// There is no `/proc` that counts in ticks.
pub fn ticks_per_second() -> f64 {
    1.0
}

/// There is no `/proc` that counts in pages.
pub fn page_size() -> u64 {
    1
}

/// Nothing: this thread goes as others do.
pub fn go_behind_others(_: i32) {}

/// Nothing is known of it.
pub fn terminal_height() -> Option<usize> {
    None
}

/// Standard output, through the standard library's buffer. It ends with each line, which is
/// what is written at once.
///
/// # Errors
/// None.
pub fn unbuffered_stdout() -> io::Result<impl Write + Send + 'static> {
    Ok(io::stdout())
}

/// Whether there is such a file. Whether it can be executed is seen when it is.
///
/// # Errors
/// When there is none, or nothing can be known of it.
pub fn may_execute(path: &Path) -> io::Result<()> {
    std::fs::metadata(path).map(drop)
}

/// Whether the file or folder is there and is not marked as read-only.
///
/// # Errors
/// When it is not there, or is marked so.
pub fn may_write(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path)?.permissions().readonly() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(())
}

/// Who can read a file is decided by the folder that it is made in.
pub fn for_owner_only(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Nothing is known of who can read it.
pub fn open_to_all(_: &Metadata) -> Option<u32> {
    None
}

/// By which a file is known to be another one than before under the same name: the time at
/// which it was made, where that is known.
pub fn file_number(file: &Metadata) -> u64 {
    let made = file.created().ok();
    let made = made.and_then(|made| made.duration_since(std::time::UNIX_EPOCH).ok());
    made.map_or(0, |made| u64::try_from(made.as_nanos()).unwrap_or(u64::MAX))
}

/// The process that a program is. What it starts itself is not reached.
#[derive(Debug, Clone, Copy)]
pub struct ProcessGroup;

impl ProcessGroup {
    /// Nothing: the process alone is killed, when its handle is dropped.
    pub fn begin_with(_: &mut tokio::process::Command) {}

    /// None is known.
    pub fn of(_: u32) -> Option<Self> {
        None
    }

    /// Nothing.
    pub fn kill(self) {}
}

/// Whether [`die_with_parent`] works here.
pub const CAN_DIE_WITH_PARENT: bool = false;

/// A program is not ended with the process that started it.
///
/// # Errors
/// Always.
pub fn die_with_parent() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Nothing is known of it.
pub fn is_parent(_: u32) -> bool {
    false
}

/// A process cannot become another program.
pub fn become_the(_: &Path) -> io::Error {
    io::ErrorKind::Unsupported.into()
}

/// Asks this process for something.
#[derive(Debug)]
pub struct Signal(Kind);

#[derive(Debug)]
enum Kind {
    #[cfg(windows)]
    Interrupt(tokio::signal::windows::CtrlC),
    #[cfg(windows)]
    Close(tokio::signal::windows::CtrlClose),
    #[cfg(not(windows))]
    Never,
}

impl Signal {
    /// The next one. `None` if none will come.
    pub async fn recv(&mut self) -> Option<()> {
        match &mut self.0 {
            #[cfg(windows)]
            Kind::Interrupt(signal) => signal.recv().await,
            #[cfg(windows)]
            Kind::Close(signal) => signal.recv().await,
            #[cfg(not(windows))]
            Kind::Never => std::future::pending().await,
        }
    }
}

/// Comes when this process is to end: its window was closed.
///
/// # Errors
/// When the system refuses.
pub fn terminate() -> io::Result<Signal> {
    #[cfg(windows)]
    let kind = Kind::Close(tokio::signal::windows::ctrl_close()?);
    #[cfg(not(windows))]
    let kind = Kind::Never;
    Ok(Signal(kind))
}

/// Comes when this process is to end, as somebody at the terminal asks for it.
///
/// # Errors
/// When the system refuses.
pub fn interrupt() -> io::Result<Signal> {
    #[cfg(windows)]
    let kind = Kind::Interrupt(tokio::signal::windows::ctrl_c()?);
    #[cfg(not(windows))]
    let kind = Kind::Never;
    Ok(Signal(kind))
}

/// There is no signal that asks for files to be read again.
///
/// # Errors
/// None.
pub fn hangup() -> io::Result<Option<Signal>> {
    Ok(None)
}

/// No service manager watches this process.
pub fn service_watchdog() -> Option<Duration> {
    None
}

/// No service manager listens.
///
/// # Errors
/// None.
pub fn tell_service_manager(_: &[ServiceNews<'_>]) -> io::Result<()> {
    Ok(())
}
