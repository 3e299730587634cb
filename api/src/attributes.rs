//! What is asked: the attributes of one API call, on which authorization and audit decide.

use std::{fmt, sync::Arc};

use crate::identity::User;

/// One call, as the authorizer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Who asks.
    pub user: Arc<User>,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, a special verb
    /// (`bind`, `escalate`, `impersonate`, `approve` …), or the lower-case HTTP method of a non-resource path.
    pub verb: String,
    /// What it is asked on.
    pub target: Target,
}

/// What a call is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// An object or a collection of objects.
    Resource(ResourceTarget),
    /// A path outside the API, for instance `/healthz`.
    Path(String),
}

/// An object or a collection; empty strings stand for "none", as in Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResourceTarget {
    /// API group; empty for the core group.
    pub group: String,
    /// API version, for instance `v1`.
    pub version: String,
    /// Plural resource name, for instance `pods`.
    pub resource: String,
    /// For instance `status` or `exec`; empty for the object itself.
    pub subresource: String,
    /// Empty for cluster-scoped resources and for all namespaces.
    pub namespace: String,
    /// Empty for collections, unless a field selector on `metadata.name` limits them to one object.
    pub name: String,
    /// What the field selector of a list, watch or deletecollection demands by equality, for instance
    /// `("spec.nodeName", "worker-1")`; other demands are not listed.
    pub selected_fields: Vec<(String, String)>,
}

impl Attributes {
    /// The resource asked for, if it is one.
    #[must_use]
    pub fn resource(&self) -> Option<&ResourceTarget> {
        match &self.target {
            Target::Resource(target) => Some(target),
            Target::Path(_) => None,
        }
    }

    /// Whether the verb changes nothing.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

impl ResourceTarget {
    /// `pods` or `pods/exec`: how a rule and a message name it.
    #[must_use]
    pub fn resource_and_subresource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

impl fmt::Display for ResourceTarget {
    /// `pods/exec.apps "name" in namespace "ns"`, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.resource_and_subresource())?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if !self.name.is_empty() {
            write!(f, " {:?}", self.name)?;
        }
        if !self.namespace.is_empty() {
            write!(f, " in namespace {:?}", self.namespace)?;
        }
        Ok(())
    }
}
