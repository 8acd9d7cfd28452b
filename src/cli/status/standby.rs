//! What is shown of a daemon that stands by.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::report::{Api, Verdicts, Webhooks};
use super::table::{Colour, Page, Style};
use super::words::{span, time};

/// What tells whether a daemon leads, and how one fares that does not.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Standing {
    version: String,
    started_at: Option<DateTime<Utc>>,
    now: Option<DateTime<Utc>>,
    node: String,
    role: String,
    leadership: Option<Leadership>,
    api: Option<Api>,
    verdict: Option<Verdicts>,
    schedule: Revision,
    sync: Traffic,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Leadership {
    term: Option<u64>,
    leader: Option<String>,
    since: Option<DateTime<Utc>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Revision {
    revision: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Traffic {
    webhooks: Webhooks,
}

impl Standing {
    /// Whether it leads. A daemon of a version that knows no role does.
    pub fn leads(&self) -> bool {
        self.role != "standby"
    }

    /// What tells it from every other process.
    pub fn identity(&self) -> (&str, Option<DateTime<Utc>>) {
        (&self.node, self.started_at)
    }

    /// Whether it says that nothing is wrong with it.
    pub fn is_well(&self) -> bool {
        self.gravity() == 0
    }

    /// How grave its state is: 0 is well.
    pub fn gravity(&self) -> u8 {
        let verdict = self.verdict.as_ref();
        match verdict.and_then(|both| both.schedule.as_ref()) {
            None => 0,
            Some(verdict) => match &*verdict.level {
                "ok" => 0,
                "warning" => 1,
                _ => 2,
            },
        }
    }

    /// What it says of itself.
    pub fn text(&self) -> &str {
        let verdict = self.verdict.as_ref();
        let schedule = verdict.and_then(|both| both.schedule.as_ref());
        schedule.map_or("", |verdict| &verdict.text)
    }

    /// The name of the daemon that leads, if it stands by and knows that.
    pub fn leader(&self) -> Option<&str> {
        self.leadership.as_ref()?.leader.as_deref()
    }

    /// Whether it stands by with nothing to show. One that does not know whether it still
    /// leads keeps its schedule.
    pub fn knows_no_schedule(&self) -> bool {
        !self.leads() && self.schedule.revision.is_none()
    }
}

/// The report on a daemon that stands by.
pub(super) fn draw(standing: &Standing, style: Style) -> String {
    let mut page = Page::new(style);
    let (colour, text) = match standing
        .verdict
        .as_ref()
        .and_then(|both| both.schedule.as_ref())
    {
        Some(verdict) => (Colour::of_level(&verdict.level), &*verdict.text),
        None => (Colour::Green, "This daemon stands by."),
    };
    page.entry("STANDBY", colour, text);
    let leadership = standing.leadership.as_ref();
    let leader = leadership.and_then(|leadership| leadership.leader.as_deref());
    let since = leadership.and_then(|leadership| leadership.since);
    let term = leadership.and_then(|leadership| leadership.term);
    let mut text = match leader {
        Some(leader) => leader.to_owned(),
        None => "none is known".to_owned(),
    };
    if let Some(since) = since {
        text += &format!(" since {}", time(since));
    }
    if let Some(term) = term {
        text += &format!(", term {term}");
    }
    page.entry("leader", Colour::None, &text);
    let Webhooks {
        received,
        accepted,
        rejected,
        failed,
        ..
    } = standing.sync.webhooks;
    let text = format!(
        "{received} received to be passed on: {accepted} accepted, {rejected} rejected, {failed} failed"
    );
    page.entry("webhooks", Colour::None, &text);
    let up = match (standing.started_at, standing.now) {
        (Some(at), Some(now)) => {
            let seconds = (now - at).num_seconds().max(0);
            format!(", up {}", span(seconds.unsigned_abs()))
        }
        _ => String::new(),
    };
    let (version, node) = (&standing.version, &standing.node);
    let text = format!("dispatchd {version} on {node} (standby){up}; times are UTC");
    page.entry("daemon", Colour::None, &text);
    if let Some(api) = &standing.api {
        let text = format!("{} ({})", api.host, api.environment);
        page.entry("API", Colour::None, &text);
    }
    let text = "ask the leader for schedule and sites: set --status-url to its status listener";
    page.entry("", Colour::Dim, text);
    page.text()
}
