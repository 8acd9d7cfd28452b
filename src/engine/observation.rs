//! What the world was seen to be.

use std::sync::Arc;

use crate::model::{Asked, Dispatch, DispatchId, Source};

/// Something that was seen, and when the question was asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Observation {
    /// Time has passed: starts and ends may have come due (rule R4).
    Clock,
    /// The API answered.
    Api {
        /// What made us ask. Recorded, never decided by.
        source: Source,
        /// When the question was issued.
        asked: Asked,
        /// What the API said.
        answer: Answer,
    },
}

/// What the API said.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The whole list.
    List(List),
    /// One dispatch, looked up by id.
    Found(Reading),
    /// The API's own word that it knows no such dispatch.
    Gone(DispatchId),
}

/// The list of dispatches, as far as it could be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct List {
    /// Its elements whose id could be read.
    pub readings: Vec<Reading>,
    /// How many elements had no readable id. Such a list says nothing about
    /// which dispatches are absent (rule R3).
    pub nameless: usize,
}

/// One dispatch of an answer (rule R11).
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// It could be read.
    Dispatch(Arc<Dispatch>),
    /// Only its id could be read: it is there, and nothing else is known.
    Unreadable {
        /// The id.
        id: DispatchId,
        /// What was wrong, for the operator.
        reason: String,
    },
}

impl Reading {
    /// The dispatch's id.
    pub fn id(&self) -> &DispatchId {
        match self {
            Self::Dispatch(dispatch) => &dispatch.id,
            Self::Unreadable { id, .. } => id,
        }
    }
}
