//! How fast the API may be asked while it fails (rule R9). [`Slowdown`] slows
//! every kind of request together.
//!
//! At full speed only the budget bounds requests. A failure that tells of the
//! API as a whole slows all requests down: there is a gap between two requests
//! that doubles with every failure, and with every request sent before the last one is
//! answered. Three good answers in a row bring full speed back. One resource that fails alone slows nothing down.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Mono;
use crate::model::DispatchId;
use crate::retry::backoff;
use crate::voltus::ApiError;

/// The gap after the first failure.
const FIRST_GAP: Duration = Duration::from_secs(1);

/// The longest gap, unless the API names a longer one.
const LONGEST_GAP: Duration = Duration::from_secs(30);

/// Good answers in a row that bring full speed back.
const GOOD_ENOUGH: u32 = 3;

/// What a request was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    /// The list of dispatches.
    List,
    /// One dispatch.
    Dispatch(DispatchId),
    /// The registration of the webhook.
    Registration,
    /// The enrolled sites. That they cannot be asked for says nothing of dispatches.
    Inventory,
}

/// What a failure tells of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// The API as a whole fails, or asks for fewer requests.
    Api,
    /// This resource fails. Perhaps others do too.
    Resource,
    /// The API works; this answer is no use to us.
    None,
}

fn extent(error: &ApiError) -> Extent {
    if error.retry_after().is_some() {
        return Extent::Api;
    }
    match error {
        ApiError::TooFast { .. } | ApiError::Unreachable(_) => Extent::Api,
        ApiError::Status {
            status: 500..=599, ..
        }
        | ApiError::Foreign {
            status: 500..=599, ..
        }
        | ApiError::TimedOut(_)
        | ApiError::Interrupted(_) => Extent::Resource,
        ApiError::Status { .. }
        | ApiError::Foreign { .. }
        | ApiError::KeyRefused { .. }
        | ApiError::Redirect { .. }
        | ApiError::TooLong { .. }
        | ApiError::Unreadable(_)
        | ApiError::Another(_) => Extent::None,
    }
}

/// Decides when the API may be asked again after failures.
#[derive(Debug)]
pub(super) struct Slowdown {
    longest: Duration,
    /// The API asked for silence until then. Nothing is sent before.
    silent_until: Mono,
    /// No look-up and no registration before this.
    not_before: Mono,
    /// Failures in a row that counted. 0 at full speed.
    failures: u32,
    /// The time between two requests while slowed down.
    gap: Duration,
    /// When the last request was sent while slowed down, until it or a later one is
    /// answered.
    unanswered: Option<Mono>,
    /// Good answers since the last failure that counted.
    good: u32,
    /// When the last failure that counted came in. Requests issued before it say
    /// nothing new.
    since: Mono,
    /// The resource that failed last, without a good answer since.
    failing: Option<Resource>,
    /// The last failure that counted, in words.
    reason: Arc<str>,
}

impl Slowdown {
    /// Full speed, for a daemon that polls every `interval`.
    pub fn new(interval: Duration) -> Self {
        Self {
            longest: LONGEST_GAP.min(interval.max(super::poller::LONGEST_PAUSE)),
            silent_until: Mono::ZERO,
            not_before: Mono::ZERO,
            failures: 0,
            gap: Duration::ZERO,
            unanswered: None,
            good: 0,
            since: Mono::ZERO,
            failing: None,
            reason: Arc::from(""),
        }
    }

    /// The last failure that slowed requests down, in words. Empty if there was
    /// none.
    pub fn reason(&self) -> Arc<str> {
        Arc::clone(&self.reason)
    }

    /// How many good answers in a row bring full speed back. 0 at full speed.
    pub fn good_answers_needed(&self) -> u32 {
        if self.is_slow() {
            GOOD_ENOUGH.saturating_sub(self.good)
        } else {
            0
        }
    }

    /// Whether requests are slowed down.
    pub fn is_slow(&self) -> bool {
        self.failures > 0
    }

    /// Until when the API asked for silence: nothing at all is sent before.
    pub fn silent_until(&self) -> Mono {
        self.silent_until
    }

    /// When the next look-up or registration request may be sent.
    pub fn next(&self) -> Mono {
        self.silent_until.max(self.not_before)
    }

    /// Whether a look-up or a registration request may be sent at `now`.
    pub fn allows(&self, now: Mono) -> bool {
        now >= self.next()
    }

    /// A request of any kind is sent.
    pub fn issued(&mut self, now: Mono) {
        if self.is_slow() {
            if self.unanswered.replace(now).is_some() {
                // The last one may hang for ten seconds before it counts as failed.
                self.gap = self.gap.saturating_mul(2).min(self.longest);
            }
            self.not_before = self.not_before.max(now.saturating_add(self.gap));
        }
    }

    /// A request that was sent at `issued` got a good answer.
    pub fn succeeded(&mut self, issued: Mono, now: Mono) {
        self.failing = None;
        self.answered(issued);
        if !self.is_slow() || issued < self.since {
            return;
        }
        // The next request may follow at once.
        self.not_before = self.not_before.min(now);
        self.good += 1;
        if self.good >= GOOD_ENOUGH {
            self.failures = 0;
            self.gap = Duration::ZERO;
            self.unanswered = None;
        }
    }

    fn answered(&mut self, issued: Mono) {
        self.unanswered = self.unanswered.filter(|last| issued < *last);
    }

    /// A request about `resource` that was sent at `issued` failed. `random` is
    /// in `0.0..1.0`.
    pub fn failed(
        &mut self,
        resource: Resource,
        error: &ApiError,
        issued: Mono,
        now: Mono,
        random: f64,
    ) {
        self.answered(issued);
        let of_api = match extent(error) {
            Extent::Api => true,
            Extent::Resource if resource == Resource::Inventory => false,
            Extent::Resource => self.is_second_to_fail(resource),
            Extent::None => false,
        };
        if !of_api {
            return;
        }
        self.good = 0;
        self.reason = error.to_string().into();
        // Of many requests that were under way together only the first failure
        // counts.
        if !self.is_slow() || issued >= self.since {
            self.failures = self.failures.saturating_add(1);
            self.since = now;
            let gap = backoff(self.failures, random, FIRST_GAP, self.longest);
            self.gap = self.gap.max(gap);
            self.not_before = self.not_before.max(now.saturating_add(self.gap));
        }
        let silence = match error {
            ApiError::TooFast { retry_after } => Some(retry_after.unwrap_or(self.gap)),
            error => error.retry_after(),
        };
        if let Some(silence) = silence {
            self.silent_until = self.silent_until.max(now.saturating_add(silence));
        }
    }

    /// Whether another resource has failed before, with no good answer since.
    fn is_second_to_fail(&mut self, resource: Resource) -> bool {
        match &self.failing {
            Some(first) if *first != resource => true,
            Some(_) => false,
            None => {
                self.failing = Some(resource);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::voltus::KeySource;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn seconds(seconds: f64) -> Mono {
        Duration::from_secs_f64(seconds)
    }

    fn look_up(text: &str) -> Resource {
        Resource::Dispatch(DispatchId::new(text).unwrap())
    }

    fn refused() -> ApiError {
        ApiError::Unreachable("refused".into())
    }

    fn status(status: u16) -> ApiError {
        ApiError::Status {
            status,
            message: String::new(),
            retry_after: None,
        }
    }

    /// Asks whenever it may, one of ten ids after the other, and gets `answer`.
    /// Gives the times of the requests in `lasts`.
    fn requests(
        slowdown: &mut Slowdown,
        from: Mono,
        lasts: Duration,
        answer: impl Fn(usize) -> Option<ApiError>,
    ) -> Vec<Mono> {
        let mut sent = Vec::new();
        let mut now = from;
        while now < from + lasts {
            if slowdown.allows(now) {
                slowdown.issued(now);
                let id = sent.len() % 10;
                match answer(id) {
                    Some(error) => {
                        slowdown.failed(look_up(&id.to_string()), &error, now, now, 0.5);
                    }
                    None => slowdown.succeeded(now, now),
                }
                sent.push(now);
            }
            now += Duration::from_millis(100);
        }
        sent
    }

    #[test]
    fn an_api_that_fails_as_a_whole_is_asked_less_and_less() {
        let minute = seconds(60.0);
        for error in [
            refused(),
            status(503),
            ApiError::TimedOut("the API".into()),
            ApiError::Interrupted("reset".into()),
            ApiError::TooFast { retry_after: None },
        ] {
            let mut slowdown = Slowdown::new(INTERVAL);
            let sent = requests(&mut slowdown, minute, minute, |_| Some(error.clone()));
            assert!((5..=9).contains(&sent.len()), "{error}: {}", sent.len());
            let sent = requests(&mut slowdown, minute * 2, minute * 10, |_| {
                Some(error.clone())
            });
            assert!((20..=40).contains(&sent.len()), "{error}: {}", sent.len());
        }
    }

    #[test]
    fn an_api_that_lets_requests_hang_is_asked_less_and_less_before_they_have_failed() {
        let mut slowdown = Slowdown::new(INTERVAL);
        slowdown.failed(look_up("a"), &refused(), seconds(0.0), seconds(0.0), 0.0);
        let mut sent = Vec::new();
        let mut now = slowdown.next();
        while now < seconds(10.0) {
            slowdown.issued(now);
            sent.push(now.as_secs_f64());
            now = slowdown.next();
        }
        assert_eq!(sent, [0.5, 1.0, 2.0, 4.0, 8.0]);
    }

    #[test]
    fn a_request_that_was_answered_makes_the_next_wait_no_longer() {
        let mut slowdown = Slowdown::new(INTERVAL);
        slowdown.failed(look_up("a"), &refused(), seconds(0.0), seconds(0.0), 0.0);
        for second in 1..5 {
            let now = seconds(f64::from(second));
            slowdown.issued(now);
            assert_eq!(slowdown.next(), now + seconds(0.5));
            // Neither good nor bad.
            slowdown.failed(look_up("b"), &status(404), now, now, 0.0);
        }
    }

    #[test]
    fn an_answer_to_an_earlier_request_does_not_make_up_for_the_last_one_that_hangs() {
        let mut slowdown = Slowdown::new(INTERVAL);
        slowdown.failed(look_up("a"), &refused(), seconds(0.0), seconds(0.0), 0.0);
        slowdown.issued(seconds(1.0));
        slowdown.issued(seconds(2.0));
        // To the first of the two, neither good nor bad.
        let (issued, now) = (seconds(1.0), seconds(3.0));
        slowdown.failed(look_up("b"), &status(404), issued, now, 0.0);
        slowdown.issued(seconds(4.0));
        assert_eq!(slowdown.next(), seconds(6.0));
    }

    #[test]
    fn one_resource_that_fails_alone_slows_nothing_down() {
        for error in [status(500), ApiError::TimedOut("the API".into())] {
            let mut slowdown = Slowdown::new(INTERVAL);
            for second in 0..100 {
                let now = seconds(f64::from(second));
                slowdown.failed(look_up("bad"), &error, now, now, 0.5);
                slowdown.failed(look_up("bad"), &error, now, now, 0.5);
                assert!(slowdown.allows(now));
                slowdown.succeeded(now, now);
            }
            // Nor does it keep slow what another failure has slowed down.
            let now = seconds(200.0);
            slowdown.failed(Resource::List, &refused(), now, now, 0.5);
            for _ in 0..3 {
                assert!(slowdown.is_slow());
                slowdown.failed(look_up("bad"), &error, now, now, 0.5);
                slowdown.succeeded(now, now);
            }
            assert!(!slowdown.is_slow());
        }
    }

    #[test]
    fn two_resources_that_fail_one_after_the_other_slow_all_down() {
        let now = seconds(10.0);
        let mut slowdown = Slowdown::new(INTERVAL);
        slowdown.failed(Resource::List, &status(502), now, now, 0.5);
        assert!(!slowdown.is_slow());
        slowdown.failed(Resource::Registration, &status(500), now, now, 0.5);
        assert!(slowdown.is_slow() && !slowdown.allows(now));
        // A person's poll and a due one may go: nothing asked for silence.
        assert!(slowdown.silent_until() <= now);
    }

    #[test]
    fn an_inventory_that_fails_says_nothing_of_dispatches() {
        let now = seconds(10.0);
        let mut slowdown = Slowdown::new(INTERVAL);
        slowdown.failed(Resource::Inventory, &status(500), now, now, 0.5);
        slowdown.failed(Resource::List, &status(500), now, now, 0.5);
        slowdown.failed(Resource::Inventory, &status(500), now, now, 0.5);
        assert!(!slowdown.is_slow());
    }

    #[test]
    fn answers_that_are_of_no_use_to_us_slow_nothing_down() {
        let now = seconds(10.0);
        let mut slowdown = Slowdown::new(INTERVAL);
        for (number, error) in [
            status(404),
            ApiError::KeyRefused {
                status: 401,
                key: KeySource::default(),
            },
            ApiError::TooLong { limit: 1 },
            ApiError::Unreadable("html".into()),
        ]
        .into_iter()
        .enumerate()
        {
            slowdown.failed(look_up(&number.to_string()), &error, now, now, 0.5);
        }
        assert!(!slowdown.is_slow());
    }

    #[test]
    fn three_good_answers_in_a_row_bring_full_speed_back() {
        let mut slowdown = Slowdown::new(INTERVAL);
        requests(&mut slowdown, seconds(0.0), seconds(600.0), |_| {
            Some(refused())
        });
        let sent = requests(&mut slowdown, seconds(600.0), seconds(60.0), |_| None);
        assert!(!slowdown.is_slow());
        assert!(sent[0] <= seconds(630.0), "{:?}", sent[0]);
        // The second follows the first at once, and so does the third.
        assert!(sent[2] <= sent[0] + seconds(0.2));
        // Two do not: the third of the row is bad.
        let now = seconds(700.0);
        slowdown.failed(Resource::List, &refused(), now, now, 0.5);
        for _ in 0..5 {
            slowdown.succeeded(now, now);
            slowdown.succeeded(now, now);
            slowdown.failed(Resource::List, &refused(), now, now, 0.5);
        }
        assert!(slowdown.is_slow());
    }

    #[test]
    fn of_many_requests_under_way_together_one_failure_counts_and_no_older_answer() {
        let mut slowdown = Slowdown::new(INTERVAL);
        for number in 0..64u8 {
            let now = seconds(10.0 + f64::from(number) / 1000.0);
            let id = look_up(&number.to_string());
            slowdown.failed(id, &refused(), seconds(9.0), now, 1.0);
        }
        assert_eq!(slowdown.next(), seconds(11.0));
        for _ in 0..5 {
            slowdown.succeeded(seconds(9.0), seconds(10.5));
        }
        assert!(slowdown.is_slow());
    }

    #[test]
    fn the_api_is_left_alone_for_as_long_as_it_asks() {
        let now = seconds(10.0);
        let retry_after = Some(seconds(120.0));
        for error in [
            ApiError::TooFast { retry_after },
            ApiError::Status {
                status: 503,
                message: String::new(),
                retry_after,
            },
        ] {
            let mut slowdown = Slowdown::new(INTERVAL);
            slowdown.failed(Resource::List, &error, now, now, 0.0);
            assert_eq!(slowdown.silent_until(), seconds(130.0));
            // An older request that is answered well does not end that.
            slowdown.succeeded(now, now);
            assert!(!slowdown.allows(seconds(129.0)));
        }
    }

    #[test]
    fn no_duration_is_too_long_for_it() {
        let mut slowdown = Slowdown::new(Duration::MAX);
        let retry_after = Some(Duration::MAX);
        let error = ApiError::TooFast { retry_after };
        slowdown.failed(Resource::List, &error, Mono::MAX, Mono::MAX, 1.0);
        slowdown.issued(Mono::MAX);
        assert_eq!(slowdown.next(), Mono::MAX);
    }
}
