//! Encryption of records at rest: log entries, state, snapshots, audit. Microseconds each.
//!
//! Layout: version (1), generation (4, big endian), epoch (8), nonce (12), ciphertext, tag (16).
//! Each process start, and each [`RECORDS_PER_EPOCH`] records, begins an *epoch*: a random value from which a
//! key of its own is derived. So random 96-bit nonces stay far from the bound of NIST SP 800-38D §8.3
//! (2³² messages per key) however much a busy store writes, also when a machine is restored from a snapshot.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::keyring::GenerationId;
use crate::secret::{Key, RandomError, fill_random};
use crate::service::{KeyService, KmsError};

/// Version byte of the layout.
const FORMAT: u8 = 1;
/// Bytes of an epoch's random value; a rare collision only means that two epochs share a key.
const EPOCH_BYTES: usize = 8;
/// Version, generation and epoch; authenticated with the place.
const HEADER_BYTES: usize = 1 + 4 + EPOCH_BYTES;
/// Bytes of the tag.
const TAG_BYTES: usize = 16;
/// How much longer an encrypted record is than its plaintext.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + NONCE_LEN + TAG_BYTES;
/// Records under one key, at which the chance that two nonces collide is 2⁻³⁷.
pub const RECORDS_PER_EPOCH: u64 = 1 << 30;
/// Keys of past epochs that are kept ready; one more costs two microseconds to derive again.
const MAX_READY_EPOCHS: usize = 256;

/// Why a record could not be encrypted or decrypted.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The bytes end too early or begin wrongly.
    #[error("an encrypted {purpose} record is cut short or is none: {length} bytes")]
    Malformed {
        /// What the cipher is for.
        purpose: String,
        /// How many bytes there are.
        length: usize,
    },
    /// The record does not match its key and place.
    #[error("an encrypted {purpose} record does not open: it was changed, or belongs to another place")]
    NotOpened {
        /// What the cipher is for.
        purpose: String,
    },
    /// The key service refused.
    #[error("the key of {purpose} records could not be had")]
    Key {
        /// What the cipher is for.
        purpose: String,
        /// Why.
        #[source]
        source: KmsError,
    },
    /// No random bytes.
    #[error("could not make a nonce")]
    Random(#[from] RandomError),
}

/// Encrypts and decrypts records of one purpose. Cheap to clone, and shared freely between threads.
#[derive(Clone)]
pub struct RecordCipher(Arc<Inner>);

struct Inner {
    service: Arc<dyn KeyService>,
    purpose: String,
    current: ArcSwap<Epoch>,
    ready: RwLock<HashMap<EpochId, Arc<LessSafeKey>>>,
}

type EpochId = (GenerationId, [u8; EPOCH_BYTES]);

struct Epoch {
    id: EpochId,
    key: Arc<LessSafeKey>,
    records: AtomicU64,
}

impl RecordCipher {
    pub(crate) fn new(service: Arc<dyn KeyService>, purpose: &str) -> Result<Self, RecordError> {
        let epoch = begin_epoch(&*service, purpose)?;
        Ok(Self(Arc::new(Inner {
            service,
            purpose: purpose.to_owned(),
            current: ArcSwap::from_pointee(epoch),
            ready: RwLock::default(),
        })))
    }

    /// Encrypts `plaintext`, bound to `place`: whatever tells this record from every other one of the purpose.
    ///
    /// # Errors
    /// When no nonce or key could be made.
    pub fn seal(&self, place: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, RecordError> {
        let epoch = self.0.epoch()?;
        let mut nonce = [0; NONCE_LEN];
        fill_random(&mut nonce)?;
        let header = header(&epoch.id);
        let mut sealed = Vec::with_capacity(OVERHEAD_BYTES + plaintext.len());
        sealed.extend_from_slice(&header);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let failed = || RecordError::NotOpened { purpose: self.0.purpose.clone() };
        let body = sealed.get_mut(HEADER_BYTES + NONCE_LEN..).ok_or_else(failed)?;
        let tag = epoch
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad(&header, place), body)
            .map_err(|_| failed())?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Decrypts what [`Self::seal`] made for `place`.
    ///
    /// # Errors
    /// When the record was cut or changed, or was sealed for another place, purpose or cluster.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, RecordError> {
        let malformed = || RecordError::Malformed { purpose: self.0.purpose.clone(), length: sealed.len() };
        let (header, rest) = sealed.split_first_chunk::<HEADER_BYTES>().ok_or_else(malformed)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(malformed)?;
        let id = parse_header(header).ok_or_else(malformed)?;
        let (key, is_new) = self.0.key_of(&id)?;
        let mut plaintext = body.to_vec();
        let length = key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), aad(header, place), &mut plaintext)
            .map_err(|_| RecordError::NotOpened { purpose: self.0.purpose.clone() })?
            .len();
        plaintext.truncate(length);
        if is_new {
            self.0.remember(id, key);
        }
        Ok(plaintext)
    }
}

impl fmt::Debug for RecordCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordCipher").field("purpose", &self.0.purpose).finish_non_exhaustive()
    }
}

impl Inner {
    /// The epoch to encrypt in; a new one after a rotation, or when the current one is used up.
    fn epoch(&self) -> Result<Arc<Epoch>, RecordError> {
        let epoch = self.current.load_full();
        let used = epoch.records.fetch_add(1, Ordering::Relaxed);
        if used < RECORDS_PER_EPOCH && epoch.id.0 == self.service.active() {
            return Ok(epoch);
        }
        let next = Arc::new(begin_epoch(&*self.service, &self.purpose)?);
        next.records.store(1, Ordering::Relaxed);
        self.current.store(Arc::clone(&next));
        Ok(next)
    }

    /// The key of an epoch, and whether it had to be derived.
    fn key_of(&self, id: &EpochId) -> Result<(Arc<LessSafeKey>, bool), RecordError> {
        let current = self.current.load();
        if current.id == *id {
            return Ok((Arc::clone(&current.key), false));
        }
        if let Some(key) = self.ready.read().get(id) {
            return Ok((Arc::clone(key), false));
        }
        Ok((Arc::new(epoch_key(&*self.service, &self.purpose, id)?), true))
    }

    /// Keeps a key that has opened a record, so garbage can't fill the table.
    fn remember(&self, id: EpochId, key: Arc<LessSafeKey>) {
        let mut ready = self.ready.write();
        if ready.len() >= MAX_READY_EPOCHS {
            ready.clear();
        }
        ready.insert(id, key);
    }
}

fn begin_epoch(service: &dyn KeyService, purpose: &str) -> Result<Epoch, RecordError> {
    let mut salt = [0; EPOCH_BYTES];
    fill_random(&mut salt)?;
    let id = (service.active(), salt);
    let key = Arc::new(epoch_key(service, purpose, &id)?);
    Ok(Epoch { id, key, records: AtomicU64::new(0) })
}

fn epoch_key(service: &dyn KeyService, purpose: &str, id: &EpochId) -> Result<LessSafeKey, RecordError> {
    let failed = |source| RecordError::Key { purpose: purpose.to_owned(), source };
    let of_purpose = service.derive(&format!("record/{purpose}"), id.0).map_err(failed)?;
    let key: Key = of_purpose.derive(&[b"epoch v1", &id.1]);
    let unbound = UnboundKey::new(&AES_256_GCM, key.expose()).map_err(|_| failed(KmsError::NotUnwrapped))?;
    Ok(LessSafeKey::new(unbound))
}

fn header(id: &EpochId) -> [u8; HEADER_BYTES] {
    let mut header = [FORMAT; HEADER_BYTES];
    let content = id.0.0.to_be_bytes().into_iter().chain(id.1);
    header.iter_mut().skip(1).zip(content).for_each(|(to, from)| *to = from);
    header
}

fn parse_header(header: &[u8; HEADER_BYTES]) -> Option<EpochId> {
    let (&format, rest) = header.split_first()?;
    let (generation, epoch) = rest.split_first_chunk()?;
    (format == FORMAT).then_some((GenerationId(u32::from_be_bytes(*generation)), epoch.try_into().ok()?))
}

fn aad(header: &[u8; HEADER_BYTES], place: &[u8]) -> Aad<Vec<u8>> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + place.len());
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(place);
    Aad::from(bytes)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::service::Kms;

    fn kms() -> Kms {
        Kms::ephemeral(Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn a_record_opens_in_its_place_for_its_purpose_only() {
        let kms = kms();
        let store = kms.record_cipher("store").unwrap();
        let sealed = store.seal(b"log/7", b"entry").unwrap();
        assert_eq!(sealed.len(), OVERHEAD_BYTES + 5);
        assert_eq!(store.open(b"log/7", &sealed).unwrap(), b"entry");
        assert!(matches!(store.open(b"log/8", &sealed), Err(RecordError::NotOpened { .. })));
        assert!(kms.record_cipher("audit").unwrap().open(b"log/7", &sealed).is_err());
    }

    #[test]
    fn records_of_earlier_runs_and_generations_still_open() {
        let kms = kms();
        let earlier = kms.record_cipher("store").unwrap().seal(b"p", b"one").unwrap();
        let cipher = kms.record_cipher("store").unwrap();
        let before = cipher.seal(b"p", b"two").unwrap();
        kms.rotate(Timestamp::UNIX_EPOCH).unwrap();
        let after = cipher.seal(b"p", b"three").unwrap();
        assert_ne!(before[..5], after[..5], "the new generation is used at once");
        for (sealed, plaintext) in [(earlier, "one"), (before, "two"), (after, "three")] {
            assert_eq!(cipher.open(b"p", &sealed).unwrap(), plaintext.as_bytes());
        }
    }

    #[test]
    fn an_epoch_ends_before_its_nonces_could_collide() {
        let cipher = kms().record_cipher("store").unwrap();
        let one = cipher.seal(b"", b"").unwrap();
        cipher.0.current.load().records.store(RECORDS_PER_EPOCH, Ordering::Relaxed);
        let two = cipher.seal(b"", b"").unwrap();
        assert_ne!(one[..HEADER_BYTES], two[..HEADER_BYTES]);
        assert!(cipher.open(b"", &one).is_ok() && cipher.open(b"", &two).is_ok());
    }

    #[test]
    fn the_keys_of_old_epochs_that_are_kept_are_bounded() {
        let kms = kms();
        let cipher = kms.record_cipher("store").unwrap();
        for _ in 0..MAX_READY_EPOCHS + 10 {
            let sealed = kms.record_cipher("store").unwrap().seal(b"", b"x").unwrap();
            assert_eq!(cipher.open(b"", &sealed).unwrap(), b"x");
        }
        let kept = cipher.0.ready.read().len();
        assert!((1..=MAX_READY_EPOCHS).contains(&kept), "{kept}");
    }

    #[test]
    fn garbage_leaves_no_key_behind() {
        let cipher = kms().record_cipher("store").unwrap();
        let mut sealed = cipher.seal(b"", b"x").unwrap();
        sealed[5] ^= 1;
        assert!(cipher.open(b"", &sealed).is_err());
        assert!(cipher.0.ready.read().is_empty());
    }

    proptest! {
        #[test]
        fn a_changed_bit_or_a_cut_is_an_error(
            plaintext in proptest::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), bit in 0..8u8,
        ) {
            let cipher = kms().record_cipher("store").unwrap();
            let sealed = cipher.seal(b"place", &plaintext).unwrap();
            let at = at.index(sealed.len());
            let mut changed = sealed.clone();
            changed[at] ^= 1 << bit;
            prop_assert!(cipher.open(b"place", &changed).is_err());
            prop_assert!(cipher.open(b"place", &sealed[..at]).is_err());
            prop_assert_eq!(cipher.open(b"place", &sealed).unwrap(), plaintext);
        }
    }
}
