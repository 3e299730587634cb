//! Operations: what the directory of a layer becomes, step by step.

use crate::layers::{LayerPath, Meta};

/// What has to be done in the directory of the layer that is being read, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Make the directory, or, where this layer has made it already, give it other metadata.
    Dir {
        /// Where; may be the root.
        path: LayerPath,
        /// Its metadata.
        meta: Meta,
        /// Nothing of the layers below shows in it.
        opaque: bool,
    },
    /// Make a regular file from the entry's content.
    File {
        /// Where.
        path: LayerPath,
        /// Its metadata.
        meta: Meta,
    },
    /// Make a symbolic link.
    Symlink {
        /// Where.
        path: LayerPath,
        /// To what.
        target: Vec<u8>,
        /// Its metadata (a link has no mode).
        meta: Meta,
    },
    /// Give a file of this layer another name.
    Hardlink {
        /// The new name.
        path: LayerPath,
        /// The file.
        to: LayerPath,
    },
    /// Make a named pipe.
    Fifo {
        /// Where.
        path: LayerPath,
        /// Its metadata.
        meta: Meta,
    },
    /// Hide what the layers below have there.
    Whiteout {
        /// Where.
        path: LayerPath,
    },
    /// Take back what this layer put there before: a whiteout, or an earlier entry of the same name.
    Remove {
        /// Where.
        path: LayerPath,
    },
}
