use martello_api::resource::{GroupVersionKind, Subresource};

use super::*;

fn resource(group: &'static str, kind: &'static str, plural: &'static str) -> Resource {
    let all = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let gvk = GroupVersionKind::new(group, "v1", kind);
    Resource {
        gvk: gvk.clone(),
        plural: plural.into(),
        singular: kind.to_lowercase().into(),
        short_names: Vec::new(),
        categories: Vec::new(),
        namespaced: true,
        verbs: all.map(Into::into).to_vec(),
        subresources: vec![Subresource {
            name: "status".into(),
            gvk,
            verbs: vec!["get".into(), "patch".into(), "update".into()],
        }],
    }
}

fn served() -> OpenApi {
    let resources = [resource("apps", "Deployment", "deployments"), resource("", "Pod", "pods")];
    OpenApi::new(&resources.map(Described::from), "v1.36.0")
}

fn read(document: &Document) -> Value {
    serde_json::from_slice(&document.plain()).unwrap()
}

#[test]
fn version_two_tells_what_kubectl_looks_for() {
    let open = served();
    let document = read(open.v2_json());
    let deployment = &document["definitions"]["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"][0],
        json!({"group": "apps", "kind": "Deployment", "version": "v1"})
    );
    assert_eq!(deployment["properties"]["spec"]["$ref"], "#/definitions/io.k8s.api.apps.v1.DeploymentSpec");
    let containers = &document["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert!(containers["description"].as_str().unwrap().len() > 20);
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    let names: Vec<&str> =
        patch["parameters"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert!(names.contains(&"dryRun") && names.contains(&"fieldValidation"));
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(ToOwned::to_owned));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let open = served();
    for (document, prefix, holder) in [
        (read(open.v2_json()), "#/definitions/", "/definitions"),
        (read(open.v3("apis/apps/v1").unwrap().0), "#/components/schemas/", "/components/schemas"),
    ] {
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        let known = document.pointer(holder).unwrap().as_object().unwrap();
        assert!(found.len() > 50);
        for reference in found {
            let is_known = match reference.strip_prefix("#/parameters/") {
                Some(name) => document["parameters"].get(name).is_some(),
                None => known.contains_key(reference.strip_prefix(prefix).unwrap()),
            };
            assert!(is_known, "{reference}");
        }
    }
}

#[test]
fn version_three_has_a_document_per_version_of_a_group() {
    let open = served();
    let index: Value = serde_json::from_slice(open.v3_index()).unwrap();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let (document, _) = open.v3("apis/apps/v1").unwrap();
    assert_eq!(url, format!("/openapi/v3/apis/apps/v1?hash={}", document.hash));
    let document = read(document);
    let spec = &document["components"]["schemas"]["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["template"];
    assert_eq!(spec["allOf"][0]["$ref"], "#/components/schemas/io.k8s.api.core.v1.PodTemplateSpec");
    assert_eq!(spec["default"], json!({}));
    assert!(open.v3("apis/none/v1").is_none());
}

#[test]
fn the_protobuf_form_is_well_formed() {
    /// Reads the fields of a message as numbers and contents.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let (byte, rest) = bytes.split_first().unwrap();
                *bytes = rest;
                value |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    return value;
                }
            }
        }
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let length = if tag & 7 == 2 { varint(&mut bytes) } else { u64::from(tag & 7 == 0) };
            let (content, rest) = bytes.split_at(usize::try_from(length).unwrap());
            found.push((tag >> 3, content));
            bytes = rest;
        }
        found
    }
    let open = served();
    let plain = open.v2_protobuf().plain();
    let document = fields(&plain);
    assert_eq!(document.first(), Some(&(1, &b"2.0"[..])));
    let names = |list: &[u8]| -> Vec<String> {
        fields(list).into_iter().map(|(_, named)| String::from_utf8(fields(named)[0].1.to_vec()).unwrap()).collect()
    };
    let part = |wanted: u64| document.iter().find(|(number, _)| *number == wanted).unwrap().1;
    assert!(names(part(9)).contains(&"io.k8s.api.core.v1.Pod".to_owned()));
    assert!(names(part(10)).iter().any(|name| name.starts_with("labelSelector-")));
    assert_eq!(names(part(13)), ["BearerToken"]);

    let plain = open.v3_protobuf("api/v1").unwrap().plain();
    let document = fields(&plain);
    assert_eq!(document.first(), Some(&(1, &b"3.0.0"[..])));
    let part = |wanted: u64| document.iter().find(|(number, _)| *number == wanted).unwrap().1;
    assert!(names(part(4)).contains(&"/api/v1/namespaces/{namespace}/pods/{name}".to_owned()));
    let components = fields(part(5));
    assert!(names(components[0].1).contains(&"io.k8s.api.core.v1.Pod".to_owned()));
    assert_eq!(names(components[1].1), ["BearerToken"]);
}
