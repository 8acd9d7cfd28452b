//! What the chapters are told with.

use std::fmt::Display;
use std::time::Duration;

use chrono::TimeDelta;
use http::StatusCode;
use serde_json::{Value, json};

use super::feed::Heard;
use super::teller::{Kind, Teller};
use super::{Outcome, Pace, Stage, words};
use crate::clock::{Mono, Now};
use crate::model::rfc3339;
use crate::sandbox;

/// How often an answer is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// Something that should have been seen and was not.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Missing(pub String);

/// A place that can curtail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub id: &'static str,
    pub name: &'static str,
    pub location: &'static str,
    pub kilowatts: u32,
}

pub(super) const BAKERY: Place = Place {
    id: "bakery",
    name: "Bakery",
    location: "12",
    kilowatts: 40,
};
pub(super) const COLD_STORE: Place = Place {
    id: "cold-store",
    name: "Cold store",
    location: "34",
    kilowatts: 25,
};
pub(super) const WATERWORKS: Place = Place {
    id: "waterworks",
    name: "Waterworks",
    location: "56",
    kilowatts: 120,
};

/// A moment of the story: what was heard before it does not count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub at: Now,
    heard: usize,
}

/// The story while it is told.
pub(super) struct Story<'a> {
    pub stage: &'a Stage,
    pub pace: &'a Pace,
    teller: &'a Teller,
    /// When it began.
    pub start: Moment,
    /// How long the API was down.
    pub outage: Duration,
    pub outcome: Outcome,
}

impl<'a> Story<'a> {
    pub fn new(stage: &'a Stage, pace: &'a Pace, teller: &'a Teller) -> Self {
        Self {
            stage,
            pace,
            teller,
            start: Moment {
                at: teller.now(),
                heard: 0,
            },
            outage: Duration::ZERO,
            outcome: Outcome::default(),
        }
    }

    pub fn chapter(&self, title: &str) {
        self.teller.heading(title);
    }

    pub fn voltus(&self, text: &str) {
        self.teller.line(Kind::Voltus, text);
    }

    pub fn fault(&self, text: &str) {
        self.teller.line(Kind::Fault, text);
    }

    pub fn seen(&self, text: &str) {
        self.teller.line(Kind::Seen, text);
    }

    pub fn say(&self, text: &str) {
        self.teller.say(text);
    }

    pub fn heading(&self, text: &str) {
        self.teller.heading(text);
    }

    /// Notes what a chapter has left open.
    pub fn note(&mut self, ended: Result<(), Missing>) {
        if let Err(Missing(what)) = ended {
            self.teller.line(Kind::Missing, &what);
            self.outcome.missing.push(what);
        }
    }

    /// A lost webhook has done no harm: the poller has found by itself what was
    /// changed at `published`.
    pub fn healed(&mut self, published: Moment, heard: &Heard, text: &str) -> Result<(), Missing> {
        let source = heard.data["source"].as_str().unwrap_or_default();
        same(source, "poll", || {
            format!("what brought {} of {}", heard.event_type, heard.subject)
        })?;
        let delay = since(published, heard.at);
        self.teller.line(
            Kind::Healed,
            &format!("{text}, {} after it happened", words::duration(delay)),
        );
        self.outcome.healed.push(delay);
        Ok(())
    }

    /// Now.
    pub fn moment(&self) -> Moment {
        Moment {
            at: self.teller.now(),
            heard: self.stage.heard().borrow().as_ref().map_or(0, Vec::len),
        }
    }

    /// Changes what goes wrong in the sandbox.
    pub fn faults(&self, faults: &Value) -> Result<(), Missing> {
        let changed = self.stage.sandbox().change_faults(faults);
        changed
            .map(drop)
            .map_err(|error| Missing(format!("the sandbox does not take its faults: {error}")))
    }

    /// Publishes a dispatch. Its webhook is lost if those are being lost.
    pub fn publish(
        &self,
        id: &str,
        starts_in: TimeDelta,
        lasts: Option<Duration>,
        places: &[Place],
    ) -> Result<Moment, Missing> {
        let start = self.teller.now().wall + starts_in;
        let sites: Vec<Value> = places
            .iter()
            .map(|place| {
                json!({"id": place.id, "name": place.name, "customer_location_id": place.location,
                       "commitment": place.kilowatts})
            })
            .collect();
        self.put(json!({
            "id": id, "authorized": true, "test": false, "sites": sites,
            "start_time": rfc3339(start),
            "end_time": lasts.map(|lasts| rfc3339(start + lasts)),
            "creation_time": rfc3339(self.teller.now().wall), "modification_number": 0,
            "program": {"id": 867, "name": "Demo", "market": "Demo", "timezone": "UTC",
                        "program_type": "ancillary_services"},
        }))
    }

    /// Publishes a dispatch again with another value in one field.
    pub fn update(&self, id: &str, field: &str, value: Value) -> Result<Moment, Missing> {
        let unknown = || Missing(format!("the sandbox has lost {id}"));
        let mut dispatch = self.stage.sandbox().get(id).ok_or_else(unknown)?;
        let number = dispatch["modification_number"].as_i64().unwrap_or(0) + 1;
        dispatch["modification_number"] = number.into();
        dispatch[field] = value;
        self.put(dispatch)
    }

    /// Ends a dispatch at this moment.
    pub fn end(&self, id: &str) -> Result<Moment, Missing> {
        self.update(id, "end_time", rfc3339(self.teller.now().wall).into())
    }

    fn put(&self, dispatch: Value) -> Result<Moment, Missing> {
        let moment = self.moment();
        let put = self.stage.sandbox().put(dispatch, true);
        put.map_err(|error| Missing(format!("the sandbox refuses a dispatch: {error}")))?;
        Ok(moment)
    }

    /// How many webhooks were lost so far.
    pub fn lost(&self) -> usize {
        let deliveries = self.stage.sandbox().log().deliveries;
        let lost = |delivery: &&sandbox::Delivery| delivery.outcome == sandbox::Outcome::Dropped;
        deliveries.iter().filter(lost).count()
    }

    /// Waits for an event.
    pub async fn heard(
        &self,
        after: Moment,
        event_type: &str,
        subject: &str,
    ) -> Result<Heard, Missing> {
        let mut heard = self.stage.heard();
        let found = |all: &Option<Vec<Heard>>| find(all, after, event_type, subject);
        let waiting = heard.wait_for(|all| found(all).is_some());
        let waited = tokio::time::timeout(self.pace.patience, waiting).await;
        let event = match waited {
            Ok(Ok(all)) => found(&all),
            _ => None,
        };
        event.ok_or_else(|| {
            let patience = words::duration(self.pace.patience);
            Missing(format!("no {event_type} of {subject} within {patience}"))
        })
    }

    /// Whether an event has come already.
    pub fn has_heard(&self, after: Moment, event_type: &str, subject: &str) -> bool {
        find(&self.stage.heard().borrow(), after, event_type, subject).is_some()
    }

    /// What `path` answers, which must be there.
    pub async fn get(&self, path: &str) -> Result<Value, Missing> {
        let (status, body) = self.stage.get(path).await?;
        same(status, StatusCode::OK, || {
            format!("the status of GET {path}")
        })?;
        Ok(body)
    }

    /// Waits until the answer to `path` is right.
    pub async fn until(
        &self,
        path: &str,
        what: &str,
        right: impl Fn(StatusCode, &Value) -> bool,
    ) -> Result<Value, Missing> {
        let look = async {
            loop {
                let (status, body) = self.stage.get(path).await?;
                if right(status, &body) {
                    return Ok(body);
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        match tokio::time::timeout(self.pace.patience, look).await {
            Ok(seen) => seen,
            Err(_) => Err(Missing(format!("GET {path} never showed {what}"))),
        }
    }

    /// Checks what the schedule says of a dispatch.
    pub async fn phase(&self, id: &str, phase: &str) -> Result<Value, Missing> {
        let entry = self.get(&format!("/schedule/{id}")).await?;
        let shown = entry["phase"].as_str().unwrap_or_default();
        same(shown, phase, || format!("the phase of {id}"))?;
        Ok(entry)
    }

    /// Checks which dispatches hold a site. A site that none holds is normal.
    pub async fn holders(&self, place: Place, holders: &[&str]) -> Result<Value, Missing> {
        let site = self.get(&format!("/sites/{}", place.id)).await?;
        let state = if holders.is_empty() {
            "normal"
        } else {
            "curtailed"
        };
        let shown = site["state"].as_str().unwrap_or_default();
        same(shown, state, || format!("the state of {}", place.name))?;
        same(&site["dispatches"], &json!(holders), || {
            format!("what holds {}", place.name)
        })?;
        Ok(site)
    }
}

/// How long after a moment.
pub(super) fn since(moment: Moment, at: Mono) -> Duration {
    at.saturating_sub(moment.at.mono)
}

/// Checks that something is as it should be.
pub(super) fn same<T: PartialEq + Display>(
    is: T,
    should: T,
    what: impl FnOnce() -> String,
) -> Result<(), Missing> {
    if is == should {
        Ok(())
    } else {
        Err(Missing(format!("{} is {is}, not {should}", what())))
    }
}

fn find(all: &Option<Vec<Heard>>, after: Moment, event_type: &str, subject: &str) -> Option<Heard> {
    let all = all.as_deref().unwrap_or_default().iter().skip(after.heard);
    let mut found = all.filter(|heard| heard.event_type == event_type && heard.subject == subject);
    found.next().cloned()
}
