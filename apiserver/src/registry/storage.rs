//! Between objects and the store: keys, encoding, sealing, and the views of one storage.

use std::sync::Arc;

use bytes::Bytes;
use martello_api::{go, status::ApiError};
use serde_json::Value;

use super::{kind::Kind, object};
use crate::{
    server::Core,
    store::{Body, Committed, Entry, Expect, Key, ListAt, Object, Op, Page, Pairs, Resource, Scope, StoreError},
};

/// Fields of every kind that selectors may name.
const NAME_FIELD: &str = "metadata.name";
const NAMESPACE_FIELD: &str = "metadata.namespace";

/// Deepest object that is stored. Who reads JSON in Rust gives up at 128 levels (`serde_json`): this server, that could not
/// even delete what it can't read; our own components, that would wait for a whole kind because of one object; and operators
/// of others. Within a list and an event of a watch there are a few levels more.
const MAX_STORED_DEPTH: usize = 120;

/// What a write is to meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing under this name.
    Absent,
    /// This revision.
    Revision(u64),
}

/// Why a write did not happen.
#[derive(Debug)]
pub enum WriteError {
    /// There is something else now; none if it is gone.
    Conflict(Option<Arc<Entry>>),
    /// Anything else.
    Failed(ApiError),
}

impl From<ApiError> for WriteError {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

impl Kind {
    /// Under what its objects are stored.
    #[must_use]
    pub fn stored_as(&self) -> Resource {
        Resource::from_qualified(&self.storage)
    }

    /// Where an object is stored.
    #[must_use]
    pub fn key(&self, namespace: &str, name: &str) -> Key {
        Key::new(&self.stored_as(), if self.resource.namespaced { namespace } else { "" }, name)
    }

    /// The objects of a namespace, or all.
    #[must_use]
    pub fn scope(&self, namespace: &str) -> Scope {
        Scope::namespace(&self.stored_as(), if self.resource.namespaced { namespace } else { "" })
    }

    /// Encodes an object of this kind: kind and version first, so that lists can leave them out, no revision.
    #[must_use]
    pub fn encode(&self, value: &Value) -> Bytes {
        encode_under(self.head(), value)
    }
}

/// The beginning of an encoded object, by what it says of itself.
fn head_of(value: &Value) -> String {
    let (kind, version) = (object::text(value, &["kind"]), object::text(value, &["apiVersion"]));
    format!("{{\"kind\":{kind:?},\"apiVersion\":{version:?},")
}

fn encode_under(head: &str, value: &Value) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(b"\"metadata\":{\"resourceVersion\":\"\"");
    for (key, value) in value.get("metadata").and_then(Value::as_object).into_iter().flatten() {
        if key != "resourceVersion" && !value.is_null() {
            member(&mut out, key, value);
        }
    }
    out.push(b'}');
    for (key, value) in value.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "kind" | "apiVersion" | "metadata") {
            member(&mut out, key, value);
        }
    }
    out.push(b'}');
    Bytes::from(out)
}

fn member(out: &mut Vec<u8>, key: &str, value: &Value) {
    out.push(b',');
    // Writing into memory does not fail, and keys are text.
    drop(serde_json::to_writer(&mut *out, key));
    out.push(b':');
    go::encode_into(out, value);
}

/// What the store says, as clients are told.
#[must_use]
pub fn store_failure(error: &StoreError) -> ApiError {
    match error {
        StoreError::Compacted { wanted, oldest } => {
            ApiError::expired(format!("too old resource version: {wanted} ({oldest})"))
        }
        StoreError::Future { wanted, current } => too_large_revision(*wanted, *current),
        StoreError::TooLarge { .. } => ApiError::too_large(format!("Request entity too large: {error}")),
        StoreError::Unavailable { .. } => ApiError::unavailable(error.to_string()),
        other => ApiError::internal(other),
    }
}

/// 504 for a revision that is not there yet.
fn too_large_revision(wanted: u64, current: u64) -> ApiError {
    use martello_api::status::{Cause, Details};
    let message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
    let mut error = ApiError::new(504, "Timeout", message);
    let cause = Cause::new("ResourceVersionTooLarge", "", "Too large resource version");
    error.details = Some(Box::new(Details { causes: vec![cause], retry_after_seconds: 1, ..Details::default() }));
    error
}

impl Core {
    /// The object under a name.
    pub async fn find(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Option<Arc<Entry>>, ApiError> {
        let key = kind.key(namespace, name);
        self.store.get(&key).await.map_err(|error| store_failure(&error))
    }

    /// The object under a name as this server knows it, which may be a little old: nobody else is asked, and nothing that was
    /// found here may be relied on.
    pub async fn at_hand(&self, kind: &Kind, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        let scope = Scope::object(&kind.key(namespace, name));
        let listed = self.store.list(&scope, ListAt::NotOlderThan(0), Page::default()).await;
        listed.ok().and_then(|listed| listed.items.into_iter().next())
    }

    /// The object under a name, or 404.
    pub async fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Arc<Entry>, ApiError> {
        self.find(kind, namespace, name).await?.ok_or_else(|| kind.not_found(name))
    }

    /// The JSON of an entry as this kind shows it, revision included. Opens what is sealed.
    pub async fn json(&self, kind: &Kind, entry: &Entry) -> Result<Bytes, ApiError> {
        let bytes = if entry.is_sealed() { self.open(entry, entry.revision).await? } else { entry.bytes().clone() };
        if kind.shows_as_stored(entry) {
            return Ok(bytes);
        }
        let value = kind.read(self, parse(&bytes)?).await?;
        Ok(with_revision(&kind.encode(&value), entry.revision))
    }

    /// The JSON of an entry with another revision in it.
    pub async fn json_at(&self, kind: &Kind, entry: &Entry, revision: u64) -> Result<Bytes, ApiError> {
        if entry.is_sealed() || !kind.shows_as_stored(entry) {
            let bytes = self.json(kind, entry).await?;
            return Ok(with_revision(&bytes, revision));
        }
        Ok(entry.bytes_at(revision))
    }

    /// The object of an entry as this kind shows it.
    pub async fn value(&self, kind: &Kind, entry: &Entry) -> Result<Value, ApiError> {
        if kind.shows_as_stored(entry) {
            return if entry.is_sealed() { parse(&self.json(kind, entry).await?) } else { parse(entry.bytes()) };
        }
        let mut value = kind.read(self, parse(entry.bytes())?).await?;
        if let Some(map) = value.as_object_mut() {
            map.insert("kind".into(), kind.name().into());
            map.insert("apiVersion".into(), kind.resource.gvk.api_version().into());
        }
        Ok(value)
    }

    /// The objects of entries as this kind shows them.
    pub async fn values(&self, kind: &Kind, entries: &[Arc<Entry>]) -> Result<Vec<Value>, ApiError> {
        if !(kind.is_custom() && kind.converts()) {
            let mut values = Vec::with_capacity(entries.len());
            for entry in entries {
                values.push(self.value(kind, entry).await?);
            }
            return Ok(values);
        }
        let stored: Result<Vec<Value>, ApiError> = entries.iter().map(|entry| parse(entry.bytes())).collect();
        kind.read_all(self, stored?).await
    }

    async fn open(&self, entry: &Entry, revision: u64) -> Result<Bytes, ApiError> {
        let opened = self.sealer.open(&entry.key, &entry.uid, entry.bytes())?;
        Ok(with_revision(&Bytes::copy_from_slice(&opened), revision))
    }

    /// What is to be stored of an object.
    pub async fn pack(&self, kind: &Kind, key: &Key, value: &Value) -> Result<Object, ApiError> {
        refuse_abysses(value)?;
        let uid: Arc<str> = object::uid(value).into();
        let labels = labels(value);
        let (json, fields) = if kind.converts() {
            let stored = kind.write(self, value.clone()).await?;
            refuse_abysses(&stored)?;
            (encode_under(&head_of(&stored), &stored), fields(kind, &stored))
        } else {
            (kind.encode(value), fields(kind, value))
        };
        let body = if kind.sealed() {
            Body::Sealed(Bytes::from(self.sealer.seal(key, &uid, &json)?))
        } else {
            Body::json(&json).ok_or_else(|| ApiError::internal("encoding the object: it has no metadata"))?
        };
        Ok(Object { uid, labels, fields, body })
    }

    /// Stores an object, however large it is.
    pub async fn put(&self, kind: &Kind, value: &Value, expected: Expected) -> Result<Arc<Entry>, WriteError> {
        let packed = self.packed(kind, value).await?;
        self.put_packed(packed, expected).await
    }

    /// What is to be stored of an object, and where.
    pub(super) async fn packed(&self, kind: &Kind, value: &Value) -> Result<(Key, Object), ApiError> {
        let key = kind.key(object::namespace(value), object::name(value));
        let object = self.pack(kind, &key, value).await?;
        Ok((key, object))
    }

    /// Stores what was packed.
    pub(super) async fn put_packed(
        &self,
        (key, object): (Key, Object),
        expected: Expected,
    ) -> Result<Arc<Entry>, WriteError> {
        let expect = match expected {
            Expected::Absent => Expect::Absent,
            Expected::Revision(revision) => Expect::Revision(revision),
        };
        let written = self.commit_one(Op::Put { key, object, expect }).await?;
        self.quotas.wrote(&written.key);
        Ok(written)
    }

    /// Removes an object; answers it as it last was, with the revision of its end.
    pub async fn remove(&self, entry: &Entry) -> Result<Arc<Entry>, WriteError> {
        let op = Op::Delete { key: entry.key.clone(), expect: Expect::Revision(entry.revision) };
        let gone = self.commit_one(op).await?;
        self.quotas.wrote(&gone.key);
        Ok(gone)
    }

    /// All objects of a namespace, or of all.
    pub async fn all(&self, kind: &Kind, namespace: &str) -> Result<Vec<Value>, ApiError> {
        let listed = self.store.list(&kind.scope(namespace), ListAt::Latest, Page::default()).await;
        self.values(kind, &listed.map_err(|error| store_failure(&error))?.items).await
    }

    async fn commit_one(&self, op: Op) -> Result<Arc<Entry>, WriteError> {
        match self.store.commit(vec![op]).await {
            Ok(Committed { mut entries, .. }) => entries
                .pop()
                .flatten()
                .ok_or_else(|| WriteError::Failed(ApiError::internal("the store answered a commit without its entry"))),
            Err(StoreError::Conflict { current, .. }) => Err(WriteError::Conflict(current)),
            Err(error) => Err(WriteError::Failed(store_failure(&error))),
        }
    }
}

/// Refuses what is too deep to be read again. The fields that managers own stand deeper than the fields themselves.
fn refuse_abysses(value: &Value) -> Result<(), ApiError> {
    if object::is_deeper(value, MAX_STORED_DEPTH) {
        let why = "levels deep, what stands in its metadata.managedFields included";
        return Err(ApiError::too_large(format!(
            "Request entity too large: the object is more than {MAX_STORED_DEPTH} {why}"
        )));
    }
    Ok(())
}

/// Parses JSON that the server itself wrote.
pub fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| ApiError::internal(format!("reading a stored object: {error}")))
}

/// JSON of an object with this revision in it.
#[must_use]
pub fn with_revision(json: &Bytes, revision: u64) -> Bytes {
    match Body::json(json) {
        Some(Body::Json { head, tail }) => {
            let revision = revision.to_string();
            let mut out = Vec::with_capacity(head.len() + revision.len() + tail.len());
            out.extend_from_slice(&head);
            out.extend_from_slice(revision.as_bytes());
            out.extend_from_slice(&tail);
            Bytes::from(out)
        }
        _ => json.clone(),
    }
}

/// Sets the revision of a value.
pub fn set_revision(value: &mut Value, revision: u64) {
    object::set(value, &["metadata"], "resourceVersion", revision.to_string());
}

fn labels(value: &Value) -> Pairs {
    let labels = object::at(value, &["metadata", "labels"]).and_then(Value::as_object);
    Pairs::from_iter(labels.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))))
}

fn fields(kind: &Kind, stored: &Value) -> Pairs {
    let own = kind.index(stored);
    Pairs::from_iter(own.iter().map(|(path, value)| (path.as_str(), value.as_str())))
}

/// What a field selector sees of an entry.
#[must_use]
pub fn entry_field<'a>(entry: &'a Entry, path: &str) -> &'a str {
    match path {
        NAME_FIELD => entry.key.name(),
        NAMESPACE_FIELD => entry.key.namespace(),
        _ => entry.fields.get(path).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_stored_can_be_read_within_a_list_and_a_watch() {
        let nested = |levels: usize| (1..levels).fold(json!({}), |below, _| json!({"f:a": below}));
        let deepest = nested(MAX_STORED_DEPTH);
        assert!(refuse_abysses(&deepest).is_ok());
        let shown = json!({"type": "ADDED", "object": {"items": [deepest]}}).to_string();
        assert!(serde_json::from_str::<Value>(&shown).is_ok());
        assert_eq!(refuse_abysses(&nested(MAX_STORED_DEPTH + 1)).unwrap_err().code, 413);
        assert!(parse(nested(128).to_string().as_bytes()).is_err(), "or the limit has no reason");
    }
}
