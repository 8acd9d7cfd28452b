//! What the API, the clock or an operator said, and in which order.

use crate::clock::Mono;
use crate::model::{Answer, Asked, OverrideOrder, Source};

/// What the clock, the API or an operator said.
#[derive(Debug, Clone, PartialEq)]
pub enum Observation {
    /// Time has passed: starts and ends may have come due (rule R4).
    Clock,
    /// The API answered.
    Api {
        /// The request that was answered.
        request: Request,
        /// What the API said.
        answer: Answer,
    },
    /// An operator ordered what a site must do.
    Operator(OverrideOrder),
}

/// A request to the API that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Why it was made. Recorded, never decided by.
    pub source: Source,
    /// Its place in the order of requests (rule R2).
    pub asked: Asked,
    /// When it was issued, on the clock that does not jump.
    pub issued: Mono,
    /// When its answer arrived, on the clock that does not jump.
    pub answered: Mono,
    /// Whether the API's clock agrees with ours within a minute, or is not known.
    /// Only then may the answer undo a start or an end (rule R4).
    pub clock_agrees: bool,
}

impl Observation {
    /// Whether it is a look-up that could not be read in a part that a site depends on.
    pub fn leaves_open(&self) -> bool {
        match self {
            Self::Api {
                answer: Answer::Found(reading),
                ..
            } => reading.leaves_open(),
            _ => false,
        }
    }
}
