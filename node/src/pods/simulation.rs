//! The plan against a world that answers at random: what must hold whatever happens.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::{
    backoff::later,
    fact::Fact,
    model::{Doom, Exit, Goal, Life, Observed, Sandbox},
    phase::{Phase, phase},
    plan::{Action, plan},
};

/// A world in which the time passes and actions take effect.
struct World {
    goal: Goal,
    observed: Observed,
    now: Timestamp,
    /// Actions that have begun and not ended.
    pending: Vec<Action>,
    /// Ids of what runs, by container.
    running: BTreeMap<String, String>,
    started: BTreeMap<String, u32>,
    finished_first: Vec<String>,
    made: u32,
    deleted_at: Option<Timestamp>,
}

fn goal(policy: &str) -> Goal {
    let pod = serde_json::from_value(json!({"spec": {
        "restartPolicy": policy,
        "terminationGracePeriodSeconds": 5,
        "initContainers": [
            {"name": "first"},
            {"name": "side", "restartPolicy": "Always"},
            {"name": "second"},
        ],
        "containers": [
            {"name": "a", "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}},
            {"name": "b"},
        ],
    }}))
    .unwrap();
    Goal::of(&pod)
}

impl World {
    fn new(policy: &str) -> Self {
        Self {
            goal: goal(policy),
            observed: Observed { start_time: Some(Timestamp::UNIX_EPOCH), ..Observed::default() },
            now: Timestamp::UNIX_EPOCH,
            pending: Vec::new(),
            running: BTreeMap::new(),
            started: BTreeMap::new(),
            finished_first: Vec::new(),
            made: 0,
            deleted_at: None,
        }
    }

    fn delete(&mut self) {
        if self.goal.deletion.is_none() {
            self.goal.deletion = Some(self.goal.grace);
            self.deleted_at = Some(self.now);
        }
    }

    /// Plans until there is nothing to do at this moment.
    fn settle(&mut self) {
        for _ in 0..50 {
            self.observed.note(&self.goal, self.now);
            let plan = plan(&self.goal, &self.observed, self.now);
            if plan.actions.is_empty() {
                return;
            }
            for action in plan.actions {
                self.check(&action);
                self.observed.begin(&action, self.now);
                self.pending.push(action);
            }
        }
        panic!("the plan never comes to rest: {:?}", self.observed);
    }

    fn check(&self, action: &Action) {
        let record = |name: &str| self.observed.record(name);
        if let Action::Start { name } = action {
            assert!(matches!(self.observed.sandbox, Sandbox::Ready { .. }), "started without a sandbox");
            assert!(self.goal.deletion.is_none() && !self.observed.settled, "started {name} in a pod that ends");
            assert!(!self.running.contains_key(name), "started {name} twice");
            let wanted = self.goal.find(name).unwrap();
            if let Some(exit) = record(name).life.exit() {
                assert!(wanted.restarts_after(exit.code), "started {name} against its policy");
                assert!(record(name).backoff.due(exit.finished_at).is_none_or(|due| due <= self.now), "too early");
            }
            if matches!(name.as_str(), "a" | "b" | "second") {
                assert!(self.finished_first.contains(&"first".to_owned()), "{name} before first");
            }
            if matches!(name.as_str(), "a" | "b") {
                assert!(self.finished_first.contains(&"second".to_owned()), "{name} before second");
            }
        }
        if let Action::Ask { name, .. } = action
            && name == "side"
            && self.goal.deletion.is_some()
            && self.observed.stop_by.unwrap() > self.now
        {
            assert!(!self.running.contains_key("a") && !self.running.contains_key("b"), "sidecar before main");
        }
        if let Action::StopSandbox | Action::Remove | Action::EmptyVolumes = action {
            assert!(self.running.is_empty(), "took down a pod in which something runs");
        }
    }

    fn fact(&mut self, fact: Fact) {
        self.observed.apply(fact, &self.goal, self.now);
        self.settle();
    }

    fn exit(&mut self, name: &str, code: i32) {
        let Some(id) = self.running.remove(name) else { return };
        if code == 0 && self.goal.init.iter().any(|wanted| wanted.name == name) {
            self.finished_first.push(name.to_owned());
        }
        let exit =
            Exit { id, code, reason: "Error".into(), message: String::new(), started_at: None, finished_at: self.now };
        self.fact(Fact::Ended { name: name.to_owned(), exit });
    }

    /// Lets one pending action take effect.
    fn perform(&mut self, index: usize, works: bool) {
        if self.pending.is_empty() {
            return;
        }
        let action = self.pending.remove(index % self.pending.len());
        match action {
            Action::StartSandbox if works => self.fact(Fact::SandboxReady { ips: vec!["10.0.0.1".into()] }),
            Action::StartSandbox => self.fact(Fact::SandboxFailed),
            Action::PrepareVolumes if works => self.fact(Fact::VolumesReady),
            Action::PrepareVolumes => self.fact(Fact::VolumesFailed),
            Action::StopSandbox => self.fact(Fact::SandboxStopped),
            Action::Remove if works => self.fact(Fact::Removed),
            Action::Remove => self.fact(Fact::RemovalFailed),
            Action::Start { name } if works => {
                self.made += 1;
                let id = format!("{name}-{}", self.made);
                self.running.insert(name.clone(), id.clone());
                *self.started.entry(name.clone()).or_default() += 1;
                self.fact(Fact::Started {
                    name,
                    id,
                    image_id: String::new(),
                    started_at: self.now,
                    waits_for_startup: false,
                    waits_for_readiness: false,
                });
            }
            Action::Start { name } => {
                let message = "no such image".to_owned();
                self.fact(Fact::Refused { name, reason: "ErrImagePull".into(), message });
            }
            Action::PreStop { name, id, .. } => self.fact(Fact::HookDone { name, id }),
            Action::Ask { name, .. } if works => self.exit(&name, 0),
            Action::Kill { name, .. } => self.exit(&name, 137),
            Action::Ask { .. } | Action::EmptyVolumes | Action::Initialized | Action::End(_) | Action::Settle => {}
        }
    }

    fn pass(&mut self, duration: Duration) {
        self.now = later(self.now, duration);
        self.settle();
    }
}

#[derive(Clone, Debug)]
enum Event {
    Perform(usize, bool),
    Exit(u8, i32),
    Pass(u64),
    Doom(u8),
    Delete,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (any::<usize>(), prop::bool::weighted(0.85)).prop_map(|(index, works)| Event::Perform(index, works)),
        3 => (0u8..5, prop_oneof![Just(0), Just(0), Just(1)]).prop_map(|(which, code)| Event::Exit(which, code)),
        2 => (0u64..400).prop_map(Event::Pass),
        1 => (0u8..5).prop_map(Event::Doom),
        1 => Just(Event::Delete),
    ];
    prop::collection::vec(event, 0..120)
}

const NAMES: [&str; 5] = ["first", "side", "second", "a", "b"];

fn run(policy: &str, events: Vec<Event>) -> World {
    let mut world = World::new(policy);
    world.settle();
    for event in events {
        match event {
            Event::Perform(index, works) => world.perform(index, works),
            Event::Exit(which, code) => world.exit(NAMES[usize::from(which)], code),
            Event::Pass(seconds) => world.pass(Duration::from_secs(seconds)),
            Event::Delete => {
                world.delete();
                world.settle();
            }
            Event::Doom(which) => {
                let name = NAMES[usize::from(which)].to_owned();
                if let Some(id) = world.running.get(&name).cloned() {
                    let doom = Doom { grace: None, message: "unhealthy".into() };
                    world.fact(Fact::Doomed { name, id, doom });
                }
            }
        }
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn order_and_policy_hold_whatever_happens(policy in prop_oneof!["Always", "OnFailure", "Never"], events in events()) {
        let world = run(&policy, events);
        if policy == "Never" {
            prop_assert!(world.started.get("a").copied().unwrap_or(0) <= 1);
        }
    }

    #[test]
    fn a_deleted_pod_is_removed_within_its_grace_even_if_nothing_obeys(
        policy in prop_oneof!["Always", "Never"], events in events()
    ) {
        let mut world = run(&policy, events);
        world.delete();
        world.settle();
        // Whoever is asked doesn't obey; only kills work.
        for _ in 0..30 {
            world.pending.retain(|action| !matches!(action, Action::Ask { .. }));
            while !world.pending.is_empty() {
                world.perform(0, true);
                world.pending.retain(|action| !matches!(action, Action::Ask { .. }));
            }
            world.pass(Duration::from_secs(1));
        }
        prop_assert_eq!(&world.observed.removal, &super::model::Stage::Done);
        prop_assert!(world.running.is_empty());
    }

    #[test]
    fn when_all_goes_well_everything_runs(seed in 0usize..1000) {
        let mut world = World::new("Always");
        world.settle();
        for step in 0..20 {
            world.perform(seed + step, true);
            world.exit("first", 0);
            world.exit("second", 0);
        }
        prop_assert_eq!(phase(&world.goal, &world.observed), Phase::Running);
        prop_assert_eq!(world.running.keys().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "side"]);
    }
}

#[test]
fn a_job_that_ends_well_succeeds_and_its_sidecar_is_stopped() {
    let mut world = World::new("Never");
    world.settle();
    for step in 0..20 {
        world.perform(step, true);
        world.exit("first", 0);
        world.exit("second", 0);
    }
    world.exit("a", 0);
    world.exit("b", 0);
    while !world.pending.is_empty() {
        world.perform(0, true);
    }
    assert_eq!(phase(&world.goal, &world.observed), Phase::Succeeded);
    assert!(world.running.is_empty());
}

#[test]
fn an_init_container_that_fails_for_good_fails_the_pod() {
    let mut world = World::new("Never");
    world.settle();
    for _ in 0..4 {
        world.perform(0, true);
    }
    world.exit("first", 3);
    assert_eq!(phase(&world.goal, &world.observed), Phase::Failed);
    assert!(matches!(world.observed.record("a").life, Life::Waiting(None)));
}
