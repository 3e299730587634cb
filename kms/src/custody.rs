//! Who keeps the root key. A provider unlocks something that can encrypt and decrypt the keyring.

mod key_file;
mod passphrase;

use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

pub use self::key_file::KeyFile;
pub use self::passphrase::{MIN_PASSPHRASE_BYTES, Passphrase};
use crate::aead::RootCipher;
use crate::file::FileError;
use crate::secret::{RandomError, RootKey};

/// First bytes of an encrypted keyring: a mark and the format's version.
const MAGIC: &[u8; 4] = b"MKR\x01";
/// Bytes of the root key's fingerprint that stand in front of the keyring, to tell a wrong key from damage.
const FINGERPRINT_BYTES: usize = 8;

/// Whether this cluster has keys already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// There is no keyring: the provider may make a root key.
    First,
    /// There is a keyring: the provider must find the root key that it was encrypted with.
    Later,
}

/// Someone who keeps the root key: a file, a person's passphrase; later a token, a TPM, a remote service.
pub trait RootKeyProvider: fmt::Debug + Send + Sync {
    /// The name in configuration and messages, for instance `key-file`.
    fn name(&self) -> &'static str;

    /// Makes (on the first boot) or finds the root key of the cluster whose data lies in `data_dir`.
    ///
    /// # Errors
    /// When the key is missing, is not safe where it lies, or is not the right one.
    fn unlock(&self, data_dir: &Path, boot: Boot) -> Result<Box<dyn KeyringSeal>, CustodyError>;
}

/// Encrypts and decrypts the keyring. A hardware token does it without letting its key out.
pub trait KeyringSeal: Send + Sync {
    /// Encrypts an encoded keyring.
    ///
    /// # Errors
    /// When the custodian refuses or fails.
    fn wrap(&self, keyring: &[u8]) -> Result<Vec<u8>, CustodyError>;

    /// Decrypts what [`Self::wrap`] made.
    ///
    /// # Errors
    /// When it was encrypted with another root key, or was changed.
    fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, CustodyError>;
}

/// Why the root key could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    /// The keyring exists, its root key does not.
    #[error(
        "the root key file {path} is missing, and the keyring in {data_dir} can't be opened without it; \
         restore the file from your backup"
    )]
    Missing {
        /// Where the key should be.
        path: PathBuf,
        /// The data that needs it.
        data_dir: PathBuf,
    },
    /// The key would lie beside the data that it protects.
    #[error(
        "the root key file {path} lies inside the data directory {data_dir}; keep it outside, so that a copy of the data does not hold its key"
    )]
    InsideDataDir {
        /// Where the key is.
        path: PathBuf,
        /// The data directory.
        data_dir: PathBuf,
    },
    /// Others could read or replace the key.
    #[error("{path} is not safe for a root key: {why}; fix it with `{fix}`")]
    Unsafe {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
        /// The command that mends it.
        fix: String,
    },
    /// The file holds something else.
    #[error("{path} does not hold a root key: {why}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// The passphrase does not open the keyring.
    #[error("the passphrase is wrong for the keyring in {data_dir}")]
    WrongPassphrase {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The passphrase of a new cluster is too weak.
    #[error("the passphrase has {length} bytes; a root passphrase has at least {minimum}")]
    ShortPassphrase {
        /// Its length in bytes.
        length: usize,
        /// The shortest that is taken.
        minimum: usize,
    },
    /// The passphrase could not be turned into a key.
    #[error("could not derive the root key from the passphrase: {0}")]
    Derivation(String),
    /// The keyring belongs to another root key.
    #[error("the keyring was encrypted with another root key than the one given")]
    WrongRootKey,
    /// The keyring was changed or cut.
    #[error("the keyring is damaged: it does not decrypt with its root key; restore it from your backup")]
    DamagedKeyring,
    /// The keyring could not be encrypted.
    #[error("could not encrypt the keyring: {0}")]
    Wrapping(String),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// No random bytes for a new key.
    #[error("could not make a root key")]
    Random(#[from] RandomError),
}

impl KeyringSeal for RootKey {
    fn wrap(&self, keyring: &[u8]) -> Result<Vec<u8>, CustodyError> {
        let mut wrapped = MAGIC.to_vec();
        wrapped.extend_from_slice(&self.fingerprint());
        let header = wrapped.clone();
        let sealed = self.keyring_cipher().seal_into(keyring, &header, &mut wrapped);
        sealed.map_err(|error| CustodyError::Wrapping(error.to_string()))?;
        Ok(wrapped)
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
        let (header, sealed) =
            wrapped.split_at_checked(MAGIC.len() + FINGERPRINT_BYTES).ok_or(CustodyError::DamagedKeyring)?;
        let fingerprint = header.strip_prefix(MAGIC).ok_or(CustodyError::DamagedKeyring)?;
        if fingerprint != self.fingerprint() {
            return Err(CustodyError::WrongRootKey);
        }
        self.keyring_cipher().open(sealed, header).ok_or(CustodyError::DamagedKeyring)
    }
}

impl RootKey {
    fn keyring_cipher(&self) -> RootCipher {
        RootCipher::new(&self.key().derive(&[b"martello keyring v1"]))
    }

    /// Tells root keys apart without saying anything about them.
    fn fingerprint(&self) -> [u8; FINGERPRINT_BYTES] {
        let mut short = [0; FINGERPRINT_BYTES];
        let full = self.key().derive(&[b"martello root key fingerprint v1"]);
        short.iter_mut().zip(full.expose()).for_each(|(to, from)| *to = *from);
        short
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Key;

    #[test]
    fn a_keyring_opens_with_its_root_key_only() {
        let root = RootKey::new(Key::random().unwrap());
        let other = RootKey::new(Key::random().unwrap());
        let wrapped = root.wrap(b"keyring").unwrap();
        assert_eq!(root.unwrap(&wrapped).unwrap().as_slice(), b"keyring");
        assert!(matches!(other.unwrap(&wrapped), Err(CustodyError::WrongRootKey)));
    }

    #[test]
    fn a_changed_or_cut_keyring_is_named_as_damaged() {
        let root = RootKey::new(Key::random().unwrap());
        let wrapped = root.wrap(b"keyring").unwrap();
        for length in 0..wrapped.len() {
            assert!(root.unwrap(&wrapped[..length]).is_err());
        }
        for index in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[index] ^= 1;
            assert!(root.unwrap(&changed).is_err(), "byte {index}");
        }
    }
}
