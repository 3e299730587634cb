//! OpenAPI, versions 2 and 3: what is served and of which shape, for clients that validate, explain and apply.
//!
//! Documents are made when they are first asked for and kept compressed.

mod definitions;
mod gnostic;
mod operations;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::sync::OnceLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use martello_api::resource::Resource;
use ring::digest::{SHA512, digest};
use serde_json::{Map, Value, json};

use definitions::{Flavour, definitions};
use operations::paths;

/// What clients accept for the protobuf form of version 2.
pub const PROTOBUF_V2_ACCEPT: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// Content type of the protobuf form of version 2: clients refuse an `@` there.
pub const PROTOBUF_V2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// A document, compressed with gzip.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// The compressed bytes, for clients that accept gzip.
    pub gzip: Bytes,
    /// SHA-512 of the plain bytes, in upper-case hexadecimal digits: the ETag.
    pub hash: String,
}

impl Document {
    fn of(plain: &[u8]) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        // Writing to a Vec can't fail.
        let compressed = encoder.write_all(plain).and_then(|()| encoder.finish()).unwrap_or_default();
        Self { gzip: Bytes::from(compressed), hash: hex_upper(digest(&SHA512, plain).as_ref()) }
    }

    /// The plain bytes, for clients that do not accept gzip.
    #[must_use]
    pub fn plain(&self) -> Bytes {
        let mut plain = Vec::new();
        match GzDecoder::new(&*self.gzip).read_to_end(&mut plain) {
            Ok(_) => Bytes::from(plain),
            Err(_) => Bytes::new(),
        }
    }
}

fn hex_upper(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .map(|c| c.to_ascii_uppercase())
        .collect()
}

/// The OpenAPI documents of what is served.
#[derive(Debug)]
pub struct OpenApi {
    resources: Vec<Resource>,
    version: String,
    json: OnceLock<Document>,
    protobuf: OnceLock<Document>,
    index: OnceLock<Bytes>,
    /// Path below `/openapi/v3/` (`api/v1`, `apis/apps/v1`), with its document.
    third: Vec<(String, OnceLock<Document>)>,
}

impl OpenApi {
    /// Of these resources; `version` is the server's, for instance `v1.36.0`.
    #[must_use]
    pub fn new(resources: &[Resource], version: &str) -> Self {
        let places: BTreeSet<String> = resources.iter().map(place).collect();
        Self {
            resources: resources.to_vec(),
            version: version.to_owned(),
            json: OnceLock::new(),
            protobuf: OnceLock::new(),
            index: OnceLock::new(),
            third: places.into_iter().map(|place| (place, OnceLock::new())).collect(),
        }
    }

    /// `/openapi/v2` as JSON.
    pub fn v2_json(&self) -> &Document {
        self.json.get_or_init(|| Document::of(self.second().to_string().as_bytes()))
    }

    /// `/openapi/v2` as protobuf, which kubectl before 1.27 asks for.
    pub fn v2_protobuf(&self) -> &Document {
        self.protobuf.get_or_init(|| Document::of(&gnostic::encode(&self.second())))
    }

    /// `/openapi/v3`: where the document of each version of a group is.
    pub fn v3_index(&self) -> &Bytes {
        self.index.get_or_init(|| {
            let mut paths = Map::new();
            for (place, _) in &self.third {
                let hash = self.v3(place).map(|document| document.hash.as_str()).unwrap_or_default();
                paths.insert(place.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{place}?hash={hash}")}));
            }
            Bytes::from(json!({"paths": paths}).to_string())
        })
    }

    /// `/openapi/v3/PLACE`, for instance `apis/apps/v1`.
    #[must_use]
    pub fn v3(&self, wanted: &str) -> Option<&Document> {
        let (_, document) = self.third.iter().find(|(place, _)| place == wanted)?;
        Some(document.get_or_init(|| {
            let resources: Vec<&Resource> =
                self.resources.iter().filter(|resource| place(resource) == wanted).collect();
            let document = json!({
                "openapi": "3.0.0",
                "info": {"title": "Kubernetes", "version": self.version},
                "paths": paths(&resources, Flavour::Third),
                "components": {"schemas": definitions(&resources, Flavour::Third)},
            });
            Document::of(document.to_string().as_bytes())
        }))
    }

    fn second(&self) -> Value {
        let resources: Vec<&Resource> = self.resources.iter().collect();
        json!({
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": self.version},
            "paths": paths(&resources, Flavour::Second),
            "definitions": definitions(&resources, Flavour::Second),
        })
    }
}

fn place(resource: &Resource) -> String {
    let gvk = &resource.gvk;
    if gvk.group.is_empty() { format!("api/{}", gvk.version) } else { format!("apis/{}/{}", gvk.group, gvk.version) }
}

#[cfg(test)]
#[path = "openapi/tests.rs"]
mod tests;
