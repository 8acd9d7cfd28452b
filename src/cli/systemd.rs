//! What the service manager is told, if it asks: systemd, or whoever speaks its
//! protocol.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{Clock, SystemClock};
use crate::daemon::Leads;
use crate::model::{Phase, SiteMode};
use crate::seldom::Rarely;
use crate::sync::{State, View};
use crate::system::{ServiceNews, service_watchdog, tell_service_manager};

/// The longest time between two looks at how the daemon is. The machine's loop
/// turns at least as often.
const PACE: Duration = Duration::from_secs(1);

/// What the watchdog must allow, so that a loop that turns every second is in
/// time.
const SHORTEST_WATCHDOG: Duration = Duration::from_secs(2);

/// Tells the service manager how the daemon is.
pub(super) struct ServiceManager {
    clock: SystemClock,
    /// The longest silence that it puts up with.
    watchdog: Option<Duration>,
    listens: bool,
}

impl ServiceManager {
    /// Whoever started this process, as the environment says.
    pub fn of_this_process(clock: SystemClock) -> Self {
        let watchdog = service_watchdog();
        if let Some(given) = watchdog.filter(|given| *given < SHORTEST_WATCHDOG) {
            tracing::warn!(
                "a watchdog of {} is too short: set WatchdogSec to 30s",
                humantime::format_duration(given)
            );
        }
        Self {
            clock,
            watchdog,
            listens: std::env::var_os("NOTIFY_SOCKET").is_some(),
        }
    }

    /// The listeners are bound and the schedule is loaded. Whether the API can
    /// be reached does not matter here: `/readyz` tells that.
    pub fn ready(&self) {
        tell(&[ServiceNews::Ready]);
    }

    /// Key and secrets are read again; [`Self::ready`] follows.
    pub fn reloading(&self) {
        tell(&[ServiceNews::Reloading]);
    }

    /// The end has begun.
    pub fn stopping(&self) {
        tell(&[
            ServiceNews::Stopping,
            ServiceNews::Status("stopping: what is under way is finished"),
        ]);
    }

    /// Tells how the daemon is, and that it is alive: only when the machine's
    /// loop has turned, which `view` shows. An API that is down, a full disk or
    /// a sink that fails does not matter here: a restart would heal none.
    ///
    /// While this daemon stands by, nothing turns: then only the runtime shows that it is
    /// alive.
    pub async fn follow(&self, mut leads: watch::Receiver<Option<Leads>>) -> Infallible {
        if !self.listens {
            return std::future::pending().await;
        }
        loop {
            let now = leads.borrow_and_update().clone();
            let following = async {
                match now {
                    Some(leads) => self.follow_leader(leads.view).await,
                    None => self.follow_standby().await,
                }
            };
            tokio::select! {
                never = following => match never {},
                changed = leads.changed() => if changed.is_err() {
                    // The daemon has ended.
                    std::future::pending::<Infallible>().await;
                },
            }
        }
    }

    async fn follow_standby(&self) -> Infallible {
        tell(&[ServiceNews::Status("stands by: another daemon leads")]);
        let pace = self.watchdog.map_or(PACE, |given| PACE.min(given / 4));
        loop {
            if self.watchdog.is_some() {
                tell(&[ServiceNews::Alive]);
            }
            let next = self.clock.now().mono + pace;
            self.clock.sleep_until(next).await;
        }
    }

    async fn follow_leader(&self, view: watch::Receiver<View>) -> Infallible {
        let pace = self.watchdog.map_or(PACE, |given| PACE.min(given / 4));
        let mut last = String::new();
        self.at_each_turn(view, pace, |view| {
            let status = describe(&view, self.clock.now().mono);
            let mut news = Vec::new();
            if self.watchdog.is_some() {
                news.push(ServiceNews::Alive);
            }
            if status != last {
                news.push(ServiceNews::Status(&status));
            }
            if !news.is_empty() {
                tell(&news);
            }
            last = status;
        })
        .await
    }

    /// Calls `tell` when `turns` has changed, and not again within `pace`.
    async fn at_each_turn<T: Clone>(
        &self,
        mut turns: watch::Receiver<T>,
        pace: Duration,
        mut tell: impl FnMut(T),
    ) -> Infallible {
        while turns.changed().await.is_ok() {
            let seen = turns.borrow_and_update().clone();
            tell(seen);
            let next = self.clock.now().mono + pace;
            self.clock.sleep_until(next).await;
        }
        // The machine has ended, and will not turn again.
        std::future::pending().await
    }
}

/// How the daemon is, in a line that changes only when something has.
fn describe(view: &View, now: Duration) -> String {
    let state = view.health.state(now);
    let error = view.health.last_poll.as_ref();
    let error = error.and_then(|poll| poll.error.as_deref());
    let why = match (state, error) {
        (State::Fresh, _) | (_, None) => String::new(),
        (_, Some(error)) => format!(" ({error})"),
    };
    let sites = view.plan.sites();
    let curtailed = sites
        .filter(|site| site.state == SiteMode::Curtailed)
        .count();
    format!(
        "{}{why}; dispatches: {} active, {} scheduled; sites curtailed: {curtailed}; revision {}",
        state.name(),
        view.schedule.count(Phase::Active),
        view.schedule.count(Phase::Scheduled),
        view.schedule.revision(),
    )
}

fn tell(news: &[ServiceNews<'_>]) {
    if let Err(error) = tell_service_manager(news) {
        static LINE: Rarely = Rarely::new();
        if let Some(count) = LINE.count() {
            tracing::warn!(%error, count, "the service manager cannot be told how the daemon is");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_sign_of_life_follows_a_turn_of_the_loop_and_nothing_else() {
        let manager = ServiceManager {
            clock: SystemClock::new(),
            watchdog: None,
            listens: true,
        };
        let (loop_turns, turns) = watch::channel(0);
        let (signs, mut seen) = mpsc::unbounded_channel();
        let pace = Duration::from_millis(5);
        let following = manager.at_each_turn(turns, pace, |turn| signs.send(turn).unwrap());
        let story = async {
            for turn in 0..3 {
                loop_turns.send_replace(turn);
                assert_eq!(timeout(PATIENCE, seen.recv()).await, Ok(Some(turn)));
            }
            // Forty times the pace, in which the loop does not turn.
            assert!(timeout(40 * pace, seen.recv()).await.is_err());
            drop(loop_turns);
            assert!(timeout(40 * pace, seen.recv()).await.is_err());
        };
        tokio::select! {
            () = story => {}
            never = following => match never {},
        }
    }
}
