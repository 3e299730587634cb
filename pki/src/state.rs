//! The authorities and signing keys on disk: one sealed file.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use martello_kms::SealedFile;
use martello_kms::sealed_file::SealedFileError;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::authority::{AuthorityError, AuthorityKey, AuthorityKind};
use crate::ec::{EcError, Pkcs8};
use crate::rotation::{Generation, Phase, Rotating};
use crate::token::keys::TokenKey;

/// Version of the file's content.
const FORMAT: u32 = 1;
/// Room for the content, so that the buffer does not grow and leave copies of keys behind.
const INITIAL_BYTES: usize = 64 * 1024;

/// Why the state could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file could not be read or written.
    #[error("could not use the authorities on disk")]
    File(#[from] SealedFileError),
    /// The content is of another version, or damaged.
    #[error("the stored authorities are malformed: {0}")]
    Malformed(String),
    /// An authority can't be used.
    #[error("a stored authority for {kind} can't be used")]
    Authority {
        /// Which authority.
        kind: &'static str,
        /// Why.
        #[source]
        source: AuthorityError,
    },
    /// A signing key can't be used.
    #[error("a stored signing key of tokens can't be used")]
    TokenKey(#[source] EcError),
}

/// All private keys of the cluster's identities.
#[derive(Clone, Default)]
pub(crate) struct Keys {
    pub(crate) servers: Rotating<Arc<AuthorityKey>>,
    pub(crate) clients: Rotating<Arc<AuthorityKey>>,
    pub(crate) nodes: Rotating<Arc<AuthorityKey>>,
    pub(crate) tokens: Rotating<Arc<TokenKey>>,
}

impl Keys {
    pub(crate) fn authority(&self, kind: AuthorityKind) -> &Rotating<Arc<AuthorityKey>> {
        match kind {
            AuthorityKind::Servers => &self.servers,
            AuthorityKind::Clients => &self.clients,
            AuthorityKind::Nodes => &self.nodes,
        }
    }

    pub(crate) fn authority_mut(&mut self, kind: AuthorityKind) -> &mut Rotating<Arc<AuthorityKey>> {
        match kind {
            AuthorityKind::Servers => &mut self.servers,
            AuthorityKind::Clients => &mut self.clients,
            AuthorityKind::Nodes => &mut self.nodes,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    format: u32,
    servers: StoredKey,
    clients: StoredKey,
    nodes: StoredKey,
    tokens: StoredKey,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredKey {
    last_id: u32,
    generations: Vec<StoredGeneration>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredGeneration {
    id: u32,
    phase: Phase,
    since: Timestamp,
    not_before: Timestamp,
    not_after: Timestamp,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    certificate: String,
    key: StoredSecret,
}

/// A private key in base64, erased when dropped.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct StoredSecret(String);

impl Drop for StoredSecret {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

/// Reads the keys; `None` when there are none yet.
pub(crate) fn read(file: &SealedFile) -> Result<Option<Keys>, StateError> {
    let Some(content) = file.read()? else { return Ok(None) };
    let stored: Stored = serde_json::from_slice(&content).map_err(|error| StateError::Malformed(error.to_string()))?;
    if stored.format != FORMAT {
        return Err(StateError::Malformed(format!("format {} is unknown", stored.format)));
    }
    Ok(Some(Keys {
        servers: load(stored.servers, |one| load_authority(AuthorityKind::Servers, one))?,
        clients: load(stored.clients, |one| load_authority(AuthorityKind::Clients, one))?,
        nodes: load(stored.nodes, |one| load_authority(AuthorityKind::Nodes, one))?,
        tokens: load(stored.tokens, |one| {
            TokenKey::load(Pkcs8::from_bytes(decode(&one.key.0)?)).map(Arc::new).map_err(StateError::TokenKey)
        })?,
    }))
}

/// Writes the keys; when this returns, they are on disk.
pub(crate) fn write(file: &SealedFile, keys: &Keys) -> Result<(), StateError> {
    let authority =
        |rotating: &Rotating<Arc<AuthorityKey>>| store(rotating, |key| (STANDARD.encode(&key.certificate), &key.pkcs8));
    let stored = Stored {
        format: FORMAT,
        servers: authority(&keys.servers),
        clients: authority(&keys.clients),
        nodes: authority(&keys.nodes),
        tokens: store(&keys.tokens, |key| (String::new(), key.pkcs8())),
    };
    let mut content = Zeroizing::new(Vec::with_capacity(INITIAL_BYTES));
    serde_json::to_writer(&mut *content, &stored).map_err(|error| StateError::Malformed(error.to_string()))?;
    Ok(file.write(&content)?)
}

fn load<K>(
    stored: StoredKey,
    material: impl Fn(&StoredGeneration) -> Result<K, StateError>,
) -> Result<Rotating<K>, StateError> {
    let generations = stored
        .generations
        .iter()
        .map(|one| {
            Ok(Generation {
                id: one.id,
                phase: one.phase,
                since: one.since,
                not_before: one.not_before,
                not_after: one.not_after,
                material: material(one)?,
            })
        })
        .collect::<Result<_, StateError>>()?;
    Ok(Rotating::from_stored(generations, stored.last_id))
}

fn load_authority(kind: AuthorityKind, one: &StoredGeneration) -> Result<Arc<AuthorityKey>, StateError> {
    AuthorityKey::load(Pkcs8::from_bytes(decode(&one.key.0)?), CertificateDer::from(decode(&one.certificate)?))
        .map(Arc::new)
        .map_err(|source| StateError::Authority { kind: kind.name(), source })
}

fn store<'a, K>(rotating: &'a Rotating<K>, material: impl Fn(&'a K) -> (String, &'a Pkcs8)) -> StoredKey {
    let generations = rotating.iter().map(|generation| {
        let (certificate, key) = material(&generation.material);
        StoredGeneration {
            id: generation.id,
            phase: generation.phase,
            since: generation.since,
            not_before: generation.not_before,
            not_after: generation.not_after,
            certificate,
            key: StoredSecret(STANDARD.encode(key.expose())),
        }
    });
    StoredKey { last_id: rotating.last_id(), generations: generations.collect() }
}

fn decode(text: &str) -> Result<Vec<u8>, StateError> {
    STANDARD.decode(text).map_err(|_| StateError::Malformed("a field is not base64".to_owned()))
}
