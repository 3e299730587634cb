//! The keyring kept in this process and on this disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::aead::Cipher;
use crate::custody::{Boot, KeyringSeal, RootKeyProvider};
use crate::file;
use crate::keyring::{GenerationId, GenerationInfo, Keyring, MAX_ENCODED_BYTES};
use crate::secret::Key;
use crate::service::{KeyService, KmsError, WRAPPED_BYTES, WrappedKey};

/// The directory of the keyring, in the data directory.
pub const KMS_DIR: &str = "kms";
/// The encrypted keyring, in [`KMS_DIR`].
pub const KEYRING_FILE: &str = "keyring";
/// Header, nonce and tag that a provider may add to the keyring; hardware tokens add more than our 40 bytes.
const MAX_WRAPPING_BYTES: u64 = 4096;

/// Keeps the keyring in memory, ready for use, and on disk under the root key.
pub struct LocalKeys {
    ready: ArcSwap<Ready>,
    disk: Option<Disk>,
    /// One rotation at a time.
    rotating: Mutex<()>,
}

/// A keyring with its ciphers prepared.
struct Ready {
    keyring: Keyring,
    cluster: String,
    ciphers: BTreeMap<GenerationId, Cipher>,
}

struct Disk {
    path: PathBuf,
    provider: &'static str,
    seal: Box<dyn KeyringSeal>,
}

impl LocalKeys {
    /// Opens the keyring in `data_dir`, or makes it.
    ///
    /// # Errors
    /// When the root key is missing, unsafe or wrong, or the keyring is damaged.
    pub fn open(data_dir: &Path, provider: &dyn RootKeyProvider, now: Timestamp) -> Result<Self, KmsError> {
        let directory = data_dir.join(KMS_DIR);
        file::create_private_dir(&directory)?;
        let path = directory.join(KEYRING_FILE);
        let stored = file::read_if_present(&path, MAX_ENCODED_BYTES + MAX_WRAPPING_BYTES)?;
        let boot = if stored.is_some() { Boot::Later } else { Boot::First };
        let custody = |source| KmsError::Custody { provider: provider.name(), source };
        let seal = provider.unlock(data_dir, boot).map_err(custody)?;
        let disk = Disk { path, provider: provider.name(), seal };
        let keyring = match stored {
            Some(wrapped) => {
                let encoded = disk.seal.unwrap(&wrapped).map_err(custody)?;
                Keyring::decode(&encoded).map_err(|source| KmsError::Keyring { path: disk.path.clone(), source })?
            }
            None => {
                let keyring =
                    Keyring::create(now).map_err(|source| KmsError::Keyring { path: disk.path.clone(), source })?;
                disk.store(&keyring)?;
                keyring
            }
        };
        Ok(Self { ready: ArcSwap::from_pointee(Ready::new(keyring)), disk: Some(disk), rotating: Mutex::new(()) })
    }

    pub(crate) fn ephemeral(now: Timestamp) -> Result<Self, KmsError> {
        let keyring = Keyring::create(now).map_err(in_memory)?;
        Ok(Self { ready: ArcSwap::from_pointee(Ready::new(keyring)), disk: None, rotating: Mutex::new(()) })
    }
}

impl Disk {
    fn store(&self, keyring: &Keyring) -> Result<(), KmsError> {
        let wrapped = self
            .seal
            .wrap(&keyring.encode())
            .map_err(|source| KmsError::Custody { provider: self.provider, source })?;
        Ok(file::write_atomic(&self.path, &wrapped)?)
    }
}

impl Ready {
    fn new(keyring: Keyring) -> Self {
        let ciphers = keyring
            .generations()
            .filter_map(|generation| {
                let key = generation.secret.derive(&[b"key encryption key v1"]);
                Some((generation.id, Cipher::new(&key)?))
            })
            .collect();
        Self { cluster: keyring.cluster(), keyring, ciphers }
    }

    fn cipher(&self, id: GenerationId) -> Result<&Cipher, KmsError> {
        self.ciphers.get(&id).ok_or(KmsError::UnknownGeneration(id))
    }
}

impl KeyService for LocalKeys {
    fn wrap(&self, data_key: &Key, aad: &[u8]) -> Result<WrappedKey, KmsError> {
        let ready = self.ready.load();
        let generation = ready.keyring.active().id;
        let mut wrapped = Vec::with_capacity(WRAPPED_BYTES);
        let sealed = ready.cipher(generation)?.seal_into(data_key.expose(), aad, &mut wrapped);
        sealed.map_err(|_| KmsError::NotWrapped)?;
        let bytes = wrapped.try_into().map_err(|_| KmsError::NotWrapped)?;
        Ok(WrappedKey { generation, bytes })
    }

    fn unwrap(&self, wrapped: &WrappedKey, aad: &[u8]) -> Result<Key, KmsError> {
        let ready = self.ready.load();
        let bytes = ready.cipher(wrapped.generation)?.open(&wrapped.bytes, aad).ok_or(KmsError::NotUnwrapped)?;
        Key::from_slice(&bytes).ok_or(KmsError::NotUnwrapped)
    }

    fn derive(&self, purpose: &str, id: GenerationId) -> Result<Key, KmsError> {
        let ready = self.ready.load();
        let generation = ready
            .keyring
            .generations()
            .find(|generation| generation.id == id)
            .ok_or(KmsError::UnknownGeneration(id))?;
        Ok(generation.secret.derive(&[b"purpose v1", purpose.as_bytes()]))
    }

    fn active(&self) -> GenerationId {
        self.ready.load().keyring.active().id
    }

    fn generations(&self) -> Vec<GenerationInfo> {
        self.ready.load().keyring.infos()
    }

    fn cluster(&self) -> String {
        self.ready.load().cluster.clone()
    }

    fn rotate(&self, now: Timestamp) -> Result<GenerationId, KmsError> {
        let _one_at_a_time = self.rotating.lock();
        let next = self.ready.load().keyring.rotated(now).map_err(|source| match &self.disk {
            Some(disk) => KmsError::Keyring { path: disk.path.clone(), source },
            None => in_memory(source),
        })?;
        if let Some(disk) = &self.disk {
            disk.store(&next)?;
        }
        let id = next.active().id;
        self.ready.store(Arc::new(Ready::new(next)));
        tracing::info!(generation = id.0, "a new key generation is in use");
        Ok(id)
    }
}

fn in_memory(source: crate::keyring::KeyringError) -> KmsError {
    KmsError::Keyring { path: PathBuf::from("(in memory)"), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custody::{CustodyError, KeyFile};
    use crate::service::Kms;

    fn now() -> Timestamp {
        Timestamp::from_second(1_790_000_000).unwrap()
    }

    struct Setup {
        _root: tempfile::TempDir,
        data: PathBuf,
        key_file: KeyFile,
    }

    fn setup() -> Setup {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        let key_file = KeyFile::new(root.path().join("keys/root.key"));
        Setup { _root: root, data, key_file }
    }

    #[test]
    fn a_key_wrapped_before_a_rotation_and_a_restart_still_unwraps() {
        let setup = setup();
        let kms = Kms::open(&setup.data, &setup.key_file, now()).unwrap();
        let key = Key::random().unwrap();
        let wrapped = kms.wrap(&key, b"here").unwrap();
        assert_eq!(kms.rotate(now()).unwrap(), GenerationId(2));
        assert_eq!(kms.unwrap(&wrapped, b"here").unwrap(), key);

        let again = Kms::open(&setup.data, &setup.key_file, now()).unwrap();
        assert_eq!((again.active(), again.cluster()), (GenerationId(2), kms.cluster()));
        assert_eq!(again.unwrap(&wrapped, b"here").unwrap(), key);
        assert!(matches!(again.unwrap(&wrapped, b"elsewhere"), Err(KmsError::NotUnwrapped)));
    }

    #[test]
    fn another_clusters_key_does_not_unwrap() {
        let (one, other) = (Kms::ephemeral(now()).unwrap(), Kms::ephemeral(now()).unwrap());
        let wrapped = one.wrap(&Key::random().unwrap(), b"").unwrap();
        assert!(matches!(other.unwrap(&wrapped, b""), Err(KmsError::NotUnwrapped)));
        let unknown = WrappedKey { generation: GenerationId(7), ..wrapped };
        assert!(matches!(one.unwrap(&unknown, b""), Err(KmsError::UnknownGeneration(GenerationId(7)))));
    }

    #[test]
    fn the_wrong_root_key_is_told_from_a_damaged_keyring() {
        let setup = setup();
        drop(Kms::open(&setup.data, &setup.key_file, now()).unwrap());
        let source = |result: Result<Kms, KmsError>| match result.err().unwrap() {
            KmsError::Custody { source, .. } => source,
            other => panic!("{other}"),
        };

        let other = KeyFile::new(setup.key_file.path.with_file_name("other.key"));
        drop(Kms::open(&setup.data.with_file_name("data2"), &other, now()).unwrap());
        assert!(matches!(source(Kms::open(&setup.data, &other, now())), CustodyError::WrongRootKey));

        let path = setup.data.join(KMS_DIR).join(KEYRING_FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(source(Kms::open(&setup.data, &setup.key_file, now())), CustodyError::DamagedKeyring));
    }

    #[test]
    fn nothing_on_disk_holds_a_secret() {
        let setup = setup();
        let keys = LocalKeys::open(&setup.data, &setup.key_file, now()).unwrap();
        keys.rotate(now()).unwrap();
        for generation in keys.ready.load().keyring.generations() {
            let stored = std::fs::read(setup.data.join(KMS_DIR).join(KEYRING_FILE)).unwrap();
            assert!(!stored.windows(8).any(|window| generation.secret.expose().starts_with(window)));
        }
    }

    #[test]
    fn purposes_and_generations_have_keys_of_their_own() {
        let kms = Kms::ephemeral(now()).unwrap();
        let (first, a) = kms.derive("a").unwrap();
        assert_ne!(a, kms.derive("b").unwrap().1);
        kms.rotate(now()).unwrap();
        assert_ne!(a, kms.derive("a").unwrap().1);
        assert_eq!(a, kms.derive_at("a", first).unwrap());
    }
}
