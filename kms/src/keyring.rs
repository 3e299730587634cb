//! The keyring: the generations of the cluster's key-encryption secret. Pure; [`crate::local`] keeps it on disk.

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::secret::{KEY_BYTES, Key, RandomError, fill_random};

/// Version byte of the encoding.
const FORMAT: u8 = 1;
/// Bytes of a cluster's id before it is written in hex.
const CLUSTER_ID_BYTES: usize = 16;
/// Encoded length of one generation: id, creation time in seconds, secret.
const GENERATION_BYTES: usize = 4 + 8 + KEY_BYTES;
/// Most generations a keyring holds; a rotation every day fills it in eleven years, and old ones are dropped by then.
pub const MAX_GENERATIONS: usize = 4096;
/// Most bytes an encoded keyring has.
pub(crate) const MAX_ENCODED_BYTES: u64 = (1 + CLUSTER_ID_BYTES + MAX_GENERATIONS * GENERATION_BYTES) as u64;

/// Number of a generation. Counts up from 1 and is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenerationId(pub u32);

impl std::fmt::Display for GenerationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a generation is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GenerationState {
    /// New data is encrypted under it.
    Active,
    /// It still decrypts what was encrypted under it.
    Retired,
}

/// What may be known about a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerationInfo {
    /// Its number.
    pub id: GenerationId,
    /// When it was made.
    pub created: Timestamp,
    /// What it is used for.
    pub state: GenerationState,
}

/// Why a keyring could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The decrypted bytes are not a keyring of a known format.
    #[error("the keyring is damaged or was written by a newer version: {0}")]
    Malformed(&'static str),
    /// There is no room for another generation.
    #[error("the keyring holds {MAX_GENERATIONS} generations already; re-encrypt what old ones hold, then drop them")]
    Full,
    /// No random bytes for a new secret.
    #[error("could not make a new key generation")]
    Random(#[from] RandomError),
}

/// One generation and its secret.
#[derive(Clone, Debug)]
pub(crate) struct Generation {
    pub(crate) id: GenerationId,
    pub(crate) created: Timestamp,
    pub(crate) secret: Key,
}

/// The generations, oldest first; the last is active. There is always at least one.
#[derive(Clone, Debug)]
pub(crate) struct Keyring {
    cluster: [u8; CLUSTER_ID_BYTES],
    retired: Vec<Generation>,
    active: Generation,
}

impl Keyring {
    /// A keyring for a new cluster, with its first generation.
    pub(crate) fn create(now: Timestamp) -> Result<Self, KeyringError> {
        let mut cluster = [0; CLUSTER_ID_BYTES];
        fill_random(&mut cluster)?;
        let active = Generation { id: GenerationId(1), created: now, secret: Key::random()? };
        Ok(Self { cluster, retired: Vec::new(), active })
    }

    /// The same keyring with one generation more, which is the active one from now on.
    pub(crate) fn rotated(&self, now: Timestamp) -> Result<Self, KeyringError> {
        if self.retired.len() + 2 > MAX_GENERATIONS {
            return Err(KeyringError::Full);
        }
        let id = GenerationId(self.active.id.0.checked_add(1).ok_or(KeyringError::Full)?);
        let mut next = self.clone();
        let retired = std::mem::replace(&mut next.active, Generation { id, created: now, secret: Key::random()? });
        next.retired.push(retired);
        Ok(next)
    }

    pub(crate) fn cluster(&self) -> String {
        hex::encode(self.cluster)
    }

    pub(crate) fn active(&self) -> &Generation {
        &self.active
    }

    /// All generations, oldest first.
    pub(crate) fn generations(&self) -> impl Iterator<Item = &Generation> {
        self.retired.iter().chain(std::iter::once(&self.active))
    }

    pub(crate) fn infos(&self) -> Vec<GenerationInfo> {
        self.generations()
            .map(|generation| GenerationInfo {
                id: generation.id,
                created: generation.created,
                state: if generation.id == self.active.id { GenerationState::Active } else { GenerationState::Retired },
            })
            .collect()
    }

    /// The bytes that [`Self::decode`] reads. Secret: they go nowhere but under the root key.
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let length = 1 + CLUSTER_ID_BYTES + (self.retired.len() + 1) * GENERATION_BYTES;
        // Room for everything at once: a vector that grows leaves copies of secrets behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.push(FORMAT);
        bytes.extend_from_slice(&self.cluster);
        for generation in self.generations() {
            bytes.extend_from_slice(&generation.id.0.to_be_bytes());
            bytes.extend_from_slice(&generation.created.as_second().to_be_bytes());
            bytes.extend_from_slice(generation.secret.expose());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, KeyringError> {
        let malformed = KeyringError::Malformed;
        let (&format, rest) = bytes.split_first().ok_or(malformed("it is empty"))?;
        if format != FORMAT {
            return Err(malformed("unknown format"));
        }
        let (cluster, rest) = rest.split_first_chunk().ok_or(malformed("it ends in the cluster's id"))?;
        if rest.len() % GENERATION_BYTES != 0 || rest.len() / GENERATION_BYTES > MAX_GENERATIONS {
            return Err(malformed("its length is wrong"));
        }
        let mut generations = Vec::with_capacity(rest.len() / GENERATION_BYTES);
        for chunk in rest.chunks_exact(GENERATION_BYTES) {
            generations.push(decode_generation(chunk).ok_or(malformed("a generation is wrong"))?);
        }
        if !generations.is_sorted_by(|a, b| a.id < b.id) {
            return Err(malformed("its generations are out of order"));
        }
        let active = generations.pop().ok_or(malformed("it has no generation"))?;
        Ok(Self { cluster: *cluster, retired: generations, active })
    }
}

fn decode_generation(chunk: &[u8]) -> Option<Generation> {
    let (id, rest) = chunk.split_first_chunk()?;
    let (created, secret) = rest.split_first_chunk()?;
    Some(Generation {
        id: GenerationId(u32::from_be_bytes(*id)),
        created: Timestamp::from_second(i64::from_be_bytes(*created)).ok()?,
        secret: Key::from_slice(secret)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn rotation_adds_a_generation_and_keeps_the_old_ones() {
        let first = Keyring::create(at(100)).unwrap();
        let second = first.rotated(at(200)).unwrap();
        assert_eq!(second.active().id, GenerationId(2));
        assert_ne!(second.active().secret, first.active().secret);
        let states: Vec<_> = second.infos().iter().map(|info| info.state).collect();
        assert_eq!(states, [GenerationState::Retired, GenerationState::Active]);
        assert_eq!(second.cluster(), first.cluster());
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let keyring = Keyring::create(at(100)).unwrap().rotated(at(200)).unwrap();
        let decoded = Keyring::decode(&keyring.encode()).unwrap();
        assert_eq!(decoded.infos(), keyring.infos());
        assert_eq!(decoded.active().secret, keyring.active().secret);
        assert_eq!(decoded.cluster(), keyring.cluster());
    }

    #[test]
    fn a_full_keyring_refuses_to_rotate() {
        let mut keyring = Keyring::create(at(0)).unwrap();
        for _ in 1..MAX_GENERATIONS {
            keyring = Keyring { retired: Vec::new(), ..keyring.rotated(at(1)).unwrap() };
        }
        keyring.retired = vec![keyring.active.clone(); MAX_GENERATIONS - 1];
        assert!(matches!(keyring.rotated(at(2)), Err(KeyringError::Full)));
    }

    #[test]
    fn generations_that_are_out_of_order_or_too_many_are_refused() {
        let keyring = Keyring::create(at(100)).unwrap().rotated(at(200)).unwrap().rotated(at(300)).unwrap();
        let refused = |keyring: &Keyring| match Keyring::decode(&keyring.encode()) {
            Err(KeyringError::Malformed(why)) => why,
            other => panic!("{other:?}"),
        };
        let mut swapped = keyring.clone();
        swapped.retired.swap(0, 1);
        assert_eq!(refused(&swapped), "its generations are out of order");
        let twice = Keyring { retired: vec![keyring.active.clone()], ..keyring.clone() };
        assert_eq!(refused(&twice), "its generations are out of order");
        let counted = |count: u32| {
            let generation = |id| Generation { id: GenerationId(id), ..keyring.active.clone() };
            Keyring { retired: (1..count).map(generation).collect(), active: generation(count), ..keyring.clone() }
        };
        let most = u32::try_from(MAX_GENERATIONS).unwrap();
        assert!(Keyring::decode(&counted(most).encode()).is_ok());
        assert_eq!(refused(&counted(most + 1)), "its length is wrong");
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = bytes;
            drop(Keyring::decode(&bytes));
            if let Some(first) = bytes.first_mut() { *first = FORMAT; }
            drop(Keyring::decode(&bytes));
        }
    }
}
