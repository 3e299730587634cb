//! What is in an image: its packages and the hash of every file, from the exact layers that will run.

mod apk;
mod bom;
mod dpkg;
mod os_release;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use crate::digest::HashingReader;
use crate::layers::{self, Budget, EntryKind, LayerError, LayerPath, Limits, NodeKind, Op, View};
use crate::{Digest, Image};

pub(crate) use bom::purl;
pub use bom::render;
pub use dpkg::licenses;
pub use os_release::OsRelease;

/// Largest package database or similar file that is read: Debian's with everything installed has 60 MiB.
const MAX_CAPTURED: u64 = 64 << 20;
/// Bytes of captured files of one image together.
const MAX_CAPTURED_TOTAL: u64 = 256 << 20;
/// Larger copyright files are left alone: the longest in Debian has less.
const MAX_COPYRIGHT: u64 = 1 << 20;
/// Most packages in one image.
const MAX_PACKAGES: usize = 50_000;

/// Everything found in an image. Equal layers give an equal inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// What the image says it is.
    pub os: Option<OsRelease>,
    /// Installed packages, sorted.
    pub packages: Vec<Package>,
    /// Every regular file of the merged tree with its length and digest, sorted by path.
    pub files: Vec<(LayerPath, u64, Digest)>,
}

/// One installed package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// The database it was found in.
    pub origin: Origin,
    /// Its name.
    pub name: String,
    /// Its version, as its database writes it.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// The source package and its version, where they differ from the package's own.
    pub source: Option<(String, Option<String>)>,
    /// Licences, as the package names them.
    pub licenses: Vec<String>,
}

/// A kind of package database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Debian's and its descendants'.
    Dpkg,
    /// Alpine's.
    Apk,
}

/// Why an image has no inventory.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// A layer's blob could not be opened.
    #[error("opening layer {0} failed")]
    Open(Digest, #[source] std::io::Error),
    /// A layer was refused.
    #[error("reading layer {0} failed")]
    Layer(Digest, #[source] LayerError),
    /// A package database is damaged or hostile.
    #[error("the package database {path} can't be read: {why}")]
    Database {
        /// Its place in the image.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// There are more packages than are read.
    #[error("the image has more than {MAX_PACKAGES} packages")]
    TooManyPackages,
    /// The document could not be written.
    #[error("writing the inventory failed")]
    Write(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Reads every layer of an image and takes its inventory.
///
/// # Errors
/// If a layer is refused or a package database can't be read.
pub fn take(image: &Image, limits: &Limits) -> Result<Inventory, InventoryError> {
    let mut view = View::new();
    let mut budget = Budget::new(limits.clone());
    let mut captured = Captured::default();
    for layer in &image.layers {
        let blob = File::open(&layer.blob).map_err(|e| InventoryError::Open(layer.digest, e))?;
        view.next_layer();
        layers::read(blob, layer.compression, &layer.diff_id, &mut budget, &mut |entry, content| {
            let size = match entry.kind {
                EntryKind::File { size } => size,
                _ => 0,
            };
            if let Some(Op::File { path, .. }) = view.apply(entry)?.pop() {
                let digest = captured.hash(&path, size, content)?;
                view.set_digest(&path, digest);
            }
            Ok(())
        })
        .map_err(|e| InventoryError::Layer(layer.digest, e))?;
    }
    summarize(&view, &captured)
}

/// Contents of the few files that are read, by their digest: a hard or symbolic link leads there too.
#[derive(Default)]
struct Captured {
    by_digest: BTreeMap<Digest, Arc<[u8]>>,
    total: u64,
}

impl Captured {
    fn hash(&mut self, path: &LayerPath, size: u64, content: &mut dyn Read) -> Result<Digest, LayerError> {
        let mut reader = HashingReader::new(content);
        if interesting(path, size) {
            self.total += size;
            if self.total > MAX_CAPTURED_TOTAL {
                return Err(LayerError::Limit(format!("more than {MAX_CAPTURED_TOTAL} bytes of package databases")));
            }
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map_err(layers::unreadable)?;
            let (digest, _) = reader.finish();
            self.by_digest.insert(digest, bytes.into());
            return Ok(digest);
        }
        std::io::copy(&mut reader, &mut std::io::sink()).map_err(layers::unreadable)?;
        Ok(reader.finish().0)
    }

    fn get(&self, view: &View, path: &str) -> Result<Option<Arc<[u8]>>, InventoryError> {
        let database = |why: &str| InventoryError::Database { path: format!("/{path}"), why: why.to_owned() };
        let written = LayerPath::parse(path.as_bytes()).map_err(|_| database("its name is malformed"))?;
        match view.lookup(&written) {
            None => Ok(None),
            Some((_, node)) => match &node.kind {
                NodeKind::File { digest: Some(digest), .. } => match self.by_digest.get(digest) {
                    Some(bytes) => Ok(Some(Arc::clone(bytes))),
                    None => Err(database("it leads to a file elsewhere, or is too large")),
                },
                _ => Err(database("it is no regular file")),
            },
        }
    }
}

const DPKG_STATUS: &str = "var/lib/dpkg/status";
const DPKG_STATUS_DIR: &[u8] = b"var/lib/dpkg/status.d/";
const APK_INSTALLED: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];
const OS_RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];

fn interesting(path: &LayerPath, size: u64) -> bool {
    let bytes = path.as_bytes();
    if is_copyright(bytes) {
        return size <= MAX_COPYRIGHT;
    }
    let known = [DPKG_STATUS].iter().chain(&APK_INSTALLED).chain(&OS_RELEASE).any(|known| known.as_bytes() == bytes);
    size <= MAX_CAPTURED && (known || bytes.starts_with(DPKG_STATUS_DIR))
}

fn is_copyright(path: &[u8]) -> bool {
    path.starts_with(b"usr/share/doc/") && path.ends_with(b"/copyright")
}

/// The packages that the package database at `path` of an image lists.
///
/// # Errors
/// If it is damaged or hostile.
pub fn packages(path: &str, bytes: &[u8]) -> Result<Vec<Package>, InventoryError> {
    if APK_INSTALLED.contains(&path) { apk::parse(path, bytes) } else { dpkg::parse(path, bytes, path == DPKG_STATUS) }
}

fn summarize(view: &View, captured: &Captured) -> Result<Inventory, InventoryError> {
    let mut os = None;
    for path in OS_RELEASE {
        // What an image says about itself is no reason to refuse it.
        if let (None, Ok(Some(bytes))) = (&os, captured.get(view, path)) {
            os = OsRelease::parse(&bytes);
        }
    }
    let mut packages = Vec::new();
    if let Some(bytes) = captured.get(view, DPKG_STATUS)? {
        packages.extend(self::packages(DPKG_STATUS, &bytes)?);
    }
    for (path, node) in view.nodes().filter(|(path, _)| path.as_bytes().starts_with(DPKG_STATUS_DIR)) {
        let name = String::from_utf8_lossy(path.as_bytes()).into_owned();
        // Beside the packages' own files there lie lists of checksums.
        if matches!(node.kind, NodeKind::Dir) || name.ends_with(".md5sums") {
            continue;
        }
        if let Some(bytes) = captured.get(view, &name)? {
            packages.extend(self::packages(&name, &bytes)?);
        }
    }
    for path in APK_INSTALLED {
        if let Some(bytes) = captured.get(view, path)? {
            packages.extend(self::packages(path, &bytes)?);
        }
    }
    for package in packages.iter_mut().filter(|p| p.origin == Origin::Dpkg) {
        let path = format!("usr/share/doc/{}/copyright", package.name);
        // Copyright files are prose as often as data: where there is none to read, there is no licence.
        if let Ok(Some(bytes)) = captured.get(view, &path) {
            package.licenses = dpkg::licenses(&bytes);
        }
    }
    packages.sort();
    packages.dedup();
    if packages.len() > MAX_PACKAGES {
        return Err(InventoryError::TooManyPackages);
    }
    let files = view.nodes().filter_map(|(path, node)| match node.kind {
        NodeKind::File { size, digest: Some(digest) } => Some((path.clone(), size, digest)),
        _ => None,
    });
    Ok(Inventory { os, packages, files: files.collect() })
}
