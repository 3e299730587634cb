//! Why the image store could not serve.

use std::io;
use std::path::{Path, PathBuf};

use crate::Digest;
use crate::image::ImageError;

/// Why the store could not serve.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system failed.
    #[error("{doing} {path} in the image store failed")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The index is damaged.
    #[error("the image index {path} is damaged; move it away and import or pull the images again")]
    Index {
        /// The file.
        path: PathBuf,
        /// What the parser met.
        #[source]
        source: serde_json::Error,
    },
    /// A blob is not there.
    #[error("blob {0} is not in the image store")]
    Missing(Digest),
    /// A blob has other bytes than its name says.
    #[error("blob {0} does not have the expected bytes: got digest {1}")]
    Digest(Digest, Digest),
    /// A blob has another size than its descriptor says, or more bytes than allowed.
    #[error("blob {digest} has {actual} bytes instead of {expected}")]
    Size {
        /// The blob.
        digest: String,
        /// What was announced or allowed.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// A manifest or a configuration is refused.
    #[error("image {0} can't be used")]
    Image(Digest, #[source] ImageError),
}

/// What makes a [`StoreError`] of the system's error.
pub(crate) fn io_error(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io { doing, path: path.clone(), source }
}
