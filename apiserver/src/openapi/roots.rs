//! Paths that are no object's: discovery, version, keys of tokens.

use std::collections::{BTreeMap, BTreeSet};

use martello_api::resource::{GroupVersionKind, Resource};
use serde_json::{Map, Value, json};

use super::definitions::{Flavour, reference};
use super::operations::{capital, content, short_group};
use super::place;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const INFO: &str = "io.k8s.apimachinery.pkg.version.Info";
const DISCOVERY: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const JSON: [&str; 1] = ["application/json"];

/// A path with what it answers.
struct Root {
    path: String,
    id: String,
    tag: String,
    words: &'static str,
    /// Encodings of requests.
    consumes: &'static [&'static str],
    /// Encodings of answers.
    produces: &'static [&'static str],
    /// The type of the answer; none for a text.
    shape: Option<String>,
}

/// The paths that have a document of their own in version 3, by the place of that document.
pub(super) fn documents(resources: &[&Resource], flavour: Flavour) -> Vec<(String, Map<String, Value>)> {
    let groups: BTreeSet<&str> = resources.iter().map(|resource| &*resource.gvk.group).collect();
    let of_groups = groups.into_iter().map(|group| match group {
        "" => discovery("/api/", "getCoreAPIVersions", "core", "get available API versions", "APIVersions"),
        group => {
            let (id, tag) = (format!("get{}APIGroup", capital(&short_group(group))), short_group(group));
            discovery(&format!("/apis/{group}/"), &id, &tag, "get information of a group", "APIGroup")
        }
    });
    let all = of_groups.chain([
        discovery("/apis/", "getAPIVersions", "apis", "get available API versions", "APIGroupList"),
        Root {
            path: "/version/".to_owned(),
            id: "getCodeVersion".to_owned(),
            tag: "version".to_owned(),
            words: "get the version information for this server",
            consumes: &JSON,
            produces: &JSON,
            shape: Some(INFO.to_owned()),
        },
        Root {
            path: "/.well-known/openid-configuration/".to_owned(),
            id: "getServiceAccountIssuerOpenIDConfiguration".to_owned(),
            tag: "WellKnown".to_owned(),
            words: "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
            consumes: &[],
            produces: &JSON,
            shape: None,
        },
        Root {
            path: "/openid/v1/jwks/".to_owned(),
            id: "getServiceAccountIssuerOpenIDKeyset".to_owned(),
            tag: "openid".to_owned(),
            words: "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
            consumes: &[],
            produces: &["application/jwk-set+json"],
            shape: None,
        },
    ]);
    all.map(|root| (root.path.trim_matches('/').to_owned(), Map::from_iter([root.told(flavour)]))).collect()
}

/// The paths that tell the resources of these versions, each part of the document of its version.
pub(super) fn resource_lists(resources: &[&Resource], flavour: Flavour) -> Map<String, Value> {
    let places: BTreeMap<String, &GroupVersionKind> =
        resources.iter().map(|resource| (place(resource), &resource.gvk)).collect();
    let lists = places.into_iter().map(|(place, gvk)| {
        let (short, version) = (short_group(&gvk.group), &*gvk.version);
        let id = format!("get{}{}APIResources", capital(&short), capital(version));
        let (path, tag) = (format!("/{place}/"), format!("{short}_{version}"));
        discovery(&path, &id, &tag, "get available resources", "APIResourceList").told(flavour)
    });
    lists.collect()
}

fn discovery(path: &str, id: &str, tag: &str, words: &'static str, shape: &str) -> Root {
    Root {
        path: path.to_owned(),
        id: id.to_owned(),
        tag: tag.to_owned(),
        words,
        consumes: &DISCOVERY,
        produces: &DISCOVERY,
        shape: Some(format!("{META}.{shape}")),
    }
}

impl Root {
    fn told(self, flavour: Flavour) -> (String, Value) {
        let shape = self.shape.map_or_else(|| json!({"type": "string"}), |name| reference(&name, flavour));
        let mut get = json!({"description": self.words, "operationId": self.id, "tags": [self.tag]});
        let ok = match flavour {
            Flavour::Second => json!({"description": "OK", "schema": shape}),
            Flavour::Third => json!({"description": "OK", "content": content(self.produces, &shape)}),
        };
        if let Value::Object(map) = &mut get {
            map.insert("responses".into(), json!({"200": ok, "401": {"description": "Unauthorized"}}));
            if flavour == Flavour::Second {
                map.insert("schemes".into(), json!(["https"]));
                map.insert("produces".into(), json!(self.produces));
                if !self.consumes.is_empty() {
                    map.insert("consumes".into(), json!(self.consumes));
                }
            }
        }
        (self.path, json!({"get": get}))
    }
}
