//! What both listeners share: bounded connections, and answers in JSON. And how
//! we ask others, within bounds too.

mod client;
mod connection;
mod pieces;
mod places;
mod reply;
mod request_body;
mod serve;

pub use client::{
    BodyError, bounded_client, causes, client_builder, client_for, describe, io_reason,
    is_loopback, read_body, reason, takes_proxy,
};
pub use connection::RequestBody;
pub use pieces::{Pieces, long_json_reply};
pub use places::{Bounds, Cut, Places, peer_of};
pub use reply::{
    READS, json_reply, no_such_path, not_served, reads, refusal, set_retry_after, unwritten,
    wrong_method,
};
pub use request_body::{REQUEST_MAX, RequestError, read_request};
pub use serve::{Endpoint, Hangup, Peer, first_of, listen, serve, serve_at};
