//! The hash chain and the line that a record is: `<number> <hash> <payload>`.
//!
//! The hash is SHA-256 over the hash before, the number and the payload. A payload is JSON on one line, or base64 of the
//! sealed JSON where the log is encrypted.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Longest line that is read, in bytes: an event is a few hundred to a few thousand, and this bounds a reader's memory.
pub(crate) const MAX_LINE_BYTES: usize = 256 * 1024;

/// Longest JSON of an event that surely fits in a line: encrypted and in base64 it grows by a third and a few bytes.
pub(crate) const MAX_EVENT_BYTES: usize = MAX_LINE_BYTES / 4 * 3 - 1024;

/// Makes and checks message authentication codes with a key that never lies beside the log.
pub trait Authenticator: Send + Sync {
    /// HMAC-SHA-256 of `message`, or as strong.
    fn mac(&self, message: &[u8]) -> [u8; 32];
    /// Whether `mac` is that of `message`, in constant time.
    fn verify_mac(&self, message: &[u8], mac: &[u8]) -> bool;
}

/// Encrypts records at rest.
pub trait RecordCipher: Send + Sync {
    /// Encrypts the record of this number.
    ///
    /// # Errors
    /// With what hindered it, which must not hold the plaintext.
    fn seal(&self, number: u64, plaintext: &[u8]) -> Result<Vec<u8>, String>;
    /// Decrypts the record of this number.
    ///
    /// # Errors
    /// If it was not made for that number and key.
    fn open(&self, number: u64, sealed: &[u8]) -> Result<Vec<u8>, String>;
}

/// The end of a chain: number and hash of its last record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Number of the last record; 0 before the first.
    pub number: u64,
    /// Its hash.
    pub hash: Hash,
}

/// The record that closes off bytes which a crash left behind: their number and hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GapRecord {
    pub(crate) martello: GapMark,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GapMark {
    pub(crate) gap_bytes: u64,
    pub(crate) gap_sha256: String,
    /// When the gap was noticed.
    pub(crate) noticed: String,
}

impl Chain {
    /// The chain with one more record.
    #[must_use]
    pub fn next(&self, payload: &[u8]) -> Self {
        let number = self.number.saturating_add(1);
        let mut context = Context::new(&SHA256);
        context.update(&self.hash);
        context.update(&number.to_be_bytes());
        context.update(payload);
        Self { number, hash: to_hash(context.finish().as_ref()) }
    }

    /// Appends the record's line to `buffer` and moves on.
    pub(crate) fn append(&mut self, payload: &[u8], buffer: &mut Vec<u8>) {
        *self = self.next(payload);
        buffer.extend_from_slice(self.number.to_string().as_bytes());
        buffer.push(b' ');
        let mut digits = [0; 64];
        // The buffer is exactly as long as the digits.
        hex::encode_to_slice(self.hash, &mut digits).unwrap_or_default();
        buffer.extend_from_slice(&digits);
        buffer.push(b' ');
        buffer.extend_from_slice(payload);
        buffer.push(b'\n');
    }

    /// The payload of `line` (without its line feed) if it is the next record, and the chain with it.
    pub(crate) fn accept<'a>(&self, line: &'a [u8]) -> Result<(Self, &'a [u8]), &'static str> {
        let mut parts = line.splitn(3, |&byte| byte == b' ');
        let (Some(number), Some(hash), Some(payload)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("it is no record");
        };
        let next = self.next(payload);
        if number != next.number.to_string().as_bytes() {
            return Err("it bears another number");
        }
        if hash != hex::encode(next.hash).as_bytes() {
            return Err("its hash does not fit its text and the records before it");
        }
        Ok((next, payload))
    }
}

/// What a payload says, decrypted if need be.
pub(crate) fn open_payload(number: u64, payload: &[u8], cipher: Option<&dyn RecordCipher>) -> Result<Vec<u8>, String> {
    if payload.first() == Some(&b'{') {
        return Ok(payload.to_vec());
    }
    let cipher = cipher.ok_or("it is encrypted, and no key was given")?;
    let sealed = STANDARD_NO_PAD.decode(payload).map_err(|error| format!("it is no base64: {error}"))?;
    cipher.open(number, &sealed)
}

/// What is written for `text`, encrypted if need be.
pub(crate) fn make_payload(number: u64, text: Vec<u8>, cipher: Option<&dyn RecordCipher>) -> Result<Vec<u8>, String> {
    match cipher {
        None => Ok(text),
        Some(cipher) => Ok(STANDARD_NO_PAD.encode(cipher.seal(number, &text)?).into_bytes()),
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> Hash {
    to_hash(ring::digest::digest(&SHA256, bytes).as_ref())
}

fn to_hash(bytes: &[u8]) -> Hash {
    let mut hash = Hash::default();
    for (own, byte) in hash.iter_mut().zip(bytes) {
        *own = *byte;
    }
    hash
}
