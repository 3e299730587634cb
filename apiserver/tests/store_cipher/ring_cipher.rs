//! AES-256-GCM with a key that is known to all: for tests and benchmarks.

use martello_apiserver::store::{Cipher, CipherError};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

pub(crate) struct RingCipher {
    key: LessSafeKey,
    random: SystemRandom,
}

impl RingCipher {
    pub(crate) fn new(key: u8) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &[key; 32]).map(LessSafeKey::new);
        Self { key: key.unwrap_or_else(|_| std::process::abort()), random: SystemRandom::new() }
    }
}

impl Cipher for RingCipher {
    fn seal(&self, place: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, CipherError> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| CipherError::Unavailable)?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + plaintext.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let (_, text) = sealed.split_at_mut(NONCE_LEN);
        let tag = self.key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), text);
        sealed.extend_from_slice(tag.map_err(|_| CipherError::Unavailable)?.as_ref());
        Ok(sealed)
    }

    fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CipherError> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(CipherError::Unauthentic)?;
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(place), &mut text);
        let length = opened.map_err(|_| CipherError::Unauthentic)?.len();
        text.truncate(length);
        Ok(text)
    }
}
