//! Join tokens: what a machine shows, once, to become a node. Upstream's form: `abcdef.0123456789abcdef`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use martello_api::identity::{GROUP_BOOTSTRAPPERS, User};
use martello_kms::keyring::GenerationId;
use martello_kms::sealed_file::SealedFileError;
use martello_kms::secret::{RandomError, fill_random};
use martello_kms::{Kms, KmsError, SealedFile, SecretBytes};
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::profile::{ProfileError, check_node};
use crate::request::PublicKey;

/// Length of the public part, which names the token.
const ID_LENGTH: usize = 6;
/// Length of the secret part: 82 bits.
const SECRET_LENGTH: usize = 16;
/// The characters of both.
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
/// Most tokens at a time; one per node that is being installed.
const MAX_TOKENS: usize = 1000;
/// Longest life of a token; a machine joins minutes after its token was made.
pub const MAX_JOIN_LIFETIME: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Prefix of the user name of a machine that shows a join token, as upstream's.
const BOOTSTRAP_USER_PREFIX: &str = "system:bootstrap:";
/// What the key that authenticates stored tokens is derived for.
const MAC_PURPOSE: &str = "join tokens";

/// Why a machine does not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It is no join token.
    #[error("a join token has the form abcdef.0123456789abcdef")]
    Malformed,
    /// The token is unknown, used up, or its secret is wrong: which of these is not told.
    #[error("the join token is not valid: unknown, expired or used up; make a new one on the server")]
    NotValid,
    /// The token is for another node.
    #[error("the join token is for another node than {node:?}")]
    OtherNode {
        /// The node that wants to join.
        node: String,
    },
    /// There is a node of this name already.
    #[error("a node {node:?} has joined already; to replace it, use a token that was made for this node")]
    NodeExists {
        /// The node that wants to join.
        node: String,
    },
    /// The name is none.
    #[error(transparent)]
    Node(#[from] ProfileError),
    /// There are too many tokens.
    #[error("there are {MAX_TOKENS} join tokens already; revoke some")]
    TooMany,
    /// The tokens could not be read or written.
    #[error("could not use the stored join tokens")]
    File(#[from] SealedFileError),
    /// The stored tokens are damaged.
    #[error("the stored join tokens are malformed")]
    Stored(#[source] serde_json::Error),
    /// The key for them could not be had.
    #[error("could not use the key of the join tokens")]
    Kms(#[from] KmsError),
    /// No random bytes.
    #[error("could not make a join token")]
    Random(#[from] RandomError),
}

/// A join token. Its secret part is never printed by accident; [`Self::expose`] is for who asked for it.
#[derive(Clone)]
pub struct JoinToken {
    id: String,
    secret: SecretBytes,
}

impl JoinToken {
    /// The part that names the token, which is not secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole token in text.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{}.{}", self.id, String::from_utf8_lossy(self.secret.expose()))
    }

    fn random() -> Result<Self, RandomError> {
        Ok(Self { id: random_text(ID_LENGTH)?, secret: SecretBytes::from(random_text(SECRET_LENGTH)?) })
    }
}

impl FromStr for JoinToken {
    type Err = JoinError;

    fn from_str(text: &str) -> Result<Self, JoinError> {
        let (id, secret) = text.split_once('.').ok_or(JoinError::Malformed)?;
        let valid = |part: &str, length| part.len() == length && part.bytes().all(|byte| ALPHABET.contains(&byte));
        if !valid(id, ID_LENGTH) || !valid(secret, SECRET_LENGTH) {
            return Err(JoinError::Malformed);
        }
        Ok(Self { id: id.to_owned(), secret: SecretBytes::from(secret.to_owned()) })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}.[redacted])", self.id)
    }
}

/// What a new token is to allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinTokenSpec {
    /// How long it holds, at most [`MAX_JOIN_LIFETIME`].
    pub lifetime: SignedDuration,
    /// How many machines may join with it; `None` is as many as like.
    pub uses: Option<u32>,
    /// The only node that may join with it, and may take over that name if it was in use.
    pub node: Option<String>,
    /// What it is for, in the operator's words.
    pub description: String,
}

impl Default for JoinTokenSpec {
    /// A token for one machine within a day.
    fn default() -> Self {
        Self { lifetime: SignedDuration::from_hours(24), uses: Some(1), node: None, description: String::new() }
    }
}

/// What is known of a token. The secret part is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinTokenInfo {
    /// The public part.
    pub id: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it expires.
    pub expires: Timestamp,
    /// How many machines may still join with it.
    pub uses_left: Option<u32>,
    /// The only node that may join with it.
    pub node: Option<String>,
    /// What it is for.
    pub description: String,
}

/// The tokens of a cluster, and who joined with them. Cheap to clone.
#[derive(Clone)]
pub struct JoinTokens(Arc<Inner>);

struct Inner {
    book: Mutex<Book>,
    file: SealedFile,
    kms: Kms,
}

/// What is stored.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Book {
    tokens: BTreeMap<String, Entry>,
    /// Nodes that joined, so that no token but one made for it takes over a node's name.
    nodes: BTreeMap<String, Joined>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    info: JoinTokenInfo,
    /// The generation of the key that made `mac`.
    generation: u32,
    /// HMAC of the whole token: the token itself is not stored.
    mac: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Joined {
    token: String,
    /// Hash of the public key: the same machine may ask again when the answer got lost.
    key: Vec<u8>,
}

impl JoinTokens {
    pub(crate) fn open(file: SealedFile, kms: Kms) -> Result<Self, JoinError> {
        let book = match file.read()? {
            Some(content) => serde_json::from_slice(&content).map_err(JoinError::Stored)?,
            None => Book::default(),
        };
        Ok(Self(Arc::new(Inner { book: Mutex::new(book), file, kms })))
    }

    /// Makes a token.
    ///
    /// # Errors
    /// When the node's name is none, there are too many tokens, or it can't be stored.
    pub fn create(&self, spec: JoinTokenSpec, now: Timestamp) -> Result<JoinToken, JoinError> {
        if let Some(node) = &spec.node {
            check_node(node)?;
        }
        let token = JoinToken::random()?;
        let (generation, key) = self.0.kms.derive(MAC_PURPOSE)?;
        let info = JoinTokenInfo {
            id: token.id.clone(),
            created: now,
            expires: crate::rotation::after(now, spec.lifetime.min(MAX_JOIN_LIFETIME)),
            uses_left: spec.uses,
            node: spec.node,
            description: spec.description,
        };
        let entry = Entry { info, generation: generation.0, mac: key.mac(token.expose().as_bytes()).to_vec() };
        self.change(|book| {
            book.tokens.retain(|_, entry| entry.info.expires > now);
            if book.tokens.len() >= MAX_TOKENS {
                return Err(JoinError::TooMany);
            }
            book.tokens.insert(token.id.clone(), entry);
            Ok(())
        })?;
        Ok(token)
    }

    /// The tokens that hold at `now`.
    #[must_use]
    pub fn list(&self, now: Timestamp) -> Vec<JoinTokenInfo> {
        let book = self.0.book.lock();
        book.tokens.values().map(|entry| &entry.info).filter(|info| info.expires > now).cloned().collect()
    }

    /// Revokes a token by its public part, and says whether there was one.
    ///
    /// # Errors
    /// When that can't be stored.
    pub fn revoke(&self, id: &str) -> Result<bool, JoinError> {
        self.change(|book| Ok(book.tokens.remove(id).is_some()))
    }

    /// Forgets that a node joined, when it was deleted: any token may join under its name again.
    ///
    /// # Errors
    /// When that can't be stored.
    pub fn forget_node(&self, node: &str) -> Result<bool, JoinError> {
        if !self.0.book.lock().nodes.contains_key(node) {
            return Ok(false);
        }
        self.change(|book| Ok(book.nodes.remove(node).is_some()))
    }

    /// The user of a request that shows `token`: upstream's `system:bootstrap:<id>`. The token is not used up by this.
    ///
    /// # Errors
    /// When it is malformed, unknown, expired, or used up.
    pub fn authenticate(&self, token: &str, now: Timestamp) -> Result<User, JoinError> {
        let token: JoinToken = token.parse()?;
        let book = self.0.book.lock();
        let entry = self.0.check(&book, &token, now)?;
        // A used-up token may still be shown by the machine that used it, whose answer got lost.
        let known = entry.info.uses_left != Some(0) || book.nodes.values().any(|joined| joined.token == token.id);
        if !known {
            return Err(JoinError::NotValid);
        }
        Ok(User::authenticated(format!("{BOOTSTRAP_USER_PREFIX}{}", token.id), [GROUP_BOOTSTRAPPERS]))
    }

    /// Uses `token` for `node` with this key. When this returns, the use is on disk. The same machine may ask again.
    ///
    /// # Errors
    /// When the token does not hold, is for another node, or the node's name is taken.
    pub(crate) fn redeem(
        &self,
        token: &JoinToken,
        node: &str,
        key: &PublicKey,
        now: Timestamp,
    ) -> Result<(), JoinError> {
        check_node(node)?;
        let hash = digest(&SHA256, &rcgen::PublicKeyData::subject_public_key_info(key.info()));
        let joined = Joined { token: token.id.clone(), key: hash.as_ref().to_vec() };
        self.change(|book| {
            let info = &self.0.check(book, token, now)?.info;
            if info.node.as_deref().is_some_and(|only| only != node) {
                return Err(JoinError::OtherNode { node: node.to_owned() });
            }
            if book.nodes.get(node) == Some(&joined) {
                return Ok(());
            }
            if book.nodes.contains_key(node) && info.node.is_none() {
                return Err(JoinError::NodeExists { node: node.to_owned() });
            }
            let entry = book.tokens.get_mut(&token.id).ok_or(JoinError::NotValid)?;
            if let Some(uses) = &mut entry.info.uses_left {
                *uses = uses.checked_sub(1).ok_or(JoinError::NotValid)?;
            }
            book.nodes.insert(node.to_owned(), joined);
            Ok(())
        })
    }

    /// Changes a copy of the book, stores it, and only then takes it over.
    fn change<T>(&self, change: impl FnOnce(&mut Book) -> Result<T, JoinError>) -> Result<T, JoinError> {
        let mut book = self.0.book.lock();
        let mut changed = book.clone();
        let result = change(&mut changed)?;
        self.0.file.write(&serde_json::to_vec(&changed).map_err(JoinError::Stored)?)?;
        *book = changed;
        Ok(result)
    }
}

impl Inner {
    /// The entry of a token that is right and holds.
    fn check<'a>(&self, book: &'a Book, token: &JoinToken, now: Timestamp) -> Result<&'a Entry, JoinError> {
        let entry = book.tokens.get(&token.id).ok_or(JoinError::NotValid)?;
        let key = self.kms.derive_at(MAC_PURPOSE, GenerationId(entry.generation))?;
        if !key.verify_mac(token.expose().as_bytes(), &entry.mac) || entry.info.expires <= now {
            return Err(JoinError::NotValid);
        }
        Ok(entry)
    }
}

impl fmt::Debug for JoinTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinTokens").field("tokens", &self.0.book.lock().tokens.len()).finish_non_exhaustive()
    }
}

fn random_text(length: usize) -> Result<String, RandomError> {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut byte = [0];
        fill_random(&mut byte)?;
        let [byte] = byte;
        // Bytes beyond the last whole multiple of 36 would make some characters more likely.
        if usize::from(byte) < 256 / ALPHABET.len() * ALPHABET.len() {
            text.extend(ALPHABET.get(usize::from(byte) % ALPHABET.len()).map(|&character| char::from(character)));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
