//! The filters of `GET /schedule` and `GET /sites`.

use std::convert::Infallible;

use chrono::{DateTime, Utc};
use warp::Filter;

use crate::model::{Entry, Phase, SiteMode, SiteState};

/// The query as it was sent, empty if there is none.
pub(super) fn raw() -> impl Filter<Extract = (String,), Error = Infallible> + Clone {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

/// Which entries are asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    phases: Vec<Phase>,
    sites: Vec<String>,
    at: Option<DateTime<Utc>>,
}

/// Why a query cannot be answered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum QueryError {
    /// Not a phase.
    #[error("phase={0}: a phase is scheduled, active, ended or cancelled")]
    Phase(String),
    /// Not a time.
    #[error("at={0}: a time is written as 2026-11-24T10:00:00Z")]
    At(String),
    /// Not a site's state.
    #[error("state={0}: a state is normal or curtailed")]
    State(String),
}

impl Selection {
    /// Reads a query. A filter given several times takes any of its values;
    /// what is no filter is passed over.
    pub fn read(query: &str) -> Result<Self, QueryError> {
        let mut selection = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "phase" => {
                    for phase in value.split(',') {
                        selection.phases.push(read_phase(phase)?);
                    }
                }
                "site" => selection.sites.push(value.into_owned()),
                "at" => {
                    // A plus that was not encoded has become a space.
                    let text = value.replace(' ', "+");
                    let at = DateTime::parse_from_rfc3339(&text)
                        .map_err(|_| QueryError::At(value.into_owned()))?;
                    selection.at = Some(at.to_utc());
                }
                _ => {}
            }
        }
        Ok(selection)
    }

    /// Whether `entry` is asked for.
    pub fn takes(&self, entry: &Entry) -> bool {
        let of_phase = self.phases.is_empty() || self.phases.contains(&entry.phase);
        let of_site = self.sites.is_empty()
            || entry
                .dispatch
                .sites
                .iter()
                .any(|site| self.sites.iter().any(|asked| asked == site.id.as_str()));
        of_phase && of_site && self.at.is_none_or(|at| entry.holds_at(at))
    }
}

/// Which sites are asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SiteSelection {
    states: Vec<SiteMode>,
}

impl SiteSelection {
    /// Reads a query, as [`Selection::read`] does.
    pub fn read(query: &str) -> Result<Self, QueryError> {
        let mut selection = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if name == "state" {
                for state in value.split(',') {
                    selection.states.push(read_state(state)?);
                }
            }
        }
        Ok(selection)
    }

    /// Whether `site` is asked for.
    pub fn takes(&self, site: &SiteState) -> bool {
        self.states.is_empty() || self.states.contains(&site.state)
    }
}

fn read_state(text: &str) -> Result<SiteMode, QueryError> {
    [SiteMode::Normal, SiteMode::Curtailed]
        .into_iter()
        .find(|state| state.name() == text)
        .ok_or_else(|| QueryError::State(text.to_owned()))
}

fn read_phase(text: &str) -> Result<Phase, QueryError> {
    Phase::ALL
        .into_iter()
        .find(|phase| phase.name() == text)
        .ok_or_else(|| QueryError::Phase(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read() {
        let selection =
            Selection::read("phase=active&site=a%20b&at=2026-11-24T10:00:00%2B01:00&x=y");
        let at = DateTime::parse_from_rfc3339("2026-11-24T09:00:00Z").unwrap();
        assert_eq!(
            selection,
            Ok(Selection {
                phases: vec![Phase::Active],
                sites: vec!["a b".into()],
                at: Some(at.to_utc()),
            })
        );
        let plus = Selection::read("at=2026-11-24T10:00:00+01:00").unwrap();
        assert_eq!(plus.at, Some(at.to_utc()));
        assert_eq!(Selection::read(""), Ok(Selection::default()));
    }

    #[test]
    fn states_of_sites_are_read() {
        let states = |query| SiteSelection::read(query).map(|selection| selection.states);
        assert_eq!(states("x=y"), Ok(vec![]));
        assert_eq!(states("state=curtailed"), Ok(vec![SiteMode::Curtailed]));
        assert_eq!(
            states("state=normal,curtailed&state=normal"),
            Ok(vec![
                SiteMode::Normal,
                SiteMode::Curtailed,
                SiteMode::Normal
            ])
        );
        for query in ["state=off", "state=", "state=Normal"] {
            let error = SiteSelection::read(query).unwrap_err().to_string();
            assert!(error.starts_with(query), "{error}");
        }
    }

    #[test]
    fn what_is_no_phase_or_time_is_named() {
        for query in ["phase=running", "phase=", "at=now", "at="] {
            let error = Selection::read(query).unwrap_err().to_string();
            assert!(error.starts_with(query), "{error}");
        }
    }
}
