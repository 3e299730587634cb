//! What can be asked of the state: the commands that the log consists of.

use std::sync::Arc;

use super::StoreError;
use super::key::Key;
use super::object::Object;

/// Operations in one commit. The largest that are needed delete an object with everything that hangs on it.
pub const MAX_COMMIT_OPS: usize = 1024;

/// Bytes of objects in one commit: the largest object has 1.5 MiB without its escapes, all of it may have to be escaped by
/// six bytes for one, and sealing adds a little.
pub const MAX_COMMIT_BYTES: usize = 10 * 1024 * 1024;

/// One operation of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes an object.
    Put {
        /// Where.
        key: Key,
        /// Only if this is so.
        expect: Expect,
        /// What.
        object: Object,
    },
    /// Deletes an object, which has to be there.
    Delete {
        /// Which.
        key: Key,
        /// Only if this is so.
        expect: Expect,
    },
    /// Changes nothing, but the commit fails if this isn't so.
    Check {
        /// Which object.
        key: Key,
        /// What has to be so.
        expect: Expect,
    },
}

/// What an operation expects of the object as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Whatever it is.
    Any,
    /// There is none.
    Absent,
    /// It was written at this revision.
    Revision(u64),
}

/// An entry of the log, as far as the state is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// All of these or none.
    Commit(Arc<[Op]>),
    /// Forget what was before this revision.
    Compact(u64),
}

impl Op {
    /// The object it is on.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } | Self::Check { key, .. } => key,
        }
    }

    /// What it expects of that.
    #[must_use]
    pub fn expect(&self) -> Expect {
        match self {
            Self::Put { expect, .. } | Self::Delete { expect, .. } | Self::Check { expect, .. } => *expect,
        }
    }

    fn size_bytes(&self) -> usize {
        let key = self.key();
        let object = match self {
            Self::Put { object, .. } => {
                object.body.len() + object.uid.len() + object.labels.size_bytes() + object.fields.size_bytes()
            }
            Self::Delete { .. } | Self::Check { .. } => 0,
        };
        object + key.path().len() + key.resource().as_str().len()
    }
}

impl Command {
    /// A commit within the limits.
    pub(super) fn commit(ops: Vec<Op>) -> Result<Self, StoreError> {
        if ops.len() > MAX_COMMIT_OPS {
            return Err(StoreError::TooLarge { size: ops.len(), limit: MAX_COMMIT_OPS, unit: "operations" });
        }
        let size = ops.iter().map(Op::size_bytes).sum();
        if size > MAX_COMMIT_BYTES {
            return Err(StoreError::TooLarge { size, limit: MAX_COMMIT_BYTES, unit: "bytes" });
        }
        Ok(Self::Commit(ops.into()))
    }

    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Self::Commit(ops) => ops.iter().map(Op::size_bytes).sum(),
            Self::Compact(_) => 0,
        }
    }
}
