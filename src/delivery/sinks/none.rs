//! The `none` sink delivers nothing: for trials, and where only the schedule is asked for.

use std::future::{Future, ready};
use std::pin::Pin;

use super::Attempt;
use crate::delivery::{DeliveryTrace, Sink};
use crate::model::Event;

/// Takes everything and does nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoneSink;

impl Sink for NoneSink {
    fn name(&self) -> &str {
        "none"
    }

    fn batch(&self) -> usize {
        100
    }

    fn deliver<'a>(
        &'a self,
        _events: &'a [Event],
        _trace: Option<&'a DeliveryTrace>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        Box::pin(ready(Attempt::Delivered))
    }
}
