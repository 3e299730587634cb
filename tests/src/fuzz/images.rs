//! Images: their names, their documents, their layers, and the package databases in them.

use std::io::Read as _;

use martello_scanner::{
    Digest, Reference,
    credentials::Credentials,
    image::{check_configuration, check_manifest},
    inventory::{self, OsRelease},
    layers::{self, Budget, Compression, EntryKind, Limits, View},
};

use super::text;

/// Names of images.
pub fn reference(bytes: &[u8]) {
    let Ok(reference) = text(bytes).parse::<Reference>() else { return };
    let shown = reference.to_string();
    assert_eq!(shown.parse::<Reference>().ok(), Some(reference), "{shown}");
}

/// Manifests and indexes of images.
pub fn manifest(bytes: &[u8]) {
    drop(check_manifest(bytes));
}

/// Configurations of images.
pub fn configuration(bytes: &[u8]) {
    drop(check_configuration(bytes));
}

/// Registries' credentials, both forms of Secrets.
pub fn credentials(bytes: &[u8]) {
    let mut credentials = Credentials::none();
    drop(credentials.add_dockerconfigjson(bytes, None));
    drop(credentials.add_dockercfg(bytes, None));
    for reference in ["registry.example:5000/a/b:1", "alpine"] {
        if let Ok(reference) = reference.parse::<Reference>() {
            credentials.matching(&reference).count();
        }
    }
}

/// A layer on top of itself, in every compression. No entry may lead out of the image.
pub fn layer(bytes: &[u8]) {
    let limits =
        Limits { total_bytes: 4 << 20, file_bytes: 1 << 20, entries: 4096, ratio: 200, ratio_floor_bytes: 1 << 20 };
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut view = View::new();
        let mut budget = Budget::new(limits.clone());
        for _ in 0..2 {
            view.next_layer();
            let diff_id = Digest::of(bytes);
            let read = layers::read(bytes, compression, &diff_id, &mut budget, &mut |entry, content| {
                if let EntryKind::File { size } = entry.kind {
                    let mut taken = Vec::new();
                    content.take(size).read_to_end(&mut taken).map_err(layers::LayerError::Read)?;
                }
                view.apply(entry).map(drop)
            });
            drop(read);
        }
        for (path, _) in view.nodes() {
            assert!(path.components().all(|part| !part.is_empty() && part != b".." && part != b"."));
        }
    }
}

/// Debian's package database and copyright files.
pub fn dpkg(bytes: &[u8]) {
    for path in ["var/lib/dpkg/status", "var/lib/dpkg/status.d/base"] {
        drop(inventory::packages(path, bytes));
    }
    drop(inventory::licenses(bytes));
}

/// Alpine's package database.
pub fn apk(bytes: &[u8]) {
    drop(inventory::packages("lib/apk/db/installed", bytes));
}

/// What an image says about itself.
pub fn os_release(bytes: &[u8]) {
    drop(OsRelease::parse(bytes));
}
