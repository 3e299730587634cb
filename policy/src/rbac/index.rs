//! The index of what is granted to whom: from a request to the few rules that can concern it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Arc, OnceLock},
};

use cedar_policy::PolicySet;
use martello_api::{
    attributes::{Attributes, Target},
    identity::{SERVICE_ACCOUNT_USER_PREFIX, User},
};

use super::{PolicyBroken, Rule, compile::compile};

/// A ClusterRole, or a Role in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RoleKey {
    /// A ClusterRole, by name.
    Cluster(String),
    /// A Role, by namespace and name.
    Namespaced(String, String),
}

/// A ClusterRoleBinding (no namespace) or a RoleBinding. Those of the cluster sort first, as upstream asks them first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BindingKey {
    /// The RoleBinding's namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// Whom a binding grants its role to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A user, by name.
    User(String),
    /// A group, by name.
    Group(String),
    /// A service account, by namespace and name.
    ServiceAccount(String, String),
}

/// A binding: a role, and to whom it is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The role.
    pub role: RoleKey,
    /// Subjects in the binding's order.
    pub subjects: Vec<Subject>,
}

/// A role granted to one subject by one binding.
#[derive(Debug)]
pub struct Grant {
    /// By which binding.
    pub binding: BindingKey,
    /// Which role.
    pub role: RoleKey,
    /// To whom.
    pub subject: Subject,
    /// Place of the subject in the binding.
    position: usize,
    /// The role's rules; `None` if there is no such role.
    rules: Option<Arc<[Rule]>>,
    /// The rules as Cedar policies, each compiled when it is first needed.
    policies: Vec<OnceLock<Result<PolicySet, PolicyBroken>>>,
}

/// A rule that can concern a request.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) grant: Arc<Grant>,
    pub(crate) rule: usize,
}

/// Everything granted, by subject.
#[derive(Default)]
pub(crate) struct Index {
    roles: HashMap<RoleKey, Arc<[Rule]>>,
    bindings: HashMap<BindingKey, Binding>,
    bindings_of_role: HashMap<RoleKey, BTreeSet<BindingKey>>,
    users: HashMap<String, Granted>,
    groups: HashMap<String, Granted>,
}

/// What one subject is granted, by scope and then in the order of binding and subject.
#[derive(Default)]
struct Granted {
    cluster: Grants,
    namespaces: HashMap<String, Grants>,
}

type Grants = BTreeMap<(BindingKey, usize), Arc<Grant>>;

impl Index {
    pub(crate) fn set_role(&mut self, key: RoleKey, rules: Vec<Rule>) {
        self.roles.insert(key.clone(), rules.into());
        self.reconnect(&key);
    }

    pub(crate) fn remove_role(&mut self, key: &RoleKey) {
        self.roles.remove(key);
        self.reconnect(key);
    }

    pub(crate) fn set_binding(&mut self, key: BindingKey, binding: Binding) {
        self.remove_binding(&key);
        self.bindings_of_role.entry(binding.role.clone()).or_default().insert(key.clone());
        self.connect(&key, &binding);
        self.bindings.insert(key, binding);
    }

    pub(crate) fn remove_binding(&mut self, key: &BindingKey) {
        let Some(binding) = self.bindings.remove(key) else { return };
        self.disconnect(key, &binding);
        if let Some(keys) = self.bindings_of_role.get_mut(&binding.role) {
            keys.remove(key);
            if keys.is_empty() {
                self.bindings_of_role.remove(&binding.role);
            }
        }
    }

    /// What `user` is granted in `namespace` (the empty one: nowhere but in the whole cluster).
    pub(crate) fn grants<'a>(&'a self, user: &'a User, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Grant>> {
        let granted = std::iter::once(self.users.get(&user.name))
            .chain(user.groups.iter().map(|group| self.groups.get(group)))
            .flatten();
        granted.flat_map(move |granted| {
            let local = if namespace.is_empty() { None } else { granted.namespaces.get(namespace) };
            granted.cluster.values().chain(local.into_iter().flat_map(BTreeMap::values))
        })
    }

    /// The rules that can concern a request, those of the cluster's bindings first, and the roles that are bound and missing.
    pub(crate) fn candidates(&self, attributes: &Attributes) -> (Vec<Candidate>, BTreeSet<RoleKey>) {
        let namespace = match &attributes.target {
            Target::Resource(target) => target.namespace.as_str(),
            Target::Path(_) => "",
        };
        let mut candidates = Vec::new();
        let mut missing = BTreeSet::new();
        for grant in self.grants(&attributes.user, namespace) {
            let Some(rules) = &grant.rules else {
                missing.insert(grant.role.clone());
                continue;
            };
            let concerned = rules.iter().enumerate().filter(|(_, rule)| rule.concerns(&attributes.target));
            candidates.extend(concerned.map(|(rule, _)| Candidate { grant: Arc::clone(grant), rule }));
        }
        candidates.sort_by(|a, b| a.order().cmp(&b.order()));
        (candidates, missing)
    }

    fn reconnect(&mut self, role: &RoleKey) {
        let keys: Vec<BindingKey> = self.bindings_of_role.get(role).into_iter().flatten().cloned().collect();
        for key in keys {
            if let Some(binding) = self.bindings.get(&key).cloned() {
                self.connect(&key, &binding);
            }
        }
    }

    fn connect(&mut self, key: &BindingKey, binding: &Binding) {
        let rules = self.roles.get(&binding.role).cloned();
        for (position, subject) in binding.subjects.iter().enumerate() {
            let grant = Arc::new(Grant {
                binding: key.clone(),
                role: binding.role.clone(),
                subject: subject.clone(),
                position,
                rules: rules.clone(),
                policies: rules.iter().flat_map(|rules| rules.iter()).map(|_| OnceLock::new()).collect(),
            });
            let granted = match subject {
                Subject::Group(name) => self.groups.entry(name.clone()).or_default(),
                user => self.users.entry(user.user_name()).or_default(),
            };
            granted.grants_mut(key).insert((key.clone(), position), grant);
        }
    }

    fn disconnect(&mut self, key: &BindingKey, binding: &Binding) {
        for (position, subject) in binding.subjects.iter().enumerate() {
            let (map, name) = match subject {
                Subject::Group(name) => (&mut self.groups, name.clone()),
                user => (&mut self.users, user.user_name()),
            };
            let Some(granted) = map.get_mut(&name) else { continue };
            granted.grants_mut(key).remove(&(key.clone(), position));
            if let Some(namespace) = &key.namespace
                && granted.namespaces.get(namespace).is_some_and(BTreeMap::is_empty)
            {
                granted.namespaces.remove(namespace);
            }
            if granted.cluster.is_empty() && granted.namespaces.is_empty() {
                map.remove(&name);
            }
        }
    }
}

impl Granted {
    fn grants_mut(&mut self, key: &BindingKey) -> &mut Grants {
        match &key.namespace {
            None => &mut self.cluster,
            Some(namespace) => self.namespaces.entry(namespace.clone()).or_default(),
        }
    }
}

impl Candidate {
    fn order(&self) -> (&BindingKey, usize, usize) {
        (&self.grant.binding, self.grant.position, self.rule)
    }

    /// The rule as a Cedar policy, in a set of its own.
    pub(crate) fn policy(&self) -> Result<&PolicySet, PolicyBroken> {
        self.grant.policy(self.rule)
    }

    pub(crate) fn policy_id(&self) -> String {
        self.grant.policy_id(self.rule)
    }
}

impl Grant {
    /// The role's rules; empty if there is no such role.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        self.rules.as_deref().unwrap_or_default()
    }

    /// Whether there is no such role.
    #[must_use]
    pub fn is_of_nothing(&self) -> bool {
        self.rules.is_none()
    }

    /// The identifier of a rule's policy: binding, place of the subject, place of the rule.
    #[must_use]
    pub fn policy_id(&self, rule: usize) -> String {
        format!("rbac/{}#{}.{rule}", self.binding, self.position)
    }

    fn policy(&self, position: usize) -> Result<&PolicySet, PolicyBroken> {
        let missing = || PolicyBroken { id: self.policy_id(position), cause: "there is no such rule".to_owned() };
        let rule = self.rules().get(position).ok_or_else(missing)?;
        let cell = self.policies.get(position).ok_or_else(missing)?;
        cell.get_or_init(|| compile(self, position, rule)).as_ref().map_err(Clone::clone)
    }
}

impl Subject {
    /// The user name of a user or a service account; a group's own name for a group.
    #[must_use]
    pub fn user_name(&self) -> String {
        match self {
            Self::User(name) | Self::Group(name) => name.clone(),
            Self::ServiceAccount(namespace, name) => format!("{SERVICE_ACCOUNT_USER_PREFIX}{namespace}:{name}"),
        }
    }
}

impl fmt::Display for Grant {
    /// Upstream's form: `ClusterRoleBinding "x" of ClusterRole "y" to User "z"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.binding.namespace {
            None => write!(f, "ClusterRoleBinding {:?}", self.binding.name)?,
            Some(namespace) => write!(f, "RoleBinding {:?}", format!("{}/{namespace}", self.binding.name))?,
        }
        match &self.role {
            RoleKey::Cluster(name) => write!(f, " of ClusterRole {name:?}")?,
            RoleKey::Namespaced(_, name) => write!(f, " of Role {name:?}")?,
        }
        match &self.subject {
            Subject::User(name) => write!(f, " to User {name:?}"),
            Subject::Group(name) => write!(f, " to Group {name:?}"),
            Subject::ServiceAccount(namespace, name) => {
                write!(f, " to ServiceAccount {:?}", format!("{name}/{namespace}"))
            }
        }
    }
}

impl fmt::Display for BindingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            None => write!(f, "ClusterRoleBinding/{}", self.name),
            Some(namespace) => write!(f, "RoleBinding/{namespace}/{}", self.name),
        }
    }
}

impl fmt::Display for RoleKey {
    /// Upstream's form of a missing role: `clusterrole.rbac.authorization.k8s.io "x"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(name) => write!(f, "clusterrole.rbac.authorization.k8s.io {name:?}"),
            Self::Namespaced(_, name) => write!(f, "role.rbac.authorization.k8s.io {name:?}"),
        }
    }
}
