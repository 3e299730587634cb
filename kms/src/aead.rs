//! AES-256-GCM with a random nonce in front, for keys and other short things.
//!
//! The `aes-gcm` crate is used here because it erases its key schedule when dropped; bulk data goes
//! through `ring` in [`crate::record`].

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use zeroize::Zeroizing;

use crate::secret::{Key, RandomError, fill_random};

/// Length of a GCM nonce (NIST SP 800-38D §5.2.1.1 recommends 96 bits).
pub(crate) const NONCE_BYTES: usize = 12;
/// Length of a GCM tag.
pub(crate) const TAG_BYTES: usize = 16;

/// A prepared key.
#[derive(Clone)]
pub(crate) struct Cipher(Aes256Gcm);

impl Cipher {
    pub(crate) fn new(key: &Key) -> Self {
        Self(Aes256Gcm::new(key.expose().into()))
    }

    /// Appends nonce, ciphertext and tag to `out`.
    pub(crate) fn seal_into(&self, plaintext: &[u8], aad: &[u8], out: &mut Vec<u8>) -> Result<(), RandomError> {
        let mut nonce = [0; NONCE_BYTES];
        fill_random(&mut nonce)?;
        let ciphertext = self
            .0
            .encrypt(&Nonce::from(nonce), Payload { msg: plaintext, aad })
            // Only a plaintext over 64 GiB is refused; no caller can hold one.
            .map_err(|_| RandomError)?;
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&ciphertext);
        Ok(())
    }

    /// The plaintext of nonce, ciphertext and tag; `None` when anything about them was changed.
    pub(crate) fn open(&self, sealed: &[u8], aad: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        self.0.decrypt(&Nonce::from(*nonce), Payload { msg: ciphertext, aad }).ok().map(Zeroizing::new)
    }
}
