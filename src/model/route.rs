//! Which events a sink gets.

mod names;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Program, SiteId};

pub use names::SiteNames;

/// The types of all events, each with its family: `family.what`.
pub const EVENT_TYPES: [&str; 10] = [
    "dispatch.created",
    "dispatch.updated",
    "dispatch.started",
    "dispatch.ended",
    "dispatch.cancelled",
    "site.curtail",
    "site.adjust",
    "site.release",
    "sync.stale",
    "sync.recovered",
];

/// Why a route cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RouteError {
    /// A pattern is empty.
    #[error("`{list}` has an empty pattern: write an id, or leave `{list}` out for all")]
    Empty {
        /// The list with the pattern.
        list: &'static str,
    },
    /// A star stands before the end.
    #[error("`{list}`: in \"{pattern}\" the * is not at the end, the only place where it may be")]
    Star {
        /// The list with the pattern.
        list: &'static str,
        /// The pattern.
        pattern: String,
    },
    /// A pattern of event types matches none.
    #[error("`events`: no event has the type \"{pattern}\"; there are {}", EVENT_TYPES.join(", "))]
    NoSuchEvent {
        /// The pattern.
        pattern: String,
    },
    /// Some commands of sites are wanted and some are not.
    #[error(
        "`events`: of the commands site.curtail, site.adjust and site.release either all go to a \
         sink or none: a receiver that gets no release stays curtailed; write \"site.*\""
    )]
    PartOfCommands,
}

impl RouteError {
    /// The list of patterns at fault: `sites`, `programs` or `events`.
    pub fn list(&self) -> &'static str {
        match self {
            Self::Empty { list } | Self::Star { list, .. } => list,
            Self::NoSuchEvent { .. } | Self::PartOfCommands => "events",
        }
    }
}

/// A sink by its name, and its route.
#[derive(Debug, Clone)]
pub struct SinkRoute {
    /// The sink's name.
    pub sink: Arc<str>,
    /// Which events go there.
    pub route: Route,
}

/// Which events a sink gets: of which sites, of which programs, of which types.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    sites: Patterns,
    programs: Patterns,
    events: Patterns,
}

impl Route {
    /// The route that these patterns describe. Where a list is empty, everything
    /// matches.
    ///
    /// A pattern is a whole text, or its beginning and a `*`. `sites` are ids or
    /// customer location ids, `programs` names or numbers, `events` types.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn parse(
        sites: &[String],
        programs: &[String],
        events: &[String],
    ) -> Result<Self, Vec<RouteError>> {
        let mut errors = Vec::new();
        let mut read = |list, texts| Patterns::parse(list, texts, &mut errors);
        let route = Self {
            sites: read("sites", sites),
            programs: read("programs", programs),
            events: read("events", events),
        };
        for pattern in events {
            let one = Patterns::parse("events", std::slice::from_ref(pattern), &mut Vec::new());
            if !EVENT_TYPES.iter().any(|known| one.has(known)) {
                errors.push(RouteError::NoSuchEvent {
                    pattern: pattern.clone(),
                });
            }
        }
        let commands = EVENT_TYPES
            .iter()
            .filter(|known| known.starts_with("site."));
        let wanted: BTreeSet<bool> = commands.map(|command| route.takes_type(command)).collect();
        if wanted.len() > 1 {
            errors.push(RouteError::PartOfCommands);
        }
        if errors.is_empty() {
            Ok(route)
        } else {
            Err(errors)
        }
    }

    /// Whether everything goes to the sink.
    pub fn is_everything(&self) -> bool {
        self.sites.is_everything() && self.programs.is_everything() && self.events.is_everything()
    }

    /// Whether it takes some sites and not others.
    pub fn names_sites(&self) -> bool {
        !self.sites.is_everything()
    }

    /// Whether it takes some programs and not others.
    pub fn names_programs(&self) -> bool {
        !self.programs.is_everything()
    }

    /// Whether events of this type go to the sink.
    pub fn takes_type(&self, event_type: &str) -> bool {
        self.events.matches(event_type)
    }

    /// Whether the commands of sites go to the sink.
    pub fn takes_commands(&self) -> bool {
        self.takes_type("site.curtail")
    }

    /// Whether events about this site go to the sink. Sites have two names: the
    /// upstream's id and the customer's.
    pub fn takes_site(&self, id: &str, customer_location_id: &str) -> bool {
        self.sites.matches(id) || self.sites.has(customer_location_id)
    }

    /// Whether events of this program go to the sink.
    pub fn takes_program(&self, program: &ProgramName) -> bool {
        self.programs.is_everything()
            || program
                .name
                .as_deref()
                .is_some_and(|name| self.programs.has(name))
            || program
                .id
                .is_some_and(|id| self.programs.has(&id.to_string()))
    }

    /// Whether a site that dispatches of these programs hold is held for the sink.
    /// A state that was stored before programs were kept with sites has none: then
    /// it is.
    pub fn takes_held(&self, programs: &[Arc<ProgramName>]) -> bool {
        programs.is_empty() || programs.iter().any(|program| self.takes_program(program))
    }

    /// Whether the commands of this site go to the sink, for the programs that it takes.
    pub fn commands_site(&self, id: &str, customer_location_id: &str) -> bool {
        self.takes_commands() && self.takes_site(id, customer_location_id)
    }

    /// Whether a site that a dispatch of this program names is commanded at the sink.
    pub fn commands(&self, id: &SiteId, customer_location_id: &str, program: &ProgramName) -> bool {
        self.takes_program(program) && self.commands_site(id.as_str(), customer_location_id)
    }

    /// The patterns of sites that match none of `names`.
    pub fn unmatched_sites<S: AsRef<str>>(
        &self,
        names: &SiteNames<S>,
    ) -> impl Iterator<Item = String> {
        self.sites
            .written()
            .filter(|pattern| match pattern.strip_suffix('*') {
                Some(beginning) => !names.has_beginning(beginning),
                None => !names.has(pattern),
            })
    }

    /// The route as a text, to tell whether it is still the same after a restart.
    pub fn text(&self) -> String {
        let list = |patterns: &Patterns| patterns.written().collect::<Vec<_>>();
        serde_json::json!({
            "sites": list(&self.sites),
            "programs": list(&self.programs),
            "events": list(&self.events),
        })
        .to_string()
    }
}

/// What to match texts with. No pattern at all matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Patterns {
    whole: HashSet<Box<str>>,
    beginnings: BTreeSet<Box<str>>,
}

impl Patterns {
    fn parse(list: &'static str, texts: &[String], errors: &mut Vec<RouteError>) -> Self {
        let mut patterns = Self::default();
        for text in texts {
            let (beginning, is_whole) = match text.strip_suffix('*') {
                Some(beginning) => (beginning, false),
                None => (text.as_str(), true),
            };
            if text.is_empty() {
                errors.push(RouteError::Empty { list });
            } else if beginning.contains('*') {
                errors.push(RouteError::Star {
                    list,
                    pattern: text.clone(),
                });
            } else if is_whole {
                patterns.whole.insert(beginning.into());
            } else {
                patterns.beginnings.insert(beginning.into());
            }
        }
        patterns
    }

    fn is_everything(&self) -> bool {
        self.whole.is_empty() && self.beginnings.is_empty() || self.beginnings.contains("")
    }

    fn matches(&self, text: &str) -> bool {
        self.is_everything() || self.has(text)
    }

    /// Whether a pattern matches `text`.
    fn has(&self, text: &str) -> bool {
        self.whole.contains(text)
            || self
                .beginnings
                .iter()
                .any(|beginning| text.starts_with(&**beginning))
    }

    /// The patterns as they are written, in order.
    fn written(&self) -> impl Iterator<Item = String> {
        let beginnings = self
            .beginnings
            .iter()
            .map(|beginning| format!("{beginning}*"));
        let whole = self.whole.iter().map(|whole| whole.to_string());
        let all: BTreeSet<String> = whole.chain(beginnings).collect();
        all.into_iter()
    }
}

/// What a program is known by.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProgramName {
    /// The upstream's number for it.
    pub id: Option<i64>,
    /// Its name.
    pub name: Option<String>,
}

impl From<&Program> for ProgramName {
    fn from(program: &Program) -> Self {
        Self {
            id: program.id,
            name: program.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn route(sites: &[&str], programs: &[&str], events: &[&str]) -> Route {
        Route::parse(&strings(sites), &strings(programs), &strings(events)).unwrap()
    }

    fn program(id: i64, name: &str) -> ProgramName {
        ProgramName {
            id: Some(id),
            name: Some(name.to_owned()),
        }
    }

    #[test]
    fn where_nothing_is_named_everything_goes_to_the_sink() {
        for route in [Route::default(), route(&["*"], &["*"], &["*"])] {
            assert!(route.is_everything());
            assert!(route.takes_site("a", ""));
            assert!(route.takes_program(&ProgramName::default()));
            assert!(EVENT_TYPES.iter().all(|known| route.takes_type(known)));
        }
    }

    #[test]
    fn a_site_is_known_by_either_of_its_names_and_by_their_beginnings() {
        let route = route(&["d4z9", "store-17*"], &[], &[]);
        assert!(route.takes_site("d4z9", "anything"));
        assert!(route.takes_site("x", "d4z9"));
        assert!(route.takes_site("x", "store-17"));
        assert!(route.takes_site("store-1702", ""));
        assert!(!route.takes_site("d4z", "store-1"));
        assert!(!route.takes_site("x", ""), "no name is no match");
    }

    #[test]
    fn a_program_is_known_by_its_name_or_its_number() {
        let route = route(&[], &["CAISO*", "867"], &[]);
        assert!(route.takes_program(&program(1, "CAISO RDRR")));
        assert!(route.takes_program(&program(867, "PJM")));
        assert!(!route.takes_program(&program(8670, "PJM")));
        assert!(!route.takes_program(&ProgramName::default()));
        assert!(route.takes_held(&[program(1, "PJM").into(), program(1, "CAISO").into()]));
        assert!(!route.takes_held(&[program(1, "PJM").into()]));
        assert!(route.takes_held(&[]), "stored before programs were kept");
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let errors = Route::parse(
            &strings(&["", "a*b"]),
            &strings(&["**"]),
            &strings(&["site.curtail", "sites.*"]),
        )
        .unwrap_err();
        assert_eq!(errors.len(), 5, "{errors:?}");
        assert!(errors.contains(&RouteError::Empty { list: "sites" }));
        assert!(errors.contains(&RouteError::PartOfCommands));
        let no_such = errors.iter().any(
            |error| matches!(error, RouteError::NoSuchEvent { pattern } if pattern == "sites.*"),
        );
        assert!(no_such);
    }

    #[test]
    fn patterns_that_match_no_site_are_told() {
        let route = route(&["d4z9", "store-17*", "x", "s*", "y*"], &[], &[]);
        let names = [["d4z9", "store-16"], ["store-18", "store-170"]];
        let names: SiteNames<&str> = names.into_iter().collect();
        let unmatched: Vec<String> = route.unmatched_sites(&names).collect();
        assert_eq!(unmatched, ["x", "y*"]);
        let none = Route::default();
        assert_eq!(none.unmatched_sites(&names).count(), 0);
    }

    #[test]
    fn commands_go_together_or_not_at_all() {
        for events in [&["site.*"][..], &["dispatch.*", "sync.stale"], &["s*"]] {
            route(&[], &[], events);
        }
        for events in [&["site.release"][..], &["site.curtail", "site.release"]] {
            let refused = Route::parse(&[], &[], &strings(events)).unwrap_err();
            assert_eq!(refused, [RouteError::PartOfCommands]);
        }
    }

    #[test]
    fn the_same_route_has_the_same_text_in_whatever_order_it_is_written() {
        let one = route(&["a", "b*", "c"], &["1"], &[]);
        let other = route(&["c", "b*", "a", "a"], &["1"], &[]);
        assert_eq!(one.text(), other.text());
        assert_ne!(one.text(), route(&["a", "b", "c"], &["1"], &[]).text());
    }
}
