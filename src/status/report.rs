//! `GET /report/{id}`.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use tokio::sync::watch;
use warp::reply::Response;

use super::Status;
use super::accept::{liked, named};
use super::outbox::not_now;
use crate::http::{long_json_reply, refusal};
use crate::model::DispatchId;
use crate::report::{Live, Pending, Report};
use crate::store::StoreError;
use crate::sync::{Inbox, PendingRequest, View, WaiterReply};

/// The report of one dispatch: CSV if that is asked for, else JSON.
pub(super) async fn one<C>(status: &Status<C>, id: &str, headers: &HeaderMap) -> Response {
    const UNKNOWN: &str = "no such dispatch in the schedule";
    let Ok(id) = DispatchId::new(id) else {
        return refusal(StatusCode::NOT_FOUND, UNKNOWN);
    };
    let entry = status.view.borrow().schedule.get(&id);
    let Some(entry) = entry else {
        return refusal(StatusCode::NOT_FOUND, UNKNOWN);
    };
    let live = match live(&status.view, &status.inbox).await {
        Ok(live) => live,
        Err(outcome) => return not_now(&outcome),
    };
    let kept = async {
        let history = status.store.history(id.clone()).await?;
        Ok::<_, StoreError>((history, status.store.record(id).await?))
    };
    let (history, record) = match kept.await {
        Ok(kept) => kept,
        Err(error) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    let csv = wants_csv(headers);
    let items = record.states.len() + record.commands.len() + record.newest.len();
    status
        .long
        .written(items, move || {
            let report = Report::new(&entry, &history, &record, Some(&live));
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

/// Whether the client names CSV and likes it as well as JSON.
fn wants_csv(headers: &HeaderMap) -> bool {
    let csv = named(headers, "text/csv", None);
    csv > 0.0 && csv >= liked(headers, "application/json")
}

/// How many pending events are asked for at once.
const PAGE: usize = 1000;

/// The sinks, and what is pending at each.
async fn live(views: &watch::Receiver<View>, inbox: &Inbox) -> Result<Live, WaiterReply> {
    let mut live = Live::default();
    let names: Vec<Arc<str>> = {
        let view = views.borrow();
        view.sinks
            .iter()
            .map(|sink| Arc::clone(&sink.name))
            .collect()
    };
    for name in names {
        let pending = live.sinks.entry(Arc::clone(&name)).or_default();
        let mut request = PendingRequest {
            sink: Some(name.to_string()),
            after: 0,
            limit: PAGE,
        };
        loop {
            let sinks = match inbox.pending(request.clone()).await {
                WaiterReply::Pending(sinks) => sinks,
                outcome => return Err(outcome),
            };
            let events = sinks.into_iter().flat_map(|sink| sink.events);
            let before = pending.len();
            for event in events {
                request.after = event.position;
                let tries = Pending {
                    tried: event.tried,
                    last_error: event.last_reason,
                };
                pending.insert(event.position, tries);
            }
            if pending.len() < before + PAGE {
                break;
            }
        }
    }
    Ok(live)
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;

    use super::*;

    #[test]
    fn csv_goes_to_those_who_like_it_as_well_as_json() {
        for (accept, csv) in [
            ("text/csv", true),
            ("Text/CSV; header=present", true),
            ("text/csv, application/json", true),
            ("text/csv, */*;q=0.5", true),
            ("application/json, text/csv;q=0.5", false),
            ("text/csv;q=0.5, */*", false),
            ("text/csv;q=0", false),
            ("text/csvx", false),
            ("*/*", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(wants_csv(&headers), csv, "{accept}");
        }
        assert!(!wants_csv(&HeaderMap::new()));
    }
}
