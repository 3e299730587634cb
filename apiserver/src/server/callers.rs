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
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

/// Connections of one network that have proved nothing by the end of their handshake: more than health checks and clients
/// whose token is on the way ever need.
const MOST_OF_A_NETWORK: usize = 200;
/// The same, of all networks: at some 60 KiB each, 120 MiB.
const MOST_OF_ALL: usize = 2_000;
/// Connections that one user may keep, streams that were taken over included: a quarter of all, so that it takes more than
/// one stolen identity to shut everybody else out, and far more than any client opens.
const MOST_OF_A_USER: usize = 5_000;
/// How long a connection that has proved nothing may take to shake hands, or be without a request, before it goes first where
/// all places are taken: longer than a handshake over a slow line takes.
const STALLED: Duration = Duration::from_secs(1);
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
        let strangers = Strangers { of_network: MOST_OF_A_NETWORK.min(most), of_all: most, ..Strangers::default() };
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

/// Who has proved nothing.
#[derive(Debug, Default)]
struct Strangers {
    of_network: usize,
    of_all: usize,
    next: u64,
    all: HashMap<u64, Stranger>,
    networks: BTreeMap<IpAddr, Network>,
    /// Those that shake hands or wait for nothing, by since when.
    calm: BTreeSet<(Instant, u64)>,
}

/// One of them.
#[derive(Debug)]
struct Stranger {
    network: IpAddr,
    end: CancellationToken,
    /// Since when it has done nothing for its place; none while a request runs.
    calm: Option<Instant>,
}

/// The strangers of one network, by the numbers that say in which order they came.
#[derive(Debug, Default)]
struct Network {
    shaking_hands: BTreeSet<u64>,
    settled: BTreeSet<u64>,
}

impl Network {
    fn len(&self) -> usize {
        self.shaking_hands.len() + self.settled.len()
    }

    fn oldest(&self) -> Option<u64> {
        self.shaking_hands.first().into_iter().chain(self.settled.first()).min().copied()
    }
}

impl Strangers {
    fn enter(&mut self, network: IpAddr, end: CancellationToken, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        self.all.insert(number, Stranger { network, end, calm: None });
        self.rest(number, now);
        self.networks.entry(network).or_default().shaking_hands.insert(number);
        if self.all.len() > self.of_all {
            self.dismiss(self.most_dispensable(now));
        }
        number
    }

    /// Who is to go where all places are taken.
    fn most_dispensable(&self, now: Instant) -> Option<u64> {
        let crowded = self.networks.values().max_by_key(|network| (network.len(), Reverse(network.oldest())))?;
        if crowded.len() > self.of_network {
            return crowded.oldest();
        }
        let stalled = self.calm.first().filter(|(since, _)| now.saturating_duration_since(*since) >= STALLED);
        stalled.map_or_else(|| crowded.oldest(), |(_, number)| Some(*number))
    }

    /// The handshake is done.
    fn settle(&mut self, number: u64, now: Instant) {
        let Some(stranger) = self.all.get(&number) else { return };
        let Some(network) = self.networks.get_mut(&stranger.network) else { return };
        if network.shaking_hands.remove(&number) {
            network.settled.insert(number);
        }
        let oldest = network.settled.first().copied().filter(|_| network.settled.len() > self.of_network);
        if stranger.calm.is_some() {
            self.rest(number, now);
        }
        self.dismiss(oldest);
    }

    /// A request runs.
    fn stir(&mut self, number: u64) {
        if let Some(since) = self.all.get_mut(&number).and_then(|stranger| stranger.calm.take()) {
            self.calm.remove(&(since, number));
        }
    }

    /// It does nothing for its place from now on.
    fn rest(&mut self, number: u64, now: Instant) {
        self.stir(number);
        if let Some(stranger) = self.all.get_mut(&number) {
            stranger.calm = Some(now);
            self.calm.insert((now, number));
        }
    }

    fn dismiss(&mut self, number: Option<u64>) {
        if let Some(Stranger { network, end, .. }) = number.and_then(|number| self.leave(number)) {
            tracing::debug!(%network, "too many connections without an identity; one is closed");
            end.cancel();
        }
    }

    fn leave(&mut self, number: u64) -> Option<Stranger> {
        self.stir(number);
        let stranger = self.all.remove(&number)?;
        if let Some(network) = self.networks.get_mut(&stranger.network) {
            network.shaking_hands.remove(&number);
            network.settled.remove(&number);
            if network.len() == 0 {
                self.networks.remove(&stranger.network);
            }
        }
        Some(stranger)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    /// Thousands of networks, none of which is a network of `address`.
    fn bot(number: u16) -> IpAddr {
        let [high, low] = number.to_be_bytes();
        IpAddr::from([198, 18, high, low])
    }

    fn places(of_network: usize, of_all: usize) -> Strangers {
        Strangers { of_network, of_all, ..Strangers::default() }
    }

    #[test]
    fn a_flood_from_thousands_of_networks_pushes_out_what_stalls_first() {
        let (mut strangers, start) = (places(200, 2_000), Instant::now());
        let at = |milliseconds: u64| start + Duration::from_millis(milliseconds);
        let mut enter = |network: IpAddr, milliseconds: u64| {
            let end = CancellationToken::new();
            let number = strangers.enter(network, end.clone(), at(milliseconds));
            (number, end)
        };
        let flood: Vec<_> = (0..2_000).map(|one| enter(bot(one), u64::from(one) / 10)).collect();
        let own: Vec<_> = (0..50).map(|_| enter(address(1), 1_200)).collect();
        let more: Vec<_> = (2_000..3_000).map(|one| enter(bot(one), 1_300)).collect();
        assert!(own.iter().all(|(_, end)| !end.is_cancelled()), "who shakes hands within a second is cut off");
        let cut = flood.iter().take_while(|(_, end)| end.is_cancelled()).count();
        assert_eq!(cut, 1_050, "the oldest of those that stall go");
        assert!(flood[cut..].iter().chain(&more).all(|(_, end)| !end.is_cancelled()));
    }

    #[test]
    fn who_has_a_request_running_stays_longer_than_who_is_idle() {
        let (mut strangers, start) = (places(4, 4), Instant::now());
        let later = start + 2 * STALLED;
        let mut all = Vec::new();
        for last in 0..4 {
            let end = CancellationToken::new();
            all.push((strangers.enter(address(last), end.clone(), start), end));
            strangers.settle(all[usize::from(last)].0, start);
        }
        strangers.stir(all[0].0);
        strangers.rest(all[1].0, later);
        strangers.enter(address(9), CancellationToken::new(), later);
        let cut: Vec<bool> = all.iter().map(|(_, end)| end.is_cancelled()).collect();
        assert_eq!(cut, [false, false, true, false]);
    }

    /// What a step of the test below does to a connection.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Enter,
        Leave,
        Settle,
        Stir,
        Rest,
    }

    fn step() -> impl Strategy<Value = Step> {
        let all = [Step::Enter, Step::Enter, Step::Enter, Step::Leave, Step::Settle, Step::Stir, Step::Rest];
        proptest::sample::select(all.to_vec())
    }

    proptest! {
        #[test]
        fn no_limit_is_ever_passed_and_nothing_is_forgotten(steps in proptest::collection::vec((0_u8..8, step(), 0_u64..700), 0..120)) {
            let (mut strangers, mut now) = (places(3, 8), Instant::now());
            let mut inside: Vec<(u64, CancellationToken)> = Vec::new();
            for (host, step, milliseconds) in steps {
                now += Duration::from_millis(milliseconds);
                inside.retain(|(_, end)| !end.is_cancelled());
                let of = (!inside.is_empty()).then(|| inside[usize::from(host) % inside.len().max(1)].0);
                match (step, of) {
                    (Step::Enter, _) | (_, None) => {
                        let before: Vec<(u64, IpAddr, Option<Instant>)> = strangers.all.iter()
                            .map(|(number, one)| (*number, one.network, one.calm)).collect();
                        let end = CancellationToken::new();
                        let number = strangers.enter(address(host), end.clone(), now);
                        inside.push((number, end));
                        let gone: Vec<_> = before.iter().filter(|one| !strangers.all.contains_key(&one.0)).collect();
                        prop_assert!(gone.len() <= 1 && (gone.is_empty() || before.len() == 8));
                        let stalled = |calm: Option<Instant>| calm.is_some_and(|since| now - since >= STALLED);
                        for (number, network, calm) in gone {
                            let len = |of: IpAddr| before.iter().filter(|one| one.1 == of).count() + usize::from(of == address(host));
                            let is_crowded = before.iter().any(|one| len(one.1) > 3) || len(address(host)) > 3;
                            let waits = before.iter().filter(|one| stalled(one.2)).min_by_key(|one| (one.2, one.0));
                            match waits {
                                Some(longest) if !is_crowded => prop_assert_eq!(longest.0, *number),
                                _ => prop_assert!(before.iter().all(|one| len(one.1) <= len(*network)), "{:?}", calm),
                            }
                        }
                    }
                    (Step::Leave, Some(number)) => {
                        strangers.leave(number);
                        inside.retain(|one| one.0 != number);
                    }
                    (Step::Settle, Some(number)) => strangers.settle(number, now),
                    (Step::Stir, Some(number)) => strangers.stir(number),
                    (Step::Rest, Some(number)) => strangers.rest(number, now),
                }
                prop_assert!(strangers.all.len() <= 8);
                prop_assert!(strangers.networks.values().all(|own| own.len() > 0 && own.settled.len() <= 3));
                prop_assert_eq!(strangers.networks.values().map(Network::len).sum::<usize>(), strangers.all.len());
                prop_assert_eq!(strangers.all.values().filter(|one| one.calm.is_some()).count(), strangers.calm.len());
            }
            for (number, _) in inside {
                strangers.leave(number);
            }
            prop_assert!(strangers.all.is_empty() && strangers.networks.is_empty() && strangers.calm.is_empty());
        }
    }
}
