//! `PUT /sites/{id}/override` and `DELETE`: the operator's hand.

use std::sync::Arc;

use bytes::Buf;
use chrono::{DateTime, Utc};
use futures_util::Stream;
use http::header::ETAG;
use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};
use warp::reply::Response;

use super::Status;
use super::outbox::not_now;
use super::sites::{self, Sites};
use crate::clock::Clock;
use crate::engine::SitePlan;
use crate::http::{read_request, refusal};
use crate::model::{Override, OverrideOrder, SiteId, SiteMode};
use crate::sync::WaiterReply;

/// How many sites are listed one by one.
const LISTED: usize = 100;

/// What an operator asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    state: SiteMode,
    until: String,
    reason: String,
}

impl<C: Clock + Clone> Status<C> {
    /// Orders what a site must do for a time.
    pub(super) async fn set_override<B: Buf>(
        &self,
        segment: &str,
        headers: &HeaderMap,
        body: impl Stream<Item = Result<B, warp::Error>>,
    ) -> Response {
        let body = match read_request(headers, body).await {
            Ok(body) => body,
            Err(error) => return refusal(error.status(), &error.to_string()),
        };
        match read(&body, self.clock.now().wall) {
            Ok(ordered) => self.order(segment, Some(Arc::new(ordered))).await,
            Err(reason) => refusal(StatusCode::BAD_REQUEST, &reason),
        }
    }

    /// Lets a site follow its dispatches again.
    pub(super) async fn end_override(&self, segment: &str) -> Response {
        self.order(segment, None).await
    }

    async fn order(&self, segment: &str, site_override: Option<Arc<Override>>) -> Response {
        let Some(order) = named(&self.sites(), segment, site_override) else {
            let reason = "no such site in the schedule, nor among the enrolled ones; \
                          `GET /sites` lists the ids";
            return refusal(StatusCode::NOT_FOUND, reason);
        };
        match self.inbox.override_site(order).await {
            WaiterReply::Applied => {
                let mut reply = sites::one(&self.sites(), segment, &HeaderMap::new());
                // It would be the tag of the site, which has another path.
                reply.headers_mut().remove(ETAG);
                reply
            }
            outcome => not_now(&outcome),
        }
    }
}

/// The sites for which an operator has ordered something that lasts, as `/status` shows
/// them.
pub(super) fn shown(plan: &SitePlan) -> Vec<Value> {
    let sites = plan.overridden().take(LISTED);
    sites
        .map(|site| json!({"site": site.id, "name": site.name, "override": site.site_override}))
        .collect()
}

/// What the body asks for at `now`, or what is wrong with it.
fn read(body: &[u8], now: DateTime<Utc>) -> Result<Override, String> {
    let asked: Asked = serde_json::from_slice(body).map_err(|error| {
        format!(
            r#"{error}; give {{"state": "curtailed" or "normal", "until": an RFC 3339 time, "reason": a text}}"#
        )
    })?;
    let until = DateTime::parse_from_rfc3339(&asked.until).map_err(|error| {
        format!("`until`: {error}; give an RFC 3339 time such as 2026-07-01T17:00:00Z")
    })?;
    Override::new(asked.state, until.to_utc(), &asked.reason, now)
        .map_err(|error| error.to_string())
}

/// The order for the site with this percent-encoded id. While it is not known which
/// sites are enrolled, any site may be named.
fn named(
    sites: &Sites,
    segment: &str,
    site_override: Option<Arc<Override>>,
) -> Option<OverrideOrder> {
    let id = percent_decode_str(segment).decode_utf8().ok()?;
    let id = SiteId::new(&id)?;
    let known = sites.find(&id);
    if known.is_none() && sites.inventory.known.is_some() {
        return None;
    }
    Some(OverrideOrder {
        name: known.map(|site| site.name.clone()).unwrap_or_default(),
        customer_location_id: known
            .map(|site| site.customer_location_id.clone())
            .unwrap_or_default(),
        site: id,
        site_override,
    })
}
