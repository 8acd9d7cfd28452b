//! The proof: a test dispatch is made at the API and appears at the daemon. Start
//! with [`Proof::run`].

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::cli::Failure;
use crate::cli::daemon_client::{AskError, DaemonClient};
use crate::cli::output::plain;
use crate::cli::status::Standing;
use crate::cli::status::report::{self, Webhooks};
use crate::clock::{Clock, Mono, Now, SystemClock};
use crate::model::{Answer, DispatchId, Reading, rfc3339};
use crate::voltus::{Admin, ApiError, EVENTS, Webhook};

/// How often the daemon is asked.
const LOOK: Duration = Duration::from_millis(250);

/// How often the API's list is asked for an id that it did not tell.
const LIST: Duration = Duration::from_secs(2);

/// Time that the daemon has beside two polls unless `--timeout` is given.
const SLACK: Duration = Duration::from_secs(30);

/// How long a webhook may come after the poll that was faster.
const WEBHOOK_GRACE: Duration = Duration::from_secs(10);

/// Why nothing was proved.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum ProofError {
    /// The daemon cannot be asked. No test dispatch was made.
    #[error("{0}; no test dispatch was made")]
    Daemon(AskError),
    /// The daemon stands by, or does not know whether it leads. No test dispatch was made.
    #[error(
        "the daemon at {url} does not lead{}: dispatches come to the leader; set --status-url to \
         the leader's status listener; no test dispatch was made",
        .leader.as_ref().map_or_else(String::new, |leader| format!(" ({leader} does)"))
    )]
    Standby {
        /// The daemon.
        url: String,
        /// Who leads, if that is known.
        leader: Option<String>,
    },
    /// The API does not take the order.
    #[error("no test dispatch could be made: {0}")]
    Order(ApiError),
    /// The registered webhooks cannot be listed. No test dispatch was made.
    #[error("the registered webhooks cannot be listed: {0}; no test dispatch was made")]
    Registration(ApiError),
    /// The dispatch is not in the API's list.
    #[error("the API took the test dispatch, but its list did not show it within {within}{last}")]
    Unlisted {
        /// How long it was looked for.
        within: humantime::FormattedDuration,
        /// What the list's last failure was.
        last: String,
    },
    /// The daemon did not get it.
    #[error("neither webhook nor poll brought {id} to the daemon within {within}; {hint}")]
    Missed {
        /// The dispatch.
        id: DispatchId,
        /// How long it was waited for.
        within: humantime::FormattedDuration,
        /// What to look at.
        hint: String,
    },
    /// Only a poll brought it, although a webhook is registered.
    #[error("only a poll brought {id}, although {registered}; {remedy}")]
    OnlyPoll {
        /// The dispatch.
        id: DispatchId,
        /// What is registered.
        registered: String,
        /// What to look at.
        remedy: String,
    },
}

impl From<ProofError> for Failure {
    fn from(error: ProofError) -> Self {
        match &error {
            ProofError::OnlyPoll { .. } => Self::OnlyPoll(error.to_string()),
            _ => Self::Runtime(error.to_string()),
        }
    }
}

/// What brought the dispatch to the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Brought {
    pub id: DispatchId,
    /// `webhook` or `poll`.
    pub by: String,
    pub after: Duration,
}

/// What is proved, and with what.
pub(in crate::cli) struct Proof {
    pub admin: Admin<SystemClock>,
    pub daemon: DaemonClient,
    pub clock: SystemClock,
    pub start: DateTime<Utc>,
    pub end: DateTime<Utc>,
    /// The program to test. `None` leaves it to the API.
    pub program_id: Option<i64>,
    pub timeout: Option<Duration>,
}

impl Proof {
    /// Carries it out, telling `say` what has been found so far.
    ///
    /// # Errors
    /// [`ProofError`], and a failure of `say`.
    pub async fn run(
        &self,
        say: &mut impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<Brought, Failure> {
        // Nothing is made before it is known that somebody watches.
        self.leads().await?;
        let before: report::Status = self
            .daemon
            .expect(&["status"])
            .await
            .map_err(ProofError::Daemon)?;
        let timeout = self.timeout.unwrap_or_else(|| {
            let interval = Duration::try_from_secs_f64(before.sync.poll_interval_seconds);
            let polls = interval.unwrap_or_default().saturating_mul(2);
            polls.saturating_add(SLACK)
        });
        let registered = self
            .admin
            .webhooks()
            .await
            .map_err(ProofError::Registration)?;
        let others = self.alike().await.map_err(ProofError::Order)?;
        let made = self.clock.now();
        let result = self
            .admin
            .make_test_dispatch(self.start, self.end, self.program_id)
            .await
            .map_err(ProofError::Order)?;
        say(&format!(
            "a test dispatch was made, {} to {}",
            rfc3339(self.start),
            rfc3339(self.end)
        ))?;
        let until = made.mono.saturating_add(timeout);
        let id = match result {
            Some(id) => id,
            None => self.find(&others, until, timeout).await?,
        };
        say(&format!("its id is {id}"))?;
        let brought = self.watch(&id, made, until, timeout).await?;
        say(&format!(
            "{} brought it to the daemon after {}",
            brought.by,
            spoken(brought.after)
        ))?;
        if brought.by == "webhook" {
            return Ok(brought);
        }
        if registered.is_empty() {
            say("no webhook is registered: dispatchd webhook register URL, or --public-url")?;
            return Ok(brought);
        }
        let grace = self.clock.now().mono + WEBHOOK_GRACE;
        self.wait_for_webhook(&before.sync.webhooks, grace.min(until))
            .await
            .map_err(|came| ProofError::OnlyPoll {
                id,
                remedy: remedy(&came, &registered),
                registered: shown(&registered),
            })?;
        say("a webhook was accepted, too, after the poll")?;
        Ok(brought)
    }

    /// Makes sure that the daemon is one that learns of dispatches: a standby does not.
    async fn leads(&self) -> Result<(), ProofError> {
        let standing = self.daemon.expect::<Standing>(&["status"]).await;
        let standing = standing.map_err(ProofError::Daemon)?;
        if standing.leads() {
            return Ok(());
        }
        Err(ProofError::Standby {
            url: self.daemon.name(),
            leader: standing.leader().map(plain),
        })
    }

    /// Waits until the daemon has accepted a webhook that `before` does not
    /// count. Webhooks tell no more than that: which dispatch each was about is
    /// not shown.
    ///
    /// # Errors
    /// With the webhooks that came since then, if none was accepted.
    async fn wait_for_webhook(&self, before: &Webhooks, until: Mono) -> Result<(), Came> {
        let mut came = Came::default();
        loop {
            let looked = self.daemon.expect::<report::Status>(&["status"]).await;
            if let Ok(status) = looked {
                let now = status.sync.webhooks;
                if now.accepted > before.accepted {
                    return Ok(());
                }
                came = Came {
                    rejected: now.rejected.saturating_sub(before.rejected),
                    failed: now.failed.saturating_sub(before.failed),
                };
            }
            let next = self.clock.now().mono + LOOK;
            if next > until {
                return Err(came);
            }
            self.clock.sleep_until(next).await;
        }
    }

    /// The test dispatches with these times that the API lists.
    async fn alike(&self) -> Result<BTreeSet<DispatchId>, ApiError> {
        let Answer::List(list) = self.admin.look().await.list?.answer else {
            return Ok(BTreeSet::new());
        };
        Ok(list
            .readings()
            .iter()
            .filter_map(Reading::dispatch)
            .filter(|dispatch| {
                dispatch.test
                    && dispatch.start_time == self.start
                    && dispatch.end_time == Some(self.end)
            })
            .map(|dispatch| dispatch.id.clone())
            .collect())
    }

    /// Finds the id that the API did not tell, in its list.
    async fn find(
        &self,
        others: &BTreeSet<DispatchId>,
        until: Mono,
        timeout: Duration,
    ) -> Result<DispatchId, ProofError> {
        loop {
            let looked = self.alike().await;
            if let Ok(alike) = &looked
                && let Some(id) = alike.difference(others).next()
            {
                return Ok(id.clone());
            }
            let next = self.clock.now().mono + LIST;
            if next > until {
                return Err(ProofError::Unlisted {
                    within: humantime::format_duration(timeout),
                    last: looked
                        .err()
                        .map_or_else(String::new, |error| format!(": {error}")),
                });
            }
            self.clock.sleep_until(next).await;
        }
    }

    /// Asks the daemon until it has it.
    async fn watch(
        &self,
        id: &DispatchId,
        made: Now,
        until: Mono,
        timeout: Duration,
    ) -> Result<Brought, ProofError> {
        loop {
            let looked = self
                .daemon
                .get::<report::Dispatch>(&["schedule", id.as_str()])
                .await;
            let now = self.clock.now();
            if let Ok(Some(entry)) = &looked {
                return Ok(Brought {
                    id: id.clone(),
                    by: plain(&entry.discovered_by),
                    after: after(entry.first_seen, made, now),
                });
            }
            let next = now.mono + LOOK;
            if next > until {
                return Err(ProofError::Missed {
                    id: id.clone(),
                    within: humantime::format_duration(timeout),
                    hint: match looked {
                        Err(error) => error.to_string(),
                        Ok(_) => self.hint().await,
                    },
                });
            }
            self.clock.sleep_until(next).await;
        }
    }

    /// What to look at when nothing came.
    async fn hint(&self) -> String {
        match self.daemon.expect::<report::Status>(&["status"]).await {
            Err(error) => error.to_string(),
            Ok(status) => match status.sync.last_poll.and_then(|poll| poll.error) {
                Some(error) => format!("its last poll failed: {}", plain(&error)),
                None => "its polls succeed, so it may ask another API: compare --api-url".into(),
            },
        }
    }
}

/// Webhooks that came and were not accepted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Came {
    /// Answered 4xx.
    pub rejected: u64,
    /// Answered 503.
    pub failed: u64,
}

/// The registrations, in a few words.
fn shown(registered: &[Webhook]) -> String {
    let first = registered.first().map_or_else(String::new, |webhook| {
        plain(&format!("{} ({})", webhook.url, webhook.id))
    });
    match registered.len() {
        0 | 1 => format!("a webhook is registered at {first}"),
        number => format!("{number} webhooks are registered, the first at {first}"),
    }
}

/// Why no webhook was accepted, as far as that is known, and what to do.
pub(super) fn remedy(came: &Came, registered: &[Webhook]) -> String {
    let [create, _] = EVENTS;
    let lacks_create = |webhook: &Webhook| webhook.lacks().any(|event| event == create);
    if registered.iter().all(lacks_create) {
        return format!(
            "none is registered for {create}: dispatchd webhook register URL registers it for all events"
        );
    }
    match came {
        Came {
            rejected: 0,
            failed: 0,
        } => "no webhook came: check that this URL leads to the daemon's webhook listener (address, proxy, firewall, secret), and replace a wrong one with dispatchd webhook register and delete".to_owned(),
        Came { rejected, failed } => format!(
            "webhooks came in vain ({rejected} rejected, {failed} failed): the daemon's log says why"
        ),
    }
}

/// How long it took. The daemon's word is finer than how often it is asked, but
/// its clock may be another.
fn after(first_seen: DateTime<Utc>, made: Now, now: Now) -> Duration {
    let observed = now.mono.saturating_sub(made.mono);
    match (first_seen - made.wall).to_std() {
        Ok(age) if age <= observed => age,
        _ => observed,
    }
}

/// In whole milliseconds.
fn spoken(span: Duration) -> humantime::FormattedDuration {
    let milliseconds = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    humantime::format_duration(Duration::from_millis(milliseconds.max(1)))
}
