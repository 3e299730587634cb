//! AES-256-GCM with a random nonce in front, for keys and other short things.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce as RingNonce, UnboundKey};
use zeroize::Zeroizing;

use crate::secret::{Key, RandomError, fill_random};

/// Length of a GCM nonce (NIST SP 800-38D §5.2.1.1 recommends 96 bits).
pub(crate) const NONCE_BYTES: usize = 12;
/// Length of a GCM tag.
pub(crate) const TAG_BYTES: usize = 16;

/// Why nothing was sealed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    #[error(transparent)]
    Random(#[from] RandomError),
    #[error("AES-256-GCM takes no plaintext of {0} bytes")]
    TooLong(usize),
}

/// A prepared key for what is sealed and opened all the time: assembly from `ring`, a microsecond each.
pub(crate) struct Cipher(LessSafeKey);

impl Cipher {
    /// `None` never, since every [`Key`] has the right length.
    pub(crate) fn new(key: &Key) -> Option<Self> {
        UnboundKey::new(&AES_256_GCM, key.expose()).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    /// Appends nonce, ciphertext and tag to `out`.
    pub(crate) fn seal_into(&self, plaintext: &[u8], aad: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let mut nonce = [0; NONCE_BYTES];
        fill_random(&mut nonce)?;
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(plaintext);
        let sealed = out.get_mut(start..).and_then(|body| {
            self.0.seal_in_place_separate_tag(RingNonce::assume_unique_for_key(nonce), Aad::from(aad), body).ok()
        });
        match sealed {
            Some(tag) => out.extend_from_slice(tag.as_ref()),
            None => {
                out.truncate(start);
                return Err(SealError::TooLong(plaintext.len()));
            }
        }
        Ok(())
    }

    /// The plaintext of nonce, ciphertext and tag; `None` when anything about them was changed.
    pub(crate) fn open(&self, sealed: &[u8], aad: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let mut plaintext = Zeroizing::new(ciphertext.to_vec());
        let length = self
            .0
            .open_in_place(RingNonce::assume_unique_for_key(*nonce), Aad::from(aad), plaintext.as_mut_slice())
            .ok()?
            .len();
        plaintext.truncate(length);
        Some(plaintext)
    }
}

/// A prepared root key, used at start and at rotations only. From `aes-gcm`, which erases its key schedule when dropped.
pub(crate) struct RootCipher(Aes256Gcm);

impl RootCipher {
    pub(crate) fn new(key: &Key) -> Self {
        Self(Aes256Gcm::new(key.expose().into()))
    }

    /// Appends nonce, ciphertext and tag to `out`.
    pub(crate) fn seal_into(&self, plaintext: &[u8], aad: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let mut nonce = [0; NONCE_BYTES];
        fill_random(&mut nonce)?;
        let ciphertext = self
            .0
            .encrypt(&Nonce::from(nonce), Payload { msg: plaintext, aad })
            .map_err(|_| SealError::TooLong(plaintext.len()))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_implementations_read_each_other() {
        let key = Key::random().unwrap();
        let (fast, root) = (Cipher::new(&key).unwrap(), RootCipher::new(&key));
        let (mut one, mut two) = (Vec::new(), Vec::new());
        fast.seal_into(b"text", b"aad", &mut one).unwrap();
        root.seal_into(b"text", b"aad", &mut two).unwrap();
        assert_eq!(root.open(&one, b"aad").unwrap().as_slice(), b"text");
        assert_eq!(fast.open(&two, b"aad").unwrap().as_slice(), b"text");
        assert!(fast.open(&two, b"other").is_none() && fast.open(&two[..27], b"aad").is_none());
    }
}
