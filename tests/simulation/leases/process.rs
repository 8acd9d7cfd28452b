//! One daemon as far as the lease goes: the machine, its clocks, its coordinator.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use dispatchd::clock::Mono;
use dispatchd::store::Candidate;
use dispatchd::sync::{Leadership, Lease, LeaseCall};
use rand::RngExt;

use super::Event;
use super::whole::RunningLead;
use crate::dice::Dice;

/// A process, from its start to its end, and then the next one on its machine.
pub struct Process {
    number: usize,
    pub lease: Lease,
    pub candidate: Candidate,
    /// Grows with each start.
    pub life: u64,
    pub up: bool,
    pub leaving: bool,
    /// How many incidents of the kind last.
    pub paused: u32,
    pub hung: u32,
    pub cut: u32,
    pub lossy: u32,
    /// Since when nothing has been wrong with it, the store apart.
    pub well_since: Option<Duration>,
    pub under_way: Option<UnderWay>,
    pub calls: u64,
    /// The newest time for which it wants to be woken.
    pub wake: u64,
    /// What has come for it while it was paused.
    pub held: Vec<Event>,
    /// Requests that are on their way until it is not cut off any more.
    pub stuck: Vec<Event>,
    /// How many incidents keep a whole daemon from the API, and from its receivers.
    pub cut_from_api: u32,
    pub cut_from_receivers: u32,
    /// What a whole daemon has while it leads.
    pub lead: Option<RunningLead>,
    /// The term for which a whole daemon loads the state.
    pub loading: Option<u64>,
    /// Its lead has ended by itself, and it waits until another one leads.
    pub gave_up: bool,
    /// It trusted itself when the checks looked last.
    pub led: bool,
    clocks: Clocks,
}

/// A call under way, as the process knows it.
pub struct UnderWay {
    pub number: u64,
    pub call: LeaseCall,
    pub sent: Mono,
}

/// A call on its way to the store.
#[derive(Debug, Clone)]
pub struct Request {
    pub process: usize,
    pub life: u64,
    pub number: u64,
    pub call: LeaseCall,
    pub candidate: Candidate,
    /// When it was sent, in the world's time.
    pub sent: Duration,
    pub wall: DateTime<Utc>,
}

/// Clocks of one life: they began at another time than those of other processes, run at
/// another speed, and the wall clock is wrong.
struct Clocks {
    began: u64,
    /// How much faster than the world's clock, in millionths.
    faster: i64,
    wall_ahead: TimeDelta,
}

impl Process {
    /// `wall_off` is by how many milliseconds its wall clock may be wrong.
    pub fn new(number: usize, life: u64, dice: Dice, wall_off: i64) -> Self {
        let mut roll = dice.roll("process", &[number as u64, life]);
        let holder: Arc<str> = format!("{number}.{life}").into();
        Self {
            number,
            lease: Lease::new(Arc::clone(&holder)),
            candidate: Candidate {
                holder,
                node: format!("node-{number}").into(),
                advertise: None,
                fingerprint: "same".into(),
            },
            life,
            up: false,
            leaving: false,
            paused: 0,
            hung: 0,
            cut: 0,
            lossy: 0,
            well_since: None,
            under_way: None,
            calls: 0,
            wake: 0,
            held: Vec::new(),
            stuck: Vec::new(),
            cut_from_api: 0,
            cut_from_receivers: 0,
            lead: None,
            loading: None,
            gave_up: false,
            led: false,
            clocks: Clocks {
                began: roll.random_range(0..1_000_000_000),
                faster: roll.random_range(-2000..2000),
                wall_ahead: TimeDelta::milliseconds(roll.random_range(-wall_off..wall_off)),
            },
        }
    }

    /// What its clock shows at this time of the world.
    pub fn mono(&self, at: Duration) -> Mono {
        let world = micros(at);
        let gained = world * self.clocks.faster / 1_000_000;
        let shown = i64::try_from(self.clocks.began).unwrap_or_default() + world + gained;
        Duration::from_micros(shown.unsigned_abs())
    }

    /// A time of the world at which its clock shows `mono` or a little more.
    pub fn world(&self, mono: Mono) -> Duration {
        let began = Duration::from_micros(self.clocks.began);
        let since = micros(mono.saturating_sub(began));
        let at = since * 1_000_000 / (1_000_000 + self.clocks.faster) + 2;
        Duration::from_micros(at.unsigned_abs())
    }

    pub fn wall(&self, at: Duration) -> DateTime<Utc> {
        let since = TimeDelta::microseconds(micros(at));
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + since + self.clocks.wall_ahead
    }

    pub fn leadership(&self, at: Duration) -> Leadership {
        self.lease.leadership(self.mono(at))
    }

    /// Whether it trusts itself to lead.
    pub fn leads(&self, at: Duration) -> bool {
        self.up && matches!(self.leadership(at), Leadership::Leading { .. })
    }

    /// The name under which it leads in this life.
    pub fn name_of(&self, life: u64) -> String {
        format!("{}.{life}", self.number)
    }

    /// Who leads, as it knows.
    pub fn known_leader(&self, at: Duration) -> Option<Arc<str>> {
        match self.leadership(at) {
            Leadership::Standby { leader: row } | Leadership::Deposed { by: row, .. } => {
                row.map(|row| row.holder)
            }
            Leadership::Leading { .. } | Leadership::Suspended { .. } => None,
        }
    }

    /// Whether nothing is wrong with it, the store apart.
    pub fn is_well(&self) -> bool {
        self.is_undisturbed() && !self.leaving
    }

    /// Whether nothing is wrong with it, but that it may have been told to stop.
    pub fn is_undisturbed(&self) -> bool {
        self.up && !self.gave_up && self.paused + self.hung + self.cut + self.lossy == 0
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// A call, for the trace.
pub fn told(call: &LeaseCall) -> &'static str {
    match call {
        LeaseCall::Look => "looks",
        LeaseCall::Renew { .. } => "renews",
        LeaseCall::TakeOver { .. } => "takes over",
        LeaseCall::GiveBack { .. } => "gives back",
    }
}
