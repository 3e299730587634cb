//! What stands between the store and the disk: nothing is written that did not pass a [`Cipher`].

/// Authenticated encryption of the store's records. The key and its rotation are the implementation's matter.
pub trait Cipher: Send + Sync + 'static {
    /// Encrypts `plaintext` for `place`, the record's name, which is authenticated with it.
    fn seal(&self, place: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, CipherError>;

    /// Decrypts what was sealed for this very `place`.
    fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CipherError>;
}

/// Why a record was neither sealed nor opened. Says nothing about the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    /// The key is not at hand.
    #[error("the key is not available")]
    Unavailable,
    /// The bytes were not sealed by this key for this place.
    #[error("not sealed by this key for this place")]
    Unauthentic,
}
