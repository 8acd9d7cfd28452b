//! `GET /telemetry/kw`: the meters of sites, without readings. The sandbox
//! measures nothing.

use http::StatusCode;
use serde_json::{Value, json};
use url::form_urlencoded;
use warp::reply::Response;

use super::Inner;
use super::answer::{Refusal, json_answer};

/// Answers for the sites that the query names. A site that is not enrolled is
/// left out.
pub(super) fn kw(inner: &Inner, query: &str) -> Result<Response, Refusal> {
    let wanted = named(query)?;
    let sites: Vec<Value> = inner
        .look(|state| state.sites())
        .iter()
        .filter(|site| wanted.iter().any(|id| site["id"] == **id))
        .map(without_readings)
        .collect();
    Ok(json_answer(
        StatusCode::OK,
        &json!({"data": {"sites": sites}}),
    ))
}

/// The ids of sites in the query. `start_time` must be there as well.
fn named(query: &str) -> Result<Vec<String>, Refusal> {
    let pairs = || form_urlencoded::parse(query.as_bytes());
    let ids: Vec<String> = pairs()
        .filter(|(name, _)| name == "site_id")
        .map(|(_, id)| id.into_owned())
        .collect();
    if ids.is_empty() || !pairs().any(|(name, _)| name == "start_time") {
        return Err(Refusal::bad_request(
            "`site_id` and `start_time` are required",
        ));
    }
    Ok(ids)
}

fn without_readings(site: &Value) -> Value {
    let meters = site["meters"].as_array().into_iter().flatten();
    let meters: Vec<Value> = meters
        .map(|meter| json!({"meter_id": meter["id"], "telemetry": []}))
        .collect();
    json!({"site_id": site["id"], "meters": meters})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_sites_and_a_start() {
        let query = "start_time=2027-01-15T08%3A00%3A00Z&site_id=a%20b&site_id=c";
        assert_eq!(named(query).unwrap(), ["a b", "c"]);
        for lacking in ["", "site_id=a", "start_time=2027-01-15T08:00:00Z"] {
            let refusal = named(lacking).unwrap_err();
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
        }
    }
}
