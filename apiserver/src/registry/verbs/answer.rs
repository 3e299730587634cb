//! One object as an answer, in the form that the client asked for.

use std::sync::Arc;

use bytes::Bytes;
use martello_api::status::ApiError;
use serde_json::{Value, json};

use crate::{
    http::{
        body::{BoxError, ReplyBody},
        negotiate::{Encoding, Form},
        reply::{self, Reply},
    },
    registry::{
        call::Call,
        kind::Kind,
        object,
        storage::{parse, set_revision, with_revision},
        table,
    },
    server::Core,
    store::Entry,
};

/// What a write left.
pub enum Written {
    /// This entry, of this object.
    Stored(Arc<Entry>, Value),
    /// What was there already.
    Unchanged(Arc<Entry>),
    /// Nothing: this is what would have been stored.
    Only(Value),
}

/// Answers a write.
pub async fn stored(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    code: u16,
    written: Written,
) -> Result<Reply, ApiError> {
    match written {
        Written::Unchanged(entry) => one(core, kind, call, code, &entry).await,
        Written::Only(mut object) => {
            if kind.converts() && !kind.is_custom() {
                kind.to_stored(&mut object);
                kind.show_stored(&mut object);
            }
            value(kind, call, code, object)
        }
        // What is stored may say less than what was sent, or say it elsewhere.
        Written::Stored(entry, _) if kind.converts() => one(core, kind, call, code, &entry).await,
        Written::Stored(entry, mut object) => {
            if !is_plain(call) {
                set_revision(&mut object, entry.revision);
                return value(kind, call, code, object);
            }
            if entry.is_sealed() {
                return Ok(reply::json(code, with_revision(&kind.encode(&object), entry.revision)));
            }
            Ok(reply::json(code, entry.bytes().clone()))
        }
    }
}

/// Answers with an entry.
pub async fn one(core: &Arc<Core>, kind: &Kind, call: &Call, code: u16, entry: &Entry) -> Result<Reply, ApiError> {
    if is_plain(call) {
        return Ok(reply::json(code, core.json(kind, entry).await?));
    }
    value(kind, call, code, core.value(kind, entry).await?)
}

fn is_plain(call: &Call) -> bool {
    call.accepted.encoding == Encoding::Json && call.accepted.form == Form::Objects && !call.pretty()
}

/// Answers with a value.
pub fn value(kind: &Kind, call: &Call, code: u16, value: Value) -> Result<Reply, ApiError> {
    let shaped = match &call.accepted.form {
        Form::Objects => value,
        Form::Table(version) => return told(call, code, table::of_one(kind, call, version, &value)?),
        Form::Metadata(version) => metadata_only(version, &value),
        // Upstream fails where an object has no type of its own.
        Form::MetadataList(_) if kind.is_custom() => return Err(ApiError::new(500, "", "content is not a list")),
        Form::MetadataList(_) => {
            let why = "you requested PartialObjectMetadataList, but the requested object is not a list";
            return Err(not_acceptable(&format!("{why} ({})", kind.go_type())));
        }
    };
    Ok(encoded(call, code, &shaped))
}

/// 406 where the form does not fit the answer.
#[must_use]
pub fn not_acceptable(why: &str) -> ApiError {
    let mut error = ApiError::new(406, "NotAcceptable", why);
    error.details = None;
    error
}

/// A value in the encoding that was asked for, pretty where that was asked for.
#[must_use]
pub fn encoded(call: &Call, code: u16, value: &Value) -> Reply {
    if call.accepted.encoding == Encoding::Json && call.pretty() {
        return reply::json_in_lines(code, value);
    }
    reply::value(code, &call.accepted, value)
}

/// A list that is joined while it is sent.
pub fn joined(frames: impl Iterator<Item = Result<Bytes, BoxError>> + Send + 'static) -> Result<Reply, ApiError> {
    let body = ReplyBody::made(frames).map_err(|error| ApiError::internal(format!("joining a list: {error}")))?;
    Ok(reply::json_body(200, body))
}

/// JSON that is ready, in the encoding that was asked for.
pub fn told(call: &Call, code: u16, json: Vec<u8>) -> Result<Reply, ApiError> {
    if call.accepted.encoding == Encoding::Json && !call.pretty() {
        return Ok(reply::json(code, json));
    }
    Ok(encoded(call, code, &parse(&json)?))
}

/// `PartialObjectMetadata` of an object.
#[must_use]
pub fn metadata_only(version: &str, value: &Value) -> Value {
    let metadata = value.get("metadata").cloned().unwrap_or_else(|| json!({}));
    json!({"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata})
}

/// The same of ready bytes: of an entry's `metadata`.
#[must_use]
pub fn metadata_bytes(version: &str, metadata: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(METADATA_HEAD_BYTES + metadata.len());
    begin_metadata_only(version, &mut bytes);
    bytes.extend_from_slice(metadata);
    bytes.push(b'}');
    bytes
}

/// What `PartialObjectMetadata` takes beside the metadata, and a little more.
const METADATA_HEAD_BYTES: usize = 96;

/// Writes what stands before the metadata; a brace closes what stands behind.
pub fn begin_metadata_only(version: &str, out: &mut Vec<u8>) {
    for part in ["{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/", version, "\",\"metadata\":"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// `Status` of success, about an object.
#[must_use]
pub fn success(kind: &Kind, object: &Value) -> Value {
    let mut details = json!({"name": object::name(object)});
    if !kind.group().is_empty() {
        object::set(&mut details, &[], "group", kind.group());
    }
    object::set(&mut details, &[], "kind", kind.resource.plural.as_ref());
    object::set(&mut details, &[], "uid", object::uid(object));
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
