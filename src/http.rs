//! What both listeners share: bounded connections, and answers in JSON. And how
//! we ask others, within bounds too.

mod client;
mod pieces;
mod reply;
mod serve;

pub use client::{BodyError, bounded_client, describe, is_loopback, read_body};
pub use pieces::{Pieces, long_json_reply};
pub use reply::{
    json_reply, no_such_path, not_served, refusal, set_retry_after, unwritten, wrong_method,
};
pub use serve::{Bounds, Hangup, Peer, listen, serve};
