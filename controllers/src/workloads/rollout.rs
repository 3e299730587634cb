//! The pure part of a Deployment's rollout: how many replicas each of its ReplicaSets should have next.

use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet},
    apimachinery::pkg::util::intstr::IntOrString,
};

/// Annotation with the number of the rollout that made or last used a ReplicaSet.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Annotation with the replicas that the Deployment asked for when the ReplicaSet was last scaled.
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// Annotation with the most replicas that the Deployment allowed when the ReplicaSet was last scaled.
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// The replicas asked for and present of one ReplicaSet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// `spec.replicas`.
    pub wanted: i32,
    /// `status.replicas`.
    pub present: i32,
    /// `status.availableReplicas`.
    pub available: i32,
}

/// The counts of `set`.
#[must_use]
pub fn counts(set: &ReplicaSet) -> Counts {
    let status = set.status.as_ref();
    Counts {
        wanted: set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
        present: status.map_or(0, |status| status.replicas),
        available: status.and_then(|status| status.available_replicas).unwrap_or(0),
    }
}

/// How far a rollout may go above and below the replicas asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Replicas asked for.
    pub replicas: i32,
    /// Above.
    pub max_surge: i32,
    /// Below.
    pub max_unavailable: i32,
}

impl Bounds {
    /// The bounds of `deployment`; percentages are resolved as upstream does (surge up, unavailable down, and never both zero).
    /// With strategy Recreate there are none: it is available once all of its replicas are.
    #[must_use]
    pub fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.as_ref();
        let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1);
        let strategy = spec.and_then(|spec| spec.strategy.as_ref());
        if is_recreate(deployment) {
            return Self { replicas, max_surge: 0, max_unavailable: 0 };
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".to_owned());
        let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref()).unwrap_or(&quarter);
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&quarter);
        let max_surge = resolve(surge, replicas, true);
        let mut max_unavailable = resolve(unavailable, replicas, false).min(replicas);
        if max_surge == 0 && max_unavailable == 0 {
            max_unavailable = 1;
        }
        Self { replicas, max_surge, max_unavailable }
    }

    /// The most replicas that may exist; none for a Deployment that is scaled to zero.
    #[must_use]
    pub fn most(self) -> i32 {
        if self.replicas == 0 { 0 } else { self.replicas.saturating_add(self.max_surge) }
    }

    fn least_available(self) -> i32 {
        self.replicas.saturating_sub(self.max_unavailable)
    }
}

/// Whether old pods must all be gone before new ones are made.
#[must_use]
pub fn is_recreate(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

/// An absolute number, or a share of `total`.
#[must_use]
pub fn resolve(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let product = i64::from(total) * percent;
            let share = if round_up { (product + 99).div_euclid(100) } else { product.div_euclid(100) };
            i32::try_from(share).unwrap_or(i32::MAX)
        }
    }
}

/// The replicas that the new ReplicaSet and each old one should have next, in a rolling update.
///
/// One step only: either the new set grows, or old ones shrink, as far as availability and surge allow.
#[must_use]
pub fn rolling(bounds: Bounds, new: Counts, old: &[Counts]) -> (i32, Vec<i32>) {
    let olds: Vec<i32> = old.iter().map(|set| set.wanted).collect();
    let total_wanted = new.wanted + olds.iter().sum::<i32>();
    if new.wanted > bounds.replicas {
        return (bounds.replicas, olds);
    }
    if new.wanted < bounds.replicas {
        let room = bounds.most() - total_wanted;
        if room > 0 {
            return (new.wanted + room.min(bounds.replicas - new.wanted), olds);
        }
    }
    (new.wanted, shrink_old(bounds, new, old))
}

fn shrink_old(bounds: Bounds, new: Counts, old: &[Counts]) -> Vec<i32> {
    let mut wanted: Vec<i32> = old.iter().map(|set| set.wanted).collect();
    let all_wanted = new.wanted + wanted.iter().sum::<i32>();
    let new_unavailable = (new.wanted - new.available).max(0);
    let mut may_go = all_wanted - bounds.least_available() - new_unavailable;
    if may_go <= 0 {
        return wanted;
    }
    // Pods that are not available cost no availability when they go: they go first.
    for (next, set) in wanted.iter_mut().zip(old) {
        let broken = (set.wanted - set.available).clamp(0, may_go.max(0));
        *next -= broken;
        may_go -= broken;
    }
    let available: i32 = new.available + old.iter().map(|set| set.available).sum::<i32>();
    let mut spare = available - bounds.least_available();
    for next in &mut wanted {
        let going = (*next).min(spare.max(0));
        *next -= going;
        spare -= going;
    }
    wanted
}

/// The replicas of every active ReplicaSet after the Deployment was resized in the middle of a rollout: each gets
/// its share of the difference, larger ones first. `sets` are (wanted, largest allowed when last scaled), newest first.
#[must_use]
pub fn proportional(bounds: Bounds, sets: &[(i32, i32)]) -> Vec<i32> {
    let total: i32 = sets.iter().map(|(wanted, _)| wanted).sum();
    let allowed = if bounds.replicas > 0 { bounds.most() } else { 0 };
    let mut to_add = allowed - total;
    let mut next: Vec<i32> = sets.iter().map(|(wanted, _)| *wanted).collect();
    let mut order: Vec<usize> = (0..sets.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(sets.get(*index).map_or(0, |set| set.0)));
    for index in order.iter().copied() {
        let (Some((wanted, before)), Some(slot)) = (sets.get(index), next.get_mut(index)) else { continue };
        if *wanted == 0 || to_add == 0 {
            continue;
        }
        let before = if *before > 0 { f64::from(*before) } else { f64::from(bounds.replicas.max(1)) };
        #[allow(clippy::cast_possible_truncation, reason = "both factors are below 2^31, so is the quotient's share")]
        let target = (f64::from(*wanted) * f64::from(allowed) / before).round() as i32;
        let share = target - wanted;
        let share = if to_add > 0 { share.clamp(0, to_add) } else { share.clamp(to_add, 0) };
        *slot = (wanted + share).max(0);
        to_add -= share;
    }
    if let Some(slot) = order.first().and_then(|first| next.get_mut(*first)) {
        *slot = (*slot + to_add).max(0);
    }
    next
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts_of(wanted: i32, available: i32) -> Counts {
        Counts { wanted, present: wanted, available }
    }

    #[test]
    fn percentages_round_as_upstream_does() {
        let quarter = IntOrString::String("25%".to_owned());
        assert_eq!(resolve(&quarter, 3, true), 1);
        assert_eq!(resolve(&quarter, 3, false), 0);
        assert_eq!(resolve(&quarter, 10, true), 3);
    }

    #[test]
    fn a_rollout_surges_then_shrinks() {
        let bounds = Bounds { replicas: 3, max_surge: 1, max_unavailable: 0 };
        let old = [counts_of(3, 3)];
        assert_eq!(rolling(bounds, counts_of(0, 0), &old), (1, vec![3]));
        assert_eq!(rolling(bounds, counts_of(1, 0), &old), (1, vec![3]));
        assert_eq!(rolling(bounds, counts_of(1, 1), &old), (1, vec![2]));
    }

    #[test]
    fn broken_old_pods_go_first() {
        let bounds = Bounds { replicas: 4, max_surge: 1, max_unavailable: 1 };
        let (_, old) = rolling(bounds, counts_of(1, 1), &[counts_of(4, 2)]);
        assert_eq!(old, vec![2]);
    }

    #[test]
    fn a_resize_in_the_middle_is_shared_out() {
        let bounds = Bounds { replicas: 20, max_surge: 5, max_unavailable: 5 };
        let next = proportional(bounds, &[(5, 13), (8, 13)]);
        assert_eq!(next.iter().sum::<i32>(), 25);
        assert!(next[1] > next[0]);
    }

    proptest! {
        #[test]
        fn a_rollout_keeps_its_bounds_and_ends(replicas in 1..20i32, surge in 0..5i32, unavailable in 0..5i32, start in 1..20i32) {
            let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable.min(replicas) };
            let bounds = Bounds { replicas, max_surge: surge, max_unavailable: unavailable };
            let (mut new, mut old) = (counts_of(0, 0), vec![counts_of(start, start)]);
            for _ in 0..200 {
                let before = new.available + old[0].available;
                let (next_new, next_old) = rolling(bounds, new, &old);
                prop_assert!(next_new <= replicas);
                if next_new > new.wanted {
                    prop_assert!(next_new + old[0].wanted <= bounds.most());
                }
                new = counts_of(next_new, next_new);
                old = vec![counts_of(next_old[0], next_old[0])];
                let after_kill = before.min(next_old[0] + new.available);
                if start >= replicas {
                    prop_assert!(after_kill >= replicas - unavailable);
                }
            }
            prop_assert_eq!((new.wanted, old[0].wanted), (replicas, 0));
        }
    }
}
