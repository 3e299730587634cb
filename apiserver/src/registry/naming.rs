//! How a kind is called and which verbs it has, in one expression.

use martello_api::resource::{GroupVersionKind, Resource, Subresource, Text};

/// What most served kinds can do.
pub const ALL_VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// The same of custom kinds, in the order in which upstream tells it of these.
pub const CUSTOM_VERBS: &[&str] = &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
/// What status subresources can do.
pub const STATUS_VERBS: &[&str] = &["get", "patch", "update"];

/// Builds a [`Resource`] in one expression.
#[must_use]
pub fn resource(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
) -> ResourceBuilder {
    let singular = kind.to_lowercase();
    ResourceBuilder(Resource {
        gvk: GroupVersionKind::new(group, version, kind),
        plural: plural.into(),
        singular: singular.into(),
        short_names: Vec::new(),
        categories: Vec::new(),
        namespaced: true,
        verbs: ALL_VERBS.iter().map(|verb| Text::from(*verb)).collect(),
        subresources: Vec::new(),
    })
}

/// See [`resource`].
pub struct ResourceBuilder(Resource);

impl ResourceBuilder {
    /// Not in namespaces.
    #[must_use]
    pub fn cluster_scoped(mut self) -> Self {
        self.0.namespaced = false;
        self
    }

    /// With short names.
    #[must_use]
    pub fn short(mut self, names: &[&'static str]) -> Self {
        self.0.short_names = names.iter().map(|name| Text::from(*name)).collect();
        self
    }

    /// In categories.
    #[must_use]
    pub fn categories(mut self, names: &[&'static str]) -> Self {
        self.0.categories = names.iter().map(|name| Text::from(*name)).collect();
        self
    }

    /// With only these verbs.
    #[must_use]
    pub fn verbs(mut self, verbs: &[&'static str]) -> Self {
        self.0.verbs = verbs.iter().map(|verb| Text::from(*verb)).collect();
        self
    }

    /// With a subresource of the object's own kind.
    #[must_use]
    pub fn subresource(self, name: &'static str, verbs: &[&'static str]) -> Self {
        let gvk = self.0.gvk.clone();
        self.subresource_of(name, gvk, verbs)
    }

    /// With a subresource of another kind.
    #[must_use]
    pub fn subresource_of(mut self, name: &'static str, gvk: GroupVersionKind, verbs: &[&'static str]) -> Self {
        let verbs = verbs.iter().map(|verb| Text::from(*verb)).collect();
        self.0.subresources.push(Subresource { name: name.into(), gvk, verbs });
        self
    }

    /// With a status.
    #[must_use]
    pub fn status(self) -> Self {
        self.subresource("status", STATUS_VERBS)
    }

    /// With a scale.
    #[must_use]
    pub fn scale(self) -> Self {
        let gvk = GroupVersionKind::new("autoscaling", "v1", "Scale");
        self.subresource_of("scale", gvk, STATUS_VERBS)
    }

    /// The resource.
    #[must_use]
    pub fn build(mut self) -> Resource {
        self.0.subresources.sort_by(|left, right| left.name.cmp(&right.name));
        self.0
    }
}
