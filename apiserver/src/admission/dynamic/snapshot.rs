//! What is configured now, ready for requests.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::{Mutex, RwLock};
use serde_json::Value;

use super::{
    binding::Binding,
    policy::{Bound, Policy},
    webhook::Webhook,
};

/// Configured admission, replaced as a whole when anything of it changes.
#[derive(Default)]
pub struct Hooks {
    current: RwLock<Arc<Snapshot>>,
    parts: Mutex<Parts>,
}

/// What requests see.
#[derive(Default)]
pub struct Snapshot {
    pub(super) validating: Vec<Bound>,
    pub(super) mutating: Vec<Bound>,
    pub(super) validating_webhooks: Vec<Arc<Webhook>>,
    pub(super) mutating_webhooks: Vec<Arc<Webhook>>,
}

/// What the snapshot is made of, by name.
#[derive(Default)]
struct Parts {
    policies: [BTreeMap<String, Arc<Policy>>; 2],
    bindings: [BTreeMap<String, Arc<Binding>>; 2],
    webhooks: [BTreeMap<String, Vec<Arc<Webhook>>>; 2],
}

/// What is configured by objects of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Policies(Direction),
    Bindings(Direction),
    Webhooks(Direction),
}

/// Whether objects are changed or judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Mutating,
    Validating,
}

/// The resources that configure admission.
pub(super) const PARTS: [(&str, Part); 6] = [
    ("mutatingadmissionpolicies", Part::Policies(Direction::Mutating)),
    ("mutatingadmissionpolicybindings", Part::Bindings(Direction::Mutating)),
    ("mutatingwebhookconfigurations", Part::Webhooks(Direction::Mutating)),
    ("validatingadmissionpolicies", Part::Policies(Direction::Validating)),
    ("validatingadmissionpolicybindings", Part::Bindings(Direction::Validating)),
    ("validatingwebhookconfigurations", Part::Webhooks(Direction::Validating)),
];

impl Hooks {
    /// What is configured now.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read())
    }

    /// Whether anything may change what is written.
    #[must_use]
    pub fn may_mutate(&self) -> bool {
        self.current.read().mutates()
    }

    /// Whether anything may refuse what is written.
    #[must_use]
    pub fn may_validate(&self) -> bool {
        self.current.read().validates()
    }

    /// Takes over an object as it is now; none if it is gone.
    pub(super) fn set(&self, part: Part, name: &str, object: Option<&Value>) {
        let mut parts = self.parts.lock();
        parts.set(part, name, object);
        *self.current.write() = Arc::new(parts.snapshot());
    }

    /// Takes over all objects of a part.
    pub(super) fn replace(&self, part: Part, objects: &[Value]) {
        let mut parts = self.parts.lock();
        parts.clear(part);
        for object in objects {
            parts.set(part, crate::registry::object::name(object), Some(object));
        }
        *self.current.write() = Arc::new(parts.snapshot());
    }
}

impl Snapshot {
    pub(super) fn mutates(&self) -> bool {
        !self.mutating.is_empty() || !self.mutating_webhooks.is_empty()
    }

    pub(super) fn validates(&self) -> bool {
        !self.validating.is_empty() || !self.validating_webhooks.is_empty()
    }
}

/// The one of a pair that is meant.
fn of<T>(pair: &mut [T; 2], direction: Direction) -> &mut T {
    let [mutating, validating] = pair;
    match direction {
        Direction::Mutating => mutating,
        Direction::Validating => validating,
    }
}

impl Parts {
    fn set(&mut self, part: Part, name: &str, object: Option<&Value>) {
        let name = name.to_owned();
        match part {
            Part::Policies(direction) => {
                put(of(&mut self.policies, direction), name, object.map(|json| Arc::new(Policy::compile(json))))
            }
            Part::Bindings(direction) => {
                put(of(&mut self.bindings, direction), name, object.map(|json| Arc::new(Binding::parse(json))))
            }
            Part::Webhooks(direction) => put(of(&mut self.webhooks, direction), name, object.map(Webhook::compile_all)),
        }
    }

    fn clear(&mut self, part: Part) {
        match part {
            Part::Policies(direction) => of(&mut self.policies, direction).clear(),
            Part::Bindings(direction) => of(&mut self.bindings, direction).clear(),
            Part::Webhooks(direction) => of(&mut self.webhooks, direction).clear(),
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        Snapshot {
            validating: self.bound(Direction::Validating),
            mutating: self.bound(Direction::Mutating),
            validating_webhooks: of(&mut self.webhooks, Direction::Validating).values().flatten().cloned().collect(),
            mutating_webhooks: of(&mut self.webhooks, Direction::Mutating).values().flatten().cloned().collect(),
        }
    }

    /// Policies that something binds.
    fn bound(&mut self, direction: Direction) -> Vec<Bound> {
        let mut bound: Vec<Bound> = of(&mut self.policies, direction)
            .values()
            .map(|policy| Bound { policy: Arc::clone(policy), bindings: Vec::new() })
            .collect();
        for binding in of(&mut self.bindings, direction).values() {
            if let Some(own) = bound.iter_mut().find(|own| own.policy.name == binding.policy) {
                own.bindings.push(Arc::clone(binding));
            }
        }
        bound.retain(|own| !own.bindings.is_empty());
        bound
    }
}

fn put<T>(map: &mut BTreeMap<String, T>, name: String, value: Option<T>) {
    match value {
        Some(value) => {
            map.insert(name, value);
        }
        None => {
            map.remove(&name);
        }
    }
}
