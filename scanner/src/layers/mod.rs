//! Layers as a judged sequence of operations.
//!
//! A layer is a tar file that somebody else wrote. [`read`] turns it into [`Entry`]s by a parser that
//! knows one reading only and holds every limit; [`View`] keeps the merged tree of the layers read so
//! far, refuses what has no honest meaning, and says what must be done in the layer's own directory
//! ([`Op`]). Inventory and unpacking both go through it: there is no second parser to disagree with.

mod entry;
mod limits;
mod path;
mod pax;
mod read;
mod view;

pub use entry::{Entry, EntryKind, Meta, Xattrs};
pub use limits::{Budget, Limits};
pub use path::LayerPath;
pub use read::{Compression, read};
pub(crate) use read::{read_archive, sniff, unreadable};
pub use view::{Node, NodeKind, Op, View};

use crate::Digest;

/// Why a layer was refused.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The bytes could not be read or decompressed, or are no tar file.
    #[error("reading the layer's tar stream failed")]
    Read(#[source] std::io::Error),
    /// An entry is malformed or hostile.
    #[error("layer entry {path:?} was refused: {why}")]
    Refused {
        /// The entry's name, shortened and made printable.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A limit was passed.
    #[error("the layer passes a limit: {0}")]
    Limit(String),
    /// The uncompressed bytes are not those that the image's configuration names.
    #[error("the layer's uncompressed bytes have digest {actual}, the image's configuration says {expected}")]
    DiffId {
        /// What the configuration says.
        expected: Digest,
        /// What was read.
        actual: Digest,
    },
    /// What receives the entries failed.
    #[error("an entry could not be taken over")]
    Sink(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl LayerError {
    fn refused(path: &[u8], why: impl Into<String>) -> Self {
        Self::Refused { path: printable(path), why: why.into() }
    }
}

/// A name from a layer as it may be shown: escaped and shortened.
pub(crate) fn printable(name: &[u8]) -> String {
    /// Enough to find the entry, short enough for an event's message.
    const SHOWN: usize = 200;
    let shown = name.get(..SHOWN).unwrap_or(name);
    let text = shown.escape_ascii().to_string();
    if shown.len() < name.len() { format!("{text}…") } else { text }
}
