//! What Linux and other Unixes offer.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal as ProcessSignal};
use rustix::process::{getrlimit, kill_process_group, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

pub use tokio::signal::unix::Signal;

use super::ServiceNews;

/// Owner reads and writes.
const OWNER_ONLY: u32 = 0o600;

/// Users of this machine who are neither the owner nor of the file's group.
const OTHERS_READ: u32 = 0o004;

/// How long the machine has been up, suspends included. Without Linux's clock for that,
/// suspends count as the system's monotonic clock has them.
pub fn uptime() -> Duration {
    #[cfg(target_os = "linux")]
    let time = {
        use rustix::time::{ClockId, DynamicClockId, clock_gettime, clock_gettime_dynamic};
        let time = clock_gettime_dynamic(DynamicClockId::Boottime);
        time.unwrap_or_else(|_| clock_gettime(ClockId::Monotonic))
    };
    #[cfg(not(target_os = "linux"))]
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
    seconds + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// The name of this machine.
pub fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// Raises this process's limit of open files to `count`, or to as many as the
/// system allows it. A connection is one, and the usual limit is 1,024.
///
/// # Errors
/// When the system refuses.
pub fn allow_open_files(count: u64) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = count.min(limit.maximum.unwrap_or(u64::MAX));
    if limit.current.is_some_and(|current| current < raised) {
        let current = Some(raised);
        setrlimit(Resource::Nofile, Rlimit { current, ..limit })?;
    }
    Ok(())
}

/// How many files may be open at once. `None` if there is no limit, or none is known.
pub fn open_files_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Whether the system has no room for another connection.
pub fn is_want_of_room(error: &io::Error) -> bool {
    let kinds = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| kinds.contains(&errno))
}

/// In which `/proc/self/stat` counts time, in a second.
pub fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

/// Bytes of a page of memory.
pub fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

/// Lets other threads go before this one, at this niceness. Elsewhere than on Linux that is
/// a matter of the whole process, and is not done.
pub fn go_behind_others(niceness: i32) {
    // Where it cannot be, this thread is as good as any.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, niceness);
    #[cfg(not(target_os = "linux"))]
    let _ = niceness;
}

/// Rows of the terminal that standard output is, if it is one and tells.
pub fn terminal_height() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_row)).filter(|rows| *rows > 0)
}

/// Standard output without the standard library's buffer, in which half a line would
/// survive a failed write.
///
/// # Errors
/// When there is none, or no descriptor is left.
pub fn unbuffered_stdout() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// Whether this user may execute the file.
///
/// # Errors
/// When not: why.
pub fn may_execute(path: &Path) -> io::Result<()> {
    Ok(access(path, Access::EXEC_OK)?)
}

/// Whether this user may write to the file, or into the folder.
///
/// # Errors
/// When not: why.
pub fn may_write(path: &Path) -> io::Result<()> {
    Ok(access(path, Access::WRITE_OK)?)
}

/// A file that is made is its owner's alone, whatever the umask says.
pub fn for_owner_only(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(OWNER_ONLY)
}

/// The file's mode, if every user of this machine can read the file.
pub fn open_to_all(file: &Metadata) -> Option<u32> {
    let mode = file.mode() & 0o777;
    (mode & OTHERS_READ != 0).then_some(mode)
}

/// By which a file is known to be another one than before under the same name.
pub fn file_number(file: &Metadata) -> u64 {
    file.ino()
}

/// The processes that a program starts, killed together.
#[derive(Debug, Clone, Copy)]
pub struct ProcessGroup(Pid);

impl ProcessGroup {
    /// Has `command` start its process as the first one of a group.
    pub fn begin_with(command: &mut tokio::process::Command) {
        command.process_group(0);
    }

    /// The group that the process with this number has begun.
    pub fn of(process: u32) -> Option<Self> {
        Pid::from_raw(i32::try_from(process).ok()?).map(Self)
    }

    /// Kills all that is left of it.
    pub fn kill(self) {
        // None is left, then.
        let _ = kill_process_group(self.0, ProcessSignal::KILL);
    }
}

/// Whether [`die_with_parent`] works here.
pub const CAN_DIE_WITH_PARENT: bool = cfg!(target_os = "linux");

/// Has the system end this process when the one that started it ends.
///
/// # Errors
/// When the system refuses.
pub fn die_with_parent() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(ProcessSignal::KILL))?;
    Ok(())
}

/// Whether the process with this number has started this one and has not ended.
pub fn is_parent(process: u32) -> bool {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    process.is_some() && rustix::process::getppid() == process
}

/// This process becomes the program. Returns only if that fails: why.
pub fn become_the(program: &Path) -> io::Error {
    Command::new(program).exec()
}

/// Comes when this process is to end, as a service manager asks for it.
///
/// # Errors
/// When the system refuses.
pub fn terminate() -> io::Result<Signal> {
    signal(SignalKind::terminate())
}

/// Comes when this process is to end, as somebody at the terminal asks for it.
///
/// # Errors
/// When the system refuses.
pub fn interrupt() -> io::Result<Signal> {
    signal(SignalKind::interrupt())
}

/// Comes when the terminal was closed, or files are to be read again. `None` on a system
/// that has no such signal.
///
/// # Errors
/// When the system refuses.
pub fn hangup() -> io::Result<Option<Signal>> {
    signal(SignalKind::hangup()).map(Some)
}

/// The longest silence that the service manager puts up with, if it watches this process.
pub fn service_watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Tells the service manager, if there is one that listens.
///
/// # Errors
/// When it cannot be told.
pub fn tell_service_manager(news: &[ServiceNews<'_>]) -> io::Result<()> {
    let mut states = Vec::with_capacity(news.len() + 1);
    for one in news {
        let state = match one {
            ServiceNews::Ready => NotifyState::Ready,
            ServiceNews::Reloading => {
                states.push(NotifyState::Reloading);
                NotifyState::monotonic_usec_now()?
            }
            ServiceNews::Stopping => NotifyState::Stopping,
            ServiceNews::Status(status) => NotifyState::Status(status),
            ServiceNews::Alive => NotifyState::Watchdog,
        };
        states.push(state);
    }
    sd_notify::notify(&states)
}
