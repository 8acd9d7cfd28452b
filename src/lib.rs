//! dispatchd keeps the schedule of Voltus demand-response dispatches true: fed
//! by webhooks, healed by polling.
//!
//! ```text
//!  webhook (a hint: "look at this one") ─┐                                 ┌─ dispatch.* events
//!  poller  (the whole list)             ─┼─> observation ─> engine ─> commit ┼─ site.* commands ─> sinks
//!  clock   (a start or an end has come) ─┘                                 └─ schedule, for readers
//! ```
//!
//! To follow one webhook from the socket to a sink, read in this order:
//! [`listener`], [`sync`], [`engine`], [`store`], [`delivery`].
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`] | the commands, one file each |
//! | [`config`] | from what the operator wrote to what can work |
//! | [`daemon`] | everything put together, and taken apart in order |
//! | [`model`] | the words of the field: dispatch, site, entry, change, event |
//! | [`engine`] | pure: what an observation changes, and what each site must do |
//! | [`sync`] | the machine around it: who asks when, who is told what |
//! | [`voltus`] | the upstream: its answers, and how we ask |
//! | [`store`] | what survives a restart |
//! | [`delivery`] | from the outbox to those who act |
//! | [`listener`] | the webhook endpoint |
//! | [`status`] | what operators ask |
//! | [`sandbox`] | a stand-in for the upstream, with faults |
//! | [`registration`] | keeps the webhook registered at the API |
//! | [`demo`] | sandbox and daemon in a story of lost webhooks |
//! | [`http`] | what all listeners share, and how we ask others |
//! | [`retry`] | when to try again |
//! | [`secret`] | secrets that can be read again from their files |
//! | [`seldom`] | lines of the log that come at most once a minute |
//! | [`clock`] | the only reader of the system's clocks |
//! | [`histogram`] | counts for metrics, as plain numbers |
//! | [`fuzzing`] | what `tests/fuzz` reaches, and nobody else |

pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod delivery;
pub mod demo;
pub mod engine;
#[doc(hidden)]
pub mod fuzzing;
pub mod histogram;
pub mod http;
pub mod listener;
pub mod model;
pub mod registration;
pub mod retry;
pub mod sandbox;
pub mod secret;
pub mod seldom;
pub mod status;
pub mod store;
pub mod sync;
pub mod voltus;
