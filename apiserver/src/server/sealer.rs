//! Sealing objects for the store, and opening them for those who may read them.

use martello_api::status::ApiError;
use martello_kms::{Kms, Place, Zeroizing};

use crate::store::Key;

/// Seals and opens objects, each bound to its place.
pub struct Sealer {
    kms: Kms,
    cluster: String,
}

impl Sealer {
    /// With the keys of `kms`.
    #[must_use]
    pub fn new(kms: Kms) -> Self {
        let cluster = kms.cluster();
        Self { kms, cluster }
    }

    fn place<'a>(&'a self, key: &'a Key, uid: &'a str) -> Place<'a> {
        Place {
            cluster: &self.cluster,
            resource: key.resource().as_str(),
            namespace: key.namespace(),
            name: key.name(),
            uid,
        }
    }

    /// Seals the bytes of the object at `key`.
    pub fn seal(&self, key: &Key, uid: &str, plaintext: &[u8]) -> Result<Vec<u8>, ApiError> {
        martello_kms::seal(&self.kms, &self.place(key, uid), plaintext)
            .map_err(|error| ApiError::internal(format!("sealing {key}: {error}")))
    }

    /// Opens what was sealed for this very `key`.
    pub fn open(&self, key: &Key, uid: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, ApiError> {
        martello_kms::open(&self.kms, &self.place(key, uid), sealed)
            .map_err(|error| ApiError::internal(format!("opening {key}: {error}")))
    }
}
