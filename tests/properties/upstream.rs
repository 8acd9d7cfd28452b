//! An upstream that changes.

use std::sync::Arc;

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde_json::json;

use super::story::{Edit, Event};
use super::world::at;
use dispatchd::model::{Dispatch, DispatchId, Kilowatts, Program, Site, SiteId};

/// Few ids, so that what happens happens to the same ones.
pub fn id(number: u8) -> DispatchId {
    DispatchId::new(["a", "b", "c"][usize::from(number) % 3]).unwrap()
}

/// A dispatch as the upstream keeps it.
#[derive(Debug, Clone)]
struct Kept {
    dispatch: Dispatch,
    /// A list need not show what a look-up would find.
    listed: bool,
}

/// The upstream at one moment.
#[derive(Debug, Clone)]
pub struct Upstream {
    kept: BTreeMap<DispatchId, Kept>,
    removed: BTreeMap<DispatchId, Kept>,
    /// Whether its answers carry modification numbers.
    numbers: bool,
}

impl Upstream {
    pub fn new() -> Self {
        Self {
            kept: BTreeMap::new(),
            removed: BTreeMap::new(),
            numbers: true,
        }
    }

    pub fn tells(&self, id: &DispatchId) -> Option<Dispatch> {
        let mut dispatch = self.kept.get(id)?.dispatch.clone();
        if !self.numbers {
            dispatch.modification_number = None;
        }
        Some(dispatch)
    }

    pub fn lists(&self, id: &DispatchId) -> bool {
        self.kept.get(id).is_some_and(|kept| kept.listed)
    }

    pub fn ids(&self) -> impl Iterator<Item = &DispatchId> {
        self.kept.keys()
    }

    /// As it would be told by a server that knows no numbers.
    pub fn unnumbered(self) -> Self {
        Self {
            numbers: false,
            ..self
        }
    }

    pub fn happen(&mut self, event: &Event, now: i64) {
        match *event {
            Event::Create {
                which,
                start,
                length,
                authorized,
            } => {
                let id = id(which);
                if self.removed.contains_key(&id) {
                    return;
                }
                let dispatch = fresh(&id, now + start, length, authorized);
                self.kept.entry(id).or_insert(Kept {
                    dispatch,
                    listed: true,
                });
            }
            Event::Edit {
                which,
                edit,
                counted,
            } => {
                if let Some(kept) = self.kept.get_mut(&id(which)) {
                    change(&mut kept.dispatch, edit, now);
                    if counted {
                        kept.dispatch.modification_number =
                            kept.dispatch.modification_number.map(|number| number + 1);
                    }
                }
            }
            Event::Remove { which } => {
                if let Some((id, kept)) = self.kept.remove_entry(&id(which)) {
                    self.removed.insert(id, kept);
                }
            }
            Event::PutBack { which } => {
                if let Some((id, kept)) = self.removed.remove_entry(&id(which)) {
                    self.kept.insert(id, kept);
                }
            }
            Event::List { which, listed } => {
                if let Some(kept) = self.kept.get_mut(&id(which)) {
                    kept.listed = listed;
                }
            }
            Event::Number(numbers) => self.numbers = numbers,
            // Needs the past, which only the world has.
            Event::Restore { .. } => {}
        }
    }
}

fn fresh(id: &DispatchId, start: i64, length: Option<i64>, authorized: bool) -> Dispatch {
    Dispatch {
        id: id.clone(),
        authorized,
        test: false,
        start_time: at(start),
        end_time: length.map(|length| at(start + length)),
        creation_time: None,
        modification_number: Some(0),
        program: Program::default(),
        sites: sites(1),
        metadata: json!({}),
        extra: Default::default(),
    }
}

fn sites(count: u8) -> Vec<Arc<Site>> {
    (0..count)
        .map(|number| Site {
            extra: Default::default(),
            id: SiteId::new(&format!("s{number}")).unwrap(),
            name: String::new(),
            customer_location_id: String::new(),
            commitment: Some(Kilowatts(f64::from(count))),
        })
        .map(Arc::new)
        .collect()
}

fn change(dispatch: &mut Dispatch, edit: Edit, now: i64) {
    match edit {
        Edit::Start(offset) => dispatch.start_time = at(now + offset),
        Edit::StartBy(seconds) => dispatch.start_time += TimeDelta::seconds(seconds),
        Edit::End(offset) => dispatch.end_time = offset.map(|offset| at(now + offset)),
        Edit::EndBy(seconds) => {
            dispatch.end_time = dispatch
                .end_time
                .map(|end| end + TimeDelta::seconds(seconds));
        }
        Edit::Sites(count) => dispatch.sites = sites(count),
        Edit::Metadata(note) => dispatch.metadata = json!({ "note": note }),
        Edit::Authorized(authorized) => dispatch.authorized = authorized,
        Edit::Test(test) => dispatch.test = test,
    }
}
