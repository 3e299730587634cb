//! Builds layers and image archives byte by byte, honest and hostile ones.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use martello_scanner::{Config, Digest, Image, Images};

/// This machine's architecture in OCI's words.
pub(crate) fn arch() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// A tar file under construction. Nothing is checked: that is the point.
#[derive(Clone, Default)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    pub(crate) fn entry(mut self, kind: u8, name: &[u8], link: &[u8], mode: u32, data: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        {
            let old = header.as_old_mut();
            old.name[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
            old.linkname[..link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
        }
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.block(data)
    }

    /// Data, padded to whole blocks.
    pub(crate) fn block(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn dir(self, name: &str, mode: u32) -> Self {
        self.entry(b'5', name.as_bytes(), b"", mode, b"")
    }

    pub(crate) fn file(self, name: &str, data: impl AsRef<[u8]>) -> Self {
        self.entry(b'0', name.as_bytes(), b"", 0o644, data.as_ref())
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name.as_bytes(), target.as_bytes(), 0o777, b"")
    }

    pub(crate) fn hardlink(self, name: &str, to: &str) -> Self {
        self.entry(b'1', name.as_bytes(), to.as_bytes(), 0o644, b"")
    }

    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let bare = key.len() + value.len() + 3;
            let length = (bare..).find(|n| bare + n.to_string().len() == *n).unwrap();
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.entry(b'x', b"pax", b"", 0o644, &data)
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// The blobs of one image.
#[derive(Clone)]
pub(crate) struct Built {
    /// Layer blobs with their media types.
    pub(crate) layers: Vec<(String, Vec<u8>)>,
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

impl Built {
    /// An image of these uncompressed layers; every other one is compressed by gzip, every third by zstd.
    pub(crate) fn new(layers: &[Vec<u8>]) -> Self {
        let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
        let blobs = layers.iter().enumerate().map(|(n, layer)| match n % 3 {
            0 => ("application/vnd.oci.image.layer.v1.tar+gzip".to_owned(), gzip(layer)),
            1 => ("application/vnd.oci.image.layer.v1.tar".to_owned(), layer.clone()),
            _ => (
                "application/vnd.oci.image.layer.v1.tar+zstd".to_owned(),
                zstd::encode_all(layer.as_slice(), 1).unwrap(),
            ),
        });
        Self::with(blobs.collect(), &diff_ids)
    }

    /// An image of these blobs, which claims these diff ids.
    pub(crate) fn with(layers: Vec<(String, Vec<u8>)>, diff_ids: &[String]) -> Self {
        let config = serde_json::json!({
            "architecture": arch(), "os": "linux", "created": "2026-01-02T03:04:05.678Z",
            "config": { "User": "10001", "Env": ["A=b"], "Cmd": ["/bin/true"], "ExposedPorts": { "3000/tcp": {} } },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = serde_json::to_vec(&config).unwrap();
        let describe = |kind: &str, blob: &[u8]| serde_json::json!({ "mediaType": kind, "digest": Digest::of(blob).to_string(), "size": blob.len() });
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": describe("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers.iter().map(|(kind, blob)| describe(kind, blob)).collect::<Vec<_>>(),
        });
        Self { layers, config, manifest: serde_json::to_vec(&manifest).unwrap() }
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// The image as an OCI layout archive.
    pub(crate) fn archive(&self, name: &str) -> Vec<u8> {
        let index = serde_json::json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": self.digest().to_string(), "size": self.manifest.len(),
                "annotations": { "io.containerd.image.name": name },
            }],
        });
        let mut tar = Tar::default().file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        tar = tar.file("index.json", serde_json::to_vec(&index).unwrap());
        for blob in self.layers.iter().map(|(_, blob)| blob).chain([&self.config, &self.manifest]) {
            tar = tar.file(&format!("blobs/sha256/{}", Digest::of(blob).hex()), blob);
        }
        tar.end()
    }
}

pub(crate) fn open(dir: &Path) -> Images {
    Images::open(dir, Config::default()).unwrap()
}

/// Imports an image of these layers and hands it back.
pub(crate) fn imported(images: &Images, layers: &[Vec<u8>]) -> Image {
    let archive = Built::new(layers).archive("example.com/test:1");
    images.import(archive.as_slice(), None).unwrap().remove(0).image
}

/// What is said when an image of these layers is imported.
pub(crate) fn refusal(layers: &[Vec<u8>], config: Config) -> String {
    let dir = tempfile::tempdir().unwrap();
    let images = Images::open(dir.path(), config).unwrap();
    let archive = Built::new(layers).archive("example.com/test:1");
    let error = images.import(archive.as_slice(), None).expect_err("a hostile image was accepted");
    assert_eq!(images.list().unwrap(), []);
    // A process that another test starts in that moment holds a copy of the store's lock until it becomes its program:
    // then nothing is tidied up, and whoever changes the store next does it.
    let blobs = || std::fs::read_dir(dir.path().join("blobs/sha256")).unwrap().count();
    let deadline = Instant::now() + Duration::from_secs(20);
    while blobs() > 0 {
        assert!(Instant::now() < deadline, "a refused image left blobs behind");
        images.remove(&"example.com/test:1".parse().unwrap()).unwrap();
    }
    error.explain()
}
