//! Who holds a connection to a listener, and which connection gives way when
//! there is no place for another (rule R8). [`Places`] is where to start.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Mono, SystemClock};
use crate::seldom::Seldom;

/// Connections of one listener at once.
pub(super) const CONNECTIONS: usize = 4096;

/// A connection that has been idle for less never gives way: its request may be
/// on its way to us, as in a burst of new connections.
const BARELY_IDLE: Duration = Duration::from_millis(250);

/// What one listener takes on.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The listener's name, for log and metrics.
    pub name: &'static str,
    /// Connections at once.
    pub connections: usize,
    /// Connections of one peer at once. A proxy in front is one peer.
    pub per_peer: usize,
    /// How long a peer may take for a request's head, and stay silent between
    /// requests.
    pub head: Duration,
    /// How long a peer may take no noticeable part of an answer.
    pub stall: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            name: "listener",
            connections: CONNECTIONS,
            // Half, so that one peer alone cannot take the places of all others.
            per_peer: CONNECTIONS / 2,
            head: Duration::from_secs(15),
            stall: Duration::from_secs(15),
        }
    }
}

/// The peer that an address belongs to: the address itself, or its /64, since
/// one IPv6 customer can use a whole /64.
pub fn peer_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// Why a connection was closed, or never served, for the sake of the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It was the longest idle one when another needed its place.
    GaveWay,
    /// All places of its peer were busy: it was answered 503.
    TurnedAway,
    /// Its peer did not read an answer.
    Stalled,
}

impl Cut {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::GaveWay, Self::TurnedAway, Self::Stalled];

    /// The name used in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::GaveWay => "gave_way",
            Self::TurnedAway => "turned_away",
            Self::Stalled => "stalled",
        }
    }
}

/// The places of one listener, and who holds them.
///
/// A connection is *idle* while the daemon waits for its peer: for a whole
/// request, or for the peer to read an answer. It is busy from a whole request
/// to its answer; a busy connection never gives way. A peer that sends its
/// request byte by byte stays idle since the end of its last answer.
#[derive(Debug)]
pub struct Places {
    pub(super) bounds: Bounds,
    held: Mutex<Held>,
    /// A place became free, or its connection idle.
    freed: Notify,
    cut: [AtomicU64; Cut::ALL.len()],
    lines: [Seldom; Cut::ALL.len()],
    clock: SystemClock,
}

#[derive(Debug, Default)]
struct Held {
    /// Numbers turns of becoming idle: a lower turn is idle for longer.
    turns: u64,
    holders: HashMap<u64, Holder>,
    idle: Turns,
    peers: HashMap<IpAddr, OfPeer>,
}

/// Idle connections, the longest idle first.
type Turns = BTreeMap<u64, Idle>;

#[derive(Debug, Clone, Copy)]
struct Idle {
    id: u64,
    since: Mono,
}

/// The one that has been idle for longest at `now`, if it may give way.
fn longest(turns: &Turns, now: Mono) -> Option<u64> {
    let idle = turns.values().next()?;
    (now.saturating_sub(idle.since) >= BARELY_IDLE).then_some(idle.id)
}

#[derive(Debug)]
struct Holder {
    peer: IpAddr,
    /// Since which turn it is idle.
    idle: Option<u64>,
    cut: CancellationToken,
}

#[derive(Debug, Default)]
struct OfPeer {
    count: usize,
    idle: Turns,
}

/// What became of a new connection.
#[derive(Debug)]
pub(super) enum Admission {
    /// It has a place.
    Place(Place),
    /// Its peer has all places that one peer may have, and either none of these will
    /// give way soon, or another peer could have a place meanwhile.
    PeerIsBusy,
    /// All places are taken, and none can give way: no peer can have one now.
    AllAreBusy,
}

impl Places {
    /// Places that are all free.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            held: Mutex::default(),
            freed: Notify::new(),
            cut: Default::default(),
            lines: Default::default(),
            clock: SystemClock::new(),
        })
    }

    /// The listener's name.
    pub fn name(&self) -> &'static str {
        self.bounds.name
    }

    /// How many connections have a place.
    pub fn taken(&self) -> usize {
        self.held().holders.len()
    }

    /// How many connections were closed for this reason.
    pub fn cut(&self, why: Cut) -> u64 {
        self.cut[why as usize].load(Ordering::Relaxed)
    }

    /// Gives the connection of `peer` a place. `cut` is cancelled when the
    /// connection has to give way.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr, cut: CancellationToken) -> Admission {
        let now = self.clock.now().mono;
        let mut held = self.held();
        let of_peer = held.peers.get(&peer);
        let peer_is_full = of_peer.is_some_and(|of_peer| of_peer.count >= self.bounds.per_peer);
        let all_are_full = held.holders.len() >= self.bounds.connections;
        let victim = if peer_is_full {
            of_peer.and_then(|of_peer| longest(&of_peer.idle, now))
        } else if all_are_full {
            longest(&held.idle, now)
        } else {
            None
        };
        if victim.is_none() && (peer_is_full || all_are_full) {
            let soon = of_peer.is_some_and(|of_peer| !of_peer.idle.is_empty());
            let others = !all_are_full || longest(&held.idle, now).is_some();
            if peer_is_full && (others || !soon) {
                return Admission::PeerIsBusy;
            }
            return Admission::AllAreBusy;
        }
        if let Some(victim) = victim {
            held.end(victim);
        }
        let id = held.enter(peer, cut, now);
        drop(held);
        if victim.is_some() {
            self.count(Cut::GaveWay, Some(peer));
        }
        Admission::Place(Place {
            id,
            places: Arc::clone(self),
        })
    }

    /// Closes the longest idle connection: the system has no room for another.
    pub(super) fn make_room(&self) {
        let now = self.clock.now().mono;
        let mut held = self.held();
        if let Some(victim) = longest(&held.idle, now) {
            held.end(victim);
            drop(held);
            self.count(Cut::GaveWay, None);
        }
    }

    /// Waits until a place may have become free since the last call.
    pub(super) async fn freed(&self) {
        // Without a change, one may have been idle for long enough meanwhile.
        let _ = tokio::time::timeout(BARELY_IDLE, self.freed.notified()).await;
    }

    /// Counts a connection that was cut, and logs that at most once a minute.
    pub(super) fn count(&self, why: Cut, newcomer: Option<IpAddr>) {
        self.cut[why as usize].fetch_add(1, Ordering::Relaxed);
        let Some(count) = self.lines[why as usize].count(self.clock.now().mono) else {
            return;
        };
        let (listener, taken) = (self.bounds.name, self.taken());
        let peer = newcomer.map(tracing::field::display);
        match why {
            Cut::GaveWay => tracing::warn!(
                listener,
                count,
                taken,
                newcomer = peer,
                "closed the longest idle connections: a new connection needed the place"
            ),
            Cut::TurnedAway => tracing::warn!(
                listener,
                count,
                taken,
                peer,
                "answered new connections 503: one peer may have {} at once, and all of them are busy",
                self.bounds.per_peer
            ),
            Cut::Stalled => tracing::warn!(
                listener,
                count,
                taken,
                peer,
                "closed connections whose peers did not read their answers for {}",
                humantime::format_duration(self.bounds.stall)
            ),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn enter(&mut self, peer: IpAddr, cut: CancellationToken, now: Mono) -> u64 {
        self.turns += 1;
        // No other connection has begun at this turn.
        let id = self.turns;
        let idle = None;
        self.holders.insert(id, Holder { peer, idle, cut });
        self.peers.entry(peer).or_default().count += 1;
        self.set_idle(id, now);
        id
    }

    /// The connection is idle from now on, also if it was before.
    fn set_idle(&mut self, id: u64, now: Mono) {
        self.set_busy(id);
        self.turns += 1;
        let turn = self.turns;
        if let Some(holder) = self.holders.get_mut(&id) {
            holder.idle = Some(turn);
            let idle = Idle { id, since: now };
            self.idle.insert(turn, idle);
            if let Some(of_peer) = self.peers.get_mut(&holder.peer) {
                of_peer.idle.insert(turn, idle);
            }
        }
    }

    fn set_busy(&mut self, id: u64) {
        if let Some(holder) = self.holders.get_mut(&id)
            && let Some(turn) = holder.idle.take()
        {
            self.idle.remove(&turn);
            if let Some(of_peer) = self.peers.get_mut(&holder.peer) {
                of_peer.idle.remove(&turn);
            }
        }
    }

    fn leave(&mut self, id: u64) -> Option<CancellationToken> {
        self.set_busy(id);
        let holder = self.holders.remove(&id)?;
        if let Some(of_peer) = self.peers.get_mut(&holder.peer) {
            of_peer.count -= 1;
            if of_peer.count == 0 {
                self.peers.remove(&holder.peer);
            }
        }
        Some(holder.cut)
    }

    fn end(&mut self, id: u64) {
        if let Some(cut) = self.leave(id) {
            cut.cancel();
        }
    }
}

/// The place of one connection, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    places: Arc<Places>,
}

impl Place {
    /// A whole request has come.
    pub fn busy(&self) {
        self.places.held().set_busy(self.id);
    }

    /// The peer is to read or to ask.
    pub fn idle(&self) {
        let now = self.places.clock.now().mono;
        self.places.held().set_idle(self.id, now);
        self.places.freed.notify_one();
    }

    /// The peer does not read.
    pub fn stalled(&self) {
        let peer = {
            let held = self.places.held();
            held.holders.get(&self.id).map(|holder| holder.peer)
        };
        self.places.count(Cut::Stalled, peer);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.held().leave(self.id);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(connections: usize, per_peer: usize) -> Arc<Places> {
        Places::new(Bounds {
            connections,
            per_peer,
            ..Bounds::default()
        })
    }

    fn address(last: u8) -> IpAddr {
        [127, 0, 0, last].into()
    }

    /// A connection as its listener holds it.
    struct Held {
        place: Place,
        cut: CancellationToken,
    }

    fn admit(places: &Arc<Places>, last: u8) -> Result<Held, Admission> {
        let cut = CancellationToken::new();
        match places.admit(address(last), cut.clone()) {
            Admission::Place(place) => Ok(Held { place, cut }),
            refused => Err(refused),
        }
    }

    /// Until all connections so far are idle for long enough to give way.
    async fn a_while() {
        tokio::time::sleep(BARELY_IDLE + Duration::from_millis(10)).await;
    }

    fn cut_ones(held: &[Held]) -> Vec<usize> {
        let cut = held.iter().enumerate();
        cut.filter(|(_, held)| held.cut.is_cancelled())
            .map(|(index, _)| index)
            .collect()
    }

    #[tokio::test]
    async fn one_peer_gives_way_to_itself_and_others_keep_their_places() {
        let places = places(10, 4);
        let other = admit(&places, 2).unwrap();
        let mut mine: Vec<Held> = (0..4).map(|_| admit(&places, 1).unwrap()).collect();
        // In a burst none gives way: they may be about to ask.
        assert!(matches!(admit(&places, 1), Err(Admission::PeerIsBusy)));
        a_while().await;
        mine.extend((0..2).map(|_| admit(&places, 1).unwrap()));
        assert_eq!(cut_ones(&mine), [0, 1]);
        assert!(!other.cut.is_cancelled(), "although it is idle for longer");
        assert_eq!((places.taken(), places.cut(Cut::GaveWay)), (5, 2));
        drop(mine);
        assert_eq!(places.taken(), 1);
    }

    #[tokio::test]
    async fn when_all_places_are_taken_the_longest_idle_connection_of_all_gives_way() {
        let places = places(4, 4);
        let held: Vec<Held> = (1..=4).map(|peer| admit(&places, peer).unwrap()).collect();
        // The first has asked and been answered since, the second is at work.
        held[0].place.busy();
        held[0].place.idle();
        held[1].place.busy();
        a_while().await;
        let newest = [admit(&places, 5).unwrap(), admit(&places, 6).unwrap()];
        assert_eq!(cut_ones(&held), [2, 3]);
        assert!(cut_ones(&newest).is_empty());
        // Ended twice, given back once.
        drop(held);
        assert_eq!(places.taken(), 2);
    }

    /// Behind a proxy all connections are of one peer, which may have all places.
    #[tokio::test]
    async fn while_no_peer_can_have_a_place_none_is_turned_away() {
        let places = places(2, 2);
        let held = [1, 1].map(|peer| admit(&places, peer).unwrap());
        assert!(matches!(admit(&places, 1), Err(Admission::AllAreBusy)));
        a_while().await;
        admit(&places, 1).unwrap();
        assert_eq!(cut_ones(&held), [0]);
    }

    #[tokio::test]
    async fn a_busy_peer_is_turned_away_while_others_could_have_a_place() {
        let places = places(4, 2);
        let busy = [1, 1].map(|peer| admit(&places, peer).unwrap());
        busy.iter().for_each(|held| held.place.busy());
        let _idle = [2, 2].map(|peer| admit(&places, peer).unwrap());
        a_while().await;
        assert!(matches!(admit(&places, 1), Err(Admission::PeerIsBusy)));
        admit(&places, 3).unwrap();
    }

    #[tokio::test]
    async fn a_busy_connection_never_gives_way() {
        let places = places(3, 2);
        let held = [1, 1, 2].map(|peer| admit(&places, peer).unwrap());
        held.iter().for_each(|held| held.place.busy());
        assert!(matches!(admit(&places, 1), Err(Admission::PeerIsBusy)));
        assert!(matches!(admit(&places, 3), Err(Admission::AllAreBusy)));
        held[1].place.idle();
        places.freed().await;
        a_while().await;
        admit(&places, 3).unwrap();
        assert_eq!(cut_ones(&held), [1]);
    }

    #[tokio::test]
    async fn a_peer_that_sends_byte_by_byte_stays_the_longest_idle() {
        let places = places(2, 2);
        let (slow, quick) = (admit(&places, 1).unwrap(), admit(&places, 1).unwrap());
        // Bytes of half a request change nothing; an answer does.
        quick.place.busy();
        quick.place.idle();
        a_while().await;
        let _newest = admit(&places, 1).unwrap();
        assert!(slow.cut.is_cancelled() && !quick.cut.is_cancelled());
    }

    #[test]
    fn addresses_of_one_ipv6_customer_are_one_peer() {
        let of = |text: &str| peer_of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("::1"), of("::2"));
    }
}
