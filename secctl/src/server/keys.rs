//! The keys that guard the server's own files: the store's records and the audit trail.

use std::sync::Arc;

use anyhow::Context as _;
use martello_apiserver::store::{Cipher, CipherError};
use martello_kms::{Key, Kms, RecordCipher};

/// Encrypts the store's records.
pub struct StoreCipher(RecordCipher);

impl StoreCipher {
    /// With the cluster's key for this purpose.
    pub fn new(kms: &Kms) -> anyhow::Result<Self> {
        Ok(Self(kms.record_cipher("store").context("derive the store's key")?))
    }
}

impl Cipher for StoreCipher {
    fn seal(&self, place: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, CipherError> {
        self.0.seal(place, plaintext).map_err(|_| CipherError::Unavailable)
    }

    fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CipherError> {
        self.0.open(place, sealed).map_err(|_| CipherError::Unauthentic)
    }
}

/// The keys of the audit trail.
pub fn audit_keys(kms: &Kms) -> anyhow::Result<martello_audit::Keys> {
    // The head must verify after a key rotation, too: its key is that of the first generation.
    let first = kms.generations().first().map(|generation| generation.id).context("the keyring is empty")?;
    let key = kms.derive_at("audit head", first).context("derive the audit trail's key")?;
    let cipher = kms.record_cipher("audit").context("derive the audit trail's cipher")?;
    Ok(martello_audit::Keys { authenticator: Arc::new(HeadKey(key)), cipher: Some(Arc::new(AuditCipher(cipher))) })
}

struct HeadKey(Key);

impl martello_audit::Authenticator for HeadKey {
    fn mac(&self, message: &[u8]) -> [u8; 32] {
        self.0.mac(message)
    }

    fn verify_mac(&self, message: &[u8], mac: &[u8]) -> bool {
        self.0.verify_mac(message, mac)
    }
}

struct AuditCipher(RecordCipher);

impl martello_audit::RecordCipher for AuditCipher {
    fn seal(&self, number: u64, plaintext: &[u8]) -> Result<Vec<u8>, String> {
        self.0.seal(&number.to_be_bytes(), plaintext).map_err(|error| error.to_string())
    }

    fn open(&self, number: u64, sealed: &[u8]) -> Result<Vec<u8>, String> {
        self.0.open(&number.to_be_bytes(), sealed).map_err(|error| error.to_string())
    }
}
