//! A story of under a minute: webhooks are lost, and the poller heals that.
//!
//! Sandbox and daemon run in one process, as they would run in two. The story
//! is told as it happens, and nothing is told before it was checked: events
//! come from `GET /events`, and each claim is compared with what `/schedule`,
//! `/sites`, `/status` and `/readyz` say at that moment.
//!
//! | file | what it is |
//! |---|---|
//! | `stage` | sandbox, daemon, and a client of its status listener |
//! | `feed` | the event stream, as any client would read it |
//! | `story` | what the chapters are told with |
//! | `chapters` | what happens |
//! | `teller`, `words` | how it looks |

mod chapters;
mod feed;
mod stage;
mod story;
mod teller;
mod words;

use std::time::Duration;

pub use stage::{DemoError, Stage};
pub use teller::Teller;

use story::Story;

/// How fast the story goes.
#[derive(Debug, Clone)]
pub struct Pace {
    /// The time between two polls.
    pub poll: Duration,
    /// How long the dispatch lasts whose end comes while the API is down.
    pub known_end: Duration,
    /// How long anything is waited for before it counts as not seen.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(2),
            known_end: Duration::from_secs(4),
            patience: Duration::from_secs(15),
        }
    }
}

/// What came of a story.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// How many webhooks were lost.
    pub lost: usize,
    /// How long it took until the poller had found what each of them was about.
    pub healed: Vec<Duration>,
    /// What should have been seen and was not.
    pub missing: Vec<String>,
}

impl Outcome {
    /// The delay in the middle, and the longest. `None` if nothing was healed.
    pub fn delays(&self) -> Option<(Duration, Duration)> {
        let mut delays = self.healed.clone();
        delays.sort_unstable();
        let median = delays.get(delays.len() / 2)?;
        Some((*median, *delays.last()?))
    }
}

/// Tells the story on this stage, to its end.
pub async fn tell(stage: &Stage, pace: &Pace, teller: &Teller) -> Outcome {
    Story::new(stage, pace, teller).tell().await
}

#[cfg(test)]
mod tests;
