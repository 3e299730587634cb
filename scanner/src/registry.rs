//! Images from a registry (OCI distribution spec), every byte checked against the digest that names it.

mod challenge;
mod http;

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;

pub use self::http::HttpError;
use self::http::Repository;

use crate::credentials::{Credentials, Login};
use crate::image::{
    Descriptor, Document, INDEXES, ImageError, MANIFESTS, MAX_DOCUMENT, Manifest, choose, compression_of, this_platform,
};
use crate::layers::Limits;
use crate::store::{Adding, Store, StoreError};
use crate::{Digest, Reference};

/// A manifest is a few kilobytes; this bounds what a registry can make us wait for, or hold.
const MANIFEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Blobs that are fetched at once: what clients of public registries commonly do.
const CONCURRENT_BLOBS: usize = 3;
/// Chunks between network and disk.
const CHUNKS: usize = 16;

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct RegistryConfig {
    /// Registries (`127.0.0.1:5000`) that are reached without TLS. Each must be on this machine's loopback.
    pub plain_http: Vec<String>,
    /// More authorities to trust, in PEM.
    pub extra_authorities_pem: Vec<Vec<u8>>,
}

/// Why an image was not pulled.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Plain HTTP was asked for beyond the loopback interface.
    #[error("registry {0:?} may not be reached without TLS: it is not on this machine's loopback interface")]
    NotLoopback(String),
    /// The configuration is unusable.
    #[error("the registry client can't be set up; check the extra authorities")]
    Setup(#[source] HttpError),
    /// The registry wants a login, or another one.
    #[error("registry {registry} denied {what} ({login}); check the name, and the pod's imagePullSecrets")]
    Denied {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// Which login was used.
        login: &'static str,
    },
    /// The registry does not have it.
    #[error("registry {registry} does not have {what}")]
    NotFound {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
    },
    /// The registry could not be asked, or answered with nonsense.
    #[error("fetching {what} from registry {registry} failed")]
    Fetch {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// What the client met.
        #[source]
        source: HttpError,
    },
    /// The connection broke while bytes came.
    #[error("receiving {what} from registry {registry} failed")]
    Receive {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// What the connection met.
        #[source]
        source: HttpError,
    },
    /// It took too long.
    #[error("registry {registry} took longer than {} s for {what}", MANIFEST_TIMEOUT.as_secs())]
    Timeout {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
    },
    /// The answer is not what was asked for by digest.
    #[error("registry {registry} answered {expected} with other bytes: they have digest {actual}")]
    Digest {
        /// The registry.
        registry: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A document is refused.
    #[error("image {0} can't be used")]
    Document(String, #[source] ImageError),
    /// There is nothing for this machine.
    #[error("image {0} is not made for {1}")]
    Platform(String, String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The task that writes to the disk ended early.
    #[error("the task that writes blobs was stopped")]
    Stopped,
}

/// What a pull brought: the platform's manifest and the index it was chosen from.
#[derive(Clone, Debug)]
pub struct Pulled<'a> {
    /// The manifest of this platform.
    pub manifest: Digest,
    /// The index.
    pub index: Option<Digest>,
    /// The login that the registry gave it to; none if it asked for none.
    pub login: Option<&'a Login>,
}

impl RegistryConfig {
    /// Checks what can be checked before the first pull.
    ///
    /// # Errors
    /// If plain HTTP is asked for beyond the loopback interface.
    pub fn validate(&self) -> Result<(), RegistryError> {
        match self.plain_http.iter().find(|registry| !is_loopback(registry)) {
            Some(bad) => Err(RegistryError::NotLoopback(bad.clone())),
            None => Ok(()),
        }
    }

    fn repository(&self, reference: &Reference, login: Option<&Login>) -> Result<Repository, RegistryError> {
        self.validate()?;
        // The HTTP client aborts without a provider; if the process has chosen one already, that one stays.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            rustls::crypto::ring::default_provider().install_default().ok();
        }
        let login = login.map(|login| (login.username().to_owned(), login.password().to_owned()));
        let plain = self.plain_http.iter().any(|registry| registry == reference.registry());
        let authorities = &self.extra_authorities_pem;
        Repository::new(reference.registry(), reference.repository(), login, plain, authorities)
            .map_err(RegistryError::Setup)
    }
}

fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => registry.split_once(':').map_or(registry, |(host, _)| host),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Pulls what `reference` names for this platform into the store. Each matching login is tried in its
/// turn, as Kubernetes does; without one the registry is asked anonymously.
///
/// # Errors
/// If no attempt brings the whole image, or its bytes are not those that their digests name.
pub async fn pull<'a>(
    store: &Store,
    adding: &Adding,
    reference: &'a Reference,
    credentials: &'a Credentials,
    config: &RegistryConfig,
    limits: &Limits,
) -> Result<Pulled<'a>, RegistryError> {
    let mut attempts: Vec<Option<&Login>> = credentials.matching(reference).map(Some).collect();
    if attempts.is_empty() {
        attempts.push(None);
    }
    let mut last = RegistryError::Stopped;
    for login in attempts {
        let session = Session::new(reference, login, config)?;
        match session.pull(store, adding, limits).await {
            Err(error @ (RegistryError::Denied { .. } | RegistryError::NotFound { .. })) => last = error,
            done => return done.map(|(manifest, index)| Pulled { manifest, index, login }),
        }
    }
    Err(last)
}

/// One login's conversation with one registry about one repository.
struct Session<'a> {
    repository: Repository,
    login: &'static str,
    reference: &'a Reference,
}

impl<'a> Session<'a> {
    fn new(reference: &'a Reference, login: Option<&Login>, config: &RegistryConfig) -> Result<Self, RegistryError> {
        let repository = config.repository(reference, login)?;
        let login = if login.is_some() { "with the login of a pull secret" } else { "without a login" };
        Ok(Self { repository, login, reference })
    }

    async fn pull(
        &self,
        store: &Store,
        adding: &Adding,
        limits: &Limits,
    ) -> Result<(Digest, Option<Digest>), RegistryError> {
        let asked = match self.reference.digest() {
            Some(digest) => digest.to_string(),
            None => self.reference.tag().unwrap_or("latest").to_owned(),
        };
        let (digest, bytes) = self.document(&asked, self.reference.digest()).await?;
        let (manifest_digest, index, manifest, bytes) = match self.parse(&bytes)? {
            Document::Manifest(manifest) => (digest, None, manifest, bytes),
            Document::Index(manifests) => {
                let ours = this_platform();
                let missing = || RegistryError::Platform(self.reference.to_string(), ours.clone());
                let chosen = choose(&manifests, &ours).ok_or_else(missing)?.digest;
                let (_, inner) = self.document(&chosen.to_string(), Some(&chosen)).await?;
                match self.parse(&inner)? {
                    Document::Manifest(manifest) => (chosen, Some(digest), manifest, inner),
                    Document::Index(_) => return Err(missing()),
                }
            }
        };
        self.check(&manifest, limits)?;
        let blobs = std::iter::once(&manifest.config).chain(&manifest.layers).filter(|blob| !store.has(&blob.digest));
        futures::stream::iter(blobs.map(Ok))
            .try_for_each_concurrent(CONCURRENT_BLOBS, |blob| self.blob(store, adding, blob))
            .await?;
        store.add(adding, &mut bytes.as_ref(), MAX_DOCUMENT)?;
        Ok((manifest_digest, index))
    }

    fn parse(&self, bytes: &[u8]) -> Result<Document, RegistryError> {
        Document::parse(bytes).map_err(|e| RegistryError::Document(self.reference.to_string(), e))
    }

    /// Refuses before a byte is fetched what would be refused afterwards.
    fn check(&self, manifest: &Manifest, limits: &Limits) -> Result<(), RegistryError> {
        let refused = |e| RegistryError::Document(self.reference.to_string(), e);
        for layer in &manifest.layers {
            compression_of(&layer.media_type).map_err(refused)?;
        }
        let total = manifest.layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
        if total > limits.total_bytes {
            let why = format!("its layers have {total} bytes; {} are allowed", limits.total_bytes);
            return Err(refused(ImageError::Refused { what: "image manifest", why }));
        }
        Ok(())
    }

    async fn document(&self, asked: &str, expected: Option<&Digest>) -> Result<(Digest, Bytes), RegistryError> {
        let name = self.reference.name();
        let what = || if expected.is_some() { format!("{name}@{asked}") } else { format!("{name}:{asked}") };
        let registry = || self.reference.registry().to_owned();
        let accepted: Vec<&str> = MANIFESTS.iter().chain(&INDEXES).copied().collect();
        let fetch = self.repository.manifest(asked, &accepted, MAX_DOCUMENT);
        let bytes = tokio::time::timeout(MANIFEST_TIMEOUT, fetch)
            .await
            .map_err(|_| RegistryError::Timeout { registry: registry(), what: what() })?
            .map_err(|error| self.failed(what(), error))?;
        let actual = Digest::of(&bytes);
        match expected {
            Some(expected) if *expected != actual => {
                Err(RegistryError::Digest { registry: registry(), expected: *expected, actual })
            }
            _ => Ok((actual, bytes)),
        }
    }

    async fn blob(&self, store: &Store, adding: &Adding, blob: &Descriptor) -> Result<(), RegistryError> {
        let what = || format!("blob {}", blob.digest);
        let digest = blob.digest.to_string();
        let mut stream = self.repository.blob(&digest).await.map_err(|error| self.failed(what(), error))?;
        let mut writer = store.blob_writer(adding, blob.size)?;
        let (expected, size) = (blob.digest, blob.size);
        let (chunks, mut incoming) = mpsc::channel::<Bytes>(CHUNKS);
        // Files block, so they are written beside the reactor; dropping `chunks` ends the blob.
        let writing = tokio::task::spawn_blocking(move || {
            while let Some(chunk) = incoming.blocking_recv() {
                writer.write(&chunk)?;
            }
            writer.commit_as(&expected, size)
        });
        let mut broken = None;
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) => {
                    // If nobody listens, the writer has failed and says why.
                    if chunks.send(chunk).await.is_err() {
                        break;
                    }
                }
                Err(source) => {
                    broken = Some(RegistryError::Receive {
                        registry: self.reference.registry().to_owned(),
                        what: what(),
                        source,
                    });
                    break;
                }
            }
        }
        drop(chunks);
        let written = writing.await.map_err(|_| RegistryError::Stopped)?;
        match (broken, written) {
            (_, Ok(())) => Ok(()),
            // A short or false blob is the better explanation than the stream's end.
            (_, Err(error @ StoreError::Digest(..))) => Err(error.into()),
            (Some(broken), Err(_)) => Err(broken),
            (None, Err(error)) => Err(error.into()),
        }
    }

    fn failed(&self, what: String, error: HttpError) -> RegistryError {
        let registry = self.reference.registry().to_owned();
        if error.is_denial() {
            RegistryError::Denied { registry, what, login: self.login }
        } else if error.is_absence() {
            RegistryError::NotFound { registry, what }
        } else {
            RegistryError::Fetch { registry, what, source: error }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_only() {
        for (registry, allowed) in [
            ("127.0.0.1:5000", true),
            ("localhost:5000", true),
            ("[::1]:5000", true),
            ("127.9.9.9", true),
            ("10.0.0.1:5000", false),
            ("registry.example.com", false),
            ("localhost.example.com", false),
            ("127.0.0.1.example.com:80", false),
        ] {
            let config = RegistryConfig { plain_http: vec![registry.into()], ..RegistryConfig::default() };
            assert_eq!(config.validate().is_ok(), allowed, "{registry}");
        }
    }
}
