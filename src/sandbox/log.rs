//! What happened in the sandbox, for those who test against it.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};

/// How many entries of each kind are kept; the oldest go first.
const KEPT: usize = 100_000;

/// How one attempt to deliver a webhook came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver answered with this status.
    Answered(u16),
    /// There was no answer; why.
    Failed(String),
    /// Lost on purpose. The sender takes it for delivered.
    Dropped,
    /// The webhook was deleted before it could be sent.
    Unregistered,
}

impl Outcome {
    /// Whether the upstream counts it as delivered: 200, 201, 202 or 204, and
    /// nothing else.
    pub fn succeeded(&self) -> bool {
        matches!(self, Self::Answered(200 | 201 | 202 | 204))
    }
}

/// A status as a number, everything else as a text.
impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Answered(status) => serializer.serialize_u16(*status),
            Self::Failed(reason) => serializer.serialize_str(reason),
            Self::Dropped => serializer.serialize_str("dropped"),
            Self::Unregistered => serializer.serialize_str("unregistered"),
        }
    }
}

/// One attempt to deliver a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// When it was sent, UTC.
    pub at: DateTime<Utc>,
    /// Where to.
    pub url: String,
    /// `dispatch.create` or `dispatch.update`.
    pub event: String,
    /// The path of the dispatch that it tells of.
    pub resource: String,
    /// Counted from 1; 6 is the last.
    pub attempt: u32,
    /// Whether it is the copy that `duplicate_webhooks` asked for.
    pub duplicate: bool,
    /// How it came out.
    pub outcome: Outcome,
}

/// An email to the customer's contacts, asking them to curtail by hand, that
/// would have been sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContactEmail {
    /// When, UTC.
    pub at: DateTime<Utc>,
    /// The webhook that could not be delivered.
    pub url: String,
    /// Its event.
    pub event: String,
    /// The path of the dispatch that it told of.
    pub resource: String,
    /// How often it was tried.
    pub attempts: u32,
    /// What the email says.
    pub text: String,
}

/// Webhook deliveries and contact emails, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Log {
    /// Every attempt to deliver, in the order in which they came out.
    pub deliveries: Vec<Delivery>,
    /// Every contact email.
    pub contact_emails: Vec<ContactEmail>,
}

/// A request that the API received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRequest {
    /// When it came in, UTC.
    pub at: DateTime<Utc>,
    /// `GET`, ...
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The status of the answer, known once that is settled: it may still be
    /// under way then. `None` before, and for good if there is no answer.
    pub status: Option<u16>,
    /// The names of its headers, in lower case, in their order.
    pub headers: Vec<String>,
    /// What it carried as `X-Voltus-API-Key`.
    pub key: Option<String>,
}

/// The newest entries of one kind.
#[derive(Debug)]
pub(super) struct Newest<T> {
    entries: VecDeque<T>,
    /// How many have been dropped from the front.
    gone: usize,
}

impl<T> Default for Newest<T> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            gone: 0,
        }
    }
}

impl<T: Clone> Newest<T> {
    /// Adds an entry and tells its number.
    pub(super) fn push(&mut self, entry: T) -> usize {
        if self.entries.len() == KEPT {
            self.entries.pop_front();
            self.gone += 1;
        }
        self.entries.push_back(entry);
        self.gone + self.entries.len() - 1
    }

    /// The entry of that number, while it is kept.
    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        self.entries.get_mut(number.checked_sub(self.gone)?)
    }

    /// All that are kept, oldest first.
    pub(super) fn to_vec(&self) -> Vec<T> {
        self.entries.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_201_202_and_204_count_as_delivered() {
        let delivered: Vec<u16> = (100..600)
            .filter(|status| Outcome::Answered(*status).succeeded())
            .collect();
        assert_eq!(delivered, [200, 201, 202, 204]);
        assert!(!Outcome::Failed(String::new()).succeeded());
    }

    #[test]
    fn an_entry_keeps_its_number_when_older_ones_go() {
        let mut newest = Newest::default();
        for number in 0..KEPT + 3 {
            assert_eq!(newest.push(number), number);
        }
        assert_eq!(newest.get_mut(2), None);
        assert_eq!(newest.get_mut(3), Some(&mut 3));
        assert_eq!(newest.get_mut(KEPT + 2), Some(&mut (KEPT + 2)));
        assert_eq!(newest.to_vec().len(), KEPT);
    }
}
