//! The door to images for the node agent: make sure that one is here and judged, list, remove, import.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use jiff::Timestamp;
use martello_api::clock;
use tokio::sync::Mutex as AsyncMutex;

use crate::credentials::Credentials;
use crate::gate::{Gate, GateError, Verdict};
use crate::import::{self, ImportError};
use crate::layers::Limits;
use crate::registry::{self, RegistryConfig, RegistryError};
use crate::store::{Store, StoreError, Stored};
use crate::{Digest, Image, Reference};

/// What the images of a node may cost, and where they come from.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// How registries are reached.
    pub registry: RegistryConfig,
    /// What one image may cost.
    pub limits: Limits,
}

/// When a registry is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Every time.
    Always,
    /// When the image is not here.
    IfNotPresent,
    /// Never.
    Never,
}

/// Why an image can't be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The policy forbids pulling, and the image is not here.
    #[error("image {0} is not on this node, and the pull policy is Never")]
    NeverPull(String),
    /// The policy forbids pulling, and the image is here, but not for those whose credentials these are.
    #[error("image {0} is on this node, but was pulled with other credentials, and the pull policy is Never")]
    NotAdmitted(String),
    /// Pulling failed.
    #[error("pulling image {0} failed")]
    Pull(String, #[source] Box<RegistryError>),
    /// The image in the store can't be used.
    #[error("image {0} in the store can't be used")]
    Inspect(String, #[source] Box<StoreError>),
    /// The image was not judged fit to run.
    #[error("image {0} may not run")]
    NotInventoried(String, #[source] Box<GateError>),
    /// Importing failed.
    #[error("importing failed")]
    Import(#[from] ImportError),
    /// The archive could not be opened.
    #[error("opening {0} failed")]
    Open(std::path::PathBuf, #[source] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Registries can't be reached as configured.
    #[error("the registry configuration can't be used")]
    Config(#[source] RegistryError),
    /// A task of this process was stopped.
    #[error("the task that reads the image was stopped")]
    Stopped,
}

impl Error {
    /// The reason as a container's waiting state shows it; Kubernetes' own words where it has one.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NeverPull(_) | Self::NotAdmitted(_) => "ErrImageNeverPull",
            Self::Pull(_, error) => match **error {
                RegistryError::Fetch { .. } | RegistryError::Timeout { .. } => "RegistryUnavailable",
                _ => "ErrImagePull",
            },
            Self::NotInventoried(..) => "ImageNotInventoried",
            _ => "ImageInspectError",
        }
    }

    /// The error with all its causes in one line, for an event or a container's status.
    pub fn explain(&self) -> String {
        explain(self)
    }
}

/// An error of this crate with all its causes in one line.
pub fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // A transparent wrapper repeats its cause.
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// An image that may be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ensured {
    /// The image.
    pub image: Image,
    /// Whether its registry was asked for it.
    pub pulled: bool,
}

/// An image in the store with the names it has there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its names.
    pub references: Vec<Reference>,
    /// The image.
    pub image: Image,
}

/// The images of a node. Clones share everything.
#[derive(Clone, Debug)]
pub struct Images {
    store: Store,
    gate: Gate,
    config: Arc<Config>,
    /// One pull at a time for each reference: the pods of a replica set ask together.
    pulling: Arc<Mutex<HashMap<Reference, Weak<AsyncMutex<()>>>>>,
}

impl Images {
    /// Opens the images in `dir`.
    ///
    /// # Errors
    /// If the directory can't be used or the configuration is refused.
    pub fn open(dir: &Path, config: Config) -> Result<Self, Error> {
        config.registry.validate().map_err(Error::Config)?;
        let store = Store::open(dir)?;
        let gate = Gate::new(store.clone());
        Ok(Self { store, gate, config: Arc::new(config), pulling: Arc::default() })
    }

    /// The limits that unpacking is to hold, too.
    pub fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// Whether the image is here, for who has these credentials: then [`Images::ensure`] asks no registry, unless the
    /// policy says so or the image turns out to be damaged. Reads from the disk.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn is_here(&self, reference: &Reference, credentials: &Credentials) -> Result<bool, Error> {
        match self.store.resolve(reference)? {
            Some(stored) => Ok(self.store.admits(&stored.manifest, reference, credentials)?),
            None => Ok(false),
        }
    }

    /// Makes sure that the image is here, complete, judged, and open to who has these credentials.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::reason`] and [`Error::explain`] are made for the pod's status.
    pub async fn ensure(
        &self,
        reference: &Reference,
        policy: PullPolicy,
        credentials: &Credentials,
    ) -> Result<Ensured, Error> {
        let turn = self.turn(reference);
        let _turn = turn.lock().await;
        let local = self.store.resolve(reference)?;
        if let Some(stored) = local.as_ref().filter(|_| policy != PullPolicy::Always) {
            if self.admitted(reference, stored.manifest, credentials).await? {
                match self.judged(reference, stored.manifest).await {
                    // Damaged blobs are mended from the registry, where that is allowed.
                    Err(Error::Inspect(..)) if policy == PullPolicy::IfNotPresent => {
                        tracing::warn!(image = %reference, "the stored image is damaged; pulling it again");
                    }
                    done => return done.map(|image| Ensured { image, pulled: false }),
                }
            } else if policy == PullPolicy::Never {
                return Err(Error::NotAdmitted(reference.to_string()));
            }
        } else if policy == PullPolicy::Never {
            return Err(Error::NeverPull(reference.to_string()));
        }
        let adding = self.store.adding()?;
        let Config { registry, limits } = &*self.config;
        let pulled = registry::pull(&self.store, &adding, reference, credentials, registry, limits)
            .await
            .map_err(|e| Error::Pull(reference.to_string(), Box::new(e)))?;
        let image = self.judged(reference, pulled.manifest).await?;
        // Before it has a name: a crash in between must not make it look like one that is open to all.
        self.store.record_pull(&pulled.manifest, reference, pulled.login)?;
        let stored = Stored { manifest: pulled.manifest, index: pulled.index, at: clock::now() };
        self.store.tag(&adding, std::slice::from_ref(reference), &stored)?;
        Ok(Ensured { image, pulled: true })
    }

    /// The verdict on a manifest: asked before every start of a container.
    ///
    /// # Errors
    /// If there is none that counts.
    pub fn verdict(&self, manifest: &Digest) -> Result<Arc<Verdict>, GateError> {
        self.gate.verdict(manifest)
    }

    /// The CycloneDX document of a manifest.
    ///
    /// # Errors
    /// If there is none.
    pub fn sbom(&self, manifest: &Digest) -> Result<Vec<u8>, GateError> {
        self.gate.sbom(manifest)
    }

    /// Imports every image for this platform from an archive, judges it, and names it. Blocks.
    ///
    /// # Errors
    /// If the archive is refused or one of its images may not run.
    pub fn import(&self, source: impl BufRead, name: Option<&Reference>) -> Result<Vec<Listed>, Error> {
        let adding = self.store.adding()?;
        let imported = self.import_under(&adding, source, name, clock::now());
        drop(adding);
        // What the archive held beside its images, or all of it if it was refused.
        self.store.collect()?;
        imported
    }

    /// Imports from a file. Blocks.
    ///
    /// # Errors
    /// As [`Images::import`], and if the file can't be opened.
    pub fn import_file(&self, path: &Path, name: Option<&Reference>) -> Result<Vec<Listed>, Error> {
        let file = File::open(path).map_err(|e| Error::Open(path.to_owned(), e))?;
        self.import(BufReader::with_capacity(1 << 20, file), name)
    }

    fn import_under(
        &self,
        adding: &crate::store::Adding,
        source: impl BufRead,
        name: Option<&Reference>,
        now: Timestamp,
    ) -> Result<Vec<Listed>, Error> {
        let found = import::read(&self.store, adding, source, name, &self.config.limits)?;
        let mut listed = Vec::with_capacity(found.len());
        for one in found {
            let image = self.store.image(&one.manifest)?;
            if let Err(error) = self.gate.judge(&image, &self.config.limits, now) {
                let reference = one.references.first().map(ToString::to_string);
                return Err(match reference {
                    Some(reference) => Error::NotInventoried(reference, Box::new(error)),
                    None => Error::Import(ImportError::Unnamed(one.manifest)),
                });
            }
            self.store.record_import(adding, &one.manifest)?;
            self.store.tag(adding, &one.references, &one.stored(now))?;
            listed.push(Listed { references: one.references, image });
        }
        Ok(listed)
    }

    /// Every image in the store, sorted by its first name. One that is damaged is left out, with a warning.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn list(&self) -> Result<Vec<Listed>, Error> {
        let mut by_manifest: Vec<(Digest, Vec<Reference>)> = Vec::new();
        for (reference, stored) in self.store.list()? {
            match by_manifest.iter_mut().find(|(manifest, _)| *manifest == stored.manifest) {
                Some((_, references)) => references.push(reference),
                None => by_manifest.push((stored.manifest, vec![reference])),
            }
        }
        let mut listed = Vec::with_capacity(by_manifest.len());
        for (manifest, references) in by_manifest {
            match self.store.image(&manifest) {
                Ok(image) => listed.push(Listed { references, image }),
                Err(error) => tracing::warn!(%manifest, %error, "an image in the store is damaged"),
            }
        }
        Ok(listed)
    }

    /// Forgets a name, and deletes what no other name needs. Says whether it was there.
    ///
    /// # Errors
    /// If the store can't be changed.
    pub fn remove(&self, reference: &Reference) -> Result<bool, Error> {
        let removed = self.store.remove(reference)?;
        self.gate.forget();
        Ok(removed)
    }

    async fn admitted(
        &self,
        reference: &Reference,
        manifest: Digest,
        credentials: &Credentials,
    ) -> Result<bool, Error> {
        let (store, reference, credentials) = (self.store.clone(), reference.clone(), credentials.clone());
        // Hashing logins takes its time.
        let asked = tokio::task::spawn_blocking(move || store.admits(&manifest, &reference, &credentials)).await;
        Ok(asked.map_err(|_| Error::Stopped)??)
    }

    async fn judged(&self, reference: &Reference, manifest: Digest) -> Result<Image, Error> {
        let (store, gate, config) = (self.store.clone(), self.gate.clone(), Arc::clone(&self.config));
        let reference = reference.to_string();
        tokio::task::spawn_blocking(move || {
            let image = store.image(&manifest).map_err(|e| Error::Inspect(reference.clone(), Box::new(e)))?;
            match gate.judge(&image, &config.limits, clock::now()) {
                Ok(_) => Ok(image),
                Err(error) => Err(Error::NotInventoried(reference, Box::new(error))),
            }
        })
        .await
        .map_err(|_| Error::Stopped)?
    }

    fn turn(&self, reference: &Reference) -> Arc<AsyncMutex<()>> {
        let mut pulling = self.pulling.lock().unwrap_or_else(PoisonError::into_inner);
        pulling.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = pulling.get(reference).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(AsyncMutex::new(()));
        pulling.insert(reference.clone(), Arc::downgrade(&turn));
        turn
    }
}
