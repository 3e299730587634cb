//! Which object a change is of: what is told late of one must not take the place of what came after it.

use crate::{
    change::Change,
    rbac::{BindingKey, RoleKey},
};

/// An object on which decisions rest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Role(RoleKey),
    Binding(BindingKey),
    Pod(String, String),
}

impl Place {
    /// What a change is of, and whether that ends.
    pub(crate) fn of(change: &Change) -> (Self, bool) {
        match change {
            Change::SetRole(key, _) => (Self::Role(key.clone()), false),
            Change::RemoveRole(key) => (Self::Role(key.clone()), true),
            Change::SetBinding(key, _) => (Self::Binding(key.clone()), false),
            Change::RemoveBinding(key) => (Self::Binding(key.clone()), true),
            Change::SetPod(pod) => {
                let (namespace, name) = pod.place();
                (Self::Pod(namespace.to_owned(), name.to_owned()), false)
            }
            Change::RemovePod { namespace, name } => (Self::Pod(namespace.clone(), name.clone()), true),
        }
    }
}
