//! What the daemon began comes to an end.

use std::sync::Arc;
use std::time::Duration;

use super::World;
use crate::api::Prepared;
use crate::violation::Checked;
use dispatchd::clock::Now;
use dispatchd::model::{Answer, Asked, Event, Reading};
use dispatchd::store::{Batch, Store, StoreError};
use dispatchd::sync::Input;
use dispatchd::voltus::{ApiClock, ApiError, ApiResponse};

impl World {
    /// Puts a batch on the disk.
    pub(super) fn write(&mut self, batch: &Batch) -> Checked {
        let stored = self.tamperer.stored(batch);
        if let Err(error) = self.store.commit(&stored) {
            return Err(self.broken("the store takes every commit", &error.to_string()));
        }
        let running = |sink: &usize| {
            let daemon = self.daemon.as_ref();
            daemon.is_some_and(|daemon| daemon.sinks.contains(sink))
        };
        let absent: Vec<usize> = (0..self.receivers.len())
            .filter(|sink| !running(sink))
            .collect();
        self.checks.written(batch, &stored, &absent, self.moment())
    }

    pub(super) fn written(&mut self, term: u64, full: bool) -> Checked {
        let current = self
            .daemon
            .as_ref()
            .is_some_and(|daemon| daemon.term == term);
        let Some(batch) = self.batch.take_if(|_| current) else {
            return Ok(());
        };
        let result = if full {
            Err(StoreError::Database {
                doing: "be written",
                source: "the disk is full".into(),
            })
        } else {
            self.write(&batch)?;
            Ok(())
        };
        self.trace
            .line(self.now, || format!("  commit ended: {}", result.is_ok()));
        self.checks.commit_ended(result.is_ok(), self.now);
        let result = self.tamperer.commit_ended(result);
        if let Some(daemon) = &mut self.daemon {
            daemon.writing = false;
        }
        self.tell(Input::Committed(result));
        Ok(())
    }

    pub(super) fn answer(
        &mut self,
        term: u64,
        asked: Asked,
        asked_at: Duration,
        prepared: Prepared,
    ) -> Checked {
        if self
            .daemon
            .as_ref()
            .is_none_or(|daemon| daemon.term != term)
        {
            return Ok(());
        }
        let knobs = &self.scenario.knobs;
        let wall_at = |at| self.wall_at(at);
        let last_list = &self.api.last_list;
        let mut result = prepared.answer(&self.upstream, asked_at, wall_at, knobs, last_list);
        if let Ok(told) = &mut result {
            // The API's clock is right.
            told.stamp.clock = self.daemon.as_ref().map(|daemon| ApiClock {
                showed: self.wall_at(self.now),
                came: Now {
                    wall: self.wall(),
                    mono: daemon.mono(self.now),
                },
            });
        }
        if let Ok(ApiResponse {
            answer: Answer::List(list),
            ..
        }) = &result
        {
            self.api.last_list = Arc::clone(list);
        }
        self.trace
            .line(self.now, || format!("  told {asked}: {}", brief(&result)));
        let Some(question) = self.questions.remove(&asked) else {
            return Ok(());
        };
        self.checks.told(asked, &question, &result, self.now);
        let result = self.tamperer.told(&question, result);
        self.tell(Input::Response { asked, result });
        Ok(())
    }

    pub(super) fn acts(&mut self, sink: usize, events: &[Event]) -> Checked {
        let Some(receiver) = self.receivers.get_mut(sink) else {
            return Ok(());
        };
        for event in events {
            self.trace.line(self.now, || {
                format!(
                    "  sink{sink} acts: {} {} {}",
                    event.sequence, event.event_type, event.subject
                )
            });
            self.checks.arrives(sink, receiver, event, self.now)?;
            receiver.act(event);
        }
        Ok(())
    }
}

/// An answer in a line.
fn brief(result: &Result<ApiResponse, ApiError>) -> String {
    let reading = |reading: &Reading| match reading {
        Reading::Dispatch(dispatch) | Reading::InPart { dispatch, .. } => format!(
            "{}#{} {}..{}{}{}",
            dispatch.id,
            dispatch.modification_number.unwrap_or(-1),
            dispatch.start_time.format("%T"),
            dispatch
                .end_time
                .map_or("open".into(), |end| end.format("%T").to_string()),
            if dispatch.authorized { "" } else { " off" },
            match reading {
                Reading::InPart { .. } => " in part",
                _ => "",
            },
        ),
        Reading::Unreadable { id, .. } => format!("{id} unreadable"),
    };
    match result {
        Err(error) => error.to_string(),
        Ok(told) => match &told.answer {
            Answer::List(list) => {
                let all: Vec<String> = list.readings().iter().map(reading).collect();
                format!("[{}], {} nameless", all.join(", "), list.nameless())
            }
            Answer::Found(found) => reading(found),
            Answer::Gone(id) => format!("{id} is gone"),
        },
    }
}
