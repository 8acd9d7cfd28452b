//! What is true upstream.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, FixedOffset, SecondsFormat, TimeDelta, Utc};
use dispatchd::model::rfc3339;
use serde_json::{Value, json};

/// How long the daemon announces a start ahead, as it is started here.
pub const LEAD: TimeDelta = TimeDelta::seconds(1);

/// Where a dispatch is to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In the list.
    Listed,
    /// Not in the list. By its id it answers.
    Hidden,
    /// In the list, and cannot be read.
    Garbled,
    /// Taken away while it was not over, and perhaps back some time.
    Withdrawn,
    /// Over, and gone from the list for good, as after 24 hours.
    Retired,
}

/// A dispatch as it is upstream.
#[derive(Debug, Clone)]
pub struct Dispatch {
    pub id: String,
    /// Which state of it this is. Travels in its `metadata`.
    pub state: i64,
    /// Whether it carries a `modification_number`, as it did not before 2025-08.
    pub numbered: bool,
    pub authorized: bool,
    pub test: bool,
    pub start: DateTime<Utc>,
    pub end: Option<DateTime<Utc>>,
    /// Commitments in kW by site.
    pub sites: BTreeMap<String, Option<i64>>,
    pub standing: Standing,
    pub created: DateTime<Utc>,
    /// When it was last touched.
    pub touched: DateTime<Utc>,
    /// The last state that may have been missed for good, as it was taken away.
    pub taken: Option<i64>,
    /// The last state in which the daemon may have forgotten it.
    pub forgettable: Option<i64>,
}

impl Dispatch {
    /// Where it stands at `time`.
    pub fn phase(&self, time: DateTime<Utc>) -> &'static str {
        if !self.authorized {
            "cancelled"
        } else if self.end.is_some_and(|end| end <= time || end <= self.start) {
            "ended"
        } else if self.start <= time {
            "active"
        } else {
            "scheduled"
        }
    }

    /// Whether nothing more is due for it.
    pub fn is_over(&self, time: DateTime<Utc>) -> bool {
        matches!(self.phase(time), "cancelled" | "ended")
    }

    /// Whether the daemon may have let go of it: it is over, and was perhaps for
    /// long enough. Its end may be older than itself.
    pub fn may_be_forgotten(&self, time: DateTime<Utc>) -> bool {
        let first = self.end.map_or(self.created, |end| end.min(self.created));
        self.is_over(time) && first + crate::RETAIN < time
    }

    /// Whether the daemon need not know the state `known` any more at `time`: it may
    /// have forgotten the dispatch in that state or a later one.
    pub fn is_excused(&self, known: i64, time: DateTime<Utc>) -> bool {
        let forgotten = self.forgettable.is_some_and(|last| known <= last);
        !self.is_there() || self.may_be_forgotten(time) || forgotten
    }

    /// Whether the API shows it to somebody who asks.
    pub fn is_there(&self) -> bool {
        !matches!(self.standing, Standing::Withdrawn | Standing::Retired)
    }

    /// Whether it holds its sites at `time`, leads included.
    pub fn holds(&self, time: DateTime<Utc>) -> bool {
        self.is_there() && !self.test && !self.is_over(time) && self.start - LEAD <= time
    }

    /// Whether it will hold its sites after `time`, and does not yet.
    fn is_coming(&self, time: DateTime<Utc>) -> bool {
        self.is_there() && !self.test && !self.is_over(time) && self.start - LEAD > time
    }

    /// Whether anything about it changes by itself around `time`.
    pub fn is_near_a_change(&self, time: DateTime<Utc>, margin: Duration) -> bool {
        let lead = self.start - LEAD;
        [Some(lead), Some(self.start), self.end]
            .into_iter()
            .flatten()
            .any(|due| (due - time).abs().to_std().unwrap_or_default() < margin)
    }

    /// As the API writes it, in one of the forms that occur.
    pub fn json(&self) -> Value {
        if self.standing == Standing::Garbled {
            return json!({"id": self.id, "authorized": "perhaps", "start_time": 5, "sites": null});
        }
        let sites = self.sites.iter().map(|(id, commitment)| {
            let mut site =
                json!({"id": id, "name": format!("Site {id}"), "customer_location_id": ""});
            // The deprecated twin stands alone in old answers.
            let field = if self.numbered {
                "commitment"
            } else {
                "drop_by"
            };
            site[field] = json!(commitment);
            site
        });
        let mut json = json!({
            "id": self.id,
            "authorized": self.authorized,
            "test": self.test,
            "start_time": self.time(self.start),
            "sites": sites.collect::<Vec<_>>(),
            "program": {"id": 7, "name": "Soak", "market": "MISO", "program_type": "capacity",
                        "timezone": "US/Central"},
            "metadata": {"state": self.state},
            "added_later": [null],
        });
        if let Some(end) = self.end {
            json["end_time"] = self.time(end).into();
        } else if self.numbered {
            json["end_time"] = Value::Null;
        }
        if self.numbered {
            json["modification_number"] = self.state.into();
            json["creation_time"] = rfc3339(self.touched).into();
        }
        json
    }

    fn time(&self, time: DateTime<Utc>) -> String {
        let hours = i32::try_from(self.state % 5).unwrap_or_default() - 2;
        let offset = FixedOffset::east_opt(hours * 3600).unwrap();
        time.with_timezone(&offset)
            .to_rfc3339_opts(SecondsFormat::AutoSi, false)
    }

    /// What an entry of `/schedule` has that this has not.
    pub fn difference(&self, entry: &Value, time: DateTime<Utc>) -> Option<String> {
        let differs = |field: &str, ours: Value| {
            let theirs = &entry[field];
            (*theirs != ours)
                .then(|| format!("{}: {field} is {theirs}, upstream says {ours}", self.id))
        };
        let at = |field: &str, ours: Option<DateTime<Utc>>| {
            let theirs = entry[field].as_str();
            let theirs = theirs.and_then(|text| text.parse::<DateTime<Utc>>().ok());
            (theirs != ours)
                .then(|| format!("{}: {field} is {theirs:?}, upstream says {ours:?}", self.id))
        };
        let sites: BTreeMap<&str, Option<i64>> = entry["sites"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|site| Some((site["id"].as_str()?, site["commitment"].as_i64())))
            .collect();
        let ours: BTreeMap<&str, Option<i64>> =
            self.sites.iter().map(|(id, kw)| (&**id, *kw)).collect();
        differs("phase", self.phase(time).into())
            .or_else(|| differs("authorized", self.authorized.into()))
            .or_else(|| differs("test", self.test.into()))
            .or_else(|| at("start_time", Some(self.start)))
            .or_else(|| at("end_time", self.end))
            .or_else(|| differs("metadata", json!({"state": self.state})))
            .or_else(|| {
                let number = self.numbered.then_some(self.state);
                differs("modification_number", json!(number))
            })
            .or_else(|| {
                (sites != ours)
                    .then(|| format!("{}: sites are {sites:?}, upstream says {ours:?}", self.id))
            })
    }
}

/// What a site must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duty {
    pub holders: Vec<String>,
    pub commitment: Option<i64>,
    pub until: Option<DateTime<Utc>>,
}

/// What each site that must curtail at `time` has to do.
pub fn duties<'d>(
    dispatches: impl Iterator<Item = &'d Dispatch> + Clone,
    time: DateTime<Utc>,
) -> BTreeMap<String, Duty> {
    let mut by_site: BTreeMap<&str, Vec<&Dispatch>> = BTreeMap::new();
    for dispatch in dispatches.clone().filter(|one| one.holds(time)) {
        for site in dispatch.sites.keys() {
            by_site.entry(site).or_default().push(dispatch);
        }
    }
    by_site
        .into_iter()
        .map(|(site, holding)| {
            let ends: Option<Vec<_>> = holding.iter().map(|one| one.end).collect();
            let mut until = ends.and_then(|ends| ends.into_iter().max());
            let mut coming: Vec<&Dispatch> = dispatches
                .clone()
                .filter(|one| one.is_coming(time) && one.sites.contains_key(site))
                .collect();
            coming.sort_by_key(|one| one.start);
            for next in coming {
                match until {
                    // Its lead begins before the chain ends: a link of it.
                    Some(end) if next.start - LEAD <= end => {
                        until = next.end.map(|its_end| its_end.max(end));
                    }
                    _ => break,
                }
            }
            let mut holders: Vec<String> = holding.iter().map(|one| one.id.clone()).collect();
            holders.sort();
            let commitment = holding.iter().filter_map(|one| one.sites[site]).max();
            let duty = Duty {
                holders,
                commitment,
                until,
            };
            (site.to_owned(), duty)
        })
        .collect()
}
