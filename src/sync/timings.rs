//! How long the API and the disk take. The driver measures it, around what the
//! machine asks it to do.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::histogram::Histogram;
use crate::model::Answer;
use crate::store::StoreError;
use crate::voltus::{ApiError, ApiResponse};

/// Bounds for how long a request took, in seconds.
const REQUEST: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0,
];

/// Bounds for how long a commit took, in seconds. A synced one takes a quarter
/// of a millisecond on a good disk and some ten on a bad one.
const COMMIT: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

/// How a request can end, as a label. There are no others, whatever the API or
/// something in between answers.
const STATUSES: [&str; 13] = [
    "200",
    "404",
    "429",
    "2xx",
    "4xx",
    "5xx",
    "other",
    "key_refused",
    "redirect",
    "timeout",
    "unreachable",
    "too_long",
    "unreadable",
];

/// The kind of the requests that keep the webhook registered.
const REGISTRATION: &str = "registration";

/// The kind of the requests for the enrolled sites.
const SITES: &str = "sites";

/// How long the API and the disk took since the start.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// Requests by kind (`list`, `dispatch`, `registration`, `sites`) and by how they
    /// ended.
    pub requests: BTreeMap<(&'static str, &'static str), u64>,
    /// Seconds that requests took, body and all, by kind.
    pub request_seconds: BTreeMap<&'static str, Histogram>,
    /// Commits by outcome: `ok` or `failed`.
    pub commits: BTreeMap<&'static str, u64>,
    /// Seconds that commits took, those that failed too.
    pub commit_seconds: Histogram,
}

impl Default for Taken {
    fn default() -> Self {
        let kinds = ["list", "dispatch", REGISTRATION, SITES];
        let ended = |kind| STATUSES.map(|status| ((kind, status), 0));
        Self {
            requests: kinds.into_iter().flat_map(ended).collect(),
            request_seconds: kinds.map(|kind| (kind, Histogram::new(REQUEST))).into(),
            commits: [("ok", 0), ("failed", 0)].into(),
            commit_seconds: Histogram::new(COMMIT),
        }
    }
}

/// Measures, for those who ask.
#[derive(Debug, Default)]
pub struct Timings(Mutex<Taken>);

impl Timings {
    /// What was measured so far.
    pub fn taken(&self) -> Taken {
        self.with(|taken| taken.clone())
    }

    /// A request took so long and ended so.
    pub(super) fn asked(
        &self,
        kind: &'static str,
        result: &Result<ApiResponse, ApiError>,
        took: Duration,
    ) {
        let status = match result {
            Ok(response) => match response.answer {
                Answer::Gone(_) => "404",
                Answer::List(_) | Answer::Found(_) => "200",
            },
            Err(error) => failure(error),
        };
        self.count(kind, status, took);
    }

    /// A request that is to keep the webhook registered took so long and ended
    /// so.
    pub fn registration<T>(&self, result: &Result<T, ApiError>, took: Duration) {
        let status = result.as_ref().map_or_else(failure, |_| "2xx");
        self.count(REGISTRATION, status, took);
    }

    /// A request for the enrolled sites took so long and ended so.
    pub fn inventory<T>(&self, result: &Result<T, ApiError>, took: Duration) {
        let status = result.as_ref().map_or_else(failure, |_| "200");
        self.count(SITES, status, took);
    }

    fn count(&self, kind: &'static str, status: &'static str, took: Duration) {
        self.with(|taken| {
            *taken.requests.entry((kind, status)).or_default() += 1;
            if let Some(histogram) = taken.request_seconds.get_mut(kind) {
                histogram.observe(took.as_secs_f64());
            }
        });
    }

    /// A commit took so long and ended so.
    pub(super) fn committed(&self, result: &Result<(), StoreError>, took: Duration) {
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        self.with(|taken| {
            *taken.commits.entry(outcome).or_default() += 1;
            taken.commit_seconds.observe(took.as_secs_f64());
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Taken) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How a request failed: the status where it is one that means something to us,
/// its class where not, and what went wrong where there was none.
fn failure(error: &ApiError) -> &'static str {
    match error {
        ApiError::TooFast { .. } => "429",
        ApiError::Status { status, .. } | ApiError::Foreign { status, .. } => match status {
            404 => "404",
            200..=299 => "2xx",
            400..=499 => "4xx",
            500..=599 => "5xx",
            _ => "other",
        },
        error => error.kind(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DispatchId;
    use crate::voltus::{KeySource, Problems, RedirectRefusal, Stamp};

    fn response(answer: Answer) -> Result<ApiResponse, ApiError> {
        Ok(ApiResponse {
            answer,
            problems: Problems::default(),
            stamp: Stamp::default(),
        })
    }

    fn answered(status: u16) -> Result<ApiResponse, ApiError> {
        Err(ApiError::Status {
            status,
            message: String::new(),
            retry_after: None,
        })
    }

    #[test]
    fn every_way_to_end_is_one_of_a_few_and_counted_from_0() {
        let id = DispatchId::new("a").unwrap();
        let retry_after = None;
        let ends = [
            (response(Answer::List(Default::default())), "200"),
            (response(Answer::Gone(id.clone())), "404"),
            (answered(404), "404"),
            (answered(204), "2xx"),
            (answered(418), "4xx"),
            (answered(503), "5xx"),
            (answered(101), "other"),
            (answered(999), "other"),
            (Err(ApiError::TooFast { retry_after }), "429"),
            (
                Err(ApiError::KeyRefused {
                    status: 401,
                    key: KeySource::default(),
                }),
                "key_refused",
            ),
            (
                Err(ApiError::Redirect {
                    status: 301,
                    refusal: RedirectRefusal::NoAddress,
                }),
                "redirect",
            ),
            (Err(ApiError::TimedOut("the API".into())), "timeout"),
            (Err(ApiError::Unreachable("no".into())), "unreachable"),
            (Err(ApiError::Interrupted("no".into())), "unreachable"),
            (Err(ApiError::TooLong { limit: 1 }), "too_long"),
            (Err(ApiError::Unreadable("no".into())), "unreadable"),
            (Err(ApiError::Another(id)), "unreadable"),
        ];
        let timings = Timings::default();
        let before = timings.taken();
        for (result, status) in ends {
            let counted = |taken: Taken| taken.requests[&("list", status)];
            let was = counted(timings.taken());
            timings.asked("list", &result, Duration::from_millis(20));
            assert_eq!(counted(timings.taken()), was + 1, "{status}");
        }
        let after = timings.taken();
        assert_eq!(before.requests.len(), after.requests.len());
        assert_eq!(after.request_seconds["list"].count(), 17);
        assert_eq!(after.request_seconds["dispatch"].count(), 0);
    }
}
