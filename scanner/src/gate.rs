//! The gate: the verdict that a node asks for before every start of a container.
//!
//! A verdict names the exact manifest, the layers it runs, and the digest of the inventory that was
//! taken of them. No inventory, no verdict; no verdict, no start.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::inventory::{self, Inventory, InventoryError};
use crate::layers::Limits;
use crate::store::{Store, StoreError, read_bounded};
use crate::summary::Summary;
use crate::{Digest, Image};

/// Raised when an inventory finds more than its predecessor's did: older verdicts no longer count.
pub const FORMAT: u32 = 1;
/// Largest inventory: a million files at 250 bytes each.
const MAX_SBOM: u64 = 256 << 20;
/// Largest verdict with its summary.
const MAX_VERDICT: u64 = 16 << 20;

/// What was decided about an image, and on what ground.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The judged manifest.
    pub manifest: Digest,
    /// The uncompressed layers that were read.
    pub diff_ids: Vec<Digest>,
    /// Digest of the CycloneDX document.
    pub sbom: Digest,
    /// Which generation of the inventory made it.
    pub format: u32,
    /// When.
    pub at: Timestamp,
    /// The numbers to publish.
    pub summary: Summary,
}

/// Why there is no verdict, and so no start.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The image was never inventoried here.
    #[error("image {0} has no inventory on this node; pull or import it again")]
    NoVerdict(Digest),
    /// A file of the gate does not hold what it should.
    #[error("the verdict on image {manifest} does not count: {why}")]
    Invalid {
        /// The image.
        manifest: Digest,
        /// What is wrong.
        why: String,
    },
    /// The image can't be inventoried.
    #[error("image {0} can't be inventoried, so it may not run")]
    Inventory(Digest, #[source] Box<InventoryError>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Verdicts of one store.
#[derive(Clone, Debug)]
pub struct Gate {
    store: Store,
    /// Verdicts whose inventory was checked since this process started.
    checked: Arc<Mutex<HashMap<Digest, Arc<Verdict>>>>,
}

impl Gate {
    /// The gate of a store.
    pub fn new(store: Store) -> Self {
        Self { store, checked: Arc::default() }
    }

    /// The verdict on a manifest. Asked before every start; answered from memory after the first time.
    ///
    /// # Errors
    /// If there is none, or it or its inventory is damaged.
    pub fn verdict(&self, manifest: &Digest) -> Result<Arc<Verdict>, GateError> {
        if let Some(verdict) = self.checked.lock().unwrap_or_else(PoisonError::into_inner).get(manifest) {
            return Ok(Arc::clone(verdict));
        }
        let invalid = |why: String| GateError::Invalid { manifest: *manifest, why };
        let bytes = match read_bounded(&self.verdict_path(manifest), MAX_VERDICT) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(GateError::NoVerdict(*manifest)),
            read => read.map_err(|e| invalid(format!("it can't be read: {e}")))?,
        };
        let verdict: Verdict = serde_json::from_slice(&bytes).map_err(|e| invalid(format!("it is damaged: {e}")))?;
        if verdict.manifest != *manifest {
            return Err(invalid(format!("it was made for image {}", verdict.manifest)));
        }
        if verdict.format != FORMAT {
            return Err(invalid("it was made by another version".to_owned()));
        }
        let sbom = self.sbom(manifest)?;
        if Digest::of(&sbom) != verdict.sbom {
            return Err(invalid("its inventory was changed".to_owned()));
        }
        Ok(self.remember(verdict))
    }

    /// The CycloneDX document of a manifest.
    ///
    /// # Errors
    /// If there is none.
    pub fn sbom(&self, manifest: &Digest) -> Result<Vec<u8>, GateError> {
        let path = self.sbom_path(manifest);
        read_bounded(&path, MAX_SBOM).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => GateError::NoVerdict(*manifest),
            _ => GateError::Invalid { manifest: *manifest, why: format!("its inventory can't be read: {error}") },
        })
    }

    /// Takes the inventory of an image, keeps it, and gives the verdict. Blocks for as long as reading
    /// every layer takes. An image that has a valid verdict is not read again.
    ///
    /// # Errors
    /// If the image can't be inventoried or the result not be kept.
    pub fn judge(&self, image: &Image, limits: &Limits, now: Timestamp) -> Result<Arc<Verdict>, GateError> {
        if let Ok(verdict) = self.verdict(&image.manifest) {
            return Ok(verdict);
        }
        let refused = |e| GateError::Inventory(image.manifest, Box::new(e));
        let inventory: Inventory = inventory::take(image, limits).map_err(refused)?;
        let sbom = inventory::render(image, &inventory).map_err(refused)?;
        let verdict = Verdict {
            manifest: image.manifest,
            diff_ids: image.layers.iter().map(|layer| layer.diff_id).collect(),
            sbom: Digest::of(&sbom),
            format: FORMAT,
            at: now,
            summary: Summary::new(image, &inventory),
        };
        // The verdict last: it must never stand without its inventory.
        self.store.publish(&self.sbom_path(&image.manifest), &sbom)?;
        let path = self.verdict_path(&image.manifest);
        let bytes = serde_json::to_vec(&verdict)
            .map_err(|e| GateError::Store(crate::store::io_error("encoding", &path)(e.into())))?;
        self.store.publish(&path, &bytes)?;
        Ok(self.remember(verdict))
    }

    /// Forgets what is in memory, after images were removed.
    pub fn forget(&self) {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn remember(&self, verdict: Verdict) -> Arc<Verdict> {
        let verdict = Arc::new(verdict);
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked.insert(verdict.manifest, Arc::clone(&verdict));
        verdict
    }

    fn verdict_path(&self, manifest: &Digest) -> PathBuf {
        self.store.dir().join("verdicts").join(format!("{}.json", manifest.hex()))
    }

    fn sbom_path(&self, manifest: &Digest) -> PathBuf {
        self.store.dir().join("inventories").join(format!("{}.cdx.json", manifest.hex()))
    }
}
