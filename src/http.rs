//! What both listeners share: bounded connections, and answers in JSON.

mod reply;
mod serve;

pub use reply::{json_reply, not_served, refusal, set_retry_after};
pub use serve::{Bounds, Hangup, Peer, serve};
