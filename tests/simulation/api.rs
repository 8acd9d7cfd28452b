//! The simulated API: answers late, from a moment of the truth, or wrongly.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::RngExt;
use rand::rngs::SmallRng;

use super::dice::Dice;
use super::faults::Faults;
use super::scenario::{ApiFault, Knobs};
use super::upstream::{Moment, Upstream};
use dispatchd::model::{Answer, Dispatch, DispatchId, List, Reading, UnreadParts};
use dispatchd::voltus::{ApiError, ApiResponse, Problems, Question, Stamp};

/// The API in front of the upstream.
#[derive(Debug, Default)]
pub(super) struct SimulatedApi {
    pub faults: Faults<ApiFault>,
    /// The last list that it told.
    pub last_list: Arc<List>,
    /// How often each question was asked, for the dice.
    asked: BTreeMap<String, u64>,
}

/// How a question will be answered.
#[derive(Debug)]
pub(super) struct Prepared {
    question: Question,
    /// How long that takes.
    pub delay: Duration,
    /// How far into the delay the truth is looked at.
    looked_after: Duration,
    /// By how much the replica that answers lags behind.
    lag: Duration,
    /// How long a cache has kept the answer, as it says.
    age: Duration,
    error: Option<ApiError>,
    /// What else is wrong with the answer, with the dice for it.
    wrong: Vec<(ApiFault, u64)>,
}

impl SimulatedApi {
    /// Decides how `question`, asked at `now`, is answered.
    pub fn prepare(
        &mut self,
        question: &Question,
        now: Duration,
        dice: Dice,
        knobs: &Knobs,
    ) -> Prepared {
        let name = match question {
            Question::List => "the list".to_owned(),
            Question::Dispatch(id) => id.to_string(),
        };
        let nth = self.asked.entry(name.clone()).or_default();
        *nth += 1;
        let mut random = dice.roll(&name, &[*nth]);
        let longest = u64::try_from(knobs.latency.as_millis()).unwrap_or(100);
        let mut delay = Duration::from_millis(random.random_range(1..=longest.max(2)));
        let looked_after = delay.mul_f64(random.random());
        let mut prepared = Prepared {
            question: question.clone(),
            delay,
            looked_after,
            lag: Duration::ZERO,
            age: Duration::ZERO,
            error: None,
            wrong: Vec::new(),
        };
        for (number, fault) in self.faults.at(now) {
            match fault {
                ApiFault::Slow => delay += Duration::from_secs_f64(random.random_range(0.5..30.0)),
                ApiFault::Replica { lag } if random.random_bool(0.6) => {
                    prepared.lag = prepared.lag.max(*lag);
                }
                ApiFault::Cached { age } if random.random_bool(0.6) => {
                    prepared.age = prepared.age.max(age.mul_f64(random.random()));
                }
                _ => {}
            }
            match error(fault, question, &mut random) {
                Some(error) => prepared.error = Some(error),
                None => prepared
                    .wrong
                    .push((fault.clone(), dice.number("wrong", &[number, *nth / 3]))),
            }
        }
        prepared.looked_after = prepared.looked_after.max(delay.mul_f64(random.random()));
        prepared.delay = delay;
        if !prepared.age.is_zero() {
            // It was made before the request was issued; whole seconds are told.
            prepared.age = Duration::from_secs(prepared.age.as_secs() + 1);
            prepared.lag = prepared.lag.max(prepared.age);
            prepared.looked_after = Duration::ZERO;
        }
        if matches!(prepared.error, Some(ApiError::TimedOut(_))) {
            prepared.delay = Duration::from_secs(10);
        }
        prepared
    }
}

fn error(fault: &ApiFault, question: &Question, random: &mut SmallRng) -> Option<ApiError> {
    match fault {
        ApiFault::Down if random.random_bool(0.3) => Some(ApiError::TimedOut("the API".into())),
        ApiFault::Down => Some(ApiError::Unreachable("connection refused".into())),
        ApiFault::Errors if random.random_bool(0.5) => Some(ApiError::Status {
            status: 500,
            message: "internal error".into(),
            retry_after: None,
        }),
        ApiFault::TooFast { retry_after } if random.random_bool(0.7) => Some(ApiError::TooFast {
            retry_after: *retry_after,
        }),
        ApiFault::Unavailable { retry_after } if random.random_bool(0.7) => {
            Some(ApiError::Status {
                status: 503,
                message: "back soon".into(),
                retry_after: Some(*retry_after),
            })
        }
        ApiFault::Another => match question {
            Question::Dispatch(id) => Some(ApiError::Another(id.clone())),
            Question::List => None,
        },
        _ => None,
    }
}

impl Prepared {
    /// The answer, given when the question was asked, and the list that was told
    /// last: what is the same is shared with it.
    pub fn answer(
        self,
        upstream: &Upstream,
        asked_at: Duration,
        wall_of: impl Fn(Duration) -> DateTime<Utc>,
        knobs: &Knobs,
        last_list: &Arc<List>,
    ) -> Result<ApiResponse, ApiError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let at = (asked_at + self.looked_after.min(self.delay)).saturating_sub(self.lag);
        let moment = Moment {
            at,
            wall: wall_of(at),
        };
        let answer = match &self.question {
            Question::List => Answer::List(self.list(upstream, moment, knobs).sharing(last_list)),
            Question::Dispatch(id) => self.look_up(upstream, id, moment),
        };
        Ok(ApiResponse {
            answer,
            problems: Problems::default(),
            stamp: Stamp {
                age: self.age,
                clock: None,
            },
        })
    }

    fn list(&self, upstream: &Upstream, moment: Moment, knobs: &Knobs) -> List {
        let window = TimeDelta::from_std(knobs.list_window).unwrap_or(TimeDelta::days(1));
        let (mut readings, mut nameless) = (Vec::new(), 0);
        for dispatch in upstream.all_at(moment.at) {
            if is_listed(&dispatch, moment.wall, window) && !self.hides(&dispatch.id, true) {
                readings.push(self.reading(dispatch));
            }
        }
        for (fault, _) in &self.wrong {
            match fault {
                ApiFault::EmptyList => (readings, nameless) = (Vec::new(), 0),
                ApiFault::Nameless => nameless += 1,
                _ => {}
            }
        }
        List::new(readings, nameless)
    }

    fn look_up(&self, upstream: &Upstream, id: &DispatchId, moment: Moment) -> Answer {
        match upstream.at(id, moment.at) {
            Some(dispatch) if !self.hides(id, false) => Answer::Found(self.reading(dispatch)),
            _ => Answer::Gone(id.clone()),
        }
    }

    fn hides(&self, id: &DispatchId, list: bool) -> bool {
        self.wrong.iter().any(|(fault, luck)| {
            let concerned = is_concerned(id, *luck);
            match fault {
                ApiFault::Holes => list && concerned,
                ApiFault::Vanish => concerned,
                _ => false,
            }
        })
    }

    fn reading(&self, dispatch: Arc<Dispatch>) -> Reading {
        let garbled = self.wrong.iter().find(|(fault, luck)| {
            matches!(fault, ApiFault::Garbled) && is_concerned(&dispatch.id, *luck)
        });
        match garbled {
            Some((_, luck)) => garble(&dispatch, Dice::new(*luck)),
            None => Reading::Dispatch(dispatch),
        }
    }
}

/// What is read of a dispatch that comes garbled: nothing, or all but some
/// sites, some amounts, or the metadata.
fn garble(dispatch: &Arc<Dispatch>, dice: Dice) -> Reading {
    let mut random = dice.roll("garbled", &[]);
    let kind = random.random_range(0..5);
    if kind == 0 {
        return Reading::Unreadable {
            id: dispatch.id.clone(),
            reason: "start_time: it is no time".into(),
        };
    }
    let mut read = Dispatch::clone(dispatch);
    let mut unread = UnreadParts::default();
    match kind {
        1 | 2 => {
            unread.sites = true;
            read.sites.retain(|_| random.random_bool(0.5));
        }
        3 => {
            for site in &mut read.sites {
                if random.random_bool(0.5) {
                    Arc::make_mut(site).commitment = None;
                }
            }
            return Reading::Dispatch(Arc::new(read));
        }
        _ => {
            unread.metadata = true;
            read.metadata = serde_json::json!({});
        }
    }
    Reading::InPart {
        dispatch: Arc::new(read),
        unread,
    }
}

/// A fault concerns half of the dispatches.
fn is_concerned(id: &DispatchId, luck: u64) -> bool {
    Dice::new(luck).number(id.as_str(), &[]).is_multiple_of(2)
}

/// Whether the list shows a dispatch: it is not over, or was not long ago.
pub(super) fn is_listed(dispatch: &Dispatch, wall: DateTime<Utc>, window: TimeDelta) -> bool {
    dispatch.end_time.is_none_or(|end| end > wall - window)
}
