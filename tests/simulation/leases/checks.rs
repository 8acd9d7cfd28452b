//! What must hold of daemons that share a lease.

use std::time::Duration;

use dispatchd::store::LeaseRow;

use super::process::Process;
use crate::violation::{Checked, must};

/// How long nobody may lead while a daemon is well that could.
const TAKE_OVER_WITHIN: Duration = Duration::from_secs(10);

/// The same after the lease was given back.
const AFTER_GIVING_BACK: Duration = Duration::from_secs(2);

/// A leader with which nothing has been wrong for so long has been renewed since.
const RENEWED_WITHIN: Duration = Duration::from_secs(5);

/// A standby that has been well for so long looks every second.
const LOOKS_WITHIN: Duration = Duration::from_secs(7);

/// How long after the store is back the roles must have been settled.
pub const SETTLED_AFTER: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
pub struct Checks {
    /// When somebody who can act was last known to lead.
    led: Duration,
    /// When the row was last changed by a request that was late, or of which the sender may
    /// never hear: then nobody may lead, and nobody may take over.
    touched: Duration,
    /// Since when the store has been there.
    store_since: Option<Duration>,
    take_overs: u64,
    last_term: u64,
    given_back: Option<Duration>,
}

/// How things stood when the store went away.
#[derive(Debug, Clone, Copy)]
pub struct Before {
    at: Duration,
    take_overs: u64,
    led: bool,
}

impl Checks {
    pub fn new() -> Self {
        Self {
            store_since: Some(Duration::ZERO),
            ..Self::default()
        }
    }

    /// The store is there from now on, or it is not.
    pub fn store(&mut self, since: Option<Duration>) {
        self.store_since = since;
    }

    /// Since when nothing at all has been wrong with this process.
    fn well_since(&self, process: &Process) -> Option<Duration> {
        Some(process.well_since?.max(self.store_since?))
    }

    fn well_for(&self, process: &Process, at: Duration, length: Duration) -> bool {
        self.well_since(process)
            .is_some_and(|since| at.saturating_sub(since) >= length)
    }

    /// After each step.
    pub fn step(&mut self, processes: &mut [Process], at: Duration) -> Checked {
        let leading = processes.iter().filter(|process| process.leads(at));
        let names: Vec<_> = leading.map(|process| &*process.candidate.holder).collect();
        must(names.len() < 2, at, "two trust themselves at once", || {
            names.join(", ")
        })?;
        for process in processes.iter() {
            let lost = process.led && process.up && !process.leaving && !process.leads(at);
            must(
                !(lost && self.well_for(process, at, RENEWED_WITHIN)),
                at,
                "a leader that is well loses its trust",
                || format!("{}", process.candidate.holder),
            )?;
        }
        for process in processes.iter_mut() {
            process.led = process.leads(at);
        }
        self.somebody_leads(processes, at)
    }

    fn somebody_leads(&mut self, processes: &[Process], at: Duration) -> Checked {
        let acts = |process: &Process| process.is_undisturbed() && process.leads(at);
        if processes.iter().any(acts) {
            self.led = at;
            self.given_back = None;
        }
        let could = |length| {
            let mut all = processes.iter();
            all.find(|process| self.well_for(process, at, length))
        };
        let nobody_since = self.led.max(self.touched);
        let could_take_over = could(TAKE_OVER_WITHIN);
        must(
            could_take_over.is_none() || at.saturating_sub(nobody_since) <= TAKE_OVER_WITHIN,
            at,
            "nobody takes over within ten seconds",
            || format!("nobody leads since {nobody_since:?}"),
        )?;
        if let Some(given_back) = self.given_back {
            let since = at.saturating_sub(given_back);
            let could_take_over = could(since + LOOKS_WITHIN);
            must(
                could_take_over.is_none() || since <= AFTER_GIVING_BACK,
                at,
                "a lease that was given back is not taken within two seconds",
                || format!("it was given back at {given_back:?}"),
            )?;
        }
        Ok(())
    }

    /// A process has changed the row: `in_vain` if it may be dead or never hear of it.
    pub fn changed(
        &mut self,
        processes: &[Process],
        in_vain: bool,
        rows: (Option<&LeaseRow>, &LeaseRow),
        at: Duration,
    ) -> Checked {
        let (before, after) = rows;
        if in_vain {
            self.touched = at;
        }
        if after.given_back && !before.is_some_and(|row| row.given_back) {
            self.given_back = Some(at);
        }
        if before.is_some_and(|row| row.term == after.term) {
            return Ok(());
        }
        self.take_overs += 1;
        self.given_back = None;
        // It may die before it has heard of it.
        self.led = at;
        must(
            after.term > self.last_term,
            at,
            "a term comes again",
            || format!("{} after {}", after.term, self.last_term),
        )?;
        self.last_term = after.term;
        let deposed = processes
            .iter()
            .find(|process| process.leads(at) && self.well_for(process, at, RENEWED_WITHIN));
        must(
            deposed.is_none(),
            at,
            "a leader that is well is deposed",
            || format!("by {}", after.holder),
        )
    }

    /// The process goes on after it has been paused since then.
    pub fn goes_on(process: &Process, since: Duration, at: Duration) -> Checked {
        let long = at.saturating_sub(since) >= Duration::from_secs(4);
        must(
            !(long && process.leads(at)),
            at,
            "a process that was paused trusts itself when it goes on",
            || format!("{}", process.candidate.holder),
        )
    }

    /// The store goes away.
    pub fn before(&self, processes: &[Process], at: Duration) -> Before {
        Before {
            at,
            take_overs: self.take_overs,
            led: processes
                .iter()
                .any(|process| process.leads(at) && self.well_for(process, at, RENEWED_WITHIN)),
        }
    }

    /// The store has been back for some time.
    pub fn settled(&self, before: Before, processes: &[Process], at: Duration) -> Checked {
        let undisturbed = processes
            .iter()
            .all(|process| process.well_since.is_some_and(|since| since <= before.at))
            && before.led
            && self
                .store_since
                .is_some_and(|since| at.saturating_sub(since) >= SETTLED_AFTER);
        let changes = self.take_overs - before.take_overs;
        must(
            !undisturbed || changes <= 1,
            at,
            "the lead moves more than once when the store was away",
            || format!("{changes} take-overs"),
        )
    }

    /// The end of a run, after a time in which all was well.
    pub fn end(processes: &[Process], at: Duration) -> Checked {
        let leading = processes.iter().filter(|process| process.leads(at)).count();
        must(leading == 1, at, "in the end one daemon leads", || {
            format!("{leading} do")
        })
    }

    pub fn take_overs(&self) -> u64 {
        self.take_overs
    }
}
