//! Objects as they are proposed ([`Object`]), kept ([`Entry`]) and told of ([`Event`]).

use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use bytes::{Bytes, BytesMut};

use super::key::Key;
use super::row::Row;
use super::splice::{self, Place};

/// An object as its proposer encoded it, with what selection needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `metadata.labels`.
    pub labels: Pairs,
    /// The fields that field selectors may name, by path.
    pub fields: Pairs,
    /// The encoding.
    pub body: Body,
}

/// An encoded object without its revision, which is known only when it is committed.
#[derive(Clone, PartialEq, Eq)]
pub enum Body {
    /// JSON; the revision goes between head and tail.
    Json {
        /// Up to and with the quote that opens the revision.
        head: Bytes,
        /// From the quote that closes it.
        tail: Bytes,
    },
    /// Sealed; whoever opens it puts the revision in.
    Sealed(Bytes),
}

/// An object as it is kept.
#[derive(Clone)]
pub struct Entry {
    /// Where it is.
    pub key: Key,
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `metadata.labels`.
    pub labels: Pairs,
    /// The fields that field selectors may name, by path.
    pub fields: Pairs,
    /// The revision that created it.
    pub created: u64,
    /// The revision that wrote it so.
    pub revision: u64,
    bytes: Bytes,
    /// Where the revision's digits begin; none in a sealed object.
    splice: Option<u32>,
    forms: Forms,
}

/// What else was made of an object, when it was first asked for.
#[derive(Default)]
struct Forms {
    /// In protobuf, without an envelope.
    protobuf: OnceLock<Bytes>,
    /// A row of a Table, by the columns that were asked for last.
    row: ArcSwapOption<Row>,
}

/// Of a copy all is made anew: it may be of another revision.
impl Clone for Forms {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It came.
    Added,
    /// It changed.
    Modified,
    /// It went.
    Deleted,
}

/// One change of one object. Shared by all watchers.
#[derive(Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// When.
    pub revision: u64,
    /// The object; a deleted one as it was last, with the revision of its deletion.
    pub entry: Arc<Entry>,
    /// As it was before; none when it was added.
    pub previous: Option<Arc<Entry>>,
    /// A place for the encoded watch event, so that it is encoded once for all watchers.
    pub frame: OnceLock<Bytes>,
    /// The same for those who watch in protobuf.
    pub protobuf_frame: OnceLock<Bytes>,
    /// The same for those who watch metadata alone.
    pub metadata_frame: OnceLock<Bytes>,
}

/// A few names with values, in one piece of memory.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Pairs {
    text: Arc<str>,
    /// Where each name and each value ends.
    ends: Arc<[u32]>,
}

impl Body {
    /// The JSON of an object, whatever its `metadata.resourceVersion` says or whether there is one.
    ///
    /// `None` when it isn't an object with an object `metadata`.
    #[must_use]
    pub fn json(json: &Bytes) -> Option<Self> {
        match splice::find(json)? {
            Place::Value(range) => Some(Self::Json { head: json.slice(..range.start), tail: json.slice(range.end..) }),
            Place::Member { at, empty } => {
                let mut head = BytesMut::with_capacity(at + MEMBER.len());
                head.extend_from_slice(json.get(..at)?);
                head.extend_from_slice(MEMBER);
                let mut tail = BytesMut::with_capacity(json.len() - at + 2);
                tail.extend_from_slice(if empty { b"\"" } else { b"\"," });
                tail.extend_from_slice(json.get(at..)?);
                Some(Self::Json { head: head.freeze(), tail: tail.freeze() })
            }
        }
    }

    /// How many bytes there are without the revision.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Json { head, tail } => head.len() + tail.len(),
            Self::Sealed(bytes) => bytes.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

const MEMBER: &[u8] = b"\"resourceVersion\":\"";

impl Entry {
    pub(super) fn new(key: Key, object: &Object, created: u64, revision: u64) -> Self {
        let (bytes, splice) = match &object.body {
            Body::Sealed(bytes) => (bytes.clone(), None),
            Body::Json { head, tail } => (join(head, revision, tail), u32::try_from(head.len()).ok()),
        };
        let Object { uid, labels, fields, .. } = object.clone();
        Self { key, uid, labels, fields, created, revision, bytes, splice, forms: Forms::default() }
    }

    pub(super) fn restore(key: Key, object: Object, created: u64, revision: u64, splice: Option<u32>) -> Self {
        let Object { uid, labels, fields, body } = object;
        let bytes = match body {
            Body::Json { head, .. } => head,
            Body::Sealed(bytes) => bytes,
        };
        Self { key, uid, labels, fields, created, revision, bytes, splice, forms: Forms::default() }
    }

    /// The bytes to send, revision included; of a sealed object the sealed bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether the bytes are sealed.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.splice.is_none()
    }

    /// The bytes of `metadata`; none of a sealed object.
    #[must_use]
    pub fn metadata(&self) -> Option<Bytes> {
        self.splice?;
        splice::metadata(&self.bytes).map(|range| self.bytes.slice(range))
    }

    /// The object in protobuf, as it was made before, or as `make` makes it now.
    ///
    /// # Errors
    /// What `make` fails with.
    pub fn protobuf<E>(&self, make: impl FnOnce() -> Result<Bytes, E>) -> Result<Bytes, E> {
        match self.forms.protobuf.get() {
            Some(made) => Ok(made.clone()),
            None => make().map(|made| self.forms.protobuf.get_or_init(|| made).clone()),
        }
    }

    /// The object as a row by the columns of that number, as it was made before, or as `make` makes it now. A long row is
    /// not kept, and of what is sealed none ever is.
    ///
    /// # Errors
    /// What `make` fails with.
    pub fn row<E>(&self, columns: u64, make: impl FnOnce() -> Result<Row, E>) -> Result<Arc<Row>, E> {
        if let Some(kept) = self.forms.row.load().as_ref().filter(|kept| kept.columns() == columns) {
            return Ok(Arc::clone(kept));
        }
        let made = Arc::new(make()?);
        if made.is_small() && !self.is_sealed() {
            self.forms.row.store(Some(Arc::clone(&made)));
        }
        Ok(made)
    }

    pub(super) fn splice(&self) -> Option<u32> {
        self.splice
    }

    /// The bytes with another revision in them, as a watcher is told of an object that leaves its selection.
    #[must_use]
    pub fn bytes_at(&self, revision: u64) -> Bytes {
        let spliced = self.splice.and_then(|start| {
            let head = self.bytes.get(..start as usize)?;
            let tail = self.bytes.get(start as usize + digits(self.revision)..)?;
            Some(join(head, revision, tail))
        });
        spliced.unwrap_or_else(|| self.bytes.clone())
    }

    /// The same object with another revision.
    pub(super) fn at(&self, revision: u64) -> Self {
        Self { revision, bytes: self.bytes_at(revision), ..self.clone() }
    }
}

fn join(head: &[u8], revision: u64, tail: &[u8]) -> Bytes {
    let mut all = Vec::with_capacity(head.len() + digits(revision) + tail.len());
    all.extend_from_slice(head);
    let mut buffer = [0_u8; 20];
    let mut rest = revision;
    let mut written = 0;
    for slot in buffer.iter_mut().rev() {
        *slot = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        written += 1;
        if rest == 0 {
            break;
        }
    }
    all.extend(buffer.iter().skip(20 - written));
    all.extend_from_slice(tail);
    Bytes::from(all)
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

impl Pairs {
    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find_map(|(key, value)| (key == name).then_some(value))
    }

    /// Names and values, in the order they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        self.ends.chunks_exact(2).filter_map(move |pair| {
            let [name_end, value_end] = pair else { return None };
            let (name_end, value_end) = (*name_end as usize, *value_end as usize);
            let pair = (self.text.get(start..name_end)?, self.text.get(name_end..value_end)?);
            start = value_end;
            Some(pair)
        })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.text.len() + self.ends.len() * 4
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Pairs {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut text = String::new();
        let mut ends = Vec::new();
        for (name, value) in pairs {
            for part in [name.as_ref(), value.as_ref()] {
                text.push_str(part);
                ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
            }
        }
        Self { text: text.into(), ends: ends.into() }
    }
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}, {} bytes", self.key, self.revision, self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::Resource;
    use super::*;

    fn entry(json: &'static str, revision: u64) -> Entry {
        let body = Body::json(&Bytes::from_static(json.as_bytes())).unwrap();
        let object = Object { uid: "u".into(), labels: Pairs::default(), fields: Pairs::default(), body };
        Entry::new(Key::new(&Resource::new("", "pods"), "a", "b"), &object, 1, revision)
    }

    #[test]
    fn a_revision_is_spliced_in_and_replaced() {
        for json in [r#"{"metadata":{"name":"x","resourceVersion":"77"},"z":1}"#, r#"{"metadata":{"name":"x"},"z":1}"#]
        {
            for revision in [0, 9, 10, 99, 100, 12345, u64::MAX] {
                let kept = entry(json, revision);
                for text in [kept.bytes().clone(), entry(json, 5).bytes_at(revision)] {
                    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
                    assert_eq!(value["metadata"]["resourceVersion"], revision.to_string());
                    assert_eq!(value["metadata"]["name"], "x");
                    assert_eq!(value["z"], 1);
                }
            }
        }
        assert_eq!(&entry(r#"{"metadata":{}}"#, 4).bytes()[..], br#"{"metadata":{"resourceVersion":"4"}}"#);
    }

    #[test]
    fn a_row_is_made_once_and_again_for_other_columns() {
        let kept = entry(r#"{"metadata":{}}"#, 4);
        let made = std::cell::Cell::new(0);
        let row = |columns: u64, bytes: usize| {
            let make = || {
                made.set(made.get() + 1);
                Ok::<_, ()>(Row::new(columns, vec![b'x'; bytes], Vec::new()))
            };
            assert_eq!(kept.row(columns, make).unwrap().columns(), columns);
            made.get()
        };
        assert_eq!([row(1, 9), row(1, 9), row(2, 9), row(2, 9), row(1, 9)], [1, 1, 2, 2, 3]);
        assert_eq!([row(3, 9999), row(3, 9999)], [4, 5], "a long one is not kept");
    }

    #[test]
    fn another_revision_shares_no_form() {
        let kept = entry(r#"{"metadata":{}}"#, 4);
        kept.protobuf(|| Ok::<_, ()>(Bytes::from_static(b"4"))).unwrap();
        let made = kept.at(5).protobuf(|| Ok::<_, ()>(Bytes::from_static(b"5")));
        assert_eq!(made.unwrap(), "5");
    }

    #[test]
    fn pairs_give_back_what_was_put_in() {
        let pairs: Pairs = [("app", "web"), ("empty", ""), ("tier", "front")].into_iter().collect();
        assert_eq!(pairs.get("tier"), Some("front"));
        assert_eq!(pairs.get("empty"), Some(""));
        assert_eq!(pairs.get("none"), None);
        assert_eq!(pairs.iter().count(), 3);
        assert!(Pairs::default().is_empty());
    }

    #[test]
    fn an_object_s_content_is_not_in_its_debug_output() {
        assert_eq!(format!("{:?}", entry(r#"{"metadata":{},"secret":"x"}"#, 4)), "pods a/b at 4, 49 bytes");
    }
}
