//! Writes: what a commit holds, when it begins, and what is kept if it fails.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;

use super::delivering::Delivering;
use super::unwritten::Unwritten;
use crate::clock::{Mono, Now};
use crate::engine::{Rules, Schedule, SitePlan};
use crate::model::{Asked, Event};
use crate::seldom::{Trouble, spoken};
use crate::store::{Batch, StoreError, Stored};
use crate::sync::batch_builder::{BatchBuilder, CommitUnderWay, Committed, Job};
use crate::sync::numbering::{Clocks, Numbering};
use crate::sync::waiters::Ticket;

/// How long after a failed commit only observations cause another one.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// When old events of sites and of the daemon are deleted first: not while the
/// start has better things to write.
const FIRST_FORGET: Duration = Duration::from_secs(300);

/// How often old events of sites and of the daemon are deleted.
const FORGET_EVERY: Duration = Duration::from_secs(3600);

/// A commit that takes as long may never end. The largest take two seconds.
const HANGS: Duration = Duration::from_secs(5);

/// What is committed, what is being written, and what is to be written next.
#[derive(Debug)]
pub(super) struct Writing {
    store_id: Arc<str>,
    term: u64,
    rules: Rules,
    pub committed: Committed,
    under_way: Option<CommitUnderWay>,
    /// When that began.
    begun: Mono,
    /// What is to be written next, on top of that.
    next: Option<BatchBuilder>,
    /// Observations that are not taken in yet.
    jobs: VecDeque<Job>,
    /// Why the last commit failed. `None` while the store takes commits.
    store_error: Option<String>,
    /// The same, for the log.
    trouble: Trouble,
    /// How long the commit under way takes, if it may never end.
    hangs: Option<String>,
    /// The same, for the log.
    hanging: Trouble,
    /// What would be written if it took it.
    pub unwritten: Unwritten,
    not_before: Mono,
    forget_at: Mono,
}

/// What a step writes.
pub(super) enum Begun {
    /// Nothing: nothing is to be written, or a commit is under way.
    Nothing,
    /// This. There is one commit at a time.
    Commit(Box<Batch>),
    /// What was taken in changes nothing on disk.
    Empty(Box<CommitUnderWay>),
}

/// How a commit ended.
pub(super) enum Ended {
    /// It is on disk.
    Written(Box<CommitUnderWay>),
    /// It is not, for this reason.
    Failed(Box<CommitUnderWay>, String),
    /// The store takes no commit of this daemon any more.
    End(StoreError),
}

impl Writing {
    /// Goes on from what was stored.
    pub fn new(stored: Stored, rules: Rules, now: Now) -> Self {
        let schedule = Schedule::restore(stored.entries, stored.revision);
        let mut committed = Committed {
            plan: SitePlan::restore(&schedule, stored.sites, now.wall, &rules),
            schedule,
            numbering: Numbering::new(stored.term, stored.position).after_loss(stored.commits_lost),
            sync: stored.sync,
            commits_lost: stored.commits_lost,
            as_of: now.wall,
        };
        // What came due while the daemon was down is applied by the first commits.
        if let Some(due) = committed.next_due() {
            let before = due.checked_sub_signed(TimeDelta::milliseconds(1));
            committed.as_of = now.wall.min(before.unwrap_or(due));
        }
        Self {
            store_id: stored.id,
            term: stored.term,
            rules,
            committed,
            under_way: None,
            begun: Mono::ZERO,
            next: None,
            jobs: VecDeque::new(),
            store_error: None,
            trouble: Trouble::default(),
            hangs: None,
            hanging: Trouble::default(),
            unwritten: Unwritten::default(),
            not_before: Mono::ZERO,
            forget_at: now.mono.saturating_add(FIRST_FORGET),
        }
    }

    /// Something is to be taken in.
    pub fn push(&mut self, job: Job) {
        self.jobs.push_back(job);
    }

    /// Drops the orders of these operators, unless a batch holds them already.
    pub fn drop_orders(&mut self, of: impl Fn(Ticket) -> bool) {
        self.jobs
            .retain(|job| !matches!(job, Job::Order(_, ticket) if of(*ticket)));
    }

    /// Whether a batch that is not known to be written holds this operator's order.
    pub fn holds_order(&self, ticket: Ticket) -> bool {
        let next = self.next.iter().flat_map(BatchBuilder::orders);
        let under_way = self.under_way.iter();
        let under_way = under_way.flat_map(|it| &it.after_commit.orders);
        next.chain(under_way).any(|order| *order == ticket)
    }

    /// The requests whose responses wait until all due starts and ends are
    /// applied.
    pub fn waiting_requests(&self) -> impl Iterator<Item = Asked> {
        self.jobs.iter().filter_map(|job| match job {
            Job::Answer(answer) => Some(answer.asked),
            Job::Order(..) => None,
        })
    }

    /// The schedule with all that was taken in. `None` while an observation is
    /// still to be taken in.
    pub fn newest_schedule(&self) -> Option<&Schedule> {
        if !self.jobs.is_empty() {
            return None;
        }
        Some(match (&self.next, &self.under_way) {
            (Some(next), _) => next.schedule(),
            (None, Some(under_way)) => &under_way.next.schedule,
            (None, None) => &self.committed.schedule,
        })
    }

    /// Why nothing can be written, if nothing can.
    pub fn error(&self) -> Option<String> {
        self.store_error.as_ref().or(self.hangs.as_ref()).cloned()
    }

    /// The commit under way.
    pub fn under_way(&self) -> Option<&CommitUnderWay> {
        self.under_way.as_ref()
    }

    /// Whether a commit is under way.
    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether nothing is under way, and nothing waits to be written.
    pub fn is_at_rest(&self) -> bool {
        self.under_way.is_none() && self.next.is_none() && self.jobs.is_empty()
    }

    /// Whether nothing that has come due waits to be taken in, or cannot be now: what
    /// was delivered before goes on while the store fails.
    pub fn is_caught_up(&self, now: Now) -> bool {
        let due = self.committed.next_due().is_some_and(|due| due <= now.wall);
        !due || self.store_error.is_some()
    }

    /// Whether there is a chunk to prepare while a commit is under way.
    pub fn has_chunk(&self, now: Now) -> bool {
        let full = self.next.as_ref().is_some_and(BatchBuilder::is_full);
        self.under_way.is_some() && !full && self.is_due(now)
    }

    /// No commit begins before `at`, or before the disk is tried again.
    pub fn not_before(&self, at: Mono) -> Mono {
        at.max(self.not_before)
    }

    /// Takes in what time brought and what the API said. While a commit is under
    /// way, that is built on what it writes: then the next one is ready when it
    /// ends.
    fn build_batch(&mut self, clocks: Clocks, now: Now) {
        let due = self.is_due(now);
        if self.jobs.is_empty() && !due {
            return;
        }
        let mut next = self.next.take().unwrap_or_else(|| self.builder(now));
        next.set_clocks(clocks);
        if due && !next.is_full() {
            next.clock(now);
        }
        while !next.is_full()
            && let Some(job) = self.jobs.pop_front()
        {
            next.job(job, now);
        }
        self.next = Some(next);
    }

    /// Whether time brings something that is not taken in yet, and may be.
    fn is_due(&self, now: Now) -> bool {
        let due = match (&self.next, &self.under_way) {
            (Some(next), _) => next.next_due(),
            (None, Some(under_way)) => under_way.next.next_due(),
            (None, None) => self.committed.next_due(),
        };
        now.mono >= self.not_before && due.is_some_and(|due| due <= now.wall)
    }

    fn builder(&self, now: Now) -> BatchBuilder {
        let base = self.under_way.as_ref().map(|under_way| &under_way.next);
        BatchBuilder::new(
            base.unwrap_or(&self.committed),
            self.term,
            Arc::clone(&self.store_id),
            self.rules,
            now,
        )
    }

    /// Begins a commit of all that is to be written, if none is under way. `blind`
    /// says that no poll has succeeded for too long; while the daemon is `stopping`,
    /// every delivery is written down at once.
    pub fn begin<W>(
        &mut self,
        delivering: &mut Delivering<W>,
        blind: bool,
        stopping: bool,
        clocks: Clocks,
        now: Now,
    ) -> Begun {
        self.build_batch(clocks, now);
        if self.under_way.is_some() {
            return Begun::Nothing;
        }
        // A poll that waits to be written ends the blindness.
        let polled = self.next.as_ref().is_some_and(BatchBuilder::polled);
        let stale = blind && !polled && !self.committed.sync.stale;
        let forget = now.mono >= self.forget_at;
        let probe = self.store_error.is_some();
        let by_itself = stale || forget || probe || delivering.must_write(now.mono, stopping);
        if self.next.is_none() && !(now.mono >= self.not_before && by_itself) {
            let due = self.committed.next_due().is_some_and(|due| due <= now.wall);
            if !due {
                self.committed.as_of = now.wall;
            }
            return Begun::Nothing;
        }
        let mut next = self.next.take().unwrap_or_else(|| self.builder(now));
        next.set_clocks(clocks);
        if stale {
            next.stale(now);
        }
        if forget {
            self.forget_at = now.mono.saturating_add(FORGET_EVERY);
            next.forget(now);
        }
        if probe {
            next.probe();
        }
        delivering.write_down(&mut next, stopping, now.mono);
        let (batch, under_way) = next.finish(now);
        if batch.is_empty() {
            return Begun::Empty(Box::new(under_way));
        }
        self.under_way = Some(under_way);
        self.begun = now.mono;
        Begun::Commit(Box::new(batch))
    }

    /// The commit under way has ended. `None` if there is none.
    pub fn ended(
        &mut self,
        result: Result<(), StoreError>,
        clocks: Clocks,
        now: Now,
    ) -> Option<Ended> {
        let mut under_way = Box::new(self.under_way.take()?);
        if self.hangs.take().is_some()
            && let Some(took) = self.hanging.over(now.mono)
        {
            tracing::info!(took = %spoken(took + HANGS), "the commit has ended");
        }
        // What is counted from now on are others.
        self.unwritten.forget_count();
        Some(match result {
            Ok(()) => {
                if self.store_error.take().is_some()
                    && let Some(failed_for) = self.trouble.over(now.mono)
                {
                    tracing::info!(
                        failed_for = %spoken(failed_for),
                        "the state takes writes again"
                    );
                }
                self.not_before = Mono::ZERO;
                Ended::Written(under_way)
            }
            Err(
                error @ (StoreError::Fenced
                | StoreError::OutOfStep
                | StoreError::Closed
                | StoreError::Replaced(_)),
            ) => Ended::End(error),
            Err(error) => {
                let reason = error.to_string();
                if self.store_error.as_ref() != Some(&reason)
                    && self.trouble.lasts(now.mono).is_some()
                {
                    tracing::error!(
                        %error,
                        next_try = %format_args!("in {}", spoken(DISK_PAUSE)),
                        "nothing can be written; webhooks are answered 503 until it can"
                    );
                }
                self.store_error = Some(reason.clone());
                let mut jobs = std::mem::take(&mut under_way.jobs);
                // What operators ordered is refused.
                jobs.retain(|job| !matches!(job, Job::Order(..)));
                self.unwritten.lose(&jobs);
                self.look_ahead(jobs, &[], clocks, now);
                self.unwritten.log(now.mono);
                // What was built on the failed commit is taken in anew (rule R5).
                if let Some(next) = self.next.take() {
                    let later = std::mem::take(&mut self.jobs);
                    self.jobs = next.undo().into_iter().chain(later).collect();
                }
                self.not_before = now.mono.saturating_add(DISK_PAUSE);
                if under_way.forgets {
                    // What it deletes may be the room that is wanted.
                    self.forget_at = now.mono;
                }
                Ended::Failed(under_way, reason)
            }
        })
    }

    /// Works out what is due by `now`, while it is not known whether anything is written.
    pub fn look_at_due(&mut self, clocks: Clocks, now: Now) {
        let answers = || {
            let under_way = self.under_way.iter().flat_map(|it| &it.jobs);
            let next = self.next.iter().flat_map(BatchBuilder::jobs);
            let all = under_way.chain(next).chain(&self.jobs);
            // Whether orders will be carried out is not known.
            all.filter(|job| !matches!(job, Job::Order(..)))
        };
        if self.unwritten.is_behind(answers().count(), now.wall) {
            // They are taken in for good later, and bring nothing a second time.
            let answers = answers().cloned().collect();
            self.look_ahead(answers, &[], clocks, now);
        }
        self.unwritten.log(now.mono);
    }

    /// A commit of `jobs` was written, with these events, and with the answer to the poll
    /// `list`, if to one. If commits that failed had other answers, these still tell what is
    /// due, until a later list is written.
    pub fn look_past(
        &mut self,
        jobs: Vec<Job>,
        events: &[Event],
        list: Option<Asked>,
        clocks: Clocks,
        now: Now,
    ) {
        if self.unwritten.lost().is_none_or(|lost| list > Some(lost)) {
            self.unwritten.clear();
        } else {
            self.look_ahead(jobs, events, clocks, now);
        }
    }

    /// What is due and cannot be sent is looked at once more, if there may be anything.
    pub fn watch(&mut self, clocks: Clocks, now: Now) {
        let takes = now.mono.saturating_sub(self.begun);
        if self.under_way.is_some() && takes >= HANGS {
            self.hangs(takes, now.mono);
            self.look_at_due(clocks, now);
        } else if self.unwritten.is_overtaken(now.wall) {
            self.look_ahead(Vec::new(), &[], clocks, now);
        } else if self.is_at_rest() && self.store_error.is_none() && self.unwritten.lost().is_none()
        {
            self.unwritten.clear();
        }
        self.unwritten.log(now.mono);
    }

    /// The commit under way takes so long that nobody can know whether it ends. It may
    /// have been written: until it ends, nothing goes that waits for it.
    fn hangs(&mut self, takes: Duration, now: Mono) {
        let lasts = humantime::format_duration(Duration::from_secs(takes.as_secs()));
        let reason = format!("a commit has not ended for {lasts}");
        if self.hanging.lasts(now).is_some() {
            tracing::error!("{reason}; nothing else can be written before");
        }
        self.hangs = Some(reason);
    }

    /// Works out what is due by `now` and cannot be sent, after `jobs`. `written` is what was
    /// written since the last time.
    fn look_ahead(&mut self, jobs: Vec<Job>, written: &[Event], clocks: Clocks, now: Now) {
        let base = self.unwritten.ahead().unwrap_or(&self.committed);
        let mut ahead =
            BatchBuilder::new(base, self.term, Arc::clone(&self.store_id), self.rules, now);
        ahead.set_clocks(clocks);
        ahead.catch_up(now);
        for job in jobs {
            ahead.job(job, now);
            ahead.catch_up(now);
        }
        let (_, ahead) = ahead.finish(now);
        self.unwritten.advance(ahead, &self.committed.plan, written);
    }
}
