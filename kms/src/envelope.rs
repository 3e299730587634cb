//! Envelope encryption of one object version: a data key of its own, wrapped by the key service, and both
//! bound to the place where the object lives.
//!
//! Layout: version (1), generation (4, big endian), wrapped data key (60), nonce (12), ciphertext, tag (16).

use zeroize::Zeroizing;

use crate::aead::{Cipher, NONCE_BYTES, TAG_BYTES};
use crate::keyring::GenerationId;
use crate::secret::{Key, RandomError};
use crate::service::{Kms, KmsError, WRAPPED_BYTES, WrappedKey};

/// Version byte of the layout.
const FORMAT: u8 = 1;
/// Bytes in front of nonce and ciphertext.
const HEADER_BYTES: usize = 1 + 4 + WRAPPED_BYTES;
/// How much longer a sealed object is than its plaintext.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + NONCE_BYTES + TAG_BYTES;

/// Where an object lives. What was sealed for one place does not open in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place<'a> {
    /// The cluster's id ([`Kms::cluster`]).
    pub cluster: &'a str,
    /// The resource, plural, for instance `secrets`.
    pub resource: &'a str,
    /// The namespace; empty for what has none.
    pub namespace: &'a str,
    /// The object's name.
    pub name: &'a str,
    /// The object's uid.
    pub uid: &'a str,
}

/// Why an object could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// The bytes end too early.
    #[error("the sealed object is cut short: {length} bytes, at least {OVERHEAD_BYTES} are needed")]
    Truncated {
        /// How many bytes there are.
        length: usize,
    },
    /// The version byte is unknown.
    #[error("the sealed object has format {0}, which this version does not know")]
    UnknownFormat(u8),
    /// The key service refused.
    #[error("the sealed object's data key could not be had")]
    Key(#[from] KmsError),
    /// The plaintext could not be encrypted.
    #[error("{length} bytes could not be sealed: too long, or the operating system gave no random bytes")]
    NotSealed {
        /// How many bytes there are.
        length: usize,
    },
    /// The ciphertext does not match its key and place.
    #[error("the sealed object does not open: it was changed, or was sealed for another place")]
    NotOpened,
    /// No random bytes.
    #[error("could not make a data key")]
    Random(#[from] RandomError),
}

/// Seals `plaintext` for `place`.
///
/// # Errors
/// When no data key could be made or wrapped.
pub fn seal(kms: &Kms, place: &Place<'_>, plaintext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
    let aad = place.encode();
    let data_key = Key::random()?;
    let mut sealed = Vec::with_capacity(OVERHEAD_BYTES + plaintext.len());
    push_header(&mut sealed, &kms.wrap(&data_key, &aad)?);
    Cipher::new(&data_key)
        .and_then(|cipher| cipher.seal_into(plaintext, &aad, &mut sealed).ok())
        .ok_or(EnvelopeError::NotSealed { length: plaintext.len() })?;
    Ok(sealed)
}

/// Opens what [`seal`] made for `place`.
///
/// # Errors
/// When the bytes were cut or changed, or were sealed for another place or by another cluster.
pub fn open(kms: &Kms, place: &Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    let (wrapped, body) = parse(sealed)?;
    let aad = place.encode();
    let data_key = kms.unwrap(&wrapped, &aad)?;
    Cipher::new(&data_key).and_then(|cipher| cipher.open(body, &aad)).ok_or(EnvelopeError::NotOpened)
}

/// Which generation the object's data key is wrapped under.
///
/// # Errors
/// When the bytes are not a sealed object.
pub fn generation(sealed: &[u8]) -> Result<GenerationId, EnvelopeError> {
    Ok(parse(sealed)?.0.generation)
}

/// The same sealed object with its data key under the active generation, without opening the object;
/// `None` when it is there already.
///
/// # Errors
/// As [`open`].
pub fn rewrap(kms: &Kms, place: &Place<'_>, sealed: &[u8]) -> Result<Option<Vec<u8>>, EnvelopeError> {
    let (wrapped, body) = parse(sealed)?;
    if wrapped.generation == kms.active() {
        return Ok(None);
    }
    let aad = place.encode();
    let data_key = kms.unwrap(&wrapped, &aad)?;
    let mut rewrapped = Vec::with_capacity(sealed.len());
    push_header(&mut rewrapped, &kms.wrap(&data_key, &aad)?);
    rewrapped.extend_from_slice(body);
    Ok(Some(rewrapped))
}

fn push_header(out: &mut Vec<u8>, wrapped: &WrappedKey) {
    out.push(FORMAT);
    out.extend_from_slice(&wrapped.generation.0.to_be_bytes());
    out.extend_from_slice(&wrapped.bytes);
}

fn parse(sealed: &[u8]) -> Result<(WrappedKey, &[u8]), EnvelopeError> {
    let truncated = || EnvelopeError::Truncated { length: sealed.len() };
    let (&format, rest) = sealed.split_first().ok_or_else(truncated)?;
    if format != FORMAT {
        return Err(EnvelopeError::UnknownFormat(format));
    }
    if sealed.len() < OVERHEAD_BYTES {
        return Err(truncated());
    }
    let (id, rest) = rest.split_first_chunk().ok_or_else(truncated)?;
    let (bytes, body) = rest.split_first_chunk().ok_or_else(truncated)?;
    Ok((WrappedKey { generation: GenerationId(u32::from_be_bytes(*id)), bytes: *bytes }, body))
}

impl Place<'_> {
    /// Unambiguous bytes: each field is preceded by its length.
    fn encode(&self) -> Vec<u8> {
        let fields = [self.cluster, self.resource, self.namespace, self.name, self.uid];
        let mut bytes = Vec::with_capacity(1 + fields.iter().map(|field| field.len() + 8).sum::<usize>());
        bytes.push(FORMAT);
        for field in fields {
            bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
            bytes.extend_from_slice(field.as_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn kms() -> Kms {
        Kms::ephemeral(Timestamp::UNIX_EPOCH).unwrap()
    }

    const PLACE: Place<'_> =
        Place { cluster: "c1", resource: "secrets", namespace: "shop", name: "db-credentials", uid: "u1" };

    #[test]
    fn what_was_sealed_opens_in_its_place() {
        let kms = kms();
        let sealed = seal(&kms, &PLACE, b"password").unwrap();
        assert_eq!(sealed.len(), OVERHEAD_BYTES + 8);
        assert!(!sealed.windows(8).any(|window| window == b"password"));
        assert_eq!(open(&kms, &PLACE, &sealed).unwrap().as_slice(), b"password");
    }

    #[test]
    fn a_sealed_object_does_not_open_elsewhere() {
        let kms = kms();
        let sealed = seal(&kms, &PLACE, b"password").unwrap();
        let elsewhere = [
            Place { cluster: "c2", ..PLACE },
            Place { resource: "configmaps", ..PLACE },
            Place { namespace: "other", ..PLACE },
            Place { name: "mine", ..PLACE },
            Place { uid: "u2", ..PLACE },
            Place { namespace: "shopd", name: "b-credentials", ..PLACE },
        ];
        for place in elsewhere {
            assert!(open(&kms, &place, &sealed).is_err(), "{place:?}");
            assert!(kms.rotate(Timestamp::UNIX_EPOCH).is_ok());
            assert!(rewrap(&kms, &place, &sealed).is_err(), "{place:?}");
        }
    }

    #[test]
    fn two_versions_of_an_object_share_no_key() {
        let kms = kms();
        let (one, two) = (seal(&kms, &PLACE, b"same").unwrap(), seal(&kms, &PLACE, b"same").unwrap());
        let mut mixed = one[..HEADER_BYTES].to_vec();
        mixed.extend_from_slice(&two[HEADER_BYTES..]);
        assert!(matches!(open(&kms, &PLACE, &mixed), Err(EnvelopeError::NotOpened)));
    }

    #[test]
    fn rewrapping_moves_to_the_active_generation_and_keeps_the_content() {
        let kms = kms();
        let sealed = seal(&kms, &PLACE, b"password").unwrap();
        assert!(rewrap(&kms, &PLACE, &sealed).unwrap().is_none());
        let active = kms.rotate(Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(open(&kms, &PLACE, &sealed).unwrap().as_slice(), b"password");
        let moved = rewrap(&kms, &PLACE, &sealed).unwrap().unwrap();
        assert_eq!(generation(&moved).unwrap(), active);
        assert_eq!(open(&kms, &PLACE, &moved).unwrap().as_slice(), b"password");
    }

    proptest! {
        #[test]
        fn a_changed_bit_or_a_cut_is_an_error(
            plaintext in proptest::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), bit in 0..8u8,
        ) {
            let kms = kms();
            let sealed = seal(&kms, &PLACE, &plaintext).unwrap();
            let at = at.index(sealed.len());
            let mut changed = sealed.clone();
            changed[at] ^= 1 << bit;
            prop_assert!(open(&kms, &PLACE, &changed).is_err());
            prop_assert!(open(&kms, &PLACE, &sealed[..at]).is_err());
            let opened = open(&kms, &PLACE, &sealed).unwrap();
            prop_assert_eq!(opened.as_slice(), plaintext.as_slice());
        }

        #[test]
        fn any_bytes_are_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let kms = kms();
            prop_assert!(open(&kms, &PLACE, &bytes).is_err());
            if let Some(first) = bytes.first_mut() { *first = FORMAT; }
            prop_assert!(open(&kms, &PLACE, &bytes).is_err());
        }
    }
}
