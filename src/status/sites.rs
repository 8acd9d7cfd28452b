//! `GET /sites` and `GET /sites/{id}`.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use warp::reply::Response;
use xxhash_rust::xxh3::xxh3_64;

use super::cached::Known;
use super::inventory::all_sites;
use super::query::SiteSelection;
use super::routing::Routing;
use super::{LongAnswers, Status};
use crate::clock::Clock;
use crate::delivery::SinkHealth;
use crate::http::{Pieces, json_reply, refusal, unwritten};
use crate::inventory::Inventory;
use crate::model::{SiteId, SiteState, rfc3339};
use crate::sync::View;

#[derive(Serialize)]
struct One<'a> {
    as_of: DateTime<Utc>,
    revision: u64,
    #[serde(flatten)]
    site: Shown<'a>,
}

/// What is said of sites: a committed state, and what is known beside it. An answer is
/// made from one of each.
#[derive(Debug, Clone)]
pub(super) struct Sites {
    pub view: View,
    pub routing: Arc<Routing>,
    pub inventory: Arc<Inventory>,
}

impl<C: Clock + Clone> Status<C> {
    /// What is to be said of sites now.
    pub(super) fn sites(&self) -> Sites {
        Sites {
            view: self.view.borrow().clone(),
            routing: Arc::clone(&self.routing),
            inventory: Arc::clone(&self.inventory.borrow()),
        }
    }
}

impl Sites {
    /// The site with this id: of the schedule, or else enrolled.
    pub(super) fn find(&self, id: &SiteId) -> Option<&Arc<SiteState>> {
        let enrolled = self.inventory.known.as_ref();
        let named = self.view.plan.get(id);
        named.or_else(|| enrolled.and_then(|known| known.get(id)))
    }
}

/// A site, and who has not been told what it must do.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    site: &'a SiteState,
    /// Whether it is enrolled. `None` if that is not known.
    enrolled: Option<bool>,
    /// The sinks that get its commands.
    sinks: Vec<&'a str>,
    /// The sinks that have acknowledged no due command for ten seconds.
    untold: Vec<&'a str>,
}

impl<'a> Shown<'a> {
    /// These sites. `late` are the sinks that have not told some site.
    fn all(sites: &[&'a SiteState], of: &'a Sites, late: &[&'a SinkHealth]) -> Vec<Self> {
        let sinks = of.routing.sinks_of(sites);
        let shown = sites.iter().zip(sinks);
        shown
            .map(|(site, sinks)| Self::new(site, sinks, of, late))
            .collect()
    }

    fn new(
        site: &'a SiteState,
        sinks: Vec<&'a str>,
        of: &'a Sites,
        late: &[&'a SinkHealth],
    ) -> Self {
        let untold = late
            .iter()
            .filter(|sink| sink.untold.contains_key(site.id.as_str()));
        Self {
            site,
            enrolled: of.inventory.is_enrolled(&site.id),
            sinks,
            untold: untold.map(|sink| &*sink.name).collect(),
        }
    }
}

/// The sinks that have not told some site.
fn late(view: &View) -> Vec<&SinkHealth> {
    let sinks = view.sinks.iter();
    sinks.filter(|sink| !sink.untold.is_empty()).collect()
}

/// The sites that the query asks for.
pub(super) async fn list(
    sites: Sites,
    long: &LongAnswers,
    query: &str,
    headers: &HeaderMap,
) -> Response {
    let selection = match SiteSelection::read(query) {
        Ok(selection) => selection,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let known = Known::read(headers);
    let items = sites.view.plan.len() + sites.inventory.sites().len();
    long.written(items, move || {
        let view = &sites.view;
        let late = late(view);
        let selected: Vec<&SiteState> = all_sites(view, &sites.inventory)
            .map(|site| &**site)
            .filter(|site| selection.takes(site))
            .collect();
        let shown = Shown::all(&selected, &sites, &late);
        let pieces = match Pieces::json(&shown) {
            Ok(pieces) => pieces,
            Err(error) => return unwritten(&error),
        };
        known.answer(&tag(view, pieces.hash()), || {
            let (as_of, revision) = (rfc3339(view.as_of), view.schedule.revision());
            let head = format!(r#"{{"as_of":"{as_of}","revision":{revision},"sites":"#);
            pieces.between(head, "}").reply()
        })
    })
    .await
}

/// One site. Its id may be any text, so it comes percent-encoded.
pub(super) fn one(sites: &Sites, segment: &str, headers: &HeaderMap) -> Response {
    let view = &sites.view;
    let id = percent_decode_str(segment).decode_utf8().ok();
    let id = id.and_then(|id| SiteId::new(&id));
    let Some(site) = id.and_then(|id| sites.find(&id)) else {
        let reason = "no such site in the schedule, nor among the enrolled ones";
        return refusal(StatusCode::NOT_FOUND, reason);
    };
    let sinks = sites.routing.sinks_of(&[&**site]).pop().unwrap_or_default();
    let site = Shown::new(site, sinks, sites, &late(view));
    let shown = match serde_json::to_vec(&site) {
        Ok(shown) => shown,
        Err(error) => return unwritten(&error),
    };
    Known::read(headers).answer(&tag(view, xxh3_64(&shown)), || {
        json_reply(
            StatusCode::OK,
            &One {
                as_of: view.as_of,
                revision: view.schedule.revision(),
                site,
            },
        )
    })
}

/// The tag of an answer that shows what has this hash. The revision alone is no
/// tag for it: a lead that begins changes a site, and nothing in the schedule.
fn tag(view: &View, hash: u64) -> String {
    format!("\"{}-{hash:016x}\"", view.schedule.revision())
}

#[cfg(test)]
mod tests {
    use http::header::{ETAG, IF_NONE_MATCH};
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;
    use crate::inventory::testing::inventory;
    use crate::model::{Route, SinkRoute};
    use crate::status::testing::{site_with, view};

    fn routing() -> Arc<Routing> {
        let plant = SinkRoute {
            sink: "plant".into(),
            route: Route::default(),
        };
        Arc::new(Routing::new(vec![plant], Vec::new(), false))
    }

    fn of(view: View) -> Sites {
        Sites {
            view,
            routing: routing(),
            inventory: Arc::default(),
        }
    }

    fn long() -> LongAnswers {
        LongAnswers::new(1)
    }

    fn two() -> View {
        view([
            site_with("a/b c", "curtailed", json!(12)),
            site_with("mill", "normal", Value::Null),
        ])
    }

    async fn body(reply: Response) -> Value {
        let bytes = reply.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&bytes).unwrap()
    }

    async fn listed(query: &str) -> Value {
        body(list(of(two()), &long(), query, &HeaderMap::new()).await).await
    }

    #[tokio::test]
    async fn every_site_is_listed_in_the_shape_of_the_contract() {
        assert_eq!(
            listed("").await,
            json!({"as_of": "1970-01-01T00:00:00Z", "revision": 0, "sites": [
                {"id": "a/b c", "name": "Mill", "customer_location_id": "7",
                 "state": "curtailed", "since": "2026-11-24T10:00:00Z", "until": null,
                 "commitment_kw": 12, "dispatches": ["dkmq"], "next": null,
                 "enrolled": null, "sinks": ["plant"], "untold": []},
                {"id": "mill", "name": "Mill", "customer_location_id": "7",
                 "state": "normal", "since": "2026-11-24T10:00:00Z", "until": null,
                 "commitment_kw": null, "dispatches": [], "next": null,
                 "enrolled": null, "sinks": ["plant"], "untold": []},
            ]})
        );
    }

    #[tokio::test]
    async fn sites_are_filtered_by_their_state() {
        for (query, ids) in [
            ("state=curtailed", json!(["a/b c"])),
            ("state=normal", json!(["mill"])),
            ("state=normal,curtailed", json!(["a/b c", "mill"])),
        ] {
            let shown = listed(query).await;
            let shown: Vec<&Value> = shown["sites"].as_array().unwrap().iter().collect();
            let shown: Vec<&Value> = shown.into_iter().map(|site| &site["id"]).collect();
            assert_eq!(json!(shown), ids, "{query}");
        }
        let refused = list(of(two()), &long(), "state=off", &HeaderMap::new()).await;
        assert_eq!(refused.status(), 400);
        let reason = body(refused).await["error"].to_string();
        assert!(reason.contains("state=off"), "{reason}");
    }

    #[tokio::test]
    async fn a_site_is_found_by_any_text() {
        let sites = of(two());
        let none = HeaderMap::new();
        for segment in ["a%2Fb%20c", "a%2fb c"] {
            let shown = body(one(&sites, segment, &none)).await;
            assert_eq!(shown["id"], "a/b c", "{segment}");
            assert_eq!(shown["state"], "curtailed");
            assert_eq!(shown["as_of"], "1970-01-01T00:00:00Z");
            assert_eq!(shown["revision"], 0);
        }
        for segment in ["a%252Fb%20c", "nowhere", "%FF", ""] {
            let refused = one(&sites, segment, &none);
            assert_eq!(refused.status(), 404, "{segment}");
            assert!(body(refused).await["error"].is_string());
        }
    }

    /// A lead curtails a site, and the schedule keeps its revision.
    #[tokio::test]
    async fn a_site_that_changed_by_itself_is_sent_again() {
        let before = list(of(two()), &long(), "", &HeaderMap::new()).await;
        let tag = before.headers()[ETAG].clone();
        let asked = HeaderMap::from_iter([(IF_NONE_MATCH, tag.clone())]);
        let same = list(of(two()), &long(), "", &asked).await;
        assert_eq!(same.status(), 304);
        assert_eq!(same.headers()[ETAG], tag);
        let changed = view([
            site_with("a/b c", "curtailed", json!(12)),
            site_with("mill", "curtailed", Value::Null),
        ]);
        assert_eq!(list(of(changed), &long(), "", &asked).await.status(), 200);
    }

    #[tokio::test]
    async fn enrolled_sites_are_listed_too_and_the_tag_follows_them() {
        let unlisted = list(of(two()), &long(), "", &HeaderMap::new()).await;
        let asked = HeaderMap::from_iter([(IF_NONE_MATCH, unlisted.headers()[ETAG].clone())]);
        let sites = Sites {
            inventory: Arc::new(inventory(&["barn", "mill"], &[])),
            ..of(two())
        };
        let listed = list(sites.clone(), &long(), "state=normal", &asked).await;
        assert_eq!(listed.status(), 200);
        let shown = body(listed).await;
        let of = |field: &str| -> Vec<Value> {
            let sites = shown["sites"].as_array().unwrap().iter();
            sites.map(|site| site[field].clone()).collect()
        };
        assert_eq!(of("id"), ["barn", "mill"]);
        assert_eq!(of("name"), ["name of barn", "Mill"]);
        assert_eq!(of("enrolled"), [true, true]);
        let none = HeaderMap::new();
        let barn = body(one(&sites, "barn", &none)).await;
        assert_eq!(barn["state"], "normal");
        assert_eq!(barn["since"], "1970-01-01T00:00:00Z");
        assert_eq!(
            body(one(&sites, "a%2Fb%20c", &none)).await["enrolled"],
            false
        );
    }

    #[tokio::test]
    async fn many_sites_are_sent_whole() {
        let many =
            (0..2000).map(|number| site_with(&format!("s{number:04}"), "normal", Value::Null));
        let shown = body(list(of(view(many)), &long(), "", &HeaderMap::new()).await).await;
        assert_eq!(shown["sites"].as_array().unwrap().len(), 2000);
    }
}
