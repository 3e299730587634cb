//! Connections: who may keep how many, and for how long.
//!
//! Whoever showed a trusted certificate or token on a connection may keep it, up to a number for each user. The rest, those of
//! a user beyond that number included, share a few places. When one comes too many and a network has far more than its share,
//! the oldest of that network goes; otherwise the one that has longest done nothing for its place, and where all are at it,
//! the oldest of the network that has most. Of those whose handshake is done a network has fewer places still. So a stranger
//! who opens connections without end pushes out their own connections and nobody else's; whoever does so from thousands of
//! networks has to finish handshakes and send requests from them, too, each within a second, to push out others; a hundred
//! clients behind one address, who all come back at once, are not cut off while they shake hands; and no user takes all the
//! places.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

mod strangers;

use strangers::Strangers;

/// Connections of one network that have proved nothing by the end of their handshake: more than health checks and clients
/// whose token is on the way ever need.
const MOST_OF_A_NETWORK: usize = 200;
/// The same, of all networks: at some 60 KiB each, 120 MiB.
const MOST_OF_ALL: usize = 2_000;
/// Connections that one user may keep, streams that were taken over included: a quarter of all, so that it takes more than
/// one stolen identity to shut everybody else out, and far more than any client opens.
const MOST_OF_A_USER: usize = 5_000;
/// How long a connection that has proved nothing may be without a request. The keep-alive of HTTP/1.1 ends sooner.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// All connections. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Callers {
    strangers: Arc<Mutex<Strangers>>,
    /// How many connections each user keeps.
    known: Arc<Mutex<HashMap<Arc<str>, usize>>>,
    most_of_a_user: usize,
}

impl Callers {
    /// None yet; `places` is how many connections there can be at once, of which strangers get a quarter at most, and so
    /// does a user.
    pub(super) fn new(places: usize) -> Self {
        let most = (places / 4).clamp(1, MOST_OF_ALL);
        let strangers = Strangers::new(MOST_OF_A_NETWORK.min(most), most);
        let most_of_a_user = (places / 4).clamp(1, MOST_OF_A_USER);
        Self { strangers: Arc::new(Mutex::new(strangers)), known: Arc::default(), most_of_a_user }
    }

    /// Lets a connection from `address` in, and sends the oldest stranger off if that is one too many. `place` is kept for
    /// as long as anybody holds on to the visit.
    pub(super) fn enter(&self, address: IpAddr, place: Option<OwnedSemaphorePermit>) -> Arc<Visit> {
        let end = CancellationToken::new();
        let now = Instant::now();
        let number = self.strangers.lock().enter(network(address), end.clone(), now);
        let activity = Mutex::new(Activity { running: 0, since: now });
        Arc::new(Visit { callers: self.clone(), number, end, user: OnceLock::new(), activity, _place: place })
    }
}

/// One connection, for as long as it is used: what takes it over holds on to it.
#[derive(Debug)]
pub struct Visit {
    callers: Callers,
    number: u64,
    end: CancellationToken,
    /// The first user that it proved to be, if they may keep it.
    user: OnceLock<Arc<str>>,
    activity: Mutex<Activity>,
    _place: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Activity {
    running: usize,
    since: Instant,
}

impl Activity {
    /// How long the connection may still be idle.
    fn left(&self, now: Instant) -> Duration {
        let idle = if self.running == 0 { now.saturating_duration_since(self.since) } else { Duration::ZERO };
        IDLE_TIMEOUT.saturating_sub(idle)
    }
}

impl Visit {
    /// The caller has shown who they are: from now on the connection is theirs to keep, unless they keep too many.
    pub(crate) fn prove(&self, user: &str) {
        if self.user.get().is_some() {
            return;
        }
        let mut known = self.callers.known.lock();
        let (name, kept) =
            known.get_key_value(user).map_or_else(|| (user.into(), 0), |(name, kept)| (Arc::clone(name), *kept));
        if kept >= self.callers.most_of_a_user {
            return tracing::debug!(user, "a user has too many connections; this one is met as a stranger's");
        }
        if self.user.set(Arc::clone(&name)).is_ok() {
            *known.entry(name).or_insert(0) += 1;
            self.callers.strangers.lock().leave(self.number);
        }
    }

    /// The handshake is done, whatever it proved.
    pub(super) fn settle(&self) {
        self.callers.strangers.lock().settle(self.number, Instant::now());
    }

    /// A request has come; it ends when what is returned is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        let mut activity = self.activity.lock();
        activity.running += 1;
        if activity.running == 1 && self.user.get().is_none() {
            self.callers.strangers.lock().stir(self.number);
        }
        drop(activity);
        Busy(Arc::clone(self))
    }

    /// Waits until the connection has to go.
    pub(super) async fn over(&self) {
        tokio::select! {
            () = self.end.cancelled() => {}
            () = self.idle() => {}
        }
    }

    async fn idle(&self) {
        loop {
            if self.user.get().is_some() {
                return std::future::pending().await;
            }
            let left = self.activity.lock().left(Instant::now());
            if left.is_zero() {
                return;
            }
            // On the heap: whoever proves who they are waits for nothing here.
            Box::pin(tokio::time::sleep(left)).await;
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let Some(user) = self.user.get() else {
            self.callers.strangers.lock().leave(self.number);
            return;
        };
        let mut known = self.callers.known.lock();
        if let Some(kept) = known.get_mut(user) {
            *kept = kept.saturating_sub(1);
            if *kept == 0 {
                known.remove(user);
            }
        }
    }
}

/// A request that is being served, or a stream that took a connection over.
pub struct Busy(Arc<Visit>);

impl Busy {
    /// Waits until the connection has to go.
    pub(crate) async fn over(&self) {
        self.0.over().await;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut activity = self.0.activity.lock();
        activity.running = activity.running.saturating_sub(1);
        activity.since = Instant::now();
        if activity.running == 0 && self.0.user.get().is_none() {
            self.0.callers.strangers.lock().rest(self.0.number, activity.since);
        }
    }
}

/// What one party has for the asking: an address of IPv4, 64 bits of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[tokio::test]
    async fn a_flood_from_one_address_pushes_out_only_its_own_oldest_connections() {
        let callers = Callers::new(20_000);
        let other = callers.enter(address(1), None);
        let known = callers.enter(address(2), None);
        known.prove("jane");
        let flood: Vec<_> = (0..1_000).map(|_| callers.enter(address(2), None)).collect();
        flood.iter().for_each(|visit| visit.settle());
        let open = flood.iter().filter(|visit| !visit.end.is_cancelled()).count();
        assert_eq!(open, MOST_OF_A_NETWORK);
        assert!(flood.iter().rev().take(open).all(|visit| !visit.end.is_cancelled()), "the newest stay");
        assert!(!other.end.is_cancelled() && !known.end.is_cancelled());
        flood[0].over().await;
    }

    #[test]
    fn who_still_shakes_hands_is_cut_off_only_where_all_places_are_taken() {
        let callers = Callers::new(20_000);
        let other = callers.enter(address(1), None);
        let herd: Vec<_> = (0..MOST_OF_ALL + 500).map(|_| callers.enter(address(2), None)).collect();
        let cut = herd.iter().take_while(|visit| visit.end.is_cancelled()).count();
        assert_eq!(cut, 501, "one place is another network's");
        assert!(herd[cut..].iter().all(|visit| !visit.end.is_cancelled()) && !other.end.is_cancelled());
    }

    #[test]
    fn what_a_user_has_beyond_their_share_is_met_as_a_strangers() {
        let callers = Callers::new(40);
        let connect = |user: &str| {
            let visit = callers.enter(address(1), None);
            visit.prove(user);
            visit
        };
        let mut own: Vec<_> = (0..12).map(|_| connect("jane")).collect();
        let kept = |own: &[Arc<Visit>]| own.iter().filter(|visit| visit.user.get().is_some()).count();
        assert_eq!(kept(&own), 10);
        let other = connect("joe");
        assert!(other.user.get().is_some(), "others have a share of their own");
        own.drain(..5);
        own.iter().for_each(|visit| visit.prove("jane"));
        assert_eq!(kept(&own), own.len(), "those that stay are kept once there is room");
        drop((own, other));
        assert!(callers.known.lock().is_empty() && callers.strangers.lock().all.is_empty());
    }

    #[test]
    fn neighbours_in_one_ipv6_network_are_one_party() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), address(1));
    }

    #[test]
    fn only_a_connection_without_a_request_grows_idle() {
        let callers = Callers::new(20_000);
        let visit = callers.enter(address(1), None);
        let request = visit.begin();
        let later = Instant::now() + 3 * IDLE_TIMEOUT;
        assert_eq!(visit.activity.lock().left(later), IDLE_TIMEOUT);
        drop(request);
        assert_eq!(visit.activity.lock().left(later), Duration::ZERO);
        assert!(visit.activity.lock().left(Instant::now()) > IDLE_TIMEOUT / 2);
    }
}
