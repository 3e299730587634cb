//! How objects are addressed: resource, namespace, name.

use std::fmt;
use std::sync::Arc;

/// The resource that an object belongs to, whatever version it is served in: `pods`, `deployments.apps`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource(Arc<str>);

/// The address of one object.
///
/// Its path is `namespace/name`, or `name` outside of namespaces; lists come in the order of paths.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    resource: Resource,
    path: Arc<str>,
}

/// What a list or a watch is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    resource: Resource,
    within: Within,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Within {
    All,
    /// With the slash that ends it.
    Prefix(Arc<str>),
    Path(Arc<str>),
}

impl Resource {
    /// The resource `plural` of `group`, which is empty for the core group.
    #[must_use]
    pub fn new(group: &str, plural: &str) -> Self {
        if group.is_empty() { Self(plural.into()) } else { Self(format!("{plural}.{group}").into()) }
    }

    /// From what [`Resource::as_str`] gave.
    #[must_use]
    pub fn from_qualified(name: &str) -> Self {
        Self(name.into())
    }

    /// `pods` or `deployments.apps`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Key {
    /// The object `name` in `namespace`, or outside of namespaces if that is empty.
    #[must_use]
    pub fn new(resource: &Resource, namespace: &str, name: &str) -> Self {
        let path = if namespace.is_empty() { name.into() } else { format!("{namespace}/{name}").into() };
        Self { resource: resource.clone(), path }
    }

    /// From what [`Key::path`] gave.
    #[must_use]
    pub fn from_path(resource: Resource, path: Arc<str>) -> Self {
        Self { resource, path }
    }

    /// The resource it belongs to.
    #[must_use]
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// `namespace/name`, or `name`.
    #[must_use]
    pub fn path(&self) -> &Arc<str> {
        &self.path
    }

    /// Empty outside of namespaces.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.path.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// The object's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.split_once('/').map_or(&*self.path, |(_, name)| name)
    }
}

impl Scope {
    /// Every object of `resource`.
    #[must_use]
    pub fn all(resource: &Resource) -> Self {
        Self { resource: resource.clone(), within: Within::All }
    }

    /// The objects of `resource` in one namespace; all of them if it is empty.
    #[must_use]
    pub fn namespace(resource: &Resource, namespace: &str) -> Self {
        let within = if namespace.is_empty() { Within::All } else { Within::Prefix(format!("{namespace}/").into()) };
        Self { resource: resource.clone(), within }
    }

    /// One object.
    #[must_use]
    pub fn object(key: &Key) -> Self {
        Self { resource: key.resource.clone(), within: Within::Path(Arc::clone(&key.path)) }
    }

    /// The resource it is about.
    #[must_use]
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// Whether an object of this resource at `path` is in scope.
    #[must_use]
    pub fn holds(&self, path: &str) -> bool {
        match &self.within {
            Within::All => true,
            Within::Prefix(prefix) => path.starts_with(&**prefix),
            Within::Path(one) => path == &**one,
        }
    }

    /// The least path that may be in scope. What is in scope follows it without a gap.
    pub(super) fn first_path(&self) -> &str {
        match &self.within {
            Within::All => "",
            Within::Prefix(path) | Within::Path(path) => path,
        }
    }

    /// The least path behind all that may be in scope; none where nothing is behind it.
    pub(super) fn end_path(&self) -> Option<String> {
        match &self.within {
            Within::All => None,
            // The slash that ends a prefix is followed by the digit zero.
            Within::Prefix(prefix) => Some(format!("{}0", prefix.trim_end_matches('/'))),
            Within::Path(path) => Some(format!("{path}\0")),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource, self.path)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_back_its_parts() {
        let key = Key::new(&Resource::new("apps", "deployments"), "shop", "web");
        assert_eq!((key.resource().as_str(), key.namespace(), key.name()), ("deployments.apps", "shop", "web"));
        let key = Key::new(&Resource::new("", "nodes"), "", "one");
        assert_eq!((key.resource().as_str(), key.namespace(), key.name()), ("nodes", "", "one"));
    }

    #[test]
    fn a_namespace_holds_its_own_objects_only() {
        let pods = Resource::new("", "pods");
        let scope = Scope::namespace(&pods, "a");
        assert!(scope.holds("a/x"));
        assert!(!scope.holds("a-b/x") && !scope.holds("ab/x") && !scope.holds("a"));
        assert!(Scope::namespace(&pods, "").holds("b/x"));
    }

    #[test]
    fn what_is_in_scope_lies_between_its_first_path_and_its_end() {
        let pods = Resource::new("", "pods");
        let paths = ["a-b/x", "a", "a/", "a/x", "a/zz", "a0", "a0/x", "ab/x", "b/x", "a/x\0"];
        for scope in [Scope::namespace(&pods, "a"), Scope::object(&Key::new(&pods, "a", "x")), Scope::all(&pods)] {
            for path in paths {
                let end = scope.end_path();
                let between = path >= scope.first_path() && end.is_none_or(|end| path < end.as_str());
                assert_eq!(between, scope.holds(path), "{path}");
            }
        }
    }
}
