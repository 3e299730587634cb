//! OpenAPI, versions 2 and 3: what is served and of which shape, for clients that validate, explain and apply.
//!
//! Documents are made when they are first asked for and kept compressed.

mod custom;
mod definitions;
mod gnostic;
mod gnostic3;
mod operations;
mod parameters;
mod roots;
mod shared;
mod wire;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use martello_api::{clock, resource::Resource};
use ring::digest::{SHA512, digest};
use serde_json::{Map, Value, json};

use definitions::{Flavour, definitions};
use operations::paths;

/// What older clients accept for the protobuf form of version 2.
pub const PROTOBUF_V2_OLD: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// Content type of the protobuf form of version 2: clients refuse an `@` there.
pub const PROTOBUF_V2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// What older clients accept for the protobuf form of version 3.
pub const PROTOBUF_V3_OLD: &str = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
/// Content type of the protobuf form of version 3.
pub const PROTOBUF_V3: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";

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

/// Bytes in upper-case hexadecimal digits.
pub(crate) fn hex_upper(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .map(|c| c.to_ascii_uppercase())
        .collect()
}

/// The schema of a kind that came at run time.
#[derive(Clone, Debug)]
pub struct CustomSchema {
    /// How it is served.
    pub resource: Resource,
    /// The kind of its lists.
    pub list_kind: String,
    /// Its `openAPIV3Schema`.
    pub schema: Arc<Value>,
}

/// A resource, and what is told of it besides.
#[derive(Clone, Debug)]
pub struct Described {
    /// How it is served.
    pub resource: Resource,
    /// Whether a delete answers with the object that went.
    pub answers_deleted: bool,
}

impl From<Resource> for Described {
    fn from(resource: Resource) -> Self {
        Self { resource, answers_deleted: false }
    }
}

/// The OpenAPI documents of what is served.
#[derive(Debug)]
pub struct OpenApi {
    resources: Vec<Described>,
    custom: Vec<CustomSchema>,
    version: String,
    made: Timestamp,
    json: OnceLock<Document>,
    protobuf: OnceLock<Document>,
    index: OnceLock<Bytes>,
    third: Vec<Arc<Place>>,
}

/// One document of version 3: of a version of a group, or of paths without objects.
#[derive(Debug)]
struct Place {
    /// Path below `/openapi/v3/` (`api/v1`, `apis/apps/v1`, `version`).
    path: String,
    custom: Vec<CustomSchema>,
    made: Timestamp,
    document: OnceLock<Document>,
    protobuf: OnceLock<Document>,
}

impl OpenApi {
    /// Of these resources; `version` is the server's, for instance `v1.36.0`.
    #[must_use]
    pub fn new(resources: &[Described], version: &str) -> Self {
        Self::after(None, resources, Vec::new(), version)
    }

    /// Of built-in resources and custom ones. What did not change since `previous` is not made again.
    #[must_use]
    pub fn after(previous: Option<&Self>, builtin: &[Described], custom: Vec<CustomSchema>, version: &str) -> Self {
        let made = clock::now();
        let own: Vec<&Resource> = builtin.iter().map(|described| &described.resource).collect();
        let roots = roots::documents(&own, Flavour::Third).into_iter().map(|(path, _)| path);
        let mut resources = builtin.to_vec();
        resources.extend(custom.iter().map(|schema| Described::from(schema.resource.clone())));
        let paths: BTreeSet<String> =
            resources.iter().map(|described| place(&described.resource)).chain(roots).collect();
        let third = paths.into_iter().map(|path| {
            let custom: Vec<CustomSchema> =
                custom.iter().filter(|schema| place(&schema.resource) == path).cloned().collect();
            let kept = previous.and_then(|previous| previous.third.iter().find(|kept| kept.path == path));
            match kept.filter(|kept| same(&kept.custom, &custom)) {
                Some(kept) => Arc::clone(kept),
                None => Arc::new(Place { path, custom, made, document: OnceLock::new(), protobuf: OnceLock::new() }),
            }
        });
        Self {
            third: third.collect(),
            resources,
            custom,
            version: version.to_owned(),
            made,
            json: OnceLock::new(),
            protobuf: OnceLock::new(),
            index: OnceLock::new(),
        }
    }

    /// Since when version 2 tells what it tells.
    #[must_use]
    pub fn made(&self) -> Timestamp {
        self.made
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
            for place in &self.third {
                let (hash, place) = (&self.document(place).hash, &place.path);
                paths.insert(place.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{place}?hash={hash}")}));
            }
            Bytes::from(json!({"paths": paths}).to_string())
        })
    }

    /// `/openapi/v3/PLACE`, for instance `apis/apps/v1`, and since when it is so.
    #[must_use]
    pub fn v3(&self, wanted: &str) -> Option<(&Document, Timestamp)> {
        self.third.iter().find(|place| place.path == wanted).map(|place| (self.document(place), place.made))
    }

    /// The same as protobuf.
    #[must_use]
    pub fn v3_protobuf(&self, wanted: &str) -> Option<&Document> {
        let place = self.third.iter().find(|place| place.path == wanted)?;
        Some(place.protobuf.get_or_init(|| Document::of(&gnostic3::encode(&self.third(place)))))
    }

    fn document<'p>(&self, here: &'p Place) -> &'p Document {
        here.document.get_or_init(|| Document::of(self.third(here).to_string().as_bytes()))
    }

    fn third(&self, here: &Place) -> Value {
        let here_only: Vec<&Described> =
            self.resources.iter().filter(|described| place(&described.resource) == here.path).collect();
        let builtin = self.builtin();
        let paths = match roots::documents(&builtin, Flavour::Third).into_iter().find(|(path, _)| *path == here.path) {
            Some((_, paths)) => paths,
            None => {
                let mut paths = paths(&here_only, &here.custom, Flavour::Third);
                let lists: Vec<&Resource> =
                    builtin.iter().copied().filter(|resource| place(resource) == here.path).collect();
                paths.extend(roots::resource_lists(&lists, Flavour::Third));
                paths
            }
        };
        let of = here_only.first().map_or(("", "v1"), |first| {
            let gvk = &first.resource.gvk;
            (&*gvk.group, &*gvk.version)
        });
        let schemas = definitions(&paths, &here.custom, Flavour::Third, Some(of));
        let mut components = json!({"securitySchemes": bearer()});
        if let (Value::Object(map), false) = (&mut components, schemas.is_empty()) {
            map.insert("schemas".into(), Value::Object(schemas));
        }
        json!({
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": self.version},
            "paths": paths,
            "components": components,
        })
    }

    /// Those that are not custom.
    fn builtin(&self) -> Vec<&Resource> {
        let is_custom = |resource: &Resource| self.custom.iter().any(|schema| schema.resource.gvk == resource.gvk);
        self.resources.iter().map(|described| &described.resource).filter(|resource| !is_custom(resource)).collect()
    }

    fn second(&self) -> Value {
        let (resources, builtin): (Vec<&Described>, _) = (self.resources.iter().collect(), self.builtin());
        let mut paths = paths(&resources, &self.custom, Flavour::Second);
        paths.extend(roots::resource_lists(&builtin, Flavour::Second));
        paths.extend(roots::documents(&builtin, Flavour::Second).into_iter().flat_map(|(_, paths)| paths));
        let definitions = definitions(&paths, &self.custom, Flavour::Second, None);
        let mut paths = Value::Object(paths);
        let parameters = shared::share(&mut paths);
        json!({
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": self.version},
            "paths": paths,
            "definitions": definitions,
            "parameters": parameters,
            "securityDefinitions": bearer(),
            "security": [{"BearerToken": []}],
        })
    }
}

/// How clients may tell who they are.
fn bearer() -> Value {
    let token = json!({"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"});
    json!({"BearerToken": token})
}

fn same(one: &[CustomSchema], other: &[CustomSchema]) -> bool {
    let alike = |(one, other): (&CustomSchema, &CustomSchema)| {
        Arc::ptr_eq(&one.schema, &other.schema) && one.resource == other.resource && one.list_kind == other.list_kind
    };
    one.len() == other.len() && one.iter().zip(other).all(alike)
}

fn place(resource: &Resource) -> String {
    let gvk = &resource.gvk;
    if gvk.group.is_empty() { format!("api/{}", gvk.version) } else { format!("apis/{}/{}", gvk.group, gvk.version) }
}

#[cfg(test)]
#[path = "openapi/tests.rs"]
mod tests;
