//! What a sink gets of an event, by its route. Pure, and nowhere else.
//!
//! A site belongs to a sink while the sink's route takes the site, and, for as long
//! as it is curtailed, one of the programs that hold it; what an operator curtails has
//! no program and belongs to all sinks of the site. Once it does not, it is
//! released there: for that sink it is as if nothing held the site any more.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::model::{Event, Override, ProgramName, Route, SiteNames, rfc3339};

/// An event that is on disk. What routes look at is read once, however many sinks
/// there are, and not at all if everything goes to all of them.
#[derive(Debug)]
pub struct Announced<'e> {
    /// The event.
    pub event: &'e Event,
    /// Whether it is about a site.
    pub(super) is_site: bool,
    /// Whether a sink gets it.
    pub(super) taken: Cell<bool>,
    key: OnceCell<Arc<str>>,
    subject: OnceCell<Subject<'e>>,
}

/// The events of one commit, oldest first. A sink takes those that may concern it from
/// them, so that it costs little how many there are for others.
#[derive(Debug)]
pub struct Announcement<'e> {
    events: Vec<Announced<'e>>,
    sites: OnceCell<SiteEvents>,
}

/// Which of the events are about which sites.
#[derive(Debug)]
struct SiteEvents {
    names: SiteNames<Arc<str>>,
    /// The event of each of the names.
    events: Vec<usize>,
    /// The events of each site, by the key of its queue.
    by_key: HashMap<Arc<str>, Vec<usize>>,
    /// The events that are about no site.
    others: Vec<usize>,
}

impl<'e> FromIterator<&'e Event> for Announcement<'e> {
    fn from_iter<I: IntoIterator<Item = &'e Event>>(events: I) -> Self {
        Self {
            events: events.into_iter().map(Announced::new).collect(),
            sites: OnceCell::new(),
        }
    }
}

impl<'e> Announcement<'e> {
    /// All events.
    pub fn events(&self) -> &[Announced<'e>] {
        &self.events
    }

    /// The events that may concern a sink with this route: those of sites that it takes,
    /// or that have one of these `keys`, and those of no site. Oldest first.
    pub(super) fn concerning(
        &self,
        route: &Route,
        keys: &HashSet<Arc<str>>,
    ) -> Vec<&Announced<'e>> {
        let numbers = if route.is_everything() {
            (0..self.events.len()).collect()
        } else {
            self.site_events().concerning(route, keys)
        };
        let events = numbers.into_iter();
        events.filter_map(|at| self.events.get(at)).collect()
    }

    fn site_events(&self) -> &SiteEvents {
        self.sites.get_or_init(|| {
            let (mut names, mut events, mut others) = (Vec::new(), Vec::new(), Vec::new());
            let mut by_key: HashMap<Arc<str>, Vec<usize>> = HashMap::new();
            for (number, announced) in self.events.iter().enumerate() {
                if let Subject::Site(site) = announced.subject() {
                    let location = Arc::clone(&site.customer_location_id);
                    names.push([Arc::clone(&announced.event.subject), location]);
                    events.push(number);
                    let key = Arc::clone(announced.key());
                    by_key.entry(key).or_default().push(number);
                } else {
                    others.push(number);
                }
            }
            SiteEvents {
                names: names.into_iter().collect(),
                events,
                by_key,
                others,
            }
        })
    }
}

impl SiteEvents {
    fn concerning(&self, route: &Route, keys: &HashSet<Arc<str>>) -> Vec<usize> {
        let mut numbers = self.others.clone();
        let taken = route.commanded_among(&self.names).into_iter();
        numbers.extend(taken.filter_map(|site| self.events.get(site)));
        // Whichever are fewer are looked up among the others.
        if keys.len() < self.by_key.len() {
            let known = keys.iter().filter_map(|key| self.by_key.get(key));
            numbers.extend(known.flatten());
        } else {
            let known = self.by_key.iter().filter(|(key, _)| keys.contains(*key));
            numbers.extend(known.flat_map(|(_, events)| events));
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

/// What a sink gets of an event.
#[derive(Debug)]
pub(super) enum Share<'e> {
    /// It goes there, of a dispatch with the sink's own sites alone.
    Goes(Cow<'e, Event>),
    /// The site is not held for the sink: if the sink was told otherwise, it is
    /// released there.
    Released,
    /// Nothing.
    Nothing,
}

/// What an event is about, as far as routes look at it.
#[derive(Debug)]
enum Subject<'e> {
    Site(SiteSubject),
    Dispatch(DispatchSubject<'e>),
    Daemon,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SiteSubject {
    customer_location_id: Arc<str>,
    programs: Vec<Arc<ProgramName>>,
    #[serde(rename = "override")]
    site_override: Option<Override>,
}

/// The data of a dispatch's event in pieces, so that each sink's share is put
/// together from them: a dispatch may name 20,000 sites of 200 sinks.
#[derive(Debug, Default)]
struct DispatchSubject<'e> {
    program: ProgramName,
    fields: Fields<'e>,
    sites: Vec<&'e RawValue>,
    names: SiteNames<String>,
}

/// The fields of a JSON object, each as it was written.
type Fields<'e> = BTreeMap<&'e str, &'e RawValue>;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SiteName {
    id: String,
    customer_location_id: String,
}

impl<'e> DispatchSubject<'e> {
    fn read(data: &'e RawValue) -> Option<Self> {
        let fields: Fields<'e> = serde_json::from_str(data.get()).ok()?;
        let sites: Vec<&'e RawValue> = serde_json::from_str(fields.get("sites")?.get()).ok()?;
        let names = sites.iter().map(|site| {
            let name: SiteName = serde_json::from_str(site.get()).unwrap_or_default();
            [name.id, name.customer_location_id]
        });
        Some(Self {
            program: serde_json::from_str(fields.get("program")?.get()).ok()?,
            names: names.collect(),
            sites,
            fields,
        })
    }
}

impl<'e> Announced<'e> {
    /// The event, of which nothing was read yet.
    pub fn new(event: &'e Event) -> Self {
        Self {
            event,
            is_site: event.family() == "site",
            taken: Cell::new(false),
            key: OnceCell::new(),
            subject: OnceCell::new(),
        }
    }

    /// Whether it is a command of a site that no outbox to which it was offered has
    /// taken, and that none of these routes takes.
    pub fn goes_nowhere(&self, left_out: &[Route]) -> bool {
        let takes = |route| matches!(self.share(route), Share::Goes(_));
        self.is_site && !self.taken.get() && !left_out.iter().any(takes)
    }

    /// The key of its subject's queue.
    pub(super) fn key(&self) -> &Arc<str> {
        self.key.get_or_init(|| self.event.subject_key())
    }

    /// Data that is not as we write it names no site and no program: then no route
    /// takes it that does not take everything.
    fn subject(&self) -> &Subject<'e> {
        self.subject.get_or_init(|| {
            let data: &'e RawValue = &self.event.data;
            match self.event.family() {
                "site" => Subject::Site(serde_json::from_str(data.get()).unwrap_or_default()),
                "dispatch" => Subject::Dispatch(DispatchSubject::read(data).unwrap_or_default()),
                _ => Subject::Daemon,
            }
        })
    }

    /// What a sink with this route gets of the event.
    pub(super) fn share(&self, route: &Route) -> Share<'e> {
        if route.is_everything() {
            return Share::Goes(Cow::Borrowed(self.event));
        }
        let wanted = route.takes_type(&self.event.event_type);
        match self.subject() {
            Subject::Daemon if wanted => Share::Goes(Cow::Borrowed(self.event)),
            Subject::Site(site) => {
                let by_hand = site.site_override.as_ref().is_some_and(|it| it.curtails());
                let held = self.event.is_release() || by_hand || route.takes_held(&site.programs);
                if wanted && held && self.is_site_of(route) {
                    Share::Goes(Cow::Borrowed(self.event))
                } else {
                    Share::Released
                }
            }
            Subject::Dispatch(dispatch) if wanted && route.takes_program(&dispatch.program) => {
                self.share_of_dispatch(dispatch, route)
            }
            Subject::Dispatch(_) | Subject::Daemon => Share::Nothing,
        }
    }

    /// A dispatch goes to a sink if one of its sites does, and shows none but these:
    /// what one customer's sink gets never names another's site. What is free in form
    /// and belongs to the dispatch itself may name any: a sink whose route names sites
    /// gets no unknown field of the dispatch, empty metadata, and no event about a
    /// change in nothing else.
    fn share_of_dispatch(&self, dispatch: &DispatchSubject<'e>, route: &Route) -> Share<'e> {
        if !route.names_sites() {
            return Share::Goes(Cow::Borrowed(self.event));
        }
        let taken = route.sites_among(&dispatch.names).into_iter();
        let taken = taken.filter_map(|site| dispatch.sites.get(site).copied());
        let taken: Vec<&RawValue> = taken.collect();
        if taken.is_empty() {
            return Share::Nothing;
        }
        let mut fields: Fields<'_> = dispatch.fields.clone();
        let had_extra = fields.remove("extra").is_some();
        let no_metadata = fields.get("metadata").and_then(|raw| emptied(raw));
        let changed = fields.get("changed").and_then(|raw| bounded_fields(raw));
        if changed.as_ref().is_some_and(|changed| changed.is_nothing) {
            return Share::Nothing;
        }
        let is_cut = had_extra || no_metadata.is_some() || changed.is_some();
        if taken.len() == dispatch.sites.len() && !is_cut {
            return Share::Goes(Cow::Borrowed(self.event));
        }
        if let Some(no_metadata) = &no_metadata {
            fields.insert("metadata", no_metadata);
        }
        if let Some(changed) = &changed {
            fields.insert("changed", &changed.names);
        }
        let sites = raw(&taken);
        let own = sites.as_ref().and_then(|sites| {
            fields.insert("sites", sites);
            raw(&fields)
        });
        own.map_or(Share::Nothing, |data| {
            Share::Goes(Cow::Owned(Event {
                data: Arc::new(data),
                ..self.event.clone()
            }))
        })
    }

    /// Whether it is about a site that the route takes, whatever holds it.
    pub(super) fn is_site_of(&self, route: &Route) -> bool {
        match self.subject() {
            Subject::Site(site) => {
                route.takes_type(&self.event.event_type)
                    && route.takes_site(&self.event.subject, &site.customer_location_id)
            }
            Subject::Dispatch(_) | Subject::Daemon => false,
        }
    }

    /// The site's event as it is for a sink for which nothing holds the site: a
    /// release.
    pub(super) fn released(&self) -> Event {
        Event {
            event_type: "site.release".into(),
            data: self
                .normal()
                .map_or_else(|| Arc::clone(&self.event.data), Arc::new),
            ..self.event.clone()
        }
    }

    fn normal(&self) -> Option<Box<RawValue>> {
        let mut fields: Fields<'_> = serde_json::from_str(self.event.data.get()).ok()?;
        let (normal, none) = (raw("normal")?, raw(&[(); 0])?);
        let (since, null) = (raw(&rfc3339(self.event.time))?, raw(&())?);
        fields.insert("state", &normal);
        fields.insert("since", &since);
        fields.insert("until", &null);
        fields.insert("commitment_kw", &null);
        fields.insert("dispatches", &none);
        fields.remove("programs");
        fields.remove("extra");
        raw(&fields)
    }
}

/// An empty object in place of `metadata`, which keeps its place in the event. `None` if
/// it is empty already.
fn emptied(metadata: &RawValue) -> Option<Box<RawValue>> {
    let empty = raw(&Fields::new())?;
    (metadata.get() != empty.get()).then_some(empty)
}

/// The changed fields of an event without those that are free in form.
struct BoundedFields {
    names: Box<RawValue>,
    /// There is none.
    is_nothing: bool,
}

/// The names in `changed` without `metadata` and those of unknown fields. `None` if it
/// has none of them.
fn bounded_fields(changed: &RawValue) -> Option<BoundedFields> {
    let names: Vec<String> = serde_json::from_str(changed.get()).ok()?;
    let bounded: Vec<&String> = names
        .iter()
        .filter(|name| *name != "metadata" && !name.starts_with("extra."))
        .collect();
    (bounded.len() < names.len()).then_some(())?;
    Some(BoundedFields {
        names: raw(&bounded)?,
        is_nothing: bounded.is_empty(),
    })
}

/// JSON text of what can always be written.
fn raw<T: Serialize + ?Sized>(value: &T) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(value).ok()
}
