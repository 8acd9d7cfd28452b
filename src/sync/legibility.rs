//! Counts what of the API's answers cannot be read (rule R11).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Mono;
use crate::seldom::spoken;
use crate::voltus::{Problems, Unreadable};

/// Counts what could not be read, keeps what cannot be read now, and logs it once
/// a change.
#[derive(Debug, Default)]
pub(super) struct Legibility {
    /// Parts that could not be read since the start, counted in every answer.
    pub totals: Unreadable,
    /// Parts that cannot be read now: those of the last list, and those of the
    /// look-ups since then.
    pub now: Arc<Problems>,
    said: Said,
}

/// What the log has said.
#[derive(Debug, Default)]
struct Said {
    /// When it last named each part, in words. Parts that come and go are named once
    /// a minute.
    parts: BTreeMap<String, Mono>,
    /// Since when parts cannot be read, if the log has said so.
    since: Option<Mono>,
}

/// The shortest time between two lines about one part.
const PAUSE: Duration = Duration::from_secs(60);

/// The most parts that are remembered.
const REMEMBERED: usize = 1000;

impl Legibility {
    /// A list came in, of which this could not be read.
    pub fn list(&mut self, problems: &Problems, at: Mono) {
        self.totals.add(problems.counts());
        let before = std::mem::replace(&mut self.now, Arc::new(problems.clone()));
        let fresh = parts_missing_in(&before, problems);
        if !fresh.is_empty() || problems.counts().total() > before.counts().total() {
            self.said
                .warn(if fresh.is_empty() { problems } else { &fresh }, at);
        } else if problems.is_empty()
            && !before.is_empty()
            && let Some(since) = self.said.since.take()
        {
            tracing::info!(
                lasted = %spoken(at.saturating_sub(since)),
                "all parts of the API's list can be read again"
            );
        }
    }

    /// A look-up came in, of which this could not be read.
    pub fn look_up(&mut self, problems: &Problems, at: Mono) {
        self.totals.add(problems.counts());
        let fresh = parts_missing_in(&self.now, problems);
        if !fresh.is_empty() {
            self.said.warn(&fresh, at);
            Arc::make_mut(&mut self.now).append(&fresh);
        }
    }
}

impl Said {
    fn warn(&mut self, problems: &Problems, at: Mono) {
        self.parts
            .retain(|_, said| at.saturating_sub(*said) < PAUSE);
        let parts: Vec<String> = problems
            .detailed()
            .iter()
            .map(ToString::to_string)
            .collect();
        let is_news = |part: &String| !self.parts.contains_key(part);
        if self.parts.len() >= REMEMBERED || !parts.iter().any(is_news) {
            return;
        }
        self.parts.extend(parts.into_iter().map(|part| (part, at)));
        self.since.get_or_insert(at);
        tracing::warn!(
            count = problems.counts().total(),
            "parts of the API's answer could not be read; {}: {problems}",
            consequences(problems.counts())
        );
    }
}

/// What follows for what could not be read.
fn consequences(counts: &Unreadable) -> String {
    let stays = counts.dispatches + counts.sites + counts.details;
    [
        (counts.amounts, "an amount is unknown now"),
        (counts.extras, "too many unknown fields are dropped"),
        (stays, "what they tell stays as it was"),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(_, what)| *what)
    .collect::<Vec<_>>()
    .join(", ")
}

/// The parts of `problems` that are not in `known`, as far as both are kept in
/// words.
fn parts_missing_in(known: &Problems, problems: &Problems) -> Problems {
    let mut fresh = Problems::default();
    for problem in problems.detailed() {
        if !known.detailed().contains(problem) {
            fresh.push(problem.dispatch.as_ref(), problem.part, || {
                problem.reason.clone()
            });
        }
    }
    fresh
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DispatchId;
    use crate::voltus::Part;

    fn problems(reasons: &[&str]) -> Problems {
        let mut problems = Problems::default();
        let id = DispatchId::new("d").unwrap();
        for reason in reasons {
            problems.push(Some(&id), Part::Amount, || (*reason).to_owned());
        }
        problems
    }

    #[test]
    fn a_list_replaces_what_is_unreadable_now_and_a_look_up_adds_to_it() {
        let mut legibility = Legibility::default();
        legibility.list(&problems(&["a"]), Mono::ZERO);
        legibility.look_up(&problems(&["a", "b"]), Mono::ZERO);
        assert_eq!(legibility.now.detailed().len(), 2);
        legibility.list(&problems(&["b"]), Mono::ZERO);
        assert_eq!(*legibility.now, problems(&["b"]));
        legibility.list(&problems(&[]), Mono::ZERO);
        assert!(legibility.now.is_empty());
        assert_eq!(legibility.totals.amounts, 4, "each answer counts");
    }

    #[test]
    fn more_than_is_kept_in_words_is_counted_all_the_same() {
        let reasons: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        let reasons: Vec<&str> = reasons.iter().map(String::as_str).collect();
        let mut legibility = Legibility::default();
        legibility.list(&problems(&reasons), Mono::ZERO);
        assert_eq!(legibility.now.counts().amounts, 1000);
        assert_eq!(legibility.now.detailed().len(), crate::voltus::DETAILED);
    }
}
