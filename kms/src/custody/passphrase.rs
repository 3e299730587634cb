//! The root key from a passphrase, by Argon2id (RFC 9106). Salt and costs lie beside the keyring.

use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::{Boot, CustodyError, KeyringSeal, RootKeyProvider};
use crate::file;
use crate::local::KMS_DIR;
use crate::secret::{KEY_BYTES, Key, RootKey, SecretBytes, fill_random};

/// Where salt and costs are, in the data directory's `kms`.
const HEADER_FILE: &str = "passphrase.json";
/// Longest header that is read; one is about 200 bytes.
const MAX_HEADER_BYTES: u64 = 4096;
/// Shortest passphrase for a new cluster. It has to withstand guessing by whoever has a copy of the disk.
pub const MIN_PASSPHRASE_BYTES: usize = 12;
/// Bytes of salt, as RFC 9106 recommends.
const SALT_BYTES: usize = 16;
/// Memory for one guess: the second recommended option of RFC 9106.
const MEMORY_KIB: u32 = 64 * 1024;
/// Passes over the memory, of the same option.
const PASSES: u32 = 3;
/// Lanes, of the same option.
const LANES: u32 = 4;
/// Most memory that a header may ask for, so that an edited one can't exhaust the machine.
const MAX_MEMORY_KIB: u32 = 1024 * 1024;
/// Most passes that a header may ask for, for the same reason.
const MAX_PASSES: u32 = 64;
/// Most lanes that a header may ask for, for the same reason.
const MAX_LANES: u32 = 64;

/// Custody by a passphrase that someone enters at start.
#[derive(Clone, Debug)]
pub struct Passphrase(SecretBytes);

/// What is stored: nothing in it is secret.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Header {
    kdf: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    /// Tells a wrong passphrase from a damaged keyring.
    check: String,
}

impl Passphrase {
    /// Custody by this passphrase.
    #[must_use]
    pub fn new(passphrase: SecretBytes) -> Self {
        Self(passphrase)
    }

    fn create(&self, path: &Path) -> Result<RootKey, CustodyError> {
        let length = self.0.expose().len();
        if length < MIN_PASSPHRASE_BYTES {
            return Err(CustodyError::ShortPassphrase { length, minimum: MIN_PASSPHRASE_BYTES });
        }
        let mut salt = [0; SALT_BYTES];
        fill_random(&mut salt)?;
        let key = self.derive(MEMORY_KIB, PASSES, LANES, &salt)?;
        let header = Header {
            kdf: "argon2id".to_owned(),
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt: STANDARD.encode(salt),
            check: STANDARD.encode(check(&key).expose()),
        };
        let json = serde_json::to_vec_pretty(&header).map_err(|error| CustodyError::Derivation(error.to_string()))?;
        file::write_atomic(path, &json)?;
        Ok(RootKey::new(key))
    }

    fn derive(&self, memory_kib: u32, passes: u32, lanes: u32, salt: &[u8]) -> Result<Key, CustodyError> {
        let failed = |error: argon2::Error| CustodyError::Derivation(error.to_string());
        let params = Params::new(memory_kib, passes, lanes, Some(KEY_BYTES)).map_err(failed)?;
        let mut bytes = zeroize::Zeroizing::new([0; KEY_BYTES]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(self.0.expose(), salt, bytes.as_mut_slice())
            .map_err(failed)?;
        Key::from_slice(bytes.as_slice()).ok_or_else(|| CustodyError::Derivation("wrong length".to_owned()))
    }

    fn unlock_with(&self, header: &Header, path: &Path, data_dir: &Path) -> Result<RootKey, CustodyError> {
        let malformed = |why| CustodyError::Malformed { path: path.to_owned(), why };
        if header.kdf != "argon2id" {
            return Err(malformed("its derivation is not argon2id"));
        }
        if header.memory_kib > MAX_MEMORY_KIB || header.passes > MAX_PASSES || header.lanes > MAX_LANES {
            return Err(malformed("its costs are beyond what is ever written"));
        }
        let salt = STANDARD.decode(&header.salt).map_err(|_| malformed("its salt is not base64"))?;
        let expected = STANDARD.decode(&header.check).map_err(|_| malformed("its check is not base64"))?;
        let key = self.derive(header.memory_kib, header.passes, header.lanes, &salt)?;
        if check(&key).expose().ct_eq(expected.as_slice()).into() {
            Ok(RootKey::new(key))
        } else {
            Err(CustodyError::WrongPassphrase { data_dir: data_dir.to_owned() })
        }
    }
}

impl RootKeyProvider for Passphrase {
    fn name(&self) -> &'static str {
        "passphrase"
    }

    fn unlock(&self, data_dir: &Path, boot: Boot) -> Result<Box<dyn KeyringSeal>, CustodyError> {
        let path = header_path(data_dir);
        let Some(bytes) = file::read_if_present(&path, MAX_HEADER_BYTES)? else {
            return match boot {
                Boot::First => Ok(Box::new(self.create(&path)?)),
                Boot::Later => Err(CustodyError::Missing { path, data_dir: data_dir.to_owned() }),
            };
        };
        let header: Header = serde_json::from_slice(&bytes)
            .map_err(|_| CustodyError::Malformed { path: path.clone(), why: "it is not a passphrase header" })?;
        Ok(Box::new(self.unlock_with(&header, &path, data_dir)?))
    }
}

/// A value that proves the key and says nothing about it.
fn check(key: &Key) -> Key {
    key.derive(&[b"martello passphrase check v1"])
}

fn header_path(data_dir: &Path) -> PathBuf {
    data_dir.join(KMS_DIR).join(HEADER_FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(SecretBytes::from(text.to_owned()))
    }

    fn data_dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        file::create_private_dir(&dir.path().join(KMS_DIR)).unwrap();
        dir
    }

    #[test]
    fn the_right_passphrase_opens_and_a_wrong_one_is_named() {
        let dir = data_dir();
        let wrapped =
            passphrase("correct horse battery").unlock(dir.path(), Boot::First).unwrap().wrap(b"keyring").unwrap();
        let again = passphrase("correct horse battery").unlock(dir.path(), Boot::Later).unwrap();
        assert_eq!(again.unwrap(&wrapped).unwrap().as_slice(), b"keyring");
        let refused = passphrase("incorrect horse battery").unlock(dir.path(), Boot::Later).err().unwrap();
        assert!(matches!(refused, CustodyError::WrongPassphrase { .. }));
        assert!(!refused.to_string().contains("horse"));
    }

    #[test]
    fn a_short_passphrase_makes_no_cluster() {
        let dir = data_dir();
        let refused = passphrase("short").unlock(dir.path(), Boot::First).err().unwrap();
        assert!(matches!(refused, CustodyError::ShortPassphrase { .. }));
        assert!(!header_path(dir.path()).exists());
    }

    #[test]
    fn a_header_that_asks_for_too_much_is_refused_before_any_work() {
        let dir = data_dir();
        let header = |memory: u64, passes: u32| {
            format!(
                r#"{{"kdf":"argon2id","memoryKib":{memory},"passes":{passes},"lanes":1,"salt":"AAAAAAAAAAAAAAAAAAAAAA==","check":""}}"#
            )
        };
        for text in [header(4_000_000_000, 1), header(64, 1_000_000), "{}".to_owned(), "[".to_owned()] {
            file::write_atomic(&header_path(dir.path()), text.as_bytes()).unwrap();
            let refused = passphrase("correct horse battery").unlock(dir.path(), Boot::Later).err().unwrap();
            assert!(matches!(refused, CustodyError::Malformed { .. }), "{text}: {refused}");
        }
    }
}
