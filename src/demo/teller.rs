//! Writes the story down, a line each.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};

use crate::clock::{Clock, Mono, Now, SystemClock};

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What Voltus does.
    Voltus,
    /// What goes wrong on purpose.
    Fault,
    /// An event of the daemon.
    Event,
    /// Something that was checked.
    Seen,
    /// A lost webhook that did no harm.
    Healed,
    /// Something that should have been seen.
    Missing,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Self::Voltus => "Voltus",
            Self::Fault => "fault",
            Self::Event => "event",
            Self::Seen => "seen",
            Self::Healed => "HEALED",
            Self::Missing => "MISSING",
        }
    }

    /// How a terminal shows it.
    fn style(self) -> &'static str {
        match self {
            Self::Voltus => "36",
            Self::Fault => "33",
            Self::Event => "2",
            Self::Seen => "32",
            Self::Healed => "1;32",
            Self::Missing => "1;31",
        }
    }
}

/// Tells the story. Copies write to the same place.
#[derive(Clone)]
pub struct Teller(Arc<Inner>);

struct Inner {
    out: Mutex<Box<dyn Write + Send>>,
    colour: bool,
    clock: SystemClock,
    start: Now,
}

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Teller")
    }
}

impl Teller {
    /// Tells it there. Its clock starts now.
    pub fn new(out: impl Write + Send + 'static, colour: bool) -> Self {
        let clock = SystemClock::new();
        Self(Arc::new(Inner {
            out: Mutex::new(Box::new(out)),
            colour,
            clock,
            start: clock.now(),
        }))
    }

    /// A line without a time.
    pub fn say(&self, text: &str) {
        self.write(text);
    }

    /// A line that stands out, with an empty one before it.
    pub fn heading(&self, text: &str) {
        self.write(&format!("\n{}", self.styled("1", text)));
    }

    /// A line of the story.
    pub(super) fn line(&self, kind: Kind, text: &str) {
        let seconds = self.now().mono.as_secs_f64();
        // A label is as wide with colour as without.
        let label = self.styled(kind.style(), &format!("{:<7}", kind.label()));
        let text = match kind {
            Kind::Event => self.styled(kind.style(), text),
            _ => text.to_owned(),
        };
        self.write(&format!("{seconds:>6.1} s  {label}  {text}"));
    }

    /// What the clock of the story shows.
    pub(super) fn now(&self) -> Now {
        self.0.clock.now()
    }

    /// The same, since the story's start, for a time of day.
    pub(super) fn seconds_at(&self, time: DateTime<Utc>) -> f64 {
        let start: Mono = self.0.start.mono;
        let since = (time - self.0.start.wall).as_seconds_f64();
        since + start.as_secs_f64()
    }

    fn styled(&self, style: &str, text: &str) -> String {
        if self.0.colour {
            format!("\u{1b}[{style}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    fn write(&self, line: &str) {
        let mut out = self.0.out.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever closed the pipe wants to hear no more; the story goes on.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}
