//! One kind of object, described once: what the verbs need to know about it.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use martello_api::{
    resource::{Resource, Text},
    schema::Schema,
    status::{ApiError, Cause},
};
use serde_json::Value;

use super::object;
use crate::{server::Core, store::Entry};

mod change;
mod name_rule;
mod strategy;

pub use change::{Begun, Change};
pub use name_rule::NameRule;
pub use strategy::{Checked, Connect, Deleted, Generation, Judged, Served, Strategy, Told, plain_field};

pub use super::{
    cell::Cell,
    column::{AGE_DESCRIPTION, Column},
    naming::{ALL_VERBS, CUSTOM_VERBS, ResourceBuilder, STATUS_VERBS, resource},
};

/// A kind as it is served: its names and its rules.
pub struct Kind {
    /// Its names, verbs and subresources.
    pub resource: Resource,
    /// Under what its objects are stored; two kinds may share it.
    pub storage: Text,
    strategy: Box<dyn Strategy>,
    /// The `apiVersion` of the stored form, where it is another version of the same fields.
    stored: Option<String>,
    /// Of a version that is served only where it is asked for by name.
    lifecycle: Option<Lifecycle>,
    deprecation: Option<String>,
    head: String,
    list_kind: String,
    descriptions: OnceLock<Vec<String>>,
    columns: OnceLock<Bytes>,
    columns_number: u64,
}

/// For how long a version is there that is not stable, in minor releases of Kubernetes 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// A beta version that came with this release: it is deprecated some releases later, and gone after some more.
    Beta(u32),
    /// An alpha version, and since which release it is deprecated, if it is.
    Alpha(Option<u32>),
}

impl Lifecycle {
    /// What clients are told of what is called `name`, where it is deprecated by now.
    fn deprecation(self, name: &str) -> Option<String> {
        match self {
            Self::Beta(came) => {
                let (since, gone) = (came + BETA_RELEASES, came + 2 * BETA_RELEASES);
                (since <= MINOR).then(|| format!("{name} is deprecated in v1.{since}+, unavailable in v1.{gone}+"))
            }
            Self::Alpha(since) => {
                since.filter(|since| *since <= MINOR).map(|since| format!("{name} is deprecated in v1.{since}+"))
            }
        }
    }
}

/// The minor release of Kubernetes 1 whose API is spoken.
const MINOR: u32 = 36;
/// After how many minor releases a beta version is deprecated, and after how many more it is gone.
const BETA_RELEASES: u32 = 3;

fn head_of(resource: &Resource) -> String {
    format!("{{\"kind\":{:?},\"apiVersion\":{:?},", resource.gvk.kind, resource.gvk.api_version())
}

impl Kind {
    /// A kind of these rules.
    #[must_use]
    pub fn new(strategy: impl Strategy) -> Self {
        let resource = strategy.resource();
        let storage = strategy
            .storage()
            .unwrap_or_else(|| martello_api::status::qualified(&resource.gvk.group, &resource.plural).into());
        let (head, list_kind) = (head_of(&resource), strategy.list_kind());
        // No two kinds have the same, were they one after the other under the same name.
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        Self {
            resource,
            storage,
            strategy: Box::new(strategy),
            stored: None,
            lifecycle: None,
            deprecation: None,
            head,
            list_kind,
            descriptions: OnceLock::new(),
            columns: OnceLock::new(),
            columns_number: NUMBERS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// A kind of these rules whose version is not stable: it is served only where it is asked for by name.
    #[must_use]
    pub fn unstable(strategy: impl Strategy, lifecycle: Lifecycle) -> Self {
        Self::new(strategy).with(lifecycle)
    }

    fn with(mut self, lifecycle: Lifecycle) -> Self {
        let gvk = &self.resource.gvk;
        self.deprecation = lifecycle.deprecation(&format!("{} {}", gvk.api_version(), gvk.kind));
        self.lifecycle = Some(lifecycle);
        self
    }

    /// The same kind in another version of its group that has the same fields. Objects are stored as `strategy` has them.
    /// It is served only where it is asked for by name.
    #[must_use]
    pub fn in_version(strategy: impl Strategy, version: &'static str, lifecycle: Lifecycle) -> Self {
        let mut kind = Self::new(strategy);
        let (stored, own) = (kind.resource.gvk.clone(), &mut kind.resource);
        own.gvk.version = version.into();
        let subs = own.subresources.iter_mut().map(|sub| &mut sub.gvk);
        subs.filter(|gvk| (&gvk.group, &gvk.version) == (&stored.group, &stored.version))
            .for_each(|gvk| gvk.version = version.into());
        kind.head = head_of(own);
        kind.stored = Some(stored.api_version());
        kind.with(lifecycle)
    }

    /// Whether it is served where nothing else was asked for: only in a stable version.
    #[must_use]
    pub fn by_default(&self) -> bool {
        self.lifecycle.is_none()
    }

    /// See [`Strategy::converts`].
    #[must_use]
    pub fn converts(&self) -> bool {
        self.stored.is_some() || self.strategy.converts()
    }

    /// See [`Strategy::shows_as_stored`].
    #[must_use]
    pub fn shows_as_stored(&self, entry: &Entry) -> bool {
        self.stored.is_none() && self.strategy.shows_as_stored(entry)
    }

    /// See [`Strategy::to_stored`].
    pub fn to_stored(&self, object: &mut Value) {
        self.strategy.to_stored(object);
        if let Some(stored) = &self.stored {
            object::set(object, &[], "apiVersion", stored.as_str());
        }
    }

    /// See [`Strategy::show_stored`].
    pub fn show_stored(&self, object: &mut Value) {
        self.strategy.show_stored(object);
        self.put_version(object);
    }

    fn put_version(&self, object: &mut Value) {
        if self.stored.is_some() {
            object::set(object, &[], "apiVersion", self.resource.gvk.api_version());
        }
    }

    /// See [`Strategy::read`].
    pub async fn read(&self, core: &Core, stored: Value) -> Result<Value, ApiError> {
        let mut read = self.strategy.read(core, stored).await?;
        self.put_version(&mut read);
        Ok(read)
    }

    /// See [`Strategy::read_all`].
    pub async fn read_all(&self, core: &Core, stored: Vec<Value>) -> Result<Vec<Value>, ApiError> {
        let mut read = self.strategy.read_all(core, stored).await?;
        read.iter_mut().for_each(|one| self.put_version(one));
        Ok(read)
    }

    /// See [`Strategy::write`].
    pub async fn write(&self, core: &Core, object: Value) -> Result<Value, ApiError> {
        let mut written = self.strategy.write(core, object).await?;
        if let Some(stored) = &self.stored {
            object::set(&mut written, &[], "apiVersion", stored.as_str());
        }
        Ok(written)
    }

    /// See [`Strategy::schema_in`].
    #[must_use]
    pub fn schema_in(&self, api_version: &str) -> Option<&Schema> {
        self.strategy.schema_in(api_version)
    }

    /// See [`Strategy::convert`].
    pub async fn convert(&self, core: &Core, object: Value, to: &str) -> Result<Value, ApiError> {
        self.strategy.convert(core, object, to).await
    }

    /// See [`Strategy::deprecation`].
    #[must_use]
    pub fn deprecation(&self) -> Option<&str> {
        self.deprecation.as_deref().or_else(|| self.strategy.deprecation())
    }

    /// The kind of its lists.
    #[must_use]
    pub fn list_kind(&self) -> &str {
        &self.list_kind
    }

    /// Whether it came at run time.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        self.strategy.schema().is_some()
    }

    /// How every object of this kind begins when it is encoded: kind and version, which items of lists go without.
    #[must_use]
    pub fn head(&self) -> &str {
        &self.head
    }

    /// What each column of a Table shows, in words; looked up when it is first asked for.
    pub fn column_descriptions(&self) -> &[String] {
        self.descriptions.get_or_init(|| super::columns::describe(self, self.columns()))
    }

    /// The columns of a Table as JSON; made when they are first asked for.
    pub fn columns_told(&self) -> &[u8] {
        self.columns.get_or_init(|| super::table::columns_of(self))
    }

    /// What no two kinds have in common, nor a kind and what it was before its definition changed: rows are kept under it.
    #[must_use]
    pub fn columns_number(&self) -> u64 {
        self.columns_number
    }

    /// Group, for messages.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.resource.gvk.group
    }

    /// Kind, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.resource.gvk.kind
    }

    /// The name of the type that upstream holds its objects in, which messages show.
    #[must_use]
    pub fn go_type(&self) -> String {
        format!("*{}.{}", super::codec::internal_package(self.group()), self.name())
    }

    /// 404 for an object of this kind.
    #[must_use]
    pub fn not_found(&self, name: &str) -> ApiError {
        ApiError::not_found(self.group(), &self.resource.plural, name)
    }

    /// 409 for an object of this kind.
    #[must_use]
    pub fn conflict(&self, name: &str, why: &str) -> ApiError {
        ApiError::conflict(self.group(), &self.resource.plural, name, why)
    }

    /// 422 for an object of this kind.
    #[must_use]
    pub fn invalid(&self, name: &str, causes: Vec<Cause>) -> ApiError {
        ApiError::invalid(self.group_in_messages().unwrap_or(self.group()), self.name(), name, causes)
    }

    /// 403 for an object of this kind.
    #[must_use]
    pub fn forbidden(&self, name: &str, why: &str) -> ApiError {
        ApiError::forbidden(self.group(), &self.resource.plural, name, why)
    }

    /// Whether `verb` is offered on objects or collections.
    #[must_use]
    pub fn offers(&self, verb: &str) -> bool {
        self.resource.verbs.iter().any(|own| own == verb)
    }

    /// What a field selector sees of an object; none if the field can't be selected by.
    #[must_use]
    pub fn field(&self, object: &Value, path: &str) -> Option<String> {
        self.selects(path).then(|| match path {
            "metadata.name" | "metadata.namespace" => plain_field(object, path),
            _ => self.strategy.field(object, path),
        })
    }

    /// Whether a field can be selected by.
    #[must_use]
    pub fn selects(&self, path: &str) -> bool {
        match path {
            "metadata.name" => true,
            // Kinds without selectors of their own take both, whatever their scope.
            "metadata.namespace" => self.resource.namespaced || (!self.is_custom() && self.selectable().is_empty()),
            _ => self.strategy.selects(path),
        }
    }
}

impl std::ops::Deref for Kind {
    type Target = dyn Strategy;

    fn deref(&self) -> &Self::Target {
        self.strategy.as_ref()
    }
}
