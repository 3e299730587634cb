//! Manifests and configurations of images, parsed strictly.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::layers::Compression;

/// Largest manifest, index or configuration: registries hold to 4 MiB (distribution spec, "Manifests").
pub const MAX_DOCUMENT: u64 = 4 << 20;
/// Most layers: overlayfs stacks 500 at most, builders stop at 127.
pub const MAX_LAYERS: usize = 200;
/// Most manifests in one index; honest ones have a dozen platforms with their attestations.
const MAX_MANIFESTS: usize = 1000;

/// Media types of image manifests.
pub(crate) const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
/// Media types of indexes over several platforms.
pub(crate) const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

/// An image that is in the store, complete and verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The digest of this platform's manifest: what is inventoried, judged and run.
    pub manifest: Digest,
    /// The digest of the configuration, which is what Kubernetes calls the image's id.
    pub config_digest: Digest,
    /// Operating system and architecture, such as `linux/amd64`.
    pub platform: String,
    /// When the image was made, as it says itself.
    pub created: Option<String>,
    /// How a container of it starts.
    pub config: ImageConfig,
    /// Its layers, lowest first.
    pub layers: Vec<LayerRef>,
    /// Bytes of all its blobs.
    pub size_bytes: u64,
}

/// How a container of an image starts, where the pod does not say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `USER`, as written: `user`, `uid`, `user:group`, `uid:gid`; empty for root.
    pub user: String,
    /// `NAME=VALUE` pairs.
    pub env: Vec<String>,
    /// The command's beginning.
    pub entrypoint: Vec<String>,
    /// The command's end.
    pub cmd: Vec<String>,
    /// The working directory; empty for `/`.
    pub working_dir: String,
    /// Ports that the image says it listens on, such as `3000/tcp`.
    pub exposed_ports: Vec<String>,
    /// Directories that the image wants writable.
    pub volumes: Vec<String>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// The signal that asks a container to stop, such as `SIGTERM`.
    pub stop_signal: Option<String>,
}

/// One layer of an image in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRef {
    /// Digest of the blob.
    pub digest: Digest,
    /// Bytes of the blob.
    pub size_bytes: u64,
    /// Digest of the uncompressed layer.
    pub diff_id: Digest,
    /// Digest of this layer with all below it: names its unpacked directory.
    pub chain_id: Digest,
    /// How the blob is compressed.
    pub compression: Compression,
    /// Where the blob lies.
    pub blob: PathBuf,
}

/// Why a document about an image was refused.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No JSON, or not of the shape that the OCI image spec gives it.
    #[error("the {what} is malformed")]
    Json {
        /// Which document.
        what: &'static str,
        /// What the parser met.
        #[source]
        source: serde_json::Error,
    },
    /// Well-formed, and not acceptable.
    #[error("the {what} is refused: {why}")]
    Refused {
        /// Which document.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// A pointer to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

/// A manifest or an index; `manifests` and `layers` in one document is a known trick and refused.
#[derive(Debug)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Vec<Descriptor>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Either {
    schema_version: u8,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        const WHAT: &str = "image manifest";
        let either: Either = serde_json::from_slice(bytes).map_err(|source| ImageError::Json { what: WHAT, source })?;
        let refuse = |why: String| Err(ImageError::Refused { what: WHAT, why });
        if either.schema_version != 2 || either.fs_layers.is_some() {
            return refuse("only schema version 2 is accepted; push the image with a current tool".into());
        }
        let media_type_in = |known: &[&str]| either.media_type.as_deref().is_none_or(|m| known.contains(&m));
        match (either.config, either.layers, either.manifests) {
            (None, None, Some(manifests)) if media_type_in(&INDEXES) => {
                if manifests.len() > MAX_MANIFESTS {
                    return refuse(format!("{} manifests in one index; {MAX_MANIFESTS} are allowed", manifests.len()));
                }
                Ok(Self::Index(manifests))
            }
            (Some(config), Some(layers), None) if media_type_in(&MANIFESTS) => {
                if layers.len() > MAX_LAYERS {
                    return refuse(format!("{} layers; {MAX_LAYERS} are allowed", layers.len()));
                }
                if config.size > MAX_DOCUMENT {
                    return refuse(format!("a configuration of {} bytes; {MAX_DOCUMENT} are allowed", config.size));
                }
                Ok(Self::Manifest(Manifest { schema_version: 2, media_type: either.media_type, config, layers }))
            }
            _ => refuse("it is neither an image's manifest nor an index of manifests".into()),
        }
    }
}

/// Whether these bytes are accepted as a manifest or an index of manifests.
///
/// # Errors
/// Says why not.
pub fn check_manifest(bytes: &[u8]) -> Result<(), ImageError> {
    match Document::parse(bytes)? {
        Document::Manifest(manifest) => {
            manifest.layers.iter().try_for_each(|layer| compression_of(&layer.media_type).map(drop))
        }
        Document::Index(_) => Ok(()),
    }
}

/// Whether these bytes are accepted as an image's configuration.
///
/// # Errors
/// Says why not.
pub fn check_configuration(bytes: &[u8]) -> Result<(), ImageError> {
    ConfigDocument::parse(bytes).map(drop)
}

/// The manifest of an index that fits the machine.
pub(crate) fn choose<'a>(manifests: &'a [Descriptor], platform: &str) -> Option<&'a Descriptor> {
    let mut matching = manifests.iter().filter(|m| MANIFESTS.contains(&m.media_type.as_str()));
    matching.find(|m| m.platform.as_ref().is_some_and(|p| format!("{}/{}", p.os, p.architecture) == platform))
}

/// This machine's platform in OCI's words.
pub fn this_platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("linux/{architecture}")
}

/// Tells how a layer is compressed from its media type.
pub(crate) fn compression_of(media_type: &str) -> Result<Compression, ImageError> {
    match media_type {
        "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => {
            Ok(Compression::None)
        }
        "application/vnd.oci.image.layer.v1.tar+gzip" | "application/vnd.docker.image.rootfs.diff.tar.gzip" => {
            Ok(Compression::Gzip)
        }
        "application/vnd.oci.image.layer.v1.tar+zstd" | "application/vnd.docker.image.rootfs.diff.tar.zstd" => {
            Ok(Compression::Zstd)
        }
        other => {
            let why = format!("layers of type {other:?} are not accepted");
            Err(ImageError::Refused { what: "image manifest", why })
        }
    }
}

/// The parts of an image's configuration document that matter here.
#[derive(Debug)]
pub(crate) struct ConfigDocument {
    pub(crate) platform: String,
    pub(crate) created: Option<String>,
    pub(crate) config: ImageConfig,
    pub(crate) diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct RawConfigDocument {
    architecture: String,
    os: String,
    created: Option<String>,
    config: Option<RawConfig>,
    rootfs: RawRootFs,
}

#[derive(Deserialize)]
struct RawRootFs {
    diff_ids: Option<Vec<Digest>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: Option<String>,
}

impl ConfigDocument {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let raw: RawConfigDocument =
            serde_json::from_slice(bytes).map_err(|source| ImageError::Json { what: "image configuration", source })?;
        let config = raw.config.unwrap_or_default();
        Ok(Self {
            platform: format!("{}/{}", raw.os, raw.architecture),
            created: raw.created,
            config: ImageConfig {
                user: config.user.unwrap_or_default(),
                env: config.env.unwrap_or_default(),
                entrypoint: config.entrypoint.unwrap_or_default(),
                cmd: config.cmd.unwrap_or_default(),
                working_dir: config.working_dir.unwrap_or_default(),
                exposed_ports: config.exposed_ports.unwrap_or_default().into_keys().collect(),
                volumes: config.volumes.unwrap_or_default().into_keys().collect(),
                labels: config.labels.unwrap_or_default(),
                stop_signal: config.stop_signal.filter(|s| !s.is_empty()),
            },
            diff_ids: raw.rootfs.diff_ids.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_document_that_is_both_manifest_and_index_is_refused() {
        let descriptor = format!(r#"{{"mediaType":"x","digest":"{EMPTY}","size":0}}"#);
        let both = format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[],"manifests":[]}}"#);
        assert!(matches!(Document::parse(both.as_bytes()), Err(ImageError::Refused { .. })));
        let manifest = format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[]}}"#);
        assert!(matches!(Document::parse(manifest.as_bytes()), Ok(Document::Manifest(_))));
        assert!(matches!(Document::parse(br#"{"schemaVersion":2,"manifests":[]}"#), Ok(Document::Index(_))));
        assert!(Document::parse(br#"{"schemaVersion":1,"fsLayers":[]}"#).is_err());
    }

    #[test]
    fn nulls_in_a_configuration_mean_nothing_given() {
        let text =
            br#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"]},"rootfs":{"diff_ids":[]}}"#;
        let config = ConfigDocument::parse(text).unwrap();
        assert_eq!(config.config.cmd, ["sh"]);
        assert!(config.config.env.is_empty());
        assert_eq!(config.platform, "linux/amd64");
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,200}") {
            drop(Document::parse(text.as_bytes()));
            drop(ConfigDocument::parse(text.as_bytes()));
        }
    }
}
