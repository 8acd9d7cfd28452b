//! `GET /report/{id}`.

use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use tokio::sync::watch;
use warp::reply::Response;

use super::LongAnswers;
use crate::http::{long_json_reply, refusal};
use crate::model::DispatchId;
use crate::report::Report;
use crate::store::StoreHandle;
use crate::sync::View;

/// The report of one dispatch: CSV if that is asked for, else JSON.
pub(super) async fn one(
    views: &watch::Receiver<View>,
    store: &StoreHandle,
    long: &LongAnswers,
    id: &str,
    headers: &HeaderMap,
) -> Response {
    const UNKNOWN: &str = "no such dispatch in the schedule";
    let Ok(id) = DispatchId::new(id) else {
        return refusal(StatusCode::NOT_FOUND, UNKNOWN);
    };
    let entry = views.borrow().schedule.get(&id);
    let Some(entry) = entry else {
        return refusal(StatusCode::NOT_FOUND, UNKNOWN);
    };
    let record = match store.record(id).await {
        Ok(record) => record,
        Err(error) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let csv = accept.is_some_and(|accept| accept.contains("text/csv"));
    let items = record.states.len() + record.commands.len() + entry.dispatch.sites.len();
    long.written(items, move || {
        let report = Report::new(&entry, record);
        if !csv {
            return long_json_reply(&report);
        }
        let mut reply = Response::new(report.csv().into());
        let kind = HeaderValue::from_static("text/csv; charset=utf-8; header=present");
        reply.headers_mut().insert(CONTENT_TYPE, kind);
        reply
    })
    .await
}
