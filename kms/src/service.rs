//! The handle by which everything outside this crate reaches the keys: it asks, and never holds one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use crate::custody::{CustodyError, RootKeyProvider};
use crate::file::FileError;
use crate::keyring::{GenerationId, GenerationInfo, KeyringError};
use crate::local::LocalKeys;
use crate::record::{RecordCipher, RecordError};
use crate::sealed_file::SealedFile;
use crate::secret::{Key, RandomError};

/// Bytes of a wrapped data key: nonce, key, tag.
pub const WRAPPED_BYTES: usize = crate::aead::NONCE_BYTES + crate::secret::KEY_BYTES + crate::aead::TAG_BYTES;

/// A data key under a key-encryption key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// Which generation's key wraps it.
    pub generation: GenerationId,
    /// Nonce, encrypted key and tag.
    pub bytes: [u8; WRAPPED_BYTES],
}

/// What the keeper of the keyring answers. In this process it is [`LocalKeys`]; a socket to a confined
/// process can stand in for it.
pub trait KeyService: Send + Sync {
    /// Wraps a data key under the active generation, bound to `aad`.
    ///
    /// # Errors
    /// When no nonce could be made.
    fn wrap(&self, data_key: &Key, aad: &[u8]) -> Result<WrappedKey, KmsError>;

    /// The data key in `wrapped`.
    ///
    /// # Errors
    /// When the generation is unknown, or key or `aad` are not those that were wrapped.
    fn unwrap(&self, wrapped: &WrappedKey, aad: &[u8]) -> Result<Key, KmsError>;

    /// The key for `purpose` of a generation.
    ///
    /// # Errors
    /// When the generation is unknown.
    fn derive(&self, purpose: &str, generation: GenerationId) -> Result<Key, KmsError>;

    /// The active generation.
    fn active(&self) -> GenerationId;

    /// All generations, oldest first.
    fn generations(&self) -> Vec<GenerationInfo>;

    /// The id of the cluster, made with its keyring.
    fn cluster(&self) -> String;

    /// Adds a generation and makes it the active one, when it is on disk.
    ///
    /// # Errors
    /// When the new keyring could not be made or stored; the old one stays in use.
    fn rotate(&self, now: Timestamp) -> Result<GenerationId, KmsError>;
}

/// Why the keys could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    /// The root key could not be used.
    #[error("could not open the keyring by {provider}")]
    Custody {
        /// The provider's name.
        provider: &'static str,
        /// Why.
        #[source]
        source: CustodyError,
    },
    /// The keyring could not be used.
    #[error("could not use the keyring {path}")]
    Keyring {
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyringError,
    },
    /// A file could not be read or written.
    #[error("could not keep the keyring on disk")]
    File(#[from] FileError),
    /// The generation is not in the keyring.
    #[error("key generation {0} is not in this cluster's keyring")]
    UnknownGeneration(GenerationId),
    /// A data key could not be wrapped.
    #[error("a data key could not be wrapped: the operating system gave no random bytes")]
    NotWrapped,
    /// A data key does not unwrap.
    #[error("the data key does not open: it was wrapped for another place, by another cluster, or was changed")]
    NotUnwrapped,
    /// No random bytes.
    #[error("could not make a key")]
    Random(#[from] RandomError),
}

/// A handle to the keys of a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Kms(Arc<dyn KeyService>);

impl Kms {
    /// Opens the keyring in `data_dir`, or makes one on the first boot, with the root key that `provider` keeps.
    ///
    /// # Errors
    /// When the root key is missing, unsafe or wrong, or the keyring is damaged.
    pub fn open(data_dir: &Path, provider: &dyn RootKeyProvider, now: Timestamp) -> Result<Self, KmsError> {
        Ok(Self(Arc::new(LocalKeys::open(data_dir, provider, now)?)))
    }

    /// Keys that live and die with this process, for tests and benches.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn ephemeral(now: Timestamp) -> Result<Self, KmsError> {
        Ok(Self(Arc::new(LocalKeys::ephemeral(now)?)))
    }

    /// A handle to keys that are kept elsewhere.
    #[must_use]
    pub fn from_service(service: Arc<dyn KeyService>) -> Self {
        Self(service)
    }

    /// The id of the cluster, made with its keyring and never changed.
    #[must_use]
    pub fn cluster(&self) -> String {
        self.0.cluster()
    }

    /// Wraps a data key, bound to `aad`.
    ///
    /// # Errors
    /// When no nonce could be made.
    pub fn wrap(&self, data_key: &Key, aad: &[u8]) -> Result<WrappedKey, KmsError> {
        self.0.wrap(data_key, aad)
    }

    /// The data key in `wrapped`.
    ///
    /// # Errors
    /// When it was not wrapped by this cluster for this `aad`.
    pub fn unwrap(&self, wrapped: &WrappedKey, aad: &[u8]) -> Result<Key, KmsError> {
        self.0.unwrap(wrapped, aad)
    }

    /// A key of its own for `purpose`, of the active generation, and which generation that is.
    ///
    /// # Errors
    /// When a rotation dropped the generation in between.
    pub fn derive(&self, purpose: &str) -> Result<(GenerationId, Key), KmsError> {
        let generation = self.0.active();
        Ok((generation, self.0.derive(purpose, generation)?))
    }

    /// The key for `purpose` of an older generation.
    ///
    /// # Errors
    /// When the generation is not in the keyring.
    pub fn derive_at(&self, purpose: &str, generation: GenerationId) -> Result<Key, KmsError> {
        self.0.derive(purpose, generation)
    }

    /// A cipher for records at rest (log entries, state, snapshots, audit), with keys of its own for `purpose`.
    ///
    /// # Errors
    /// When the key could not be made.
    pub fn record_cipher(&self, purpose: &str) -> Result<RecordCipher, RecordError> {
        RecordCipher::new(Arc::clone(&self.0), purpose)
    }

    /// A small file that is encrypted; `purpose` is bound to it, so that files can't be exchanged.
    #[must_use]
    pub fn sealed_file(&self, path: impl Into<PathBuf>, purpose: &str) -> SealedFile {
        SealedFile::new(self.clone(), path.into(), purpose)
    }

    /// The active generation.
    #[must_use]
    pub fn active(&self) -> GenerationId {
        self.0.active()
    }

    /// All generations, oldest first.
    #[must_use]
    pub fn generations(&self) -> Vec<GenerationInfo> {
        self.0.generations()
    }

    /// Adds a generation: from now on new data is encrypted under it, and older data still opens.
    ///
    /// # Errors
    /// When it could not be made or stored; the old generation stays active.
    pub fn rotate(&self, now: Timestamp) -> Result<GenerationId, KmsError> {
        self.0.rotate(now)
    }
}

impl fmt::Debug for Kms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kms").field("active", &self.active()).finish_non_exhaustive()
    }
}
