//! Seats: how many requests of each level run at once, which wait in which queue, and whose turn it is.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::registry::object;

/// Why a request gets no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Turned {
    /// The level lets nobody wait.
    #[error("all seats of the priority level are taken")]
    Full,
    /// The queue is full.
    #[error("the queue of the flow is full")]
    QueueFull,
    /// It waited too long.
    #[error("no seat became free in time")]
    Late,
}

impl Turned {
    /// The reason as upstream counts it.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Full => "concurrency-limit",
            Self::QueueFull => "queue-full",
            Self::Late => "time-out",
        }
    }
}

/// All levels and their seats. Cheap to clone.
#[derive(Clone, Default)]
pub struct Hall(Arc<Mutex<HashMap<String, Level>>>);

#[derive(Default)]
struct Level {
    /// Seats of its own.
    own: u32,
    /// Of those, how many others may use while they are free.
    lendable: u32,
    /// How many it may borrow; none for no limit.
    may_borrow: Option<u32>,
    taken: u32,
    /// Queues, if requests may wait.
    queues: Vec<VecDeque<oneshot::Sender<Seat>>>,
    hand: usize,
    longest: usize,
    /// Whose turn it is next.
    turn: usize,
    waiting: usize,
}

/// A seat; it is free again when this is dropped.
pub struct Seat {
    /// None for a seat that nobody took.
    hall: Option<Hall>,
    level: String,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(hall) = self.hall.take() else { return };
        let mut levels = hall.0.lock();
        if let Some(level) = levels.get_mut(&self.level) {
            level.taken = level.taken.saturating_sub(1);
        }
        hall.call_next(&mut levels);
    }
}

impl Hall {
    /// Divides `total` seats between levels. Who sits stays, who waits is called when there is room.
    pub fn arrange<'l>(&self, total: u32, levels: impl Iterator<Item = &'l Value>) {
        let limited: Vec<(&str, &Value)> = levels
            .filter_map(|level| Some((object::name(level), object::at(level, &["spec", "limited"])?)))
            .filter(|(_, limited)| !limited.is_null())
            .collect();
        let shares = |limited: &Value| number(limited, &["nominalConcurrencyShares"]);
        let sum: u64 = limited.iter().map(|(_, limited)| u64::from(shares(limited))).sum();
        let mut hall = self.0.lock();
        hall.retain(|name, level| level.taken > 0 || limited.iter().any(|(known, _)| known == name));
        for (name, limited) in limited {
            let level = hall.entry(name.to_owned()).or_default();
            let part = (u64::from(total) * u64::from(shares(limited))).div_ceil(sum.max(1));
            level.own = u32::try_from(part).unwrap_or(total);
            level.lendable = percent(level.own, number(limited, &["lendablePercent"]));
            level.may_borrow = object::int(limited, &["borrowingLimitPercent"])
                .map(|_| percent(level.own, number(limited, &["borrowingLimitPercent"])));
            let queuing = object::at(limited, &["limitResponse", "queuing"]).unwrap_or(&Value::Null);
            let queues = number(queuing, &["queues"]) as usize;
            if queues != level.queues.len() && level.waiting == 0 {
                level.queues = std::iter::repeat_with(VecDeque::new).take(queues.min(MAX_QUEUES)).collect();
                level.turn = 0;
            }
            level.hand = number(queuing, &["handSize"]) as usize;
            level.longest = number(queuing, &["queueLengthLimit"]) as usize;
        }
        self.call_next(&mut hall);
    }

    /// How many seats of its own each level has.
    #[must_use]
    pub fn own_seats(&self) -> Vec<(String, u32)> {
        self.0.lock().iter().map(|(name, level)| (name.clone(), level.own)).collect()
    }

    /// A seat of the level for a request of this flow.
    pub async fn seat(&self, name: &str, flow: u64, patience: Duration) -> Result<Seat, Turned> {
        let call = {
            let mut hall = self.0.lock();
            let waiting = hall.get(name).is_some_and(|level| level.waiting > 0);
            if !waiting && has_room(&hall, name) {
                if let Some(level) = hall.get_mut(name) {
                    level.taken += 1;
                }
                return Ok(self.taken(name));
            }
            let level = hall.get_mut(name).ok_or(Turned::Full)?;
            level.queue(flow)?
        };
        match tokio::time::timeout(patience, call).await {
            Ok(Ok(seat)) => Ok(seat),
            // Who is not called in time leaves; the place in the queue is skipped when its turn comes.
            _ => Err(Turned::Late),
        }
    }

    fn taken(&self, name: &str) -> Seat {
        Seat { hall: Some(self.clone()), level: name.to_owned() }
    }

    /// Calls those whose turn it is, as long as there is room. Who is called and has left gives the seat back at once.
    fn call_next(&self, hall: &mut HashMap<String, Level>) {
        let waiting: Vec<String> =
            hall.iter().filter(|(_, level)| level.waiting > 0).map(|(name, _)| name.clone()).collect();
        for name in waiting {
            while has_room(hall, &name) {
                let Some(level) = hall.get_mut(&name) else { break };
                let Some(call) = level.next() else { break };
                match call.send(self.taken(&name)) {
                    Ok(()) => level.taken += 1,
                    Err(mut seat) => seat.hall = None,
                }
            }
        }
    }
}

/// Most queues that are kept, whatever a level asks for: each takes memory.
const MAX_QUEUES: usize = 4096;

fn number(value: &Value, path: &[&str]) -> u32 {
    object::int(value, path).and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
}

fn percent(of: u32, percent: u32) -> u32 {
    u32::try_from((u64::from(of) * u64::from(percent) + 50) / 100).unwrap_or(of)
}

/// Whether a level has a free seat, of its own or of another that lends one.
fn has_room(hall: &HashMap<String, Level>, name: &str) -> bool {
    let Some(level) = hall.get(name) else { return true };
    // What others have borrowed is theirs until they get up; a level that needs its own seats gets them first.
    if level.taken < level.own {
        return true;
    }
    let borrowed = level.taken - level.own;
    if level.may_borrow.is_some_and(|limit| borrowed >= limit) {
        return false;
    }
    let lent: u32 = hall.values().map(|other| other.taken.saturating_sub(other.own)).sum();
    let free: u32 = hall
        .iter()
        .filter(|(other, _)| *other != name)
        .map(|(_, other)| other.lendable.min(other.own.saturating_sub(other.taken)))
        .sum();
    lent < free
}

impl Level {
    /// A place in the shortest queue of the flow's hand.
    fn queue(&mut self, flow: u64) -> Result<oneshot::Receiver<Seat>, Turned> {
        let count = self.queues.len();
        let hand = deal(flow, count, self.hand);
        let shortest = hand.into_iter().min_by_key(|at| self.queues.get(*at).map_or(usize::MAX, VecDeque::len));
        let queue = shortest.and_then(|at| self.queues.get_mut(at)).ok_or(Turned::Full)?;
        // Those who left make room.
        let before = queue.len();
        queue.retain(|call| !call.is_closed());
        self.waiting -= before - queue.len();
        if queue.len() >= self.longest {
            return Err(Turned::QueueFull);
        }
        let (call, called) = oneshot::channel();
        queue.push_back(call);
        self.waiting += 1;
        Ok(called)
    }

    /// Who is called next: the first of the next queue that has somebody, so that no flow comes twice before another once.
    fn next(&mut self) -> Option<oneshot::Sender<Seat>> {
        let count = self.queues.len();
        for step in 0..count {
            let at = (self.turn + step) % count;
            if let Some(call) = self.queues.get_mut(at).and_then(VecDeque::pop_front) {
                self.turn = (at + 1) % count;
                self.waiting -= 1;
                return Some(call);
            }
        }
        None
    }
}

/// A hand of different queues, dealt by the flow's hash: two flows rarely share all of theirs.
fn deal(flow: u64, queues: usize, hand: usize) -> Vec<usize> {
    let mut hash = flow;
    let mut dealt: Vec<usize> = Vec::with_capacity(hand);
    for left in (0..queues).rev().map(|left| left + 1).take(hand.min(queues)) {
        let size = left as u64;
        let mut card = usize::try_from(hash % size).unwrap_or(0);
        hash /= size;
        // Cards that are gone are skipped, so that every card is as likely as every other.
        let mut gone = dealt.clone();
        gone.sort_unstable();
        for taken in gone {
            if card >= taken {
                card += 1;
            }
        }
        dealt.push(card);
    }
    dealt
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn level(name: &str, shares: u32, lendable: u32, response: Value) -> Value {
        json!({"metadata": {"name": name}, "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response}}})
    }

    fn queued(queues: u32, length: u32) -> Value {
        json!({"type": "Queue", "queuing": {"queues": queues, "handSize": 1, "queueLengthLimit": length}})
    }

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_level_without_queues_turns_away_when_its_seats_are_taken() {
        let hall = Hall::default();
        hall.arrange(2, [level("a", 1, 0, json!({"type": "Reject"}))].iter());
        let (first, second) = (hall.seat("a", 1, SOON).await.unwrap(), hall.seat("a", 1, SOON).await.unwrap());
        assert_eq!(hall.seat("a", 1, SOON).await.err(), Some(Turned::Full));
        drop(first);
        assert!(hall.seat("a", 1, SOON).await.is_ok());
        drop(second);
    }

    #[tokio::test]
    async fn one_noisy_flow_does_not_starve_another() {
        let hall = Hall::default();
        hall.arrange(1, [level("a", 1, 0, queued(64, 3))].iter());
        let seat = hall.seat("a", 0, SOON).await.unwrap();
        let wait = |flow: u64| {
            let hall = hall.clone();
            tokio::spawn(async move { hall.seat("a", flow, Duration::from_secs(5)).await })
        };
        let noisy: Vec<_> = (0..3).map(|_| wait(1)).collect();
        tokio::task::yield_now().await;
        assert_eq!(hall.seat("a", 1, SOON).await.err(), Some(Turned::QueueFull));
        let quiet = wait(2);
        tokio::task::yield_now().await;
        drop(seat);
        // The noisy flow's first, then the quiet flow, although two more of the noisy one came before.
        let mut noisy = noisy.into_iter();
        drop(noisy.next().unwrap().await.unwrap().unwrap());
        let seat = quiet.await.unwrap().unwrap();
        assert!(noisy.all(|waiting| !waiting.is_finished()));
        drop(seat);
    }

    #[tokio::test]
    async fn seats_that_are_not_needed_are_lent() {
        let hall = Hall::default();
        let levels = [level("a", 1, 0, json!({"type": "Reject"})), level("b", 1, 50, json!({"type": "Reject"}))];
        hall.arrange(8, levels.iter());
        let mut seats = Vec::new();
        while let Ok(seat) = hall.seat("a", 0, SOON).await {
            seats.push(seat);
        }
        assert_eq!(seats.len(), 6);
        assert!(hall.seat("b", 0, SOON).await.is_ok());
    }

    #[tokio::test]
    async fn who_waits_too_long_is_turned_away_and_leaves_no_trace() {
        let hall = Hall::default();
        hall.arrange(1, [level("a", 1, 0, queued(1, 5))].iter());
        let seat = hall.seat("a", 0, SOON).await.unwrap();
        assert_eq!(hall.seat("a", 0, SOON).await.err(), Some(Turned::Late));
        drop(seat);
        assert!(hall.seat("a", 0, SOON).await.is_ok());
    }

    proptest! {
        #[test]
        fn a_hand_has_no_card_twice(flow: u64, queues in 1usize..200, hand in 0usize..10) {
            let mut dealt = deal(flow, queues, hand);
            prop_assert_eq!(dealt.len(), hand.min(queues));
            prop_assert!(dealt.iter().all(|card| *card < queues));
            dealt.sort_unstable();
            dealt.dedup();
            prop_assert_eq!(dealt.len(), hand.min(queues));
        }
    }
}
