//! An OpenTelemetry collector: takes spans as OTLP over HTTP, and can be told to behave
//! badly.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use dispatchd::http::{Bounds, serve};
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span as Sent, status::StatusCode as SpanStatus};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use warp::Filter;
use warp::reply::{Reply, Response};

use super::{Setup, wait_for};

/// How it treats spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    /// Takes them.
    All,
    /// Takes all but one of each batch.
    AllButOne,
    /// Answers with this status.
    Refuses(u16),
    /// Does not answer.
    Hangs,
}

/// A span that it took.
#[derive(Debug, Clone)]
pub struct Span {
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Empty if the trace begins with it.
    pub parent: String,
    /// Trace and id of each span that it is linked to.
    pub links: Vec<(String, String)>,
    pub attributes: BTreeMap<String, String>,
    /// What went wrong, if it failed.
    pub failure: Option<String>,
    /// In nanoseconds since 1970.
    pub times: (u64, u64),
}

impl Span {
    /// What `traceparent` says of it.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.id)
    }

    /// An attribute, empty if there is none.
    pub fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }

    /// Whether it belongs directly under `parent`, and was not opened before it.
    pub fn is_under(&self, parent: &Self) -> bool {
        self.trace == parent.trace && self.parent == parent.id && self.times.0 >= parent.times.0
    }
}

/// A collector. It is gone when this is dropped.
#[derive(Clone)]
pub struct Collector {
    address: SocketAddr,
    taking: Arc<Mutex<Taking>>,
    spans: Arc<Mutex<Vec<Span>>>,
    heads: Arc<Mutex<Vec<HeaderMap>>>,
    described: Arc<Mutex<BTreeMap<String, String>>>,
    _stop: Arc<DropGuard>,
}

impl Collector {
    /// One that takes everything.
    pub async fn new() -> Self {
        let stop = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Self {
            address: listener.local_addr().unwrap(),
            taking: Arc::new(Mutex::new(Taking::All)),
            spans: Arc::default(),
            heads: Arc::default(),
            described: Arc::default(),
            _stop: Arc::new(stop.clone().drop_guard()),
        };
        let (taking, heads) = (Arc::clone(&collector.taking), Arc::clone(&collector.heads));
        let (spans, described) = (
            Arc::clone(&collector.spans),
            Arc::clone(&collector.described),
        );
        let request = warp::path!("v1" / "traces")
            .and(warp::post())
            .and(warp::header::headers_cloned())
            .and(warp::body::bytes());
        let route = request.then(move |head: HeaderMap, body: Bytes| {
            let taking = *locked(&taking);
            locked(&heads).push(head);
            if matches!(taking, Taking::All | Taking::AllButOne) {
                take(&body, &mut locked(&spans), &mut locked(&described));
            }
            async move { answer(taking).await }
        });
        let serving = serve(listener, warp::service(route), Bounds::default(), stop);
        TaskTracker::new().spawn(serving);
        collector
    }

    /// A daemon that sends its spans here, soon after they end.
    pub fn of(&self, setup: Setup) -> Setup {
        setup
            .variable("OTEL_EXPORTER_OTLP_ENDPOINT", self.url())
            .variable("OTEL_BSP_SCHEDULE_DELAY", "50")
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is to be.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How it behaves from now on.
    pub fn behave(&self, taking: Taking) {
        *locked(&self.taking) = taking;
    }

    /// The spans that it took so far.
    pub fn spans(&self) -> Vec<Span> {
        locked(&self.spans).clone()
    }

    /// The headers of all requests so far.
    pub fn heads(&self) -> Vec<HeaderMap> {
        locked(&self.heads).clone()
    }

    /// How the daemon that sent them describes itself.
    pub fn described(&self) -> BTreeMap<String, String> {
        locked(&self.described).clone()
    }

    /// Waits for a span of this name of which this holds, and gives the first.
    pub async fn wait_for(&self, name: &str, holds: impl Fn(&Span) -> bool) -> Span {
        wait_for(
            &format!("a span {name} among {:#?}", self.spans()),
            async || {
                let spans = self.spans().into_iter();
                spans
                    .into_iter()
                    .find(|span| span.name == name && holds(span))
            },
        )
        .await
    }
}

fn take(body: &[u8], spans: &mut Vec<Span>, described: &mut BTreeMap<String, String>) {
    let request = ExportTraceServiceRequest::decode(body).expect("spans in OTLP");
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.expect("a description of the daemon");
        *described = texts(resource.attributes);
        for of_scope in of_resource.scope_spans {
            spans.extend(of_scope.spans.into_iter().map(read));
        }
    }
}

fn read(sent: Sent) -> Span {
    let status = sent.status.unwrap_or_default();
    let failed = status.code == i32::from(SpanStatus::Error);
    let links = sent.links.iter();
    Span {
        name: sent.name,
        trace: hex(&sent.trace_id),
        id: hex(&sent.span_id),
        parent: hex(&sent.parent_span_id),
        links: links
            .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
            .collect(),
        attributes: texts(sent.attributes),
        failure: failed.then_some(status.message),
        times: (sent.start_time_unix_nano, sent.end_time_unix_nano),
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let attributes = attributes.into_iter();
    let texts = attributes.map(|attribute| {
        let value = match attribute.value.and_then(|any| any.value) {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            other => panic!("{}: {other:?}", attribute.key),
        };
        (attribute.key, value)
    });
    texts.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn answer(taking: Taking) -> Response {
    let partial = match taking {
        Taking::All => None,
        Taking::AllButOne => Some(ExportTracePartialSuccess {
            rejected_spans: 1,
            error_message: "one too many".to_owned(),
        }),
        Taking::Refuses(status) => {
            return StatusCode::from_u16(status).unwrap().into_response();
        }
        Taking::Hangs => std::future::pending().await,
    };
    let told = ExportTraceServiceResponse {
        partial_success: partial,
    };
    Response::new(told.encode_to_vec().into())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
