//! Limits what one peer may ask of the listener.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use governor::clock::DefaultClock;
use governor::state::InMemoryState;
use governor::{Quota, RateLimiter};
use http::HeaderMap;

use crate::http::{Peer, peer_of};

/// What a peer may ask at once, so that a burst of real webhooks gets through.
const BURST: NonZeroU32 = NonZeroU32::new(1000).unwrap();

/// After this many requests, peers that have been quiet are forgotten.
const FORGET_EVERY: u64 = 10_000;

type Limiter = RateLimiter<IpAddr, DashMap<IpAddr, InMemoryState>, DefaultClock>;

/// Counts requests by peer.
#[derive(Debug)]
pub struct Peers {
    limiter: Option<Limiter>,
    trust_forwarded_for: bool,
    seen: AtomicU64,
}

impl Peers {
    /// Lets each peer ask `per_second` times a second, 1,000 times at once. No
    /// limit without it. `trust_forwarded_for` says that a proxy is in front.
    pub fn new(per_second: Option<NonZeroU32>, trust_forwarded_for: bool) -> Self {
        let quota = |rate| Quota::per_second(rate).allow_burst(BURST);
        Self {
            limiter: per_second.map(|rate| RateLimiter::dashmap(quota(rate))),
            trust_forwarded_for,
            seen: AtomicU64::new(0),
        }
    }

    /// The peer that a request counts for: the one that the proxy in front
    /// names, if there is a proxy, else the one that is connected.
    pub fn peer(&self, connected: Option<Peer>, headers: &HeaderMap) -> Option<IpAddr> {
        let forwarded = self.trust_forwarded_for.then(|| last_forwarded(headers));
        forwarded
            .flatten()
            .or(connected.map(|Peer(address)| address.ip()))
            .map(peer_of)
    }

    /// Whether a request of `peer` may be served.
    pub fn allow(&self, peer: Option<IpAddr>) -> bool {
        let Some(limiter) = &self.limiter else {
            return true;
        };
        if self.seen.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            limiter.retain_recent();
        }
        peer.is_none_or(|peer| limiter.check_key(&peer).is_ok())
    }
}

/// The address that the nearest proxy saw: the last one in `X-Forwarded-For`.
/// What stands before it, anybody can write. Some proxies append the client's port.
fn last_forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?;
    let last = last.to_str().ok()?.rsplit(',').next()?.trim();
    let bare = last.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let address = bare.unwrap_or(last).parse();
    let with_port = || last.parse().map(|address: SocketAddr| address.ip());
    address.or_else(|_| with_port()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Option<Peer> {
        Some(Peer(format!("{address}:1").parse().unwrap()))
    }

    fn allow(peers: &Peers, peer: Option<Peer>, headers: &HeaderMap) -> bool {
        peers.allow(peers.peer(peer, headers))
    }

    fn asks(peers: &Peers, peer: Option<Peer>, headers: &HeaderMap) -> usize {
        (0..2000).filter(|_| allow(peers, peer, headers)).count()
    }

    #[test]
    fn a_peer_that_asks_too_much_is_refused_and_others_are_not() {
        let peers = Peers::new(NonZeroU32::new(1), false);
        let none = HeaderMap::new();
        let allowed = asks(&peers, peer("10.0.0.1"), &none);
        assert!((1000..1010).contains(&allowed), "{allowed}");
        assert!(allow(&peers, peer("10.0.0.2"), &none));
        assert!(!allow(&peers, peer("10.0.0.1"), &none));
    }

    #[test]
    fn without_a_rate_nobody_is_refused() {
        let peers = Peers::new(None, false);
        assert_eq!(asks(&peers, peer("10.0.0.1"), &HeaderMap::new()), 2000);
    }

    #[test]
    fn addresses_of_one_ipv6_customer_are_one_peer() {
        let peers = Peers::new(NonZeroU32::new(1), false);
        let none = HeaderMap::new();
        asks(&peers, peer("[2001:db8::1]"), &none);
        assert!(!allow(&peers, peer("[2001:db8::2]"), &none));
        assert!(allow(&peers, peer("[2001:db8:0:1::1]"), &none));
    }

    #[test]
    fn behind_a_proxy_the_last_forwarded_address_is_the_peer() {
        let peers = Peers::new(NonZeroU32::new(1), true);
        let from = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", text.parse().unwrap());
            headers
        };
        asks(&peers, peer("10.0.0.1"), &from("1.1.1.1, 2.2.2.2"));
        assert!(!allow(&peers, peer("10.0.0.1"), &from("9.9.9.9, 2.2.2.2")));
        assert!(allow(&peers, peer("10.0.0.1"), &from("2.2.2.2, 3.3.3.3")));
        for with_port in ["2.2.2.2:443", "9.9.9.9, 2.2.2.2:50000"] {
            assert!(!allow(&peers, peer("10.0.0.1"), &from(with_port)));
        }
        asks(&peers, peer("10.0.0.1"), &from("2001:db8::1"));
        for bracketed in ["[2001:db8::1]", "[2001:db8::1]:443"] {
            assert!(!allow(&peers, peer("10.0.0.1"), &from(bracketed)));
        }
        let distrustful = Peers::new(NonZeroU32::new(1), false);
        asks(&distrustful, peer("10.0.0.1"), &from("2.2.2.2"));
        assert!(!allow(&distrustful, peer("10.0.0.1"), &from("3.3.3.3")));
    }
}
