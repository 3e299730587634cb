//! What every controller stands on: a cache that follows the API server, and a queue of keys to look at.

mod events;
mod feed;
mod informer;
mod mapping;
mod queue;

pub use events::EventSink;
pub use informer::{Informer, Watch};
pub(crate) use mapping::Mapping;
pub(crate) use queue::Chain;
pub use queue::{Queue, work};

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Api, Resource, ResourceExt, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};

/// Name under which the controllers' writes appear in managed fields, as upstream's do.
pub const FIELD_MANAGER: &str = "kube-controller-manager";

/// Namespace and name of an object; the namespace of a cluster-scoped object is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl Key {
    /// The key of `object`.
    pub fn of<K: Resource>(object: &K) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }

    /// A key in a namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// The controlling owner of an object, if it has one.
pub fn controller_of<K: Resource>(object: &K) -> Option<&OwnerReference> {
    object.meta().owner_references.as_deref()?.iter().find(|owner| owner.controller == Some(true))
}

/// A request of a controller that failed: what was attempted, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("{attempted}")]
pub struct RequestError {
    attempted: String,
    #[source]
    source: kube::Error,
}

impl RequestError {
    /// What a condition or an event says of it.
    #[must_use]
    pub fn said(&self) -> String {
        said(&self.source)
    }

    /// Whether the namespace is being deleted, so that nothing new can be made in it: there is nothing left to do.
    pub fn is_namespace_terminating(&self) -> bool {
        is_namespace_terminating(&self.source)
    }

    /// Whether the object (or its revision) was gone: the next look at the cache will tell more, so trying again is enough.
    pub fn is_stale(&self) -> bool {
        matches!(&self.source, kube::Error::Api(status) if matches!(status.code, 404 | 409))
    }
}

/// What a condition or an event says of a request that failed: the server's own words, as upstream shows them.
#[must_use]
pub fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Whether something was refused because its namespace is being deleted.
#[must_use]
pub fn is_namespace_terminating(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403 && causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// Adds what was attempted to a client's error.
pub trait Attempt<T> {
    /// `attempted` reads like "create pod of ReplicaSet a/b".
    fn attempt(self, attempted: impl FnOnce() -> String) -> Result<T, RequestError>;
    /// As [`Attempt::attempt`], where an object that is already gone is no failure.
    fn attempt_unless_gone(self, attempted: impl FnOnce() -> String) -> Result<Option<T>, RequestError>;
}

impl<T> Attempt<T> for Result<T, kube::Error> {
    fn attempt(self, attempted: impl FnOnce() -> String) -> Result<T, RequestError> {
        self.map_err(|source| RequestError { attempted: attempted(), source })
    }

    fn attempt_unless_gone(self, attempted: impl FnOnce() -> String) -> Result<Option<T>, RequestError> {
        match self {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            other => other.map(Some).attempt(attempted),
        }
    }
}

/// Writes the status that `updated` bears, where it is another than the one of the object that it was made from, and
/// waits until `cache` holds it. Answers whether the object is still there.
pub(crate) async fn write_status<K>(
    api: &Api<K>,
    cache: &Informer<K>,
    before: &K,
    updated: K,
) -> Result<bool, RequestError>
where
    K: Resource<DynamicType = ()> + PartialEq + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    if *before == updated {
        return Ok(true);
    }
    let Key { namespace, name } = Key::of(&updated);
    let of = if namespace.is_empty() { name.clone() } else { format!("{namespace}/{name}") };
    let written = api.replace_status(&name, &post(), &updated).await;
    let written = written.attempt_unless_gone(|| format!("write the status of {} {of}", K::kind(&())))?;
    if let Some(written) = &written {
        cache.caught_up(revision(written)).await;
    }
    Ok(written.is_some())
}

/// Parameters of a create or update by the controllers.
#[must_use]
pub fn post() -> PostParams {
    PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.to_owned()) }
}

/// Parameters of a patch by the controllers.
#[must_use]
pub fn patch() -> kube::api::PatchParams {
    kube::api::PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..kube::api::PatchParams::default() }
}

/// The revision of an object that the API server returned; 0 where it gave none.
pub fn revision<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}
