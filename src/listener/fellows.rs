//! How the daemons of one store know each other over the network.
//!
//! A standby shows a token with each webhook that it passes on, and the leader shows
//! another one with its answer. Both are made of a secret that lies in the store. They
//! are always the same, so that whoever can read the traffic between the daemons can
//! send them again. That is enough: a webhook is only a hint to look at a dispatch
//! (rule R8), and all that its sender is spared are the limits for one peer and the
//! secret in the path, which such a reader has seen as well.

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use warp::reply::Response;

/// The header of a webhook that a standby passes on.
pub(super) const PASSED_ON: &str = "dispatchd-passed-on";

/// The header of the leader's answer to it.
pub(super) const TAKEN: &str = "dispatchd-taken";

/// The daemons that share a store with this one.
#[derive(Clone)]
pub(super) struct Fellows {
    passed_on: HeaderValue,
    taken: HeaderValue,
}

impl Fellows {
    /// Those who know `store_secret`. `None` if it cannot be a key.
    pub fn new(store_secret: &str) -> Option<Self> {
        Some(Self {
            passed_on: token(store_secret, "forward")?,
            taken: token(store_secret, "answer")?,
        })
    }

    /// What a webhook is passed on with.
    pub fn token(&self) -> HeaderValue {
        self.passed_on.clone()
    }

    /// Whether a fellow daemon passes on the request with these headers.
    pub fn have_sent(&self, headers: &HeaderMap) -> bool {
        is_shown(headers, PASSED_ON, &self.passed_on)
    }

    /// Whether a daemon says that it passes on the request with these headers, be it a
    /// fellow or not.
    pub fn claim_to_have_sent(headers: &HeaderMap) -> bool {
        headers.contains_key(PASSED_ON)
    }

    /// Shows a fellow daemon that the answer is one of this store's daemons.
    pub fn sign(&self, reply: &mut Response) {
        reply.headers_mut().insert(TAKEN, self.taken.clone());
    }

    /// Whether the answer with these headers is one of a fellow daemon.
    pub fn have_answered(&self, headers: &HeaderMap) -> bool {
        is_shown(headers, TAKEN, &self.taken)
    }
}

/// Whether `headers` show `token`, compared in constant time.
fn is_shown(headers: &HeaderMap, name: &str, token: &HeaderValue) -> bool {
    let shown = headers.get(name);
    shown.is_some_and(|shown| shown.as_bytes().ct_eq(token.as_bytes()).into())
}

fn token(store_secret: &str, purpose: &str) -> Option<HeaderValue> {
    let mut keyed = Hmac::<Sha256>::new_from_slice(store_secret.as_bytes()).ok()?;
    keyed.update(purpose.as_bytes());
    let bytes = keyed.finalize().into_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut token = HeaderValue::from_str(&hex).ok()?;
    token.set_sensitive(true);
    Some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_of_one_store_know_each_other_and_strangers_are_told_apart() {
        let [ours, alike, strange] =
            ["one", "one", "another"].map(|secret| Fellows::new(secret).unwrap());
        let sent = |fellows: &Fellows| {
            HeaderMap::from_iter([(http::HeaderName::from_static(PASSED_ON), fellows.token())])
        };
        assert!(ours.have_sent(&sent(&alike)));
        assert!(!ours.have_sent(&sent(&strange)));
        assert!(!ours.have_sent(&HeaderMap::new()));
        assert!(Fellows::claim_to_have_sent(&sent(&strange)));
        let mut reply = Response::default();
        assert!(!ours.have_answered(reply.headers()));
        alike.sign(&mut reply);
        assert!(ours.have_answered(reply.headers()));
        assert!(!strange.have_answered(reply.headers()));
        let asked = ours.token();
        reply.headers_mut().insert(TAKEN, asked);
        assert!(
            !ours.have_answered(reply.headers()),
            "a question is no answer"
        );
    }
}
