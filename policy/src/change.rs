//! A change of what decisions rest on: an RBAC object or a pod that was written or deleted.

use martello_api::k8s_openapi::api::{
    core::v1::Pod,
    rbac::v1::{self, ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    node::PodFacts,
    rbac::{Binding, BindingKey, RoleKey, Rule, Subject},
};

/// One object that was written or deleted.
#[derive(Clone, Debug)]
pub enum Change {
    /// A Role or ClusterRole has these rules now.
    SetRole(RoleKey, Vec<Rule>),
    /// There is no such Role or ClusterRole any more.
    RemoveRole(RoleKey),
    /// A RoleBinding or ClusterRoleBinding is this now.
    SetBinding(BindingKey, Binding),
    /// There is no such binding any more.
    RemoveBinding(BindingKey),
    /// A pod is on this node and refers to these objects now.
    SetPod(PodFacts),
    /// There is no such pod any more.
    RemovePod {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        name: String,
    },
}

/// An object that decisions rest on could not be read.
#[derive(Debug, thiserror::Error)]
#[error("reading {kind} {namespace:?}/{name:?} for authorization")]
pub struct ChangeError {
    /// Kind of the object.
    pub kind: String,
    /// Its namespace; empty for those of the cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    #[source]
    pub cause: serde_json::Error,
}

impl Change {
    /// The change that writing `object` makes; `None` if decisions do not rest on objects of its kind.
    ///
    /// # Errors
    /// If the object does not have the fields of its kind. The caller must not commit such an object.
    pub fn written(object: &Value) -> Result<Option<Self>, ChangeError> {
        Ok(Some(match kind_of(object) {
            Some("Role") => Self::from(typed::<Role>(object)?),
            Some("ClusterRole") => Self::from(typed::<ClusterRole>(object)?),
            Some("RoleBinding") => Self::from(typed::<RoleBinding>(object)?),
            Some("ClusterRoleBinding") => Self::from(typed::<ClusterRoleBinding>(object)?),
            Some("Pod") => Self::from(typed::<Pod>(object)?),
            _ => return Ok(None),
        }))
    }

    /// The change that deleting `object` makes; `None` if decisions do not rest on objects of its kind.
    #[must_use]
    pub fn deleted(object: &Value) -> Option<Self> {
        let (namespace, name) = place(object);
        Some(match kind_of(object)? {
            "Role" => Self::RemoveRole(RoleKey::Namespaced(namespace, name)),
            "ClusterRole" => Self::RemoveRole(RoleKey::Cluster(name)),
            "RoleBinding" => Self::RemoveBinding(BindingKey { namespace: Some(namespace), name }),
            "ClusterRoleBinding" => Self::RemoveBinding(BindingKey { namespace: None, name }),
            "Pod" => Self::RemovePod { namespace, name },
            _ => return None,
        })
    }
}

impl From<Role> for Change {
    fn from(role: Role) -> Self {
        let namespace = role.metadata.namespace.unwrap_or_default();
        let key = RoleKey::Namespaced(namespace, role.metadata.name.unwrap_or_default());
        Self::SetRole(key, role.rules.iter().flatten().map(Rule::from).collect())
    }
}

impl From<ClusterRole> for Change {
    fn from(role: ClusterRole) -> Self {
        let key = RoleKey::Cluster(role.metadata.name.unwrap_or_default());
        Self::SetRole(key, role.rules.iter().flatten().map(Rule::from).collect())
    }
}

impl From<RoleBinding> for Change {
    fn from(binding: RoleBinding) -> Self {
        let namespace = binding.metadata.namespace.unwrap_or_default();
        let role = match binding.role_ref.kind.as_str() {
            "ClusterRole" => RoleKey::Cluster(binding.role_ref.name),
            _ => RoleKey::Namespaced(namespace.clone(), binding.role_ref.name),
        };
        let subjects = subjects(binding.subjects, &namespace);
        let key = BindingKey { namespace: Some(namespace), name: binding.metadata.name.unwrap_or_default() };
        Self::SetBinding(key, Binding { role, subjects })
    }
}

impl From<ClusterRoleBinding> for Change {
    fn from(binding: ClusterRoleBinding) -> Self {
        let role = RoleKey::Cluster(binding.role_ref.name);
        let subjects = subjects(binding.subjects, "");
        let key = BindingKey { namespace: None, name: binding.metadata.name.unwrap_or_default() };
        Self::SetBinding(key, Binding { role, subjects })
    }
}

impl From<Pod> for Change {
    fn from(pod: Pod) -> Self {
        Self::SetPod(PodFacts::of(&pod))
    }
}

/// A service account without a namespace is of the binding's; one without any, and subjects of other kinds, are nobody.
fn subjects(subjects: Option<Vec<v1::Subject>>, namespace: &str) -> Vec<Subject> {
    let subject = |subject: v1::Subject| match subject.kind.as_str() {
        "User" => Some(Subject::User(subject.name)),
        "Group" => Some(Subject::Group(subject.name)),
        "ServiceAccount" => {
            let own = subject.namespace.filter(|own| !own.is_empty()).unwrap_or_else(|| namespace.to_owned());
            (!own.is_empty()).then_some(Subject::ServiceAccount(own, subject.name))
        }
        _ => None,
    };
    subjects.into_iter().flatten().filter_map(subject).collect()
}

/// The kind, if it is of the group that decisions rest on: an object of another group may bear the same kind.
fn kind_of(object: &Value) -> Option<&str> {
    let kind = object.get("kind")?.as_str()?;
    let group = match kind {
        "Pod" => "v1",
        _ => "rbac.authorization.k8s.io/v1",
    };
    (object.get("apiVersion")?.as_str()? == group).then_some(kind)
}

fn place(object: &Value) -> (String, String) {
    let text = |field: &str| {
        let value = object.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    (text("namespace"), text("name"))
}

fn typed<T: DeserializeOwned>(object: &Value) -> Result<T, ChangeError> {
    serde::Deserialize::deserialize(object).map_err(|cause| {
        let (namespace, name) = place(object);
        ChangeError { kind: kind_of(object).unwrap_or_default().to_owned(), namespace, name, cause }
    })
}
