//! The authorizer: from what is asked, and the state of roles, bindings and pods, to a permit or a denial.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use cedar_policy::{PolicySet, Request, Response};
use martello_api::{
    attributes::{Attributes, Target},
    identity::User,
    order::Order,
};
use parking_lot::RwLock;

use crate::{
    builtin::Builtin,
    cache::Cache,
    change::Change,
    decision::{Decision, Denial, DenialCause, Permit, Reason, not_found},
    node::{Graph, NodeFacts},
    order::Place,
    rbac::{Candidate, Grant, Index, RoleKey, Rule},
    request::{Principal, RequestError, request},
};

/// Names and paths longer than this are decided anew each time: it bounds the bytes of the cache, and Kubernetes' own
/// names are not longer than 253.
const LONGEST_CACHED_NAME_BYTES: usize = 512;
/// Users with more groups than this are described to Cedar anew each time.
const MOST_CACHED_GROUPS: usize = 64;

/// Decides every request. A clone is the same authorizer.
#[derive(Clone)]
pub struct Authorizer {
    inner: Arc<Inner>,
}

struct Inner {
    cedar: cedar_policy::Authorizer,
    state: RwLock<State>,
    /// Counts changes of `state.index`; written under its lock.
    revision: AtomicU64,
    decided: Cache<Attributes, Outcome>,
    principals: Cache<User, Arc<Principal>>,
}

#[derive(Default)]
struct State {
    index: Index,
    graph: Graph,
    order: Order<Place>,
}

/// A decision without the request's own attributes.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Allow(Reason),
    Deny(DenialCause),
}

/// What one set of policies says.
pub(crate) enum Answer {
    Allows(String),
    Forbids(Vec<String>),
    Silent,
    Broken(String),
}

impl Default for Authorizer {
    fn default() -> Self {
        Self::new()
    }
}

impl Authorizer {
    /// An authorizer that knows no roles yet: it allows the masters, and nodes their own.
    #[must_use]
    pub fn new() -> Self {
        let inner = Inner {
            cedar: cedar_policy::Authorizer::new(),
            state: RwLock::default(),
            revision: AtomicU64::new(0),
            decided: Cache::new(),
            principals: Cache::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Takes over one change. Every request that is decided after it returns is decided by it.
    pub fn update(&self, change: Change) {
        let mut state = self.inner.state.write();
        if state.apply(change) {
            self.inner.revision.fetch_add(1, Ordering::Release);
        }
    }

    /// Takes over a change that was committed at this revision, unless what came after it is known already.
    pub fn tell(&self, change: Change, revision: u64) {
        let mut state = self.inner.state.write();
        let (place, ends) = Place::of(&change);
        if state.order.admits(place, ends, revision) && state.apply(change) {
            self.inner.revision.fetch_add(1, Ordering::Release);
        }
    }

    /// Forgets everything and takes over `changes`, as at start.
    pub fn replace_all(&self, changes: impl IntoIterator<Item = Change>) {
        let mut fresh = State::default();
        for change in changes {
            fresh.apply(change);
        }
        let mut state = self.inner.state.write();
        *state = fresh;
        self.inner.revision.fetch_add(1, Ordering::Release);
    }

    /// Decides a request.
    #[must_use]
    pub fn authorize(&self, attributes: &Attributes) -> Decision {
        match self.outcome(attributes) {
            Outcome::Allow(reason) => Decision::Allow(Permit::new(attributes.clone(), reason)),
            Outcome::Deny(cause) => Decision::Deny(Denial::new(attributes.clone(), cause)),
        }
    }

    /// All rules that RBAC grants `user` in `namespace`, those of the whole cluster first, as upstream lists them.
    #[must_use]
    pub fn granted_rules(&self, user: &User, namespace: &str) -> Vec<Rule> {
        let state = self.inner.state.read();
        // A binding counts once, by however many of its subjects the user is.
        let mut seen = HashSet::new();
        let grants = state.index.grants(user, namespace).filter(|grant| seen.insert(&grant.binding));
        let mut grants: Vec<_> = grants.collect();
        grants.sort_by(|one, other| one.binding.cmp(&other.binding));
        grants.into_iter().flat_map(|grant| grant.rules().iter().cloned()).collect()
    }

    /// The roles that are bound to `user` in `namespace` and do not exist, in upstream's words; empty if there are none.
    #[must_use]
    pub fn missing_roles(&self, user: &User, namespace: &str) -> String {
        let state = self.inner.state.read();
        let missing: BTreeSet<&RoleKey> = state
            .index
            .grants(user, namespace)
            .filter(|grant| grant.is_of_nothing())
            .map(|grant| &grant.role)
            .collect();
        not_found(missing)
    }

    fn outcome(&self, attributes: &Attributes) -> Outcome {
        // What a node may do depends on pods as well, which change all the time.
        let is_cached = attributes.user.node_name().is_none() && is_short(attributes);
        if is_cached
            && let Some(outcome) = self.inner.decided.get(attributes, self.inner.revision.load(Ordering::Acquire))
        {
            return outcome;
        }
        let principal = match self.principal(&attributes.user) {
            Ok(principal) => principal,
            Err(error) => return denied_by(&error),
        };
        let state = self.inner.state.read();
        let revision = self.inner.revision.load(Ordering::Acquire);
        let outcome = self.decide(&state, &principal, attributes).unwrap_or_else(|error| denied_by(&error));
        drop(state);
        if is_cached {
            self.inner.decided.put(attributes, revision, outcome.clone());
        }
        outcome
    }

    fn decide(&self, state: &State, principal: &Principal, attributes: &Attributes) -> Result<Outcome, RequestError> {
        let node = NodeFacts::of(&state.graph, attributes);
        let request = request(principal, attributes, node.as_ref())?;
        let broken = |what: String| Outcome::Deny(DenialCause::Broken { what: what.into() });
        let builtin = match Builtin::get() {
            Ok(builtin) => builtin,
            Err(error) => return Ok(broken(error.to_string())),
        };
        let mut allowed = None;
        for policies in builtin.of(&attributes.user, request.resource()) {
            match self.ask(&request, policies, principal) {
                Answer::Forbids(policies) => {
                    return Ok(Outcome::Deny(DenialCause::Forbidden { policies: policies.into() }));
                }
                Answer::Broken(what) => return Ok(broken(what)),
                Answer::Allows(id) => allowed = Some(Reason::Builtin(id.into())),
                Answer::Silent => {}
            }
        }
        if let Some(reason) = allowed {
            return Ok(Outcome::Allow(reason));
        }
        let (candidates, missing_roles) = state.index.candidates(attributes);
        for candidate in candidates {
            let policies = match candidate.policy() {
                Ok(policies) => policies,
                Err(error) => return Ok(broken(error.to_string())),
            };
            match self.ask(&request, policies, principal) {
                Answer::Allows(_) => {
                    let Candidate { grant, rule } = candidate;
                    return Ok(Outcome::Allow(Reason::Rbac { grant, rule }));
                }
                Answer::Broken(what) => return Ok(broken(what)),
                // Roles only permit.
                Answer::Silent | Answer::Forbids(_) => {}
            }
        }
        Ok(Outcome::Deny(unallowed(node.as_ref(), attributes, missing_roles)))
    }

    fn ask(&self, request: &Request, policies: &PolicySet, principal: &Principal) -> Answer {
        answer(&self.inner.cedar.is_authorized(request, policies, &principal.entities))
    }

    fn principal(&self, user: &User) -> Result<Arc<Principal>, RequestError> {
        if let Some(principal) = self.inner.principals.get(user, 0) {
            return Ok(principal);
        }
        let principal = Arc::new(Principal::of(user)?);
        if user.groups.len() <= MOST_CACHED_GROUPS && user.name.len() <= LONGEST_CACHED_NAME_BYTES {
            self.inner.principals.put(user, 0, Arc::clone(&principal));
        }
        Ok(principal)
    }

    /// For the explanation: every policy that could concern the request, and what it says of it.
    pub(crate) fn ask_all(&self, attributes: &Attributes) -> Vec<(String, String, Answer)> {
        let state = self.inner.state.read();
        let Ok(principal) = self.principal(&attributes.user) else { return Vec::new() };
        let node = NodeFacts::of(&state.graph, attributes);
        let Ok(request) = request(&principal, attributes, node.as_ref()) else { return Vec::new() };
        let mut asked = Vec::new();
        for policies in Builtin::get().into_iter().flat_map(|builtin| builtin.of(&attributes.user, request.resource()))
        {
            for policy in policies.policies() {
                let answer = match PolicySet::from_policies([policy.clone()]) {
                    Ok(alone) => self.ask(&request, &alone, &principal),
                    Err(error) => Answer::Broken(error.to_string()),
                };
                asked.push((policy.id().to_string(), policy.to_string(), answer));
            }
        }
        let namespace = attributes.resource().map(|target| target.namespace.as_str()).unwrap_or_default();
        let mut grants: Vec<&Arc<Grant>> = state.index.grants(&attributes.user, namespace).collect();
        grants.sort_by(|a, b| a.binding.cmp(&b.binding));
        for grant in grants {
            for rule in 0..grant.rules().len() {
                let candidate = Candidate { grant: Arc::clone(grant), rule };
                let (text, answer) = match candidate.policy() {
                    Ok(policies) => (policies.to_string(), self.ask(&request, policies, &principal)),
                    Err(error) => (String::new(), Answer::Broken(error.to_string())),
                };
                asked.push((candidate.policy_id(), text, answer));
            }
        }
        asked
    }
}

impl State {
    /// Whether the change concerns more than nodes.
    fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::SetRole(key, rules) => self.index.set_role(key, rules),
            Change::RemoveRole(key) => self.index.remove_role(&key),
            Change::SetBinding(key, binding) => self.index.set_binding(key, binding),
            Change::RemoveBinding(key) => self.index.remove_binding(&key),
            Change::SetPod(pod) => {
                self.graph.set(pod);
                return false;
            }
            Change::RemovePod { namespace, name } => {
                self.graph.remove(&namespace, &name);
                return false;
            }
        }
        true
    }
}

/// Cedar skips a policy that errs, a `forbid` too: here an error is an answer of its own, and the caller denies.
fn answer(response: &Response) -> Answer {
    let diagnostics = response.diagnostics();
    if let Some(error) = diagnostics.errors().next() {
        return Answer::Broken(error.to_string());
    }
    let mut reasons: Vec<String> = diagnostics.reason().map(ToString::to_string).collect();
    reasons.sort_unstable();
    match response.decision() {
        cedar_policy::Decision::Allow => Answer::Allows(reasons.into_iter().next().unwrap_or_default()),
        cedar_policy::Decision::Deny if reasons.is_empty() => Answer::Silent,
        cedar_policy::Decision::Deny => Answer::Forbids(reasons),
    }
}

fn unallowed(node: Option<&NodeFacts>, attributes: &Attributes, missing_roles: BTreeSet<RoleKey>) -> DenialCause {
    static NONE: LazyLock<Arc<BTreeSet<RoleKey>>> = LazyLock::new(Arc::default);
    let is_of_graph = attributes.resource().is_some_and(|target| {
        matches!(
            target.resource.as_str(),
            "pods" | "secrets" | "configmaps" | "serviceaccounts" | "persistentvolumeclaims" | "resourceclaims"
        )
    });
    if is_of_graph && attributes.is_read_only() && node.is_some_and(|node| !node.related) {
        return DenialCause::NotRelated;
    }
    let missing_roles = if missing_roles.is_empty() { Arc::clone(&NONE) } else { Arc::new(missing_roles) };
    DenialCause::NothingAllows { missing_roles }
}

fn denied_by(error: &RequestError) -> Outcome {
    Outcome::Deny(DenialCause::Broken { what: error.to_string().into() })
}

fn is_short(attributes: &Attributes) -> bool {
    let bytes = match &attributes.target {
        Target::Path(path) => path.len(),
        Target::Resource(target) => {
            target.name.len().max(target.namespace.len()).max(target.resource.len() + target.subresource.len())
        }
    };
    bytes <= LONGEST_CACHED_NAME_BYTES
        && attributes.user.name.len() <= LONGEST_CACHED_NAME_BYTES
        && attributes.user.groups.len() <= MOST_CACHED_GROUPS
        && attributes.verb.len() <= LONGEST_CACHED_NAME_BYTES
}

#[cfg(test)]
#[path = "authorizer_tests.rs"]
mod tests;
