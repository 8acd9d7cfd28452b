//! The newest event of every site once more, after the receiver may have lost
//! what it kept (contract: an MQTT sink publishes, on each connection, the
//! retained state of every site).
//!
//! A *refresh* of a site goes through its subject queue like any other attempt,
//! so that it never overtakes a newer event, and a newer event replaces it. It is
//! not pending and nothing of it is written down: a restart makes a new
//! connection, and that begins a new pass.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use super::queue::SubjectQueue;
use super::{Key, Outbox};
use crate::clock::{Mono, Now};
use crate::delivery::routing::{Announced, Share};
use crate::model::Event;
use crate::retry::backoff;
use crate::seldom::Seldom;
use crate::store::StoreError;

/// How many events are read at once.
pub(super) const PAGE: usize = 128;

/// The next page is read once so few sites wait to be refreshed. Few wait, so
/// that new commands are not held up.
const FEW: usize = 32;

/// The first and the longest pause before what failed is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// A read for a pass, to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshRead {
    /// The position of the newest event of each site.
    Positions,
    /// The events at these positions.
    Events(Vec<u64>),
}

/// What such a read gave.
#[derive(Debug)]
pub enum RefreshPage {
    /// The position of the newest event of each site.
    Positions(Vec<u64>),
    /// Events.
    Events(Vec<Event>),
}

#[derive(Debug, Default)]
pub(super) struct Refresh {
    pass: Option<Pass>,
    /// Whether a read is under way. One of a pass that is over may be.
    reading: bool,
    /// Sites whose queue holds a refresh.
    waiting: BTreeSet<Key>,
    /// Sites whose refresh failed, or may have gone to the connection of before, and the
    /// positions of their events.
    again: BTreeMap<Key, u64>,
    /// When those are refreshed.
    again_at: Mono,
    /// How often in a row sites could not be sent again, and how often a read failed.
    failures: u32,
    failed_reads: u32,
    /// The newest attempt that may have begun on the connection of before.
    doubtful: u64,
    /// Limit what the log says of reads and of attempts that failed.
    unread: Seldom,
    unsent: Seldom,
}

#[derive(Debug, Default)]
struct Pass {
    /// The events to come, oldest first, as they are read. `None` until it is known
    /// which they are.
    pages: Option<VecDeque<Vec<u64>>>,
    /// Those that could not be read, and are read again when all others were.
    unread: VecDeque<Vec<u64>>,
    /// Those that are being read.
    page: Vec<u64>,
    /// When a read that failed is made again.
    not_before: Mono,
    /// Whether the next read is to wait for the end of one of the pass before.
    stale_read: bool,
    /// Sites that got a newer event since the pass began.
    newer: HashSet<Key>,
}

impl Outbox {
    /// The sink has made a connection anew: the receiver is there, and may have
    /// lost what it kept of each site.
    pub fn connected(&mut self, now: Now) {
        if self.reach.connected(now.mono) {
            self.is_back(now);
        }
        self.refresh.doubtful = self.places.newest();
        self.refresh.again.clear();
        self.refresh.failures = 0;
        self.refresh.failed_reads = 0;
        self.refresh.pass = Some(Pass {
            stale_read: self.refresh.reading,
            ..Pass::default()
        });
    }

    /// Reads what is to go again when the pass has read the rest.
    fn take_up_again(&mut self) {
        let again = std::mem::take(&mut self.refresh.again);
        let mut positions: Vec<u64> = again.into_values().collect();
        positions.sort_unstable();
        let pass = self.refresh.pass.get_or_insert_with(|| Pass {
            pages: Some(VecDeque::new()),
            ..Pass::default()
        });
        // Else all sites are to be read still.
        if let Some(pages) = &mut pass.pages {
            pages.extend(positions.chunks(PAGE).map(<[u64]>::to_vec));
        }
    }

    /// A read for a pass that is to be made now, if one is.
    pub fn refresh_read(&mut self, now: Now) -> Option<RefreshRead> {
        if !self.refresh.again.is_empty() && self.refresh.again_at <= now.mono {
            self.take_up_again();
        }
        if self.refresh.reading || self.refresh.waiting.len() > FEW || self.reach.is_down() {
            return None;
        }
        let pass = self.refresh.pass.as_mut()?;
        let may_repeat = pass.not_before <= now.mono;
        let read = match &mut pass.pages {
            None if !may_repeat => return None,
            None => RefreshRead::Positions,
            Some(pages) => {
                let unread = Some(&mut pass.unread).filter(|_| may_repeat);
                let page = pages.pop_front();
                let Some(page) = page.or_else(|| unread?.pop_front()) else {
                    self.refresh.pass.take_if(|pass| pass.unread.is_empty());
                    return None;
                };
                pass.page.clone_from(&page);
                RefreshRead::Events(page)
            }
        };
        self.refresh.reading = true;
        Some(read)
    }

    /// A read for a pass has ended.
    pub fn take_refresh(&mut self, result: Result<RefreshPage, StoreError>, now: Now) {
        self.refresh.reading = false;
        let Some(pass) = &mut self.refresh.pass else {
            return;
        };
        if std::mem::take(&mut pass.stale_read) {
            return;
        }
        if result.is_ok() {
            self.refresh.failed_reads = 0;
        }
        match result {
            Ok(RefreshPage::Positions(positions)) => {
                pass.pages = Some(positions.chunks(PAGE).map(<[u64]>::to_vec).collect());
            }
            Ok(RefreshPage::Events(events)) => {
                for event in &events {
                    self.refresh_site(event);
                }
            }
            Err(error) => {
                if self.refresh.unread.count(now.mono).is_some() {
                    tracing::error!(sink = &*self.name, %error, "the newest events of the sites cannot be read to be sent again; dispatchd tries again");
                }
                if let Some(pass) = &mut self.refresh.pass {
                    // Whatever else fails before then is one failure with this.
                    if pass.not_before <= now.mono {
                        pass.not_before = now.mono + pause(&mut self.refresh.failed_reads, 1.0);
                    }
                    // One event that cannot be read keeps no other back.
                    let half = pass.page.len().div_ceil(2).max(1);
                    let halves = pass.page.chunks(half).map(<[u64]>::to_vec);
                    pass.unread.extend(halves);
                    pass.page.clear();
                }
            }
        }
    }

    /// Lines up a site's newest event once more, unless it is on its way anyway.
    fn refresh_site(&mut self, event: &Event) {
        let announced = Announced::new(event);
        let key = Key::clone(announced.key());
        let Some(pass) = &self.refresh.pass else {
            return;
        };
        // What is not offered yet comes by itself.
        if event.position > self.window.head || pass.newer.contains(&key) {
            return;
        }
        let event = match announced.share(&self.route) {
            Share::Goes(event) => event.into_owned(),
            Share::Released if announced.is_site_of(&self.route) => announced.released(),
            Share::Released | Share::Nothing => return,
        };
        let queue = self.queue(&key);
        if queue.refresh(event) {
            self.refresh.waiting.insert(Key::clone(&key));
            self.line_up(&key);
        }
        self.tidy(&key);
    }

    /// A site got a newer event.
    pub(super) fn refresh_superseded(&mut self, key: &Key) {
        self.refresh.waiting.remove(key);
        self.refresh.again.remove(key);
        if let Some(pass) = &mut self.refresh.pass {
            pass.newer.insert(Key::clone(key));
        }
    }

    /// An attempt delivered a site's event. Tells whether that was a refresh.
    pub(super) fn refreshed(&mut self, attempt: u64, key: &Key) -> bool {
        if attempt <= self.refresh.doubtful && SubjectQueue::site_of(key).is_some() {
            // It may have gone to the connection of before.
            self.refresh_again(key);
        }
        let refreshed = self.refresh.waiting.remove(key);
        if refreshed && self.refresh.again.is_empty() {
            self.refresh.failures = 0;
        }
        refreshed
    }

    /// An attempt at a site's event failed. Tells whether that was a refresh, which
    /// comes again after a pause.
    pub(super) fn refresh_failed(
        &mut self,
        key: &Key,
        reason: &str,
        random: f64,
        now: Mono,
    ) -> bool {
        if !self.refresh.waiting.remove(key) {
            return false;
        }
        if self.refresh.again.is_empty() {
            if self.refresh.unsent.count(now).is_some() {
                tracing::warn!(
                    sink = &*self.name,
                    reason,
                    "the newest event of a site could not be sent again after a new connection; dispatchd tries again"
                );
            }
            self.refresh.again_at = now + pause(&mut self.refresh.failures, random);
        }
        self.refresh_again(key);
        if let Some(queue) = self.queues.get_mut(key) {
            queue.drop_refresh();
        }
        self.tidy(key);
        true
    }

    /// The event that the site's queue holds is to go once more.
    fn refresh_again(&mut self, key: &Key) {
        if let Some(event) = self.queues.get(key).and_then(SubjectQueue::first) {
            self.refresh.again.insert(Key::clone(key), event.position);
        }
    }

    /// When sites are to be refreshed again.
    pub(super) fn refresh_due(&self, now: Mono) -> Option<Mono> {
        // What is past already needs no waking.
        let again = Some(self.refresh.again_at).filter(|_| !self.refresh.again.is_empty());
        let pass = self.refresh.pass.as_ref().map(|pass| pass.not_before);
        let due = again.into_iter().chain(pass).filter(|at| *at > now);
        due.min()
    }
}

/// How long what has failed once more waits until it is tried again.
fn pause(failures: &mut u32, random: f64) -> Duration {
    *failures = failures.saturating_add(1);
    backoff(*failures, random, PAUSES.0, PAUSES.1)
}
