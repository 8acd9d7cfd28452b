//! What the log says of webhooks that were turned away: at most one line a
//! minute for each reason, since strangers can cause them at will. What they
//! sent is never logged: it may hold a secret that is nearly right.

use std::fmt;
use std::net::IpAddr;

use crate::clock::Mono;
use crate::model::DispatchId;
use crate::seldom::Seldom;

/// Logs webhooks that were turned away.
#[derive(Debug, Default)]
pub(super) struct Notices {
    wrong_path: Seldom,
    rejected: Seldom,
    too_many: Seldom,
    ignored: Seldom,
    unknown: Seldom,
    failed: Seldom,
    not_passed_on: Seldom,
}

impl Notices {
    /// A webhook was posted to another path, or with another secret.
    pub fn wrong_path(&self, peer: Option<IpAddr>, now: Mono) {
        if let Some(count) = self.wrong_path.count(now) {
            tracing::warn!(
                count,
                peer = peer.map(tracing::field::display),
                "answered webhooks 404: they came to a wrong path, or with a wrong secret; if they are from Voltus, the registered URL is out of date: see `dispatchd webhook list`"
            );
        }
    }

    /// A webhook was rejected because of what it says.
    pub fn rejected(&self, reason: &dyn fmt::Display, peer: Option<IpAddr>, now: Mono) {
        if let Some(count) = self.rejected.count(now) {
            tracing::warn!(
                count,
                peer = peer.map(tracing::field::display),
                last = %reason,
                "rejected webhooks that cannot be read"
            );
        }
    }

    /// A webhook was answered 404: neither the API nor the schedule knows its dispatch.
    pub fn unknown(&self, dispatch: &DispatchId, now: Mono) {
        if let Some(count) = self.unknown.count(now) {
            tracing::warn!(
                count,
                last = %dispatch,
                "answered webhooks 404: neither the API nor the schedule knows the dispatch; if they are from Voltus, compare --api-url and the key with those that the webhook was registered with"
            );
        }
    }

    /// A webhook was answered 503, for this reason.
    pub fn failed(&self, dispatch: &DispatchId, reason: &str, now: Mono) {
        if let Some(count) = self.failed.count(now) {
            tracing::warn!(
                count,
                last = %dispatch,
                reason,
                "answered webhooks 503, so that Voltus sends them again; a poll follows as soon as one may"
            );
        }
    }

    /// A standby answered a webhook 503: it could not be passed on to the leader.
    pub fn not_passed_on(&self, reason: &dyn fmt::Display, now: Mono) {
        if let Some(count) = self.not_passed_on.count(now) {
            tracing::warn!(
                count,
                last = %reason,
                "answered webhooks 503, so that Voltus sends them again: they could not be passed on to the leader"
            );
        }
    }

    /// A webhook was about another kind of resource, and answered 200.
    pub fn ignored(&self, kind: &str, now: Mono) {
        if let Some(count) = self.ignored.count(now) {
            tracing::info!(
                count,
                last = kind,
                "ignored webhooks about another kind of resource"
            );
        }
    }

    /// A peer asks more often than it may.
    pub fn too_many(&self, peer: Option<IpAddr>, now: Mono) {
        if let Some(count) = self.too_many.count(now) {
            tracing::warn!(
                count,
                peer = peer.map(tracing::field::display),
                "answered requests 429: the peer sends more than --peer-rate allows"
            );
        }
    }
}
