//! What the cluster gets to know about an image on a node: the `ImageInventory` object.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::gate::Verdict;
use crate::inventory::{Inventory, purl};
use crate::{Digest, Image, Reference};

/// The group and version of the object.
pub const API_VERSION: &str = "martello.dev/v1alpha1";
/// The kind of the object; cluster-scoped, plural `imageinventories`.
pub const KIND: &str = "ImageInventory";
/// Packages named in the object; the document on the node has them all. Keeps the object under 512 KiB.
const MAX_PACKAGES: usize = 2_000;

/// The numbers and the packages of an inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Operating system and architecture.
    pub platform: String,
    /// The distribution that the image says it is, such as `debian 12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<String>,
    /// Number of layers.
    pub layers: usize,
    /// Number of installed packages.
    pub package_count: usize,
    /// Number of regular files.
    pub file_count: usize,
    /// Bytes of all regular files.
    pub file_bytes: u64,
    /// Package URLs, at most 2,000.
    pub packages: Vec<String>,
}

impl Summary {
    pub(crate) fn new(image: &Image, inventory: &Inventory) -> Self {
        let distribution = inventory.os.as_ref().map(|os| match &os.version_id {
            Some(version) => format!("{} {version}", os.id),
            None => os.id.clone(),
        });
        Self {
            platform: image.platform.clone(),
            distribution,
            layers: image.layers.len(),
            package_count: inventory.packages.len(),
            file_count: inventory.files.len(),
            file_bytes: inventory.files.iter().map(|(_, size, _)| size).fold(0, |sum, size| sum.saturating_add(*size)),
            packages: inventory.packages.iter().take(MAX_PACKAGES).map(|package| purl(package, inventory)).collect(),
        }
    }
}

/// The name of an image's object: its manifest digest with a dash for the colon.
pub fn object_name(manifest: &Digest) -> String {
    format!("sha256-{}", manifest.hex())
}

/// The `ImageInventory` object of a judged image, for publication by the node. `references` are the names
/// under which the node has it.
pub fn to_object(verdict: &Verdict, references: &[Reference]) -> Value {
    let summary = &verdict.summary;
    json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": { "name": object_name(&verdict.manifest) },
        "spec": {
            "manifestDigest": verdict.manifest,
            "references": references,
            "platform": summary.platform,
            "diffIds": verdict.diff_ids,
            "inventory": { "format": "CycloneDX", "specVersion": "1.5", "digest": verdict.sbom },
            "distribution": summary.distribution,
            "packageCount": summary.package_count,
            "fileCount": summary.file_count,
            "fileBytes": summary.file_bytes,
            "packages": summary.packages,
            "packagesTruncated": summary.package_count > summary.packages.len(),
        },
    })
}
