//! What a served resource is called and what can be done with it: the facts behind discovery and routing.

use std::borrow::Cow;

/// Text that is static for built-in kinds and owned for custom ones.
pub type Text = Cow<'static, str>;

/// Group, version and kind of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionKind {
    /// API group; empty for the core group.
    pub group: Text,
    /// For instance `v1`.
    pub version: Text,
    /// For instance `Pod`.
    pub kind: Text,
}

/// A resource that is served: one plural name in one version of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Group, version and kind of its objects.
    pub gvk: GroupVersionKind,
    /// Plural name, as in the URL.
    pub plural: Text,
    /// Singular name.
    pub singular: Text,
    /// For instance `po`.
    pub short_names: Vec<Text>,
    /// For instance `all`.
    pub categories: Vec<Text>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// For instance `get`, `list`, in upstream's (alphabetical) order.
    pub verbs: Vec<Text>,
    /// What hangs below an object.
    pub subresources: Vec<Subresource>,
}

/// A subresource that is served, for instance `status` or `scale`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// For instance `scale`.
    pub name: Text,
    /// Kind of the objects that it speaks, for instance `autoscaling/v1 Scale`.
    pub gvk: GroupVersionKind,
    /// For instance `get`, `patch`, `update`.
    pub verbs: Vec<Text>,
}

impl GroupVersionKind {
    /// Of static text.
    #[must_use]
    pub const fn new(group: &'static str, version: &'static str, kind: &'static str) -> Self {
        Self { group: Cow::Borrowed(group), version: Cow::Borrowed(version), kind: Cow::Borrowed(kind) }
    }

    /// `apps/v1`, or `v1` for the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }
}
