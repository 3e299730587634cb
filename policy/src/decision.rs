//! What the authorizer answers: a permit, or a denial that says what was asked and what would have allowed it.

use std::{collections::BTreeSet, fmt, sync::Arc};

use martello_api::{
    attributes::{Attributes, Target},
    status::ApiError,
};

use crate::{
    node::refusal,
    rbac::{Grant, RoleKey},
};

/// The answer to a request.
#[derive(Debug)]
pub enum Decision {
    /// It may go on.
    Allow(Permit),
    /// It may not.
    Deny(Denial),
}

impl Decision {
    /// Whether it is a permit.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }
}

/// The proof that a request was authorized. Only the authorizer makes one.
#[derive(Debug)]
pub struct Permit {
    attributes: Attributes,
    reason: Reason,
}

impl Permit {
    pub(crate) fn new(attributes: Attributes, reason: Reason) -> Self {
        Self { attributes, reason }
    }

    /// What was authorized.
    #[must_use]
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// The policy that decided.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }
}

/// The policy that allowed a request.
#[derive(Clone, Debug)]
pub enum Reason {
    /// A rule of a role, granted by a binding.
    Rbac {
        /// Binding, role and subject.
        grant: Arc<Grant>,
        /// Place of the rule in the role.
        rule: usize,
    },
    /// A policy that ships with the product, by identifier.
    Builtin(Arc<str>),
}

impl Reason {
    /// The identifier of the Cedar policy.
    #[must_use]
    pub fn policy_id(&self) -> String {
        match self {
            Self::Rbac { grant, rule } => grant.policy_id(*rule),
            Self::Builtin(id) => id.to_string(),
        }
    }

    /// What upstream writes to the status of a review and to the audit annotation `authorization.k8s.io/reason`:
    /// `RBAC: allowed by ClusterRoleBinding "x" of ClusterRole "y" to User "z"`; nothing where RBAC did not decide.
    #[must_use]
    pub fn upstream(&self) -> String {
        match self {
            Self::Rbac { grant, .. } => format!("RBAC: allowed by {grant}"),
            Self::Builtin(_) => String::new(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rbac { .. } => f.write_str(&self.upstream()),
            Self::Builtin(id) => write!(f, "allowed by policy {id:?}"),
        }
    }
}

/// A refusal.
///
/// Its message is upstream's, to the letter, since clients and their tests compare it. What would have allowed the
/// request is in [`Denial::hint`], which is to be shown beside the message.
#[derive(Clone, Debug)]
pub struct Denial {
    attributes: Attributes,
    cause: DenialCause,
}

/// Why a request was denied.
#[derive(Clone, Debug)]
pub(crate) enum DenialCause {
    /// Nothing allows it. These roles are bound to the user and do not exist.
    NothingAllows { missing_roles: Arc<BTreeSet<RoleKey>> },
    /// It is a node that asks for what none of its pods needs.
    NotRelated,
    /// These policies forbid it.
    Forbidden { policies: Arc<[String]> },
    /// A policy could not be evaluated.
    Broken { what: Arc<str> },
}

impl Denial {
    pub(crate) fn new(attributes: Attributes, cause: DenialCause) -> Self {
        Self { attributes, cause }
    }

    /// What was asked.
    #[must_use]
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// What was asked and refused, in upstream's words:
    /// `User "jane" cannot get resource "secrets" in API group "" in the namespace "default"`.
    #[must_use]
    pub fn message(&self) -> String {
        let user = &self.attributes.user.name;
        let verb = &self.attributes.verb;
        let asked = match &self.attributes.target {
            Target::Path(path) => format!("User {user:?} cannot {verb} path {path:?}"),
            Target::Resource(target) => {
                let scope = if target.namespace.is_empty() {
                    "at the cluster scope".to_owned()
                } else {
                    format!("in the namespace {:?}", target.namespace)
                };
                let resource = target.resource_and_subresource();
                format!("User {user:?} cannot {verb} resource {resource:?} in API group {:?} {scope}", target.group)
            }
        };
        match self.reason() {
            reason if reason.is_empty() => asked,
            reason => format!("{asked}: {reason}"),
        }
    }

    /// Why, where upstream says so: roles that are bound and do not exist, objects that no pod of the node needs.
    #[must_use]
    pub fn reason(&self) -> String {
        match &self.cause {
            DenialCause::NothingAllows { missing_roles } => {
                let of_roles = match not_found(missing_roles.iter()) {
                    nothing if nothing.is_empty() => nothing,
                    told => format!("RBAC: {told}"),
                };
                let told: Vec<String> =
                    [self.of_node(), of_roles].into_iter().filter(|told| !told.is_empty()).collect();
                told.join("\n")
            }
            DenialCause::NotRelated => self.of_node(),
            DenialCause::Forbidden { .. } => String::new(),
            DenialCause::Broken { what } => format!("a policy could not be evaluated, which denies: {what}"),
        }
    }

    /// What a node is told; nobody else is told anything by it.
    fn of_node(&self) -> String {
        match (self.attributes.user.node_name(), &self.attributes.target) {
            (Some(node), Target::Resource(target)) => refusal::said(node, &self.attributes.verb, target),
            _ => String::new(),
        }
    }

    /// What would have allowed the request, for whoever may change that.
    #[must_use]
    pub fn hint(&self) -> String {
        match &self.cause {
            DenialCause::Forbidden { policies } => {
                format!("policy {} forbids this, whatever roles allow", quoted_list(policies))
            }
            DenialCause::NotRelated => {
                let node = self.attributes.user.node_name().unwrap_or_default();
                format!(
                    "a node reads only what pods bound to it refer to: a pod on node {node:?} that refers to this object"
                )
            }
            DenialCause::Broken { .. } => {
                "tell the cluster's administrator: nothing else allows this request".to_owned()
            }
            DenialCause::NothingAllows { .. } => self.missing_grant(),
        }
    }

    /// The denial as the answer to the client: 403 in upstream's form.
    #[must_use]
    pub fn to_api_error(&self) -> ApiError {
        match &self.attributes.target {
            Target::Path(_) => ApiError::forbidden("", "", "", &self.message()),
            Target::Resource(target) => {
                ApiError::forbidden(&target.group, &target.resource, &target.name, &self.message())
            }
        }
    }

    fn missing_grant(&self) -> String {
        let user = &self.attributes.user.name;
        let subject = match self.attributes.user.as_service_account() {
            Some((namespace, name)) => format!("ServiceAccount \"{name}\" in namespace {namespace:?}"),
            None => format!("User {user:?} or one of its groups"),
        };
        let verb = &self.attributes.verb;
        match &self.attributes.target {
            Target::Path(path) => format!(
                "a ClusterRole with verbs [{verb:?}] on nonResourceURLs [{path:?}], bound to {subject} by a ClusterRoleBinding"
            ),
            Target::Resource(target) => {
                let resource = target.resource_and_subresource();
                let rule = format!("verbs [{verb:?}] on resources [{resource:?}] of apiGroups [{:?}]", target.group);
                if target.namespace.is_empty() {
                    format!("a ClusterRole with {rule}, bound to {subject} by a ClusterRoleBinding")
                } else {
                    let namespace = &target.namespace;
                    format!("a Role in namespace {namespace:?} with {rule}, bound to {subject} by a RoleBinding there")
                }
            }
        }
    }
}

/// Roles that do not exist, in upstream's words.
pub(crate) fn not_found<'a>(roles: impl IntoIterator<Item = &'a RoleKey>) -> String {
    let lines: Vec<String> = roles.into_iter().map(|role| format!("{role} not found")).collect();
    match lines.as_slice() {
        [] | [_] => lines.concat(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn quoted_list(texts: &[String]) -> String {
    texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", ")
}
