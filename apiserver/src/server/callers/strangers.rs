//! Connections of those who have proved nothing: which of them goes when one comes too many.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

/// How long a connection that has proved nothing may take to shake hands, or be without a request, before it goes first where
/// all places are taken: longer than a handshake over a slow line takes.
const STALLED: Duration = Duration::from_secs(1);

/// Who has proved nothing.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    of_network: usize,
    of_all: usize,
    next: u64,
    pub(super) all: HashMap<u64, Stranger>,
    networks: BTreeMap<IpAddr, Network>,
    /// Those that shake hands or wait for nothing, by since when.
    calm: BTreeSet<(Instant, u64)>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Stranger {
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
    /// None yet: so many may stay of a network whose handshakes are done, and so many of all.
    pub(super) fn new(of_network: usize, of_all: usize) -> Self {
        Self { of_network, of_all, ..Self::default() }
    }

    pub(super) fn enter(&mut self, network: IpAddr, end: CancellationToken, now: Instant) -> u64 {
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
    pub(super) fn settle(&mut self, number: u64, now: Instant) {
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
    pub(super) fn stir(&mut self, number: u64) {
        if let Some(since) = self.all.get_mut(&number).and_then(|stranger| stranger.calm.take()) {
            self.calm.remove(&(since, number));
        }
    }

    /// It does nothing for its place from now on.
    pub(super) fn rest(&mut self, number: u64, now: Instant) {
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

    pub(super) fn leave(&mut self, number: u64) -> Option<Stranger> {
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

    /// Thousands of networks, none of which is a network of `address`.
    fn bot(number: u16) -> IpAddr {
        let [high, low] = number.to_be_bytes();
        IpAddr::from([198, 18, high, low])
    }

    #[test]
    fn a_flood_from_thousands_of_networks_pushes_out_what_stalls_first() {
        let (mut strangers, start) = (Strangers::new(200, 2_000), Instant::now());
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
        let (mut strangers, start) = (Strangers::new(4, 4), Instant::now());
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
            let (mut strangers, mut now) = (Strangers::new(3, 8), Instant::now());
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
