//! How things stand, above the tables: the verdicts, what the API says, webhooks,
//! deliveries.

use super::report::{Delivery, InDoubt, Status};
use super::table::{Colour, Page, Style};
use super::words::{cut, relative, span, time};
use crate::cli::output::plain;
use crate::model::count;

impl Page {
    /// The verdicts, and how things stand.
    pub fn summary(&mut self, status: &Status) {
        let store_is_told = self.verdicts(status);
        self.api(status);
        if let Some(error) = status.store.error.as_ref().filter(|_| !store_is_told) {
            self.entry("store", Colour::Red, error);
        }
        self.webhooks(status);
        self.deliveries(status);
        self.daemon(status);
    }

    /// Whether the schedule is right, and whether all were told; the graver one first.
    /// `true` if one of them says that nothing can be stored.
    fn verdicts(&mut self, status: &Status) -> bool {
        let now = status.now;
        let sync = &status.sync;
        let since = sync.last_successful_poll;
        let next = sync.next_poll.map_or_else(String::new, |next| {
            if next > now {
                format!(", next {}", relative(next, now))
            } else {
                ", next now".to_owned()
            }
        });
        let mut label = sync.state.to_uppercase();
        let verdicts = status.verdict.as_ref();
        let doubt = verdicts.and_then(|verdicts| verdicts.schedule.as_ref());
        let doubt = doubt.filter(|verdict| verdict.level != "ok");
        let last_poll = sync.last_poll.as_ref();
        let has_failed = last_poll.is_some_and(|poll| poll.error.is_some());
        let polled = || {
            let last = since.map_or_else(|| "unknown".into(), |at| relative(at, now));
            match has_failed {
                true => format!("last good poll {last}{next}"),
                false => format!("last poll {last}{next}"),
            }
        };
        let (colour, text) = match (&*sync.state, doubt) {
            ("fresh", Some(doubt)) if doubt.level == "warning" => {
                (Colour::Yellow, format!("{} {}", doubt.text, polled()))
            }
            ("fresh", Some(doubt)) => {
                label = "STORE".to_owned();
                (Colour::Red, format!("{} {}", doubt.text, polled()))
            }
            ("fresh", None) if has_failed => (
                Colour::Yellow,
                format!("the last poll failed; {}", polled()),
            ),
            ("fresh", None) if sync.in_doubt.absent + sync.in_doubt.lower > 0 => {
                (Colour::Green, format!("polls succeed; {}", polled()))
            }
            ("fresh", None) => (
                Colour::Green,
                format!("the schedule is right; {}", polled()),
            ),
            ("starting", _) => (
                Colour::Yellow,
                format!("no poll has succeeded yet{next}; the schedule cannot be trusted"),
            ),
            _ => (
                Colour::Red,
                match since {
                    Some(at) => format!(
                        "no poll has succeeded since {} ({}){next}; the schedule may be wrong",
                        time(at),
                        relative(at, now)
                    ),
                    None => format!("no poll has succeeded{next}; the schedule may be wrong"),
                },
            ),
        };
        let told = status.verdict.as_ref().map(|verdict| &verdict.told);
        let told = told.map(|told| match &*told.level {
            "ok" => (Colour::Green, "TOLD", &*told.text),
            "warning" => (Colour::Yellow, "SINKS", &*told.text),
            _ => (Colour::Red, "UNTOLD", &*told.text),
        });
        let store_is_told = label == "STORE";
        let mut verdicts = vec![(colour, plain(&label), text)];
        if let Some((colour, label, text)) = told {
            let at = usize::from(colour <= verdicts.first().map_or(Colour::None, |one| one.0));
            verdicts.insert(at, (colour, label.to_owned(), text.to_owned()));
        }
        for (colour, label, text) in verdicts {
            self.entry(&label, colour, &text);
        }
        store_is_told
    }

    /// What is wrong between the API and the schedule.
    fn api(&mut self, status: &Status) {
        let (sync, now) = (&status.sync, status.now);
        if let Some(poll) = &sync.last_poll
            && let Some(error) = &poll.error
        {
            let text = format!("failed {}: {error}", relative(poll.at, now));
            self.entry("last poll", Colour::Red, &text);
        }
        if let Some(slow) = &sync.slowdown {
            let until = match (slow.silent_until, slow.next_request) {
                (Some(until), _) => format!(
                    "; nothing is sent until {}, {}",
                    time(until),
                    relative(until, now)
                ),
                (None, Some(next)) if next > now => {
                    format!("; next look-up {}", relative(next, now))
                }
                _ => String::new(),
            };
            let text = format!(
                "requests are slowed down since {}: {}{until}",
                time(slow.since),
                slow.reason
            );
            self.entry("slowed", Colour::Yellow, &text);
        }
        if let Some(mass) = &sync.mass_absence {
            let text = format!(
                "the API's list has lacked {} of {} live dispatches for {}; nothing is cancelled for \
                 that until it has lasted ten minutes; check the API and the key",
                mass.absent,
                mass.live,
                span(mass.seconds)
            );
            self.entry("absent", Colour::Red, &text);
        } else if sync.in_doubt.absent + sync.in_doubt.lower > 0 {
            let InDoubt { absent, lower } = sync.in_doubt;
            let dispatches = |number| count(number, "dispatch", "dispatches");
            let parts = [
                (absent, "missing from the API's list"),
                (lower, "shown with a lower modification_number than before"),
            ];
            let parts = parts.into_iter().filter(|(number, _)| *number > 0);
            let parts: Vec<_> = parts
                .map(|(number, how)| format!("{} {how}", dispatches(number)))
                .collect();
            let text = format!(
                "{}; unchanged here until two look-ups ten seconds apart confirm it",
                parts.join(", ")
            );
            self.entry("in doubt", Colour::Yellow, &text);
        }
    }

    /// What webhooks brought, and what polls found.
    fn webhooks(&mut self, status: &Status) {
        let (sync, now) = (&status.sync, status.now);
        let webhooks = &sync.webhooks;
        let last = webhooks
            .last_at
            .map_or_else(String::new, |at| format!("; last {}", relative(at, now)));
        let passed_on = match webhooks.passed_on {
            0 => String::new(),
            passed_on => format!("; {passed_on} of them while it stood by, passed on"),
        };
        let by_hand = sync.registration.is_none() && sync.polled_only_changes > 0;
        let mut text = if by_hand {
            "none received since the start. dispatchd registers none without --public-url; one that was \
             registered by hand does not get in: see `dispatchd webhook list`, and check the way from \
             there to --listen (proxy, firewall, certificate, path, secret)"
                .to_owned()
        } else if webhooks.received == 0 {
            "none received since the start".to_owned()
        } else {
            format!(
                "{} received, {} accepted, {} rejected, {} failed{passed_on}{last}",
                webhooks.received, webhooks.accepted, webhooks.rejected, webhooks.failed
            )
        };
        if webhooks.wrong_path > 0 {
            let wrong = webhooks.wrong_path;
            text += &format!("; {wrong} came to a wrong path or with a wrong secret");
        }
        let silent = sync.unannounced_changes > 0;
        self.entry("webhooks", warn_if(webhooks.failed > 0 || silent), &text);
        let missed = match silent || by_hand {
            true => "no webhook has come for them".to_owned(),
            false => format!(
                "{} missed",
                count(sync.missed_webhooks, "webhook", "webhooks")
            ),
        };
        let text = format!(
            "{} found by polls, {missed}",
            count(sync.heals, "change", "changes")
        );
        self.entry("heals", warn_if(sync.missed_webhooks > 0 || silent), &text);
    }

    /// How the sinks and the schedule stand.
    fn deliveries(&mut self, status: &Status) {
        let mut label = "delivery";
        for sink in &status.delivery {
            let late = sink.pending > 0 && sink.oldest_pending_seconds.is_some_and(|s| s > 10.0);
            let fails = !matches!(&*sink.state, "ok" | "");
            self.entry(label, warn_if(late || fails), &delivery(sink, self.style));
            label = "";
        }
        let counts = &status.schedule;
        let text = format!(
            "{} active, {} scheduled, {} ended, {} cancelled; revision {}",
            counts.active, counts.scheduled, counts.ended, counts.cancelled, counts.revision
        );
        self.entry("schedule", Colour::None, &text);
    }

    /// Which daemon tells this, and which API it follows.
    fn daemon(&mut self, status: &Status) {
        let now = status.now;
        let lost = status.leadership.as_ref();
        if let Some(at) = lost.and_then(|leadership| leadership.commits_lost_at) {
            let text = format!(
                "may lack its last commits, seen {}: each site is told once more what to do",
                time(at)
            );
            self.entry("database", Colour::Yellow, &text);
        }
        let up = status.started_at.map_or_else(String::new, |at| {
            let seconds = (now - at).num_seconds().max(0);
            format!(", up {}", span(seconds.unsigned_abs()))
        });
        let node = match (&*status.node, &*status.role) {
            ("", _) => String::new(),
            (node, role) => format!(" on {node} ({role})"),
        };
        let text = format!("dispatchd {}{node}{up}; times are UTC", status.version);
        self.entry("daemon", Colour::None, &text);
        if let Some(api) = &status.api {
            let (colour, environment) = match &*api.environment {
                "production" => (Colour::Yellow, "PRODUCTION"),
                other => (Colour::None, other),
            };
            self.entry("API", colour, &format!("{} ({environment})", api.host));
        }
    }
}

fn warn_if(it_is_so: bool) -> Colour {
    if it_is_so {
        Colour::Yellow
    } else {
        Colour::None
    }
}

fn delivery(sink: &Delivery, style: Style) -> String {
    let name = match style.cut {
        true => cut(&sink.sink, 40),
        false => sink.sink.clone(),
    };
    let mut text = format!("{name}: ");
    if let Some(error) = &sink.last_error {
        text.push_str(&format!("{}: {error}; ", sink.state));
    }
    match sink.pending {
        0 => text.push_str("nothing pending"),
        pending => text.push_str(&format!("{pending} pending")),
    }
    if sink.pending > 0
        && let Some(oldest) = sink.oldest_pending_seconds
    {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float becomes the nearest number there is"
        )]
        let seconds = oldest as u64;
        text.push_str(&format!(", the oldest for {}", span(seconds)));
    }
    if sink.failed_attempts > 0 {
        let attempts = count(sink.failed_attempts, "failed attempt", "failed attempts");
        text.push_str(&format!("; {attempts} so far"));
    }
    text
}
