//! What happens in one run: a list of incidents, each at its time.

use std::fmt;
use std::time::Duration;

use super::routes::SimulatedRoute;
use dispatchd::model::SiteMode;
use dispatchd::sync::Settings;

/// One run, before it is run. All else follows from it and the seed.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    /// Where every chance comes from.
    pub seed: u64,
    /// How the world and the daemon are set up.
    pub knobs: Knobs,
    /// What happens, by time.
    pub incidents: Vec<Timed>,
    /// From then on nothing goes wrong any more.
    pub quiet_from: Duration,
    /// The daemon dies at its commit with this number, which is then on disk or
    /// not.
    pub crash_at_write: Option<(u64, bool)>,
}

/// How the world and the daemon are set up.
#[derive(Debug, Clone)]
pub(super) struct Knobs {
    /// The daemon's own settings.
    pub settings: Settings,
    /// The most events that each receiver takes at once.
    pub batches: Vec<usize>,
    /// What each receiver is for at first.
    pub routes: Vec<SimulatedRoute>,
    /// How long the list shows what is over.
    pub list_window: Duration,
    /// The share of versions that carry a modification number.
    pub numbered: f64,
    /// The longest that the API takes when nothing is wrong.
    pub latency: Duration,
    /// The share of webhooks that are lost though nothing is wrong.
    pub lost: f64,
}

/// An incident and its time.
#[derive(Debug, Clone)]
pub(super) struct Timed {
    /// When, since the begin.
    pub at: Duration,
    /// Its number for the dice. Stays when others are taken out.
    pub number: u64,
    /// What.
    pub what: Incident,
}

/// Something that happens to the world.
#[derive(Debug, Clone)]
pub(super) enum Incident {
    /// The upstream makes a dispatch.
    Create { dispatch: usize, plan: Plan },
    /// The upstream changes one.
    Change { dispatch: usize, edit: Edit },
    /// One is gone from the upstream.
    Remove { dispatch: usize },
    /// One that was gone is back as it was.
    PutBack { dispatch: usize },
    /// The upstream is restored from a backup that is this old.
    RestoreAll { back: Duration },
    /// A webhook comes for no reason, for a dispatch or for an id that never was.
    Junk { dispatch: Option<usize> },
    /// So many webhooks come at once, most of them for ids that never were.
    Flood { webhooks: u64 },
    /// Somebody asks for a poll.
    PollByHand,
    /// An operator curtails a site or keeps it out for so long, or lets it follow its
    /// dispatches again.
    Order {
        site: u8,
        order: Option<(SiteMode, Duration)>,
    },
    /// The API does this for a while.
    Api { fault: ApiFault, lasts: Duration },
    /// Webhooks suffer this for a while.
    Webhooks {
        fault: WebhookFault,
        lasts: Duration,
    },
    /// A receiver does this for a while.
    Sink {
        sink: usize,
        fault: SinkFault,
        lasts: Duration,
    },
    /// The disk does this for a while.
    Disk { fault: DiskFault, lasts: Duration },
    /// The daemon dies at once.
    Crash { down: Duration },
    /// The daemon dies at its next commit, which is then on disk or not.
    CrashAtCommit { written: bool, down: Duration },
    /// The daemon dies at most commits for a while.
    CrashStorm { lasts: Duration },
    /// The daemon is told to end, and is started again, perhaps without one of
    /// its sinks.
    Restart {
        down: Duration,
        without: Option<usize>,
    },
    /// From the next start on a receiver is for something else.
    Reroute { sink: usize, route: SimulatedRoute },
    /// Somebody copies the state.
    BackUp,
    /// The daemon dies, and its state is gone, or replaced by the last copy.
    LoseState { down: Duration, restored: bool },
    /// The wall clock jumps ahead for good.
    JumpAhead { by: Duration },
    /// The wall clock falls back, and is put right later.
    FallBack { by: Duration, lasts: Duration },
    /// The wall clock is ahead for a while, and is put right then.
    RunAhead { by: Duration, lasts: Duration },
    /// The machine sleeps. Both clocks count that time.
    Suspend { lasts: Duration },
    /// The daemon gets no processor for a while.
    Stall { lasts: Duration },
    /// The daemon knows for a moment more that it leads, and then not for a while.
    TrustRunsOut { left: Duration, lasts: Duration },
}

/// A dispatch as it is first made.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Seconds from now to the start. Negative: it has begun.
    pub start: i64,
    /// Seconds from the start to the end, if that is known.
    pub length: Option<i64>,
    pub authorized: bool,
    pub test: bool,
    /// The sites, one a bit.
    pub sites: u8,
}

/// A change to a dispatch.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    /// The start moves by so many seconds.
    MoveStart(i64),
    /// The end is so many seconds from now; `None`: it is open.
    End(Option<i64>),
    Authorized(bool),
    Sites(u8),
    /// Other commitments.
    Commitments,
    /// Something that bears on nothing.
    Metadata,
    /// A field that nobody knows, of the dispatch or of the site with this number, has
    /// this value from now on, or is gone.
    Unknown {
        site: Option<u8>,
        value: Option<u8>,
    },
}

/// What the API does wrong.
#[derive(Debug, Clone)]
pub(super) enum ApiFault {
    /// Nothing is answered.
    Down,
    /// Half of the answers are errors.
    Errors,
    /// 429.
    TooFast { retry_after: Option<Duration> },
    /// 503 with `Retry-After`.
    Unavailable { retry_after: Duration },
    /// Some answers come from a replica that lags behind by so much.
    Replica { lag: Duration },
    /// Some answers come from a cache that has kept them up to so long, and says
    /// so.
    Cached { age: Duration },
    /// The list is empty.
    EmptyList,
    /// The list lacks some that are there.
    Holes,
    /// Some are gone from list and look-up.
    Vanish,
    /// Some cannot be read, or only in part.
    Garbled,
    /// The list has elements without an id.
    Nameless,
    /// Look-ups are answered about another dispatch.
    Another,
    /// Answers take up to half a minute.
    Slow,
}

/// What becomes of webhooks.
#[derive(Debug, Clone, Copy)]
pub(super) enum WebhookFault {
    Lost,
    Late,
    Doubled,
}

/// What a receiver does wrong.
#[derive(Debug, Clone, Copy)]
pub(super) enum SinkFault {
    /// Nothing arrives.
    Down,
    /// It acts, and the answer is lost.
    Unknown,
    /// It acts long after the attempt has failed.
    Late,
    /// It takes long.
    Slow,
    /// It fails half of the time, and says when to come back.
    Busy,
    /// It answers everything with 410.
    Gone,
    /// It answers some subjects with 410.
    GoneForSome,
    /// It does not answer about some subjects.
    HangsForSome,
}

/// What the disk does wrong.
#[derive(Debug, Clone, Copy)]
pub(super) enum DiskFault {
    /// Nothing can be written.
    Full,
    /// Writing takes seconds.
    Slow,
}

impl Scenario {
    /// Whether the state is lost or replaced at some time.
    pub fn loses_state(&self) -> bool {
        let mut incidents = self.incidents.iter();
        incidents.any(|timed| matches!(timed.what, Incident::LoseState { .. }))
    }
}

impl Incident {
    /// Its name in reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Create { .. } => "dispatch created",
            Self::Change { edit, .. } => match edit {
                Edit::MoveStart(_) => "start moved",
                Edit::End(_) => "end set",
                Edit::Authorized(_) => "authorization changed",
                Edit::Sites(_) => "sites changed",
                Edit::Commitments => "commitments changed",
                Edit::Metadata => "metadata changed",
                Edit::Unknown { site: None, .. } => "unknown field changed",
                Edit::Unknown { .. } => "unknown field of a site changed",
            },
            Self::Remove { .. } => "dispatch removed",
            Self::PutBack { .. } => "dispatch put back",
            Self::RestoreAll { .. } => "upstream restored from a backup",
            Self::Junk { .. } => "junk webhook",
            Self::Flood { .. } => "flood of webhooks",
            Self::PollByHand => "poll by hand",
            Self::Order { .. } => "order for a site",
            Self::Api { fault, .. } => match fault {
                ApiFault::Down => "API down",
                ApiFault::Errors => "API errors",
                ApiFault::TooFast { retry_after: None } => "429",
                ApiFault::TooFast { .. } => "429 with Retry-After",
                ApiFault::Unavailable { .. } => "503 with Retry-After",
                ApiFault::Replica { .. } => "a lagging replica",
                ApiFault::Cached { .. } => "answers with an age",
                ApiFault::EmptyList => "empty list",
                ApiFault::Holes => "list with holes",
                ApiFault::Vanish => "ids vanish",
                ApiFault::Garbled => "unreadable parts",
                ApiFault::Nameless => "nameless dispatches",
                ApiFault::Another => "wrong answers",
                ApiFault::Slow => "API slow",
            },
            Self::Webhooks { fault, .. } => match fault {
                WebhookFault::Lost => "webhooks lost",
                WebhookFault::Late => "webhooks late",
                WebhookFault::Doubled => "webhooks doubled",
            },
            Self::Sink { fault, .. } => match fault {
                SinkFault::Down => "receiver down",
                SinkFault::Unknown => "receiver acts, answer lost",
                SinkFault::Late => "receiver acts late",
                SinkFault::Slow => "receiver slow",
                SinkFault::Busy => "receiver busy",
                SinkFault::Gone => "receiver answers 410",
                SinkFault::GoneForSome => "receiver answers 410 for some subjects",
                SinkFault::HangsForSome => "receiver hangs for some subjects",
            },
            Self::Disk { fault, .. } => match fault {
                DiskFault::Full => "disk full",
                DiskFault::Slow => "disk slow",
            },
            Self::Crash { .. } => "crash",
            Self::CrashAtCommit { written: true, .. } => "crash after the write",
            Self::CrashAtCommit { .. } => "crash before the write",
            Self::CrashStorm { .. } => "crashes at every write",
            Self::Restart { without: None, .. } => "restart",
            Self::Restart { .. } => "restart without a sink",
            Self::Reroute { .. } => "other route",
            Self::BackUp => "state backed up",
            Self::LoseState { restored: true, .. } => "state restored from a backup",
            Self::LoseState { .. } => "state lost",
            Self::JumpAhead { .. } => "clock jumps ahead",
            Self::FallBack { .. } => "clock falls back",
            Self::RunAhead { .. } => "clock is ahead for a while",
            Self::Suspend { .. } => "suspend",
            Self::Stall { .. } => "stall",
            Self::TrustRunsOut { .. } => "trust runs out",
        }
    }
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.3} {:?}", self.at.as_secs_f64(), self.what)
    }
}
