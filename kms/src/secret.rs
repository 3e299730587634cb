//! Types for what must never be printed and must not outlive its use.

use std::fmt;

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Length of every symmetric key here: AES-256 and HMAC-SHA-256.
pub const KEY_BYTES: usize = 32;

/// Why no secret could be made.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct RandomError;

/// Fills `bytes` from the operating system's random generator.
///
/// # Errors
/// When the generator fails, which leaves nothing to do but to stop.
pub fn fill_random(bytes: &mut [u8]) -> Result<(), RandomError> {
    SystemRandom::new().fill(bytes).map_err(|_| RandomError)
}

/// A 256-bit key. Erased when dropped, compared in constant time, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; KEY_BYTES]);

impl Key {
    /// A fresh random key.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn random() -> Result<Self, RandomError> {
        let mut key = Self([0; KEY_BYTES]);
        fill_random(&mut key.0)?;
        Ok(key)
    }

    /// The key with these bytes; `None` unless there are exactly [`KEY_BYTES`].
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    /// The bytes, for the moment of use.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Another key for one purpose (HKDF-Expand with SHA-256, RFC 5869 §2.3); labels that differ give unrelated keys.
    #[must_use]
    pub fn derive(&self, label: &[&[u8]]) -> Self {
        let mut derived = Self([0; KEY_BYTES]);
        // HKDF-Expand for one block: T(1) = HMAC(key, info | 0x01).
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        for part in label {
            // Each part is preceded by its length, so that no two labels run together.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.update(&[1]);
        derived.0.copy_from_slice(context.sign().as_ref());
        derived
    }

    /// HMAC-SHA-256 of `message`.
    #[must_use]
    pub fn mac(&self, message: &[u8]) -> [u8; KEY_BYTES] {
        let mut mac = [0; KEY_BYTES];
        mac.copy_from_slice(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), message).as_ref());
        mac
    }

    /// Whether `mac` is the HMAC-SHA-256 of `message`, in constant time.
    #[must_use]
    pub fn verify_mac(&self, message: &[u8], mac: &[u8]) -> bool {
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), message, mac).is_ok()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key([redacted])")
    }
}

/// The key at the top of the hierarchy. Only the keyring is encrypted with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootKey(Key);

impl RootKey {
    /// Takes `key` as a root key.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self(key)
    }

    /// The key itself, for the code that keeps it.
    #[must_use]
    pub(crate) fn key(&self) -> &Key {
        &self.0
    }
}

/// Secret bytes of any length, such as a passphrase. Erased when dropped, never printed.
#[derive(Clone, Default)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes over `bytes`.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the moment of use.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<String> for SecretBytes {
    fn from(text: String) -> Self {
        Self::new(text.into_bytes())
    }
}

impl PartialEq for SecretBytes {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretBytes {}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let key = Key::from_slice(&[0x41; KEY_BYTES]).unwrap();
        let printed = format!("{key:?} {:?} {:?}", RootKey::new(key.clone()), SecretBytes::new(b"AAAA".to_vec()));
        assert!(!printed.contains("65") && !printed.contains("AAA"), "{printed}");
        assert_eq!(printed.matches("[redacted]").count(), 3);
    }

    #[test]
    fn labels_that_differ_only_in_where_they_split_give_different_keys() {
        let key = Key::random().unwrap();
        assert_ne!(key.derive(&[b"ab", b"c"]), key.derive(&[b"a", b"bc"]));
        assert_eq!(key.derive(&[b"ab", b"c"]), key.derive(&[b"ab", b"c"]));
        assert_ne!(key.derive(&[]), key);
    }

    #[test]
    fn derivation_is_hkdf_expand() {
        let key = Key::from_slice(&[7; KEY_BYTES]).unwrap();
        let mut expected = [0; KEY_BYTES];
        ring::hkdf::Prk::new_less_safe(ring::hkdf::HKDF_SHA256, &[7; KEY_BYTES])
            .expand(&[&[0, 0, 0, 0, 0, 0, 0, 2], b"ab"], ring::hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut expected))
            .unwrap();
        assert_eq!(key.derive(&[b"ab"]).expose(), &expected);
    }

    #[test]
    fn a_key_has_exactly_its_length() {
        assert!(Key::from_slice(&[0; KEY_BYTES - 1]).is_none() && Key::from_slice(&[0; KEY_BYTES + 1]).is_none());
    }
}
