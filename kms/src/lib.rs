//! Secret types, envelope encryption, key generations and custody of the root key.
//!
//! The hierarchy, top down: a *root key* in someone's custody ([`custody`]) encrypts the *keyring*
//! ([`keyring`]), a list of generations. From a generation come the key-encryption key that wraps the
//! data keys of sealed objects ([`envelope`]) and, per purpose, the keys for records at rest ([`record`]).
//! Everyone outside this crate holds a [`Kms`] handle and asks; nobody holds a generation's secret.

pub mod custody;
pub mod envelope;
pub mod file;
pub mod keyring;
pub mod local;
pub mod record;
pub mod sealed_file;
pub mod secret;
pub mod service;

mod aead;

pub use custody::{KeyFile, Passphrase, RootKeyProvider};
pub use envelope::{Place, open, seal};
pub use record::RecordCipher;
pub use sealed_file::SealedFile;
pub use secret::{Key, RootKey, SecretBytes};
pub use service::{Kms, KmsError};
pub use zeroize::Zeroizing;
