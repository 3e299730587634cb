//! Images from files: OCI layout archives, and the archives that `docker save` writes.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};

use jiff::Timestamp;
use serde::Deserialize;

use crate::image::{Descriptor, Document, ImageError, Manifest, choose, this_platform};
use crate::layers::{self, Budget, Compression, EntryKind, LayerError, Limits};
use crate::store::{Adding, Store, StoreError, Stored};
use crate::{Digest, Reference, ReferenceError};

/// Indexes inside indexes that are followed.
const MAX_NESTING: usize = 3;
/// Most images in one archive.
const MAX_IMAGES: usize = 100;
/// Annotations that name an image in an OCI layout, the fuller one first.
const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// One image found in an archive; its blobs are in the store, its names are not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The manifest of this platform.
    pub manifest: Digest,
    /// The index it was chosen from.
    pub index: Option<Digest>,
    /// The names that the archive gives it.
    pub references: Vec<Reference>,
}

/// Why an archive was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It can't be read, or breaks the rules for archives.
    #[error("reading the image archive failed")]
    Archive(#[source] LayerError),
    /// It is neither of the known forms.
    #[error("the file is neither an OCI layout nor a docker archive: it holds no {0}")]
    Form(&'static str),
    /// It names a file that it does not hold.
    #[error("the archive names {0:?}, but does not hold it")]
    Missing(String),
    /// One of its documents is refused.
    #[error("the archive's {0} can't be used")]
    Document(&'static str, #[source] ImageError),
    /// It names an image by something that is no reference.
    #[error("the archive calls an image {name:?}")]
    Name {
        /// What it calls it.
        name: String,
        /// Why that is no reference.
        #[source]
        source: ReferenceError,
    },
    /// It has nothing for this machine.
    #[error("the archive holds no image for {0}")]
    Platform(String),
    /// It gives its image no name, and neither did the caller.
    #[error("the archive gives image {0} no name; name it in the command")]
    Unnamed(Digest),
    /// A name was given for an archive with several images.
    #[error("the archive holds {0} images; a name can be given to one only")]
    Several(usize),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads an archive into the store and says which images it holds for this platform. The caller judges
/// them and then names them ([`Found::stored`]) under the same [`Adding`].
///
/// # Errors
/// If the archive is refused or the store fails.
pub fn read(
    store: &Store,
    adding: &Adding,
    mut source: impl BufRead,
    name: Option<&Reference>,
    limits: &Limits,
) -> Result<Vec<Found>, ImportError> {
    let files = extract(store, adding, &mut source, limits)?;
    let mut found = if files.contains("index.json") {
        oci_layout(store, &files)?
    } else if files.contains("manifest.json") {
        docker_archive(store, adding, &files, limits)?
    } else {
        return Err(ImportError::Form("index.json or manifest.json"));
    };
    match (name, found.as_mut_slice()) {
        (_, []) => return Err(ImportError::Platform(this_platform())),
        (Some(name), [one]) => one.references = vec![name.clone()],
        (Some(_), several) => return Err(ImportError::Several(several.len())),
        (None, _) => {}
    }
    match found.iter().find(|image| image.references.is_empty()) {
        Some(unnamed) => Err(ImportError::Unnamed(unnamed.manifest)),
        None => Ok(found),
    }
}

impl Found {
    /// What the store's index is to say about the image.
    pub fn stored(&self, at: Timestamp) -> Stored {
        Stored { manifest: self.manifest, index: self.index, at }
    }
}

/// The files of an archive: each is in the store as a blob.
#[derive(Default)]
struct Files {
    blobs: BTreeMap<Vec<u8>, (Digest, u64)>,
    links: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Files {
    fn contains(&self, name: &str) -> bool {
        self.blobs.contains_key(name.as_bytes())
    }

    /// The blob of a file, through one link: older docker archives link equal layers to each other.
    fn blob(&self, name: &str) -> Result<(Digest, u64), ImportError> {
        let direct = name.as_bytes();
        let at = self.links.get(direct).map_or(direct, Vec::as_slice);
        self.blobs.get(at).copied().ok_or_else(|| ImportError::Missing(layers::printable(direct)))
    }
}

fn extract(store: &Store, adding: &Adding, source: &mut impl BufRead, limits: &Limits) -> Result<Files, ImportError> {
    let compression = layers::sniff(source).map_err(|e| ImportError::Archive(LayerError::Read(e)))?;
    let mut files = Files::default();
    let mut budget = Budget::new(limits.clone());
    // A failing store must not be reported as a failing archive.
    let mut store_failed = None;
    layers::read_archive(source, compression, &mut budget, &mut |entry, content| {
        let name = entry.path.as_bytes().to_vec();
        match entry.kind {
            EntryKind::File { size } => match store.add(adding, content, size) {
                Ok(blob) => drop(files.blobs.insert(name, blob)),
                Err(StoreError::Io { source, .. }) if source.get_ref().is_some() => {
                    return Err(layers::unreadable(source));
                }
                Err(error) => {
                    store_failed = Some(error);
                    return Err(LayerError::Limit("the store failed".to_owned()));
                }
            },
            EntryKind::Symlink { target } => {
                if let Some(to) = link_place(&name, &target) {
                    files.links.insert(name, to);
                }
            }
            EntryKind::Hardlink { to } => drop(files.links.insert(name, to.as_bytes().to_vec())),
            EntryKind::Dir | EntryKind::Fifo => {}
        }
        Ok(())
    })
    .map_err(|error| store_failed.take().map_or_else(|| ImportError::Archive(error), ImportError::Store))?;
    Ok(files)
}

/// Where a relative link inside the archive leads; `None` if it leads out of it.
fn link_place(name: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = name.split(|b| *b == b'/').collect();
    parts.pop();
    for part in target.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

fn oci_layout(store: &Store, files: &Files) -> Result<Vec<Found>, ImportError> {
    let refused = |e| ImportError::Document("index.json", e);
    let (digest, _) = files.blob("index.json")?;
    let Document::Index(manifests) = Document::parse(&store.document(&digest)?).map_err(refused)? else {
        let why = "it is a manifest, not an index".to_owned();
        return Err(refused(ImageError::Refused { what: "image index", why }));
    };
    let mut found: Vec<Found> = Vec::new();
    for descriptor in manifests.iter().take(MAX_IMAGES) {
        let Some((manifest, index)) = for_this_platform(store, descriptor, MAX_NESTING)? else { continue };
        let references = names(descriptor)?;
        match found.iter_mut().find(|image| image.manifest == manifest) {
            Some(known) => known.references.extend(references),
            None => found.push(Found { manifest, index, references }),
        }
    }
    Ok(found)
}

/// The manifest for this machine that a descriptor leads to, and the index on the way.
fn for_this_platform(
    store: &Store,
    descriptor: &Descriptor,
    nesting: usize,
) -> Result<Option<(Digest, Option<Digest>)>, ImportError> {
    let refused = |e| ImportError::Document("manifest", e);
    if !store.has(&descriptor.digest) {
        // An archive may list platforms whose content was left out.
        return Ok(None);
    }
    let ours = this_platform();
    match Document::parse(&store.document(&descriptor.digest)?).map_err(refused)? {
        Document::Manifest(_) => {
            let image = store.image(&descriptor.digest)?;
            Ok((image.platform == ours).then_some((descriptor.digest, None)))
        }
        Document::Index(_) if nesting == 0 => Ok(None),
        Document::Index(manifests) => {
            let inner = match choose(&manifests, &ours) {
                Some(chosen) => for_this_platform(store, chosen, nesting - 1)?,
                // A single image without a platform in its descriptor.
                None => match manifests.as_slice() {
                    [only] if only.platform.is_none() => for_this_platform(store, only, nesting - 1)?,
                    _ => None,
                },
            };
            Ok(inner.map(|(manifest, _)| (manifest, Some(descriptor.digest))))
        }
    }
}

fn names(descriptor: &Descriptor) -> Result<Vec<Reference>, ImportError> {
    // A bare tag (`1.2.0`) in `ref.name` names no repository; a full name has a colon or a slash.
    let written = NAME_ANNOTATIONS.iter().filter_map(|key| descriptor.annotations.get(*key));
    match written.into_iter().find(|name| name.contains([':', '/'])) {
        Some(name) => Ok(vec![parse_name(name)?]),
        None => Ok(Vec::new()),
    }
}

fn parse_name(name: &str) -> Result<Reference, ImportError> {
    name.parse().map_err(|source| ImportError::Name { name: name.chars().take(300).collect(), source })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// A docker archive has no manifest of its own kind; one is made from what it says, always the same one.
fn docker_archive(store: &Store, adding: &Adding, files: &Files, limits: &Limits) -> Result<Vec<Found>, ImportError> {
    const WHAT: &str = "manifest.json";
    let malformed = |source| ImportError::Document(WHAT, ImageError::Json { what: WHAT, source });
    let (digest, _) = files.blob(WHAT)?;
    let images: Vec<Saved> = serde_json::from_slice(&store.document(&digest)?).map_err(malformed)?;
    let mut found = Vec::new();
    for saved in images.into_iter().take(MAX_IMAGES) {
        let (config, config_size) = files.blob(&saved.config)?;
        let mut layers = Vec::with_capacity(saved.layers.len());
        for name in &saved.layers {
            let (digest, size) = files.blob(name)?;
            layers.push(descriptor(layer_type(store, &digest)?, digest, size));
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some("application/vnd.oci.image.manifest.v1+json".to_owned()),
            config: descriptor("application/vnd.oci.image.config.v1+json", config, config_size),
            layers,
        };
        let bytes = serde_json::to_vec(&manifest).map_err(malformed)?;
        let (manifest, _) = store.add(adding, &mut bytes.as_slice(), limits.file_bytes)?;
        if store.image(&manifest)?.platform != this_platform() {
            continue;
        }
        let references = saved.repo_tags.unwrap_or_default().iter().map(|n| parse_name(n)).collect::<Result<_, _>>()?;
        found.push(Found { manifest, index: None, references });
    }
    Ok(found)
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.to_owned(), digest, size, platform: None, annotations: BTreeMap::new() }
}

fn layer_type(store: &Store, digest: &Digest) -> Result<&'static str, ImportError> {
    let path = store.blob_path(digest);
    let io = |e| ImportError::Store(crate::store::io_error("opening", &path)(e));
    let file = std::fs::File::open(&path).map_err(io)?;
    let compression = layers::sniff(&mut std::io::BufReader::new(file.take(16))).map_err(io)?;
    Ok(match compression {
        Compression::None => "application/vnd.oci.image.layer.v1.tar",
        Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    })
}
