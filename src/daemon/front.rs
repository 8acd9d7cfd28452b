//! Hands each request to whatever answers now: what a listener answers changes with the
//! daemon's role, while its socket and connections stay.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use http::Request;
use tower::Service;
use warp::reply::Response;

use crate::http::{Endpoint, RequestBody};

type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;
type Answering = Box<dyn Fn(Request<RequestBody>) -> Answer + Send + Sync>;

/// The service of a listener. Copies answer alike.
#[derive(Clone)]
pub(super) struct Front(Arc<ArcSwap<Answering>>);

impl Front {
    /// Answers by `routes`.
    pub fn new(routes: Endpoint) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(answering(routes))))
    }

    /// From now on new requests are answered by `routes`. Those under way end as they
    /// began.
    pub fn set(&self, routes: Endpoint) {
        self.0.store(Arc::new(answering(routes)));
    }
}

fn answering(routes: Endpoint) -> Answering {
    let service = warp::service(routes);
    Box::new(move |request| Box::pin(service.clone().call(request)))
}

impl Service<Request<RequestBody>> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Answer {
        (self.0.load())(request)
    }
}
