//! The truth: what the upstream holds, and held at every moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::RngExt;
use serde_json::json;

use super::dice::Dice;
use super::routes::program_of;
use super::scenario::{Edit, Plan};
use dispatchd::model::{Dispatch, DispatchId, Extra, Kilowatts, Program, Site, SiteId};

/// How many sites there are.
const SITES: u8 = 4;

/// What one dispatch was from when on. `None`: it was not there.
type Past = Vec<(Duration, Option<Arc<Dispatch>>)>;

/// The upstream.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    pasts: BTreeMap<DispatchId, Past>,
}

impl Upstream {
    /// The id of the dispatch with this number.
    pub fn id(dispatch: usize) -> Option<DispatchId> {
        DispatchId::new(&format!("d{dispatch}")).ok()
    }

    /// The dispatch as it was at `moment`.
    pub fn at(&self, id: &DispatchId, moment: Duration) -> Option<Arc<Dispatch>> {
        let past = self.pasts.get(id)?;
        let (_, dispatch) = past.iter().rev().find(|(from, _)| *from <= moment)?;
        dispatch.clone()
    }

    /// Which version of a dispatch there was at `moment`, counted from 0.
    pub fn version_at(&self, id: &DispatchId, moment: Duration) -> Option<usize> {
        let past = self.pasts.get(id)?;
        past.iter().rposition(|(from, _)| *from <= moment)
    }

    /// Which version of a dispatch this is: the newest one that is the same.
    pub fn version_of(&self, dispatch: &Dispatch) -> Option<usize> {
        let past = self.pasts.get(&dispatch.id)?;
        past.iter()
            .rposition(|(_, was)| was.as_deref() == Some(dispatch))
    }

    /// All dispatches as they were at `moment`.
    pub fn all_at(&self, moment: Duration) -> Vec<Arc<Dispatch>> {
        self.pasts
            .keys()
            .filter_map(|id| self.at(id, moment))
            .collect()
    }

    /// Makes a dispatch. Tells whether it is new.
    pub fn create(&mut self, id: &DispatchId, plan: &Plan, now: Moment, luck: Luck) -> bool {
        if self.pasts.contains_key(id) {
            return false;
        }
        let start_time = now.wall + TimeDelta::seconds(plan.start);
        let dispatch = Dispatch {
            id: id.clone(),
            authorized: plan.authorized,
            test: plan.test,
            start_time,
            end_time: plan
                .length
                .map(|length| start_time + TimeDelta::seconds(length)),
            creation_time: None,
            modification_number: luck.numbered("first").then_some(0),
            program: Program {
                name: Some(format!("P{}", program_of(id.as_str()))),
                ..Program::default()
            },
            sites: sites(plan.sites, &[], luck),
            metadata: json!({}),
            extra: Default::default(),
        };
        self.put(id, now, Some(Arc::new(dispatch)));
        true
    }

    /// Changes a dispatch. Tells whether there was anything to change.
    pub fn change(&mut self, id: &DispatchId, edit: &Edit, now: Moment, luck: Luck) -> bool {
        let Some(before) = self.at(id, now.at) else {
            return false;
        };
        let mut dispatch = Dispatch::clone(&before);
        match edit {
            Edit::MoveStart(by) => dispatch.start_time += TimeDelta::seconds(*by),
            Edit::End(end) => {
                dispatch.end_time = end.map(|end| now.wall + TimeDelta::seconds(end));
            }
            Edit::Authorized(authorized) => dispatch.authorized = *authorized,
            Edit::Sites(mask) => dispatch.sites = sites(*mask, &before.sites, luck),
            Edit::Commitments => {
                let mask = (0..SITES).filter(|site| {
                    let id = site_id(*site);
                    dispatch
                        .sites
                        .iter()
                        .any(|site| Some(&site.id) == id.as_ref())
                });
                dispatch.sites = sites(
                    mask.fold(0, |mask, site| mask | 1 << site),
                    &before.sites,
                    luck,
                );
            }
            Edit::Metadata => dispatch.metadata = json!({"note": luck.number}),
            Edit::Unknown { site: None, value } => dispatch.extra = unknown_field(*value),
            Edit::Unknown {
                site: Some(site),
                value,
            } => {
                let id = site_id(*site);
                let mut sites = dispatch.sites.iter_mut();
                let Some(site) = sites.find(|site| Some(&site.id) == id.as_ref()) else {
                    return false;
                };
                Arc::make_mut(site).extra = unknown_field(*value);
            }
        }
        dispatch.modification_number = luck
            .numbered("next")
            .then(|| self.highest_number(id).map_or(0, |number| number + 1));
        self.put(id, now, Some(Arc::new(dispatch)));
        true
    }

    /// Takes a dispatch away.
    pub fn remove(&mut self, id: &DispatchId, now: Moment) {
        if self.at(id, now.at).is_some() {
            self.put(id, now, None);
        }
    }

    /// Puts a dispatch back as it was last. Tells whether there was one.
    pub fn put_back(&mut self, id: &DispatchId, now: Moment) -> bool {
        let last = self.pasts.get(id).and_then(|past| {
            let mut there = past
                .iter()
                .rev()
                .filter_map(|(_, dispatch)| dispatch.clone());
            there.next()
        });
        let missing = self.at(id, now.at).is_none();
        if !missing || last.is_none() {
            return false;
        }
        self.put(id, now, last);
        true
    }

    /// Goes back to how all was some time ago.
    pub fn restore_all(&mut self, back: Duration, now: Moment) {
        let then = now.at.saturating_sub(back);
        let ids: Vec<DispatchId> = self.pasts.keys().cloned().collect();
        for id in ids {
            let was = self.at(&id, then);
            if was != self.at(&id, now.at) {
                self.put(&id, now, was);
            }
        }
    }

    fn put(&mut self, id: &DispatchId, now: Moment, dispatch: Option<Arc<Dispatch>>) {
        let past = self.pasts.entry(id.clone()).or_default();
        past.push((now.at, dispatch));
    }

    /// The number that the current line of versions has come to. After a
    /// restore it counts on from what was restored.
    fn highest_number(&self, id: &DispatchId) -> Option<i64> {
        let past = self.pasts.get(id)?;
        let mut there = past
            .iter()
            .rev()
            .filter_map(|(_, dispatch)| dispatch.as_ref());
        there.find_map(|dispatch| dispatch.modification_number)
    }
}

/// A moment, on the run's clock and on the wall.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub at: Duration,
    pub wall: DateTime<Utc>,
}

/// The chances of one change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Luck {
    pub dice: Dice,
    /// The incident's number.
    pub number: u64,
    /// The share of versions with a modification number.
    pub numbered: f64,
}

impl Luck {
    fn numbered(&self, what: &str) -> bool {
        self.numbered >= 1.0
            || self
                .dice
                .roll(what, &[self.number])
                .random_bool(self.numbered)
    }
}

fn site_id(site: u8) -> Option<SiteId> {
    SiteId::new(&format!("s{site}"))
}

/// A field that nobody knows, whose number no `f64` holds.
fn unknown_field(value: Option<u8>) -> Extra {
    let field = value.map(|value| format!(r#"{{"plan":[{{"x":{value}.10000000000000000001}}]}}"#));
    let field = field.and_then(|field| serde_json::from_str(&field).ok());
    field.unwrap_or_default()
}

/// The sites of `mask`, each with other commitments. Those that were there `before` keep
/// their unknown fields.
fn sites(mask: u8, before: &[Arc<Site>], luck: Luck) -> Vec<Arc<Site>> {
    (0..SITES)
        .filter(|site| mask & (1 << site) != 0)
        .filter_map(|site| {
            let mut random = luck
                .dice
                .roll("commitment", &[luck.number, u64::from(site)]);
            let id = site_id(site)?;
            let same = before.iter().find(|before| before.id == id);
            Some(Site {
                extra: same.map(|same| same.extra.clone()).unwrap_or_default(),
                id,
                name: format!("Site {site}"),
                customer_location_id: String::new(),
                commitment: random
                    .random_bool(0.8)
                    .then(|| Kilowatts(f64::from(random.random_range(1..50)))),
            })
        })
        .map(Arc::new)
        .collect()
}
