//! A daemon that asks the upstream: what the engine is driven by. Every
//! observation made of a story is kept as a [`Step`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::oracle::{among, made_whole};
use super::story::{Event, Fault, Op};
use super::upstream::{Upstream, id};
use dispatchd::engine::{Observation, Outcome, Request, Rules, Schedule, reconcile};
use dispatchd::model::{
    Answer, Asked, Dispatch, DispatchId, Entry, Inquiry, List, Reading, Source, UnreadParts,
};

/// Seconds. Short, so that stories of a minute see entries dropped.
pub const RETAIN: i64 = 40;

pub const RULES: Rules = Rules {
    retain: Duration::from_secs(RETAIN.unsigned_abs()),
    pre_curtail: Duration::ZERO,
    curtail_on_test: false,
    chunk: usize::MAX,
};

/// More questions than this are not kept waiting: the oldest is lost.
const IN_FLIGHT: usize = 10;

/// Seconds after an arbitrary moment that all stories share.
pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::seconds(seconds)
}

/// A question on its way. `about` is `None` when it asks for the list.
#[derive(Debug, Clone)]
struct Question {
    asked: Asked,
    source: Source,
    about: Option<DispatchId>,
    /// The newest moment of the upstream when it left.
    issued: usize,
    /// When it left, on the clock that does not jump.
    left: Duration,
}

/// One observation, and what the engine made of it.
#[derive(Debug, Clone)]
pub struct Step {
    pub term: u64,
    pub now: i64,
    pub observation: Observation,
    /// Dispatches that it shows in part, with what is known of the rest.
    pub whole: BTreeMap<DispatchId, Dispatch>,
    pub before: Schedule,
    pub outcome: Outcome,
    pub after: Schedule,
}

/// Upstream and daemon.
pub struct World {
    /// Every moment of the upstream, the present one last.
    moments: Vec<Upstream>,
    in_flight: Vec<Question>,
    answered: Vec<Observation>,
    /// The moment that each answer without a fault was taken from.
    seen: BTreeMap<Asked, usize>,
    last: Asked,
    now: i64,
    /// The clock that does not jump.
    mono: Duration,
    /// Whether the API's clock agrees with ours.
    clock_agrees: bool,
    /// Whether every observation is given another source.
    swapped: bool,
    /// The last list that was told: the next one shares with it what is the same.
    last_list: Arc<List>,
    /// The schedule of one who reads everything anew each time.
    forgetful: Schedule,
    pub schedule: Schedule,
    pub steps: Vec<Step>,
}

impl World {
    pub fn play(story: &[Op], swapped: bool) -> Self {
        let mut world = Self {
            moments: vec![Upstream::new()],
            in_flight: Vec::new(),
            answered: Vec::new(),
            seen: BTreeMap::new(),
            last: Asked { term: 1, count: 0 },
            now: 0,
            mono: Duration::ZERO,
            clock_agrees: true,
            swapped,
            last_list: Arc::default(),
            forgetful: Schedule::default(),
            schedule: Schedule::default(),
            steps: Vec::new(),
        };
        for op in story {
            world.act(op);
        }
        world
    }

    pub fn now(&self) -> i64 {
        self.now
    }

    pub fn upstream(&self) -> &Upstream {
        &self.moments[self.moments.len() - 1]
    }

    /// The first moment from `from` on in which the upstream was like that.
    pub fn first_moment_like(&self, dispatch: &Dispatch, from: usize) -> Option<usize> {
        (from..self.moments.len())
            .find(|moment| self.moments[*moment].tells(&dispatch.id).as_ref() == Some(dispatch))
    }

    /// A place in the order after every question that was asked.
    pub fn next(&self) -> Asked {
        Asked {
            count: self.last.count + 1,
            ..self.last
        }
    }

    /// The schedule once somebody has looked at the clock.
    pub fn look(&mut self) -> Schedule {
        self.tell(Observation::Clock);
        self.schedule.clone()
    }

    /// What is on its way is lost, and one poll succeeds, with the look-ups
    /// that the engine asks for then, and ten and twenty seconds later.
    pub fn settle(&mut self) {
        self.in_flight.clear();
        self.clock_agrees = true;
        self.ask(None, Source::Poll);
        self.answer_all();
        for _ in 0..2 {
            self.mono += Duration::from_secs(10);
            self.look();
            self.answer_all();
        }
    }

    fn answer_all(&mut self) {
        for _ in 0..20 {
            let Some(question) = self.in_flight.pop() else {
                return;
            };
            self.answer(&question, u8::MAX, &Fault::None);
        }
        panic!("look-ups without end");
    }

    fn act(&mut self, op: &Op) {
        match op {
            Op::Upstream(event) => self.happen(event),
            Op::Ask { which, webhook } => {
                let source = if *webhook {
                    Source::Webhook
                } else {
                    Source::Poll
                };
                self.ask(which.map(id), source);
            }
            Op::Answer { which, seen, fault } => {
                if let Some(question) = self.take(*which) {
                    self.answer(&question, *seen, fault);
                }
            }
            Op::Again { which } => {
                let count = self.answered.len();
                if count > 0 {
                    self.tell(self.answered[usize::from(*which) % count].clone());
                }
            }
            Op::Lose { which } => {
                self.take(*which);
            }
            Op::Poll {
                list,
                look_ups,
                late,
            } => {
                let waiting = self.in_flight.len();
                self.ask(None, Source::Poll);
                if let Some(question) = self.in_flight.pop() {
                    self.answer(&question, u8::MAX, list);
                }
                let waiting = waiting.min(self.in_flight.len());
                for (place, question) in self.in_flight.split_off(waiting).into_iter().enumerate() {
                    if late & (1 << place) == 0 {
                        self.answer(&question, u8::MAX, look_ups);
                    } else {
                        self.in_flight.push(question);
                    }
                }
            }
            Op::Pass { seconds, noticed } => {
                self.now += seconds;
                self.mono += Duration::from_secs(seconds.unsigned_abs());
                if *noticed {
                    self.tell(Observation::Clock);
                }
            }
            Op::Restart => self.restart(),
            Op::ClockAgrees(agrees) => self.clock_agrees = *agrees,
        }
    }

    fn happen(&mut self, event: &Event) {
        let mut next = self.upstream().clone();
        if let Event::Restore { back } = event {
            let moment = self.moments.len().saturating_sub(usize::from(*back) + 1);
            next = self.moments[moment].clone();
        }
        next.happen(event, self.now);
        self.moments.push(next);
    }

    fn restart(&mut self) {
        let stored: Vec<Entry> = self
            .schedule
            .entries()
            .map(|entry| Entry {
                inquiry: Inquiry::default(),
                ..Entry::clone(&entry)
            })
            .collect();
        self.schedule = Schedule::restore(stored, self.schedule.revision());
        self.forgetful = self.schedule.clone();
        self.last = Asked {
            term: self.last.term + 1,
            count: 0,
        };
        self.in_flight.clear();
        self.answered.clear();
        self.tell(Observation::Clock);
    }

    fn ask(&mut self, about: Option<DispatchId>, source: Source) {
        self.last = self.next();
        if self.in_flight.len() == IN_FLIGHT {
            self.in_flight.remove(0);
        }
        self.in_flight.push(Question {
            asked: self.last,
            source,
            about,
            issued: self.moments.len() - 1,
            left: self.mono,
        });
    }

    fn take(&mut self, which: u8) -> Option<Question> {
        let count = self.in_flight.len();
        (count > 0).then(|| self.in_flight.remove(usize::from(which) % count))
    }

    /// The moment that an answer shows: one between question and answer, and
    /// none older than an earlier question was shown. `share` picks it.
    fn moment(&mut self, question: &Question, share: u8) -> usize {
        let earlier = self.seen.range(..question.asked).map(|(_, seen)| *seen);
        let later = self.seen.range(question.asked..).map(|(_, seen)| *seen);
        let from = earlier.fold(question.issued, usize::max);
        let to = later.fold(self.moments.len() - 1, usize::min);
        let moment = from + (to - from) * usize::from(share) / usize::from(u8::MAX);
        self.seen.insert(question.asked, moment);
        moment
    }

    fn answer(&mut self, question: &Question, share: u8, fault: &Fault) {
        let moment = match fault {
            Fault::Stale(back) => question.issued.saturating_sub(usize::from(*back)),
            _ => self.moment(question, share),
        };
        let mut upstream = self.moments[moment].clone();
        if matches!(fault, Fault::Unnumbered) {
            upstream = upstream.unnumbered();
        }
        let answer = match &question.about {
            None => {
                let list = self.list(&upstream, moment, fault).sharing(&self.last_list);
                self.last_list = Arc::clone(&list);
                Answer::List(list)
            }
            Some(id) => match upstream.tells(id) {
                _ if matches!(fault, Fault::Gone) => Answer::Gone(id.clone()),
                None => Answer::Gone(id.clone()),
                Some(_) if matches!(fault, Fault::Unreadable(_)) => Answer::Found(unreadable(id)),
                Some(dispatch) if matches!(fault, Fault::InPart(_)) => {
                    Answer::Found(in_part(dispatch))
                }
                Some(dispatch) => Answer::Found(Reading::Dispatch(Arc::new(dispatch))),
            },
        };
        let observation = Observation::Api {
            request: Request {
                source: question.source,
                asked: question.asked,
                issued: question.left,
                answered: self.mono,
                clock_agrees: self.clock_agrees,
            },
            answer,
        };
        self.answered.push(observation.clone());
        self.tell(observation);
    }

    fn list(&self, upstream: &Upstream, moment: usize, fault: &Fault) -> List {
        let (mut readings, mut nameless) = (Vec::new(), 0);
        for (place, id) in upstream.ids().enumerate() {
            let Some(dispatch) = upstream.tells(id).filter(|_| upstream.lists(id)) else {
                continue;
            };
            let hit = |mask: u8| mask & (1 << place) != 0;
            let reading = Reading::Dispatch(Arc::new(dispatch.clone()));
            match *fault {
                Fault::InPart(mask) if hit(mask) => readings.push(in_part(dispatch)),
                Fault::Lacks(mask) if hit(mask) => {}
                Fault::Unreadable(mask) if hit(mask) => readings.push(unreadable(id)),
                Fault::Nameless(mask) if hit(mask) => nameless += 1,
                Fault::Doubled { back, first } => {
                    let older = &self.moments[moment.saturating_sub(usize::from(back))];
                    let older = older.tells(id).map(Arc::new).map(Reading::Dispatch);
                    if first {
                        readings.extend(older);
                        readings.push(reading);
                    } else {
                        readings.push(reading);
                        readings.extend(older);
                    }
                }
                _ => readings.push(reading),
            }
        }
        let list = List::new(readings.clone(), nameless);
        for reading in &readings {
            let chosen = list.get(reading.id()).map(std::slice::from_ref);
            let chosen = chosen.and_then(|chosen| among(chosen, reading.id()));
            assert_eq!(chosen, among(&readings, reading.id()), "{readings:?}");
        }
        list
    }

    fn tell(&mut self, mut observation: Observation) {
        if let (true, Observation::Api { request, .. }) = (self.swapped, &mut observation) {
            request.source = match request.source {
                Source::Webhook => Source::Poll,
                Source::Poll | Source::Timer | Source::Operator => Source::Webhook,
            };
        }
        let before = self.schedule.clone();
        let (after, outcome) = reconcile(before.clone(), &observation, at(self.now), &RULES);
        let anew = afresh(&observation);
        let (forgetful, same) = reconcile(self.forgetful.clone(), &anew, at(self.now), &RULES);
        assert_eq!(outcome, same, "what is shared is read as if it were new");
        assert!(after.entries().eq(forgetful.entries()), "{after:?}");
        self.forgetful = forgetful;
        let due: Vec<DispatchId> = after.checks_due(self.mono).cloned().collect();
        for id in due {
            let about = |question: &Question| question.about.as_ref() == Some(&id);
            if !self.in_flight.iter().any(about) {
                self.ask(Some(id), Source::Poll);
            }
        }
        self.schedule = after.clone();
        self.steps.push(Step {
            term: self.last.term,
            now: self.now,
            whole: made_whole(&observation, &before),
            observation,
            before,
            outcome,
            after,
        });
    }
}

/// The same, and shared with nothing.
fn afresh(observation: &Observation) -> Observation {
    let mut observation = observation.clone();
    let afresh = |reading: &Reading| match reading {
        Reading::Dispatch(dispatch) => Reading::Dispatch(Arc::new(Dispatch::clone(dispatch))),
        Reading::InPart { dispatch, unread } => Reading::InPart {
            dispatch: Arc::new(Dispatch::clone(dispatch)),
            unread: *unread,
        },
        Reading::Unreadable { .. } => reading.clone(),
    };
    if let Observation::Api {
        answer: Answer::List(list),
        ..
    } = &mut observation
    {
        let readings = list.readings().iter().map(afresh).collect();
        *list = Arc::new(List::new(readings, list.nameless()));
    }
    observation
}

/// Every second site of it cannot be read.
fn in_part(mut dispatch: Dispatch) -> Reading {
    let mut place = 0;
    dispatch.sites.retain(|_| {
        place += 1;
        place % 2 == 0
    });
    Reading::InPart {
        dispatch: Arc::new(dispatch),
        unread: UnreadParts {
            sites: true,
            ..UnreadParts::default()
        },
    }
}

fn unreadable(id: &DispatchId) -> Reading {
    Reading::Unreadable {
        id: id.clone(),
        reason: "no start_time".into(),
    }
}
