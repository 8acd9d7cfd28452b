//! Counts what of the API's answers cannot be read (rule R11).

use std::sync::Arc;

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
}

impl Legibility {
    /// A list came in, of which this could not be read.
    pub fn list(&mut self, problems: &Problems) {
        self.totals.add(problems.counts());
        let before = std::mem::replace(&mut self.now, Arc::new(problems.clone()));
        let fresh = parts_missing_in(&before, problems);
        if !fresh.is_empty() || problems.counts().total() > before.counts().total() {
            warn(if fresh.is_empty() { problems } else { &fresh });
        } else if problems.is_empty() && !before.is_empty() {
            tracing::info!("all parts of the API's list can be read again");
        }
    }

    /// A look-up came in, of which this could not be read.
    pub fn look_up(&mut self, problems: &Problems) {
        self.totals.add(problems.counts());
        let fresh = parts_missing_in(&self.now, problems);
        if !fresh.is_empty() {
            warn(&fresh);
            Arc::make_mut(&mut self.now).append(&fresh);
        }
    }
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

fn warn(problems: &Problems) {
    tracing::warn!(
        count = problems.counts().total(),
        "parts of the API's answer could not be read; an amount is unknown now, all else stays as it was: {problems}"
    );
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
        legibility.list(&problems(&["a"]));
        legibility.look_up(&problems(&["a", "b"]));
        assert_eq!(legibility.now.detailed().len(), 2);
        legibility.list(&problems(&["b"]));
        assert_eq!(*legibility.now, problems(&["b"]));
        legibility.list(&problems(&[]));
        assert!(legibility.now.is_empty());
        assert_eq!(legibility.totals.amounts, 4, "each answer counts");
    }

    #[test]
    fn more_than_is_kept_in_words_is_counted_all_the_same() {
        let reasons: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        let reasons: Vec<&str> = reasons.iter().map(String::as_str).collect();
        let mut legibility = Legibility::default();
        legibility.list(&problems(&reasons));
        assert_eq!(legibility.now.counts().amounts, 1000);
        assert_eq!(legibility.now.detailed().len(), crate::voltus::DETAILED);
    }
}
