//! Until when this daemon may act (rule R15). Whoever keeps the lease says so in a
//! channel, and each part that acts looks at its copy of [`Trust`].

use std::fmt;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::watch;

use crate::clock::{Clock, Mono, sleep_in_pieces};

/// Until when this daemon trusts that it leads. All copies show the same.
#[derive(Clone, Default)]
pub struct Trust {
    /// `None` if no other daemon can lead.
    renewed: Option<Renewed>,
}

#[derive(Clone)]
struct Renewed {
    until: watch::Receiver<Mono>,
    now: Arc<dyn Fn() -> Mono + Send + Sync>,
}

impl Renewed {
    fn is_over(&self) -> bool {
        (self.now)() >= *self.until.borrow()
    }

    /// Returns once the time has changed since the last look with this copy. Never, if
    /// nobody renews it any more.
    async fn changed(&mut self) {
        if self.until.changed().await.is_err() {
            pending().await
        }
    }
}

impl Trust {
    /// The trust of a daemon that shares its store with no other: it never ends.
    pub fn endless() -> Self {
        Self::default()
    }

    /// A trust that lasts until the time in `until` by `clock`, as it is renewed meanwhile.
    /// That must be the clock by which the coordinator is stepped. If the sender is
    /// dropped, the last time stays.
    pub fn renewed(until: watch::Receiver<Mono>, clock: impl Clock) -> Self {
        let now = Arc::new(move || clock.now().mono);
        Self {
            renewed: Some(Renewed { until, now }),
        }
    }

    /// From this time on there is no trust, unless it is renewed.
    pub fn until(&self) -> Mono {
        let renewed = self.renewed.as_ref();
        renewed.map_or(Mono::MAX, |renewed| *renewed.until.borrow())
    }

    /// Whether there is none now. An endless trust costs no look at the clock.
    pub fn is_over(&self) -> bool {
        self.renewed.as_ref().is_some_and(Renewed::is_over)
    }

    /// Returns once the time has changed since the last look with this copy.
    pub async fn changed(&mut self) {
        match &mut self.renewed {
            Some(renewed) => renewed.changed().await,
            None => pending().await,
        }
    }

    /// Lets `work` go on while there is trust. `None` if the trust, as renewed meanwhile,
    /// ended before: then `work` is dropped.
    ///
    /// The clock is looked at before each piece of work: a process that was stopped for a
    /// while does nothing more when it goes on.
    pub async fn lets<W: Future>(&self, work: W) -> Option<W::Output> {
        let Some(renewed) = &self.renewed else {
            return Some(work.await);
        };
        let (mut work, mut ends) = (pin!(work), pin!(self.clone().ends()));
        poll_fn(|context| {
            if renewed.is_over() || ends.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            work.as_mut().poll(context).map(Some)
        })
        .await
    }

    /// Returns once there is no trust.
    pub async fn ends(self) {
        let Some(mut renewed) = self.renewed else {
            return pending().await;
        };
        loop {
            let until = *renewed.until.borrow_and_update();
            let now = Arc::clone(&renewed.now);
            if now() >= until {
                return;
            }
            tokio::select! {
                () = sleep_in_pieces(|| now(), until) => {}
                () = renewed.changed() => {}
            }
        }
    }

    /// Returns once there is trust.
    pub async fn begins(self) {
        let Some(mut renewed) = self.renewed else {
            return;
        };
        while (renewed.now)() >= *renewed.until.borrow_and_update() {
            renewed.changed().await;
        }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({:?})", self.until())
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::clock::SystemClock;

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn it_ends_when_the_time_as_renewed_meanwhile_has_passed() {
        let clock = SystemClock::new();
        let (renew, until) = watch::channel(clock.now().mono + SHORT);
        let trust = Trust::renewed(until, clock);
        let mut ends = pin!(trust.clone().ends());
        renew.send_replace(LONG);
        let early = timeout(SHORT * 2, &mut ends).await;
        assert!(early.is_err(), "it was renewed");
        let until = clock.now().mono + SHORT;
        renew.send_replace(until);
        ends.await;
        assert!(clock.now().mono >= until && trust.is_over());
        let again = pin!(trust.clone().begins());
        renew.send_replace(LONG);
        again.await;
        assert_eq!((trust.until(), trust.is_over()), (LONG, false));
    }

    #[tokio::test]
    async fn work_goes_on_while_there_is_trust_and_is_dropped_when_it_ends() {
        let clock = SystemClock::new();
        let (renew, until) = watch::channel(LONG);
        let trust = Trust::renewed(until, clock);
        assert_eq!(trust.lets(ready(7)).await, Some(7));
        renew.send_replace(clock.now().mono + SHORT);
        assert_eq!(trust.lets(pending::<()>()).await, None);
        let begun = AtomicBool::new(false);
        let work = async { begun.store(true, Ordering::SeqCst) };
        assert_eq!(trust.lets(work).await, None);
        assert!(
            !begun.load(Ordering::SeqCst),
            "without trust nothing begins"
        );
    }

    #[tokio::test]
    async fn without_anybody_who_renews_it_the_last_time_counts() {
        let clock = SystemClock::new();
        let (renew, until) = watch::channel(clock.now().mono + SHORT);
        drop(renew);
        Trust::renewed(until, clock).ends().await;
    }

    #[tokio::test]
    async fn an_endless_trust_is_there_and_stays() {
        let trust = Trust::endless();
        trust.clone().begins().await;
        assert!(!trust.is_over());
        assert_eq!(trust.lets(ready(7)).await, Some(7));
        assert!(timeout(SHORT, trust.ends()).await.is_err());
    }
}
