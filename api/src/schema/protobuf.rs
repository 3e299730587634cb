//! Protobuf as Kubernetes writes it: an envelope that names version and kind, around a message led by the schema.

mod layout;
mod naming;
mod read;
mod wire;
mod write;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use serde_json::{Map as JsonMap, Value};

use super::decode::excerpt;
use super::{Field, Kind, Link, Schema, Schemas};
use crate::resource::{GroupVersionKind, Text};
use crate::status::ApiError;
pub(super) use layout::Layout;
use read::Read;
use wire::{Reader, Writer};

/// What every enveloped body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Why bytes are no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// No bytes.
    #[error("empty data")]
    Empty,
    /// Nothing behind the prefix.
    #[error("empty body")]
    EmptyBody,
    /// Not in an envelope.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Prefix,
    /// The bytes stop in the middle of a value.
    #[error("unexpected EOF")]
    End,
    /// A number of more than 64 bits.
    #[error("proto: integer overflow")]
    Overflow,
    /// A length that is none.
    #[error("proto: negative length found during unmarshaling")]
    Length,
    /// A field whose number is none.
    #[error("proto: {message}: illegal tag {number} (wire type {tag})")]
    Tag {
        /// The message that it is in.
        message: String,
        /// What would be its number.
        number: i32,
        /// Number and way of writing in one.
        tag: u64,
    },
    /// The end of a group that did not begin in a message.
    #[error("proto: {0}: wiretype end group for non-group")]
    EndOfGroup(String),
    /// The end of a group that did not begin in what nobody knows.
    #[error("proto: unexpected end of group")]
    NoGroup,
    /// A value that is not written as those of its field are.
    #[error("proto: wrong wireType = {wire} for field {field}")]
    WireType {
        /// How it is written.
        wire: u8,
        /// What Go calls the field.
        field: String,
    },
    /// A way of writing that there is not.
    #[error("proto: illegal wireType {0}")]
    UnknownWireType(u8),
    /// Nested too deeply.
    #[error("proto: exceeded max depth")]
    Depth,
    /// More values than an object may hold.
    #[error("proto: too many values")]
    TooMany,
    /// A value that its type refuses.
    #[error("{0}")]
    Value(String),
    /// A kind that has no schema.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind {
        /// `apiVersion` of the envelope.
        api_version: String,
        /// `kind` of the envelope.
        kind: String,
    },
}

impl ProtobufError {
    /// The failure as the API answers it to a body that should have held `gvk`.
    #[must_use]
    pub fn to_api_error(&self, gvk: &GroupVersionKind, body: &[u8]) -> ApiError {
        let kind = &gvk.kind;
        let is_envelope = Envelope::open(body).is_ok();
        ApiError::bad_request(if is_envelope {
            format!("{kind} in version {:?} cannot be handled as a {kind}: {self}", gvk.version)
        } else {
            let shown = excerpt(body);
            format!("the object provided is unrecognized (must be of type {kind}): {self} ({shown})")
        })
    }
}

/// An enveloped body (`runtime.Unknown`): what it is said to be, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// For instance `apps/v1`; may be empty.
    pub api_version: Cow<'a, str>,
    /// For instance `Deployment`; may be empty.
    pub kind: Cow<'a, str>,
    /// The message.
    pub message: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Opens a body.
    ///
    /// # Errors
    /// It is no envelope.
    pub fn open(bytes: &'a [u8]) -> Result<Self, ProtobufError> {
        if bytes.is_empty() {
            return Err(ProtobufError::Empty);
        }
        let body = bytes.strip_prefix(MAGIC).ok_or(ProtobufError::Prefix)?;
        if body.is_empty() {
            return Err(ProtobufError::EmptyBody);
        }
        let mut envelope = Self { api_version: "".into(), kind: "".into(), message: &[] };
        let mut reader = Reader::new(body);
        while let Some(tag) = reader.next("Unknown")? {
            let name = match tag.number {
                1 => "TypeMeta",
                2 => "Raw",
                3 => "ContentEncoding",
                4 => "ContentType",
                _ => {
                    reader.skip(tag)?;
                    continue;
                }
            };
            tag.expect(wire::BYTES, || name.to_owned())?;
            let bytes = reader.bytes()?;
            match tag.number {
                1 => envelope.read_type(bytes)?,
                2 => envelope.message = bytes,
                _ => {}
            }
        }
        Ok(envelope)
    }

    fn read_type(&mut self, bytes: &'a [u8]) -> Result<(), ProtobufError> {
        let mut reader = Reader::new(bytes);
        while let Some(tag) = reader.next("TypeMeta")? {
            let (name, text) = match tag.number {
                1 => ("APIVersion", &mut self.api_version),
                2 => ("Kind", &mut self.kind),
                _ => {
                    reader.skip(tag)?;
                    continue;
                }
            };
            tag.expect(wire::BYTES, || name.to_owned())?;
            *text = reader.text()?;
        }
        Ok(())
    }

    /// The object, in normal form, with the envelope's version and kind where it tells them.
    ///
    /// # Errors
    /// The first field that is malformed.
    pub fn decode(&self, schema: &Schema) -> Result<Value, ProtobufError> {
        let mut map = JsonMap::new();
        for (name, text) in [("kind", &self.kind), ("apiVersion", &self.api_version)] {
            if !text.is_empty() {
                map.insert(name.to_owned(), text.to_string().into());
            }
        }
        Read::default().object(schema, self.message, map)
    }
}

/// Decodes an enveloped object of a built-in kind, whatever it is.
///
/// # Errors
/// It is no envelope, its kind has no schema, or the first field that is malformed.
pub fn decode_protobuf(bytes: &[u8]) -> Result<(GroupVersionKind, Value), ProtobufError> {
    let envelope = Envelope::open(bytes)?;
    let gvk = gvk(&envelope.api_version, &envelope.kind);
    let schema = schema_of(&gvk).ok_or_else(|| ProtobufError::UnknownKind {
        api_version: envelope.api_version.to_string(),
        kind: envelope.kind.to_string(),
    })?;
    let value = envelope.decode(schema)?;
    Ok((gvk, value))
}

/// An object of a built-in kind in its envelope; none where its kind has no schema.
#[must_use]
pub fn encode_protobuf(value: &Value) -> Option<Vec<u8>> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let schema = schema_of(&gvk(api_version, kind))?;
    let mut out = opened(api_version, kind);
    out.message(2, |out| write::object(out, schema, value));
    Some(closed(out))
}

/// Pieces of a list that are sent one by one; objects that are larger are pieces of their own, and are not copied.
const PIECE_BYTES: usize = 64 * 1024;

/// A list whose items are encoded one by one, so that they are never all in memory as values, and nothing is ever as
/// large as the list.
pub struct ProtobufList {
    gvk: GroupVersionKind,
    item: &'static Schema,
    number: u16,
    metadata: Writer,
    objects: Vec<Bytes>,
    /// Of the message so far.
    length: usize,
}

impl ProtobufList {
    /// A list of objects of kind `item`, without any yet; none where there is no schema.
    #[must_use]
    pub fn new(item: &GroupVersionKind, metadata: Value) -> Option<Self> {
        let gvk = GroupVersionKind { kind: format!("{}List", item.kind).into(), ..item.clone() };
        let (item, schema) = (schema_of(item)?, schema_of(&gvk)?);
        let number = schema.field("items")?.number;
        let mut message = Writer::default();
        write::object(&mut message, schema, &Value::Object(JsonMap::from_iter([("metadata".to_owned(), metadata)])));
        Some(Self { gvk, item, number, length: message.0.len(), metadata: message, objects: Vec::new() })
    }

    /// An object of the list's kind, as it can be added again and again.
    #[must_use]
    pub fn encode(&self, value: &Value) -> Vec<u8> {
        let mut out = Writer::default();
        write::object(&mut out, self.item, value);
        out.0
    }

    /// Adds an encoded object.
    pub fn push(&mut self, object: Bytes) {
        let mut head = Writer::default();
        head.head(self.number, object.len());
        self.length += head.0.len() + object.len();
        self.objects.push(object);
    }

    /// The list in its envelope, in pieces.
    #[must_use]
    pub fn finish(self) -> VecDeque<Bytes> {
        let mut pieces = VecDeque::new();
        let mut out = opened(&self.gvk.api_version(), &self.gvk.kind);
        out.head(2, self.length);
        out.0.extend_from_slice(&self.metadata.0);
        for object in self.objects {
            out.head(self.number, object.len());
            if object.len() >= PIECE_BYTES {
                pieces.push_back(std::mem::take(&mut out.0).into());
                pieces.push_back(object);
                continue;
            }
            out.0.extend_from_slice(&object);
            if out.0.len() >= PIECE_BYTES {
                pieces
                    .push_back(std::mem::replace(&mut out.0, Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4)).into());
            }
        }
        pieces.push_back(closed(out).into());
        pieces
    }
}

fn opened(api_version: &str, kind: &str) -> Writer {
    let mut out = Writer(MAGIC.to_vec());
    out.message(1, |out| {
        out.bytes(1, api_version.as_bytes());
        out.bytes(2, kind.as_bytes());
    });
    out
}

/// Neither encoded nor of another type: upstream writes that down too.
fn closed(mut out: Writer) -> Vec<u8> {
    out.bytes(3, &[]);
    out.bytes(4, &[]);
    out.0
}

/// A watch event around an enveloped object, as a frame: the length in four bytes, then the event.
#[must_use]
pub fn protobuf_event(name: &str, object: &[u8]) -> Vec<u8> {
    let mut out = Writer(vec![0; 4]);
    out.bytes(1, name.as_bytes());
    out.message(2, |out| out.bytes(1, object));
    let length = u32::try_from(out.0.len() - 4).unwrap_or(u32::MAX);
    if let Some(head) = out.0.first_chunk_mut::<4>() {
        *head = length.to_be_bytes();
    }
    out.0
}

/// Whether objects of this kind can be told in protobuf.
#[must_use]
pub fn has_protobuf(gvk: &GroupVersionKind) -> bool {
    schema_of(gvk).is_some()
}

fn gvk(api_version: &str, kind: &str) -> GroupVersionKind {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let owned = |text: &str| Text::Owned(text.to_owned());
    GroupVersionKind { group: owned(group), version: owned(version), kind: owned(kind) }
}

fn schema_of(gvk: &GroupVersionKind) -> Option<&'static Schema> {
    match (&*gvk.group, &*gvk.kind) {
        ("meta.k8s.io", "PartialObjectMetadata") => Some(&PARTIAL.0),
        ("meta.k8s.io", "PartialObjectMetadataList") => Some(&PARTIAL.1),
        _ => Schemas::builtin().get(gvk),
    }
}

/// Any object's metadata, alone and in a list: no resource has these kinds, so the table of built-in ones lacks them.
static PARTIAL: LazyLock<(Arc<Schema>, Schema)> = LazyLock::new(|| {
    let builtin = |name: &str| {
        let found = Schemas::builtin().all.iter().find(|schema| schema.name == name);
        found.map_or_else(Link::default, |schema| Link::to(Arc::clone(schema)))
    };
    let field = |name: &'static str, number, kind| Field { number, ..Field::new(name, kind) };
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    let one = Arc::new(Schema::of("PartialObjectMetadata", vec![field("metadata", 1, Kind::Message(builtin(meta)))]));
    let list_meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
    let items = Kind::list(Kind::Message(Link::to(Arc::clone(&one))), super::ListMerge::Atomic);
    let fields = vec![field("metadata", 1, Kind::Message(builtin(list_meta))), field("items", 2, items)];
    (one, Schema::of("PartialObjectMetadataList", fields))
});
