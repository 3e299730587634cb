use proptest::prelude::*;
use serde_json::json;

use super::super::normalize;
use super::*;

const CONFIG_MAP: &[u8] = b"k8s\x00\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12 \x0a\x0d\x0a\x01cZ\x08\x0a\x03app\x12\x01x\x12\x06\x0a\x01k\x12\x01v\x1a\x07\x0a\x01b\x12\x02\x00\xff\x1a\x00\x22\x00";
const SECRET: &[u8] = b"k8s\x00\x0a\x0c\x0a\x02v1\x12\x06Secret\x12\x22\x0a\x03\x0a\x01s\x12\x13\x0a\x08password\x12\x07hunter2\x1a\x06Opaque\x1a\x00\x22\x00";
const DEPLOYMENT: &[u8] = b"k8s\x00\x0a\x15\x0a\x07apps/v1\x12\x0aDeployment\x12[\x0a\x05\x0a\x03web\x12R\x08\x00\x12\x0c\x0a\x0a\x0a\x03app\x12\x03web\x1a\x22\x0a\x0cZ\x0a\x0a\x03app\x12\x03web\x12\x12\x12\x10\x0a\x05nginx\x12\x07nginx:1\x22\x1c\x0a\x0dRollingUpdate\x12\x0b\x12\x09\x08\x01\x10\x00\x1a\x0325%\x1a\x00\x22\x00";
const POD: &[u8] = b"k8s\x00\x0a\x09\x0a\x02v1\x12\x03Pod\x12V\x0a\x0d\x0a\x01pB\x08\x08\xa5\xeb\xdc\xca\x06\x10\x00\x12E\x0a\x0c\x0a\x04data\x12\x04\x12\x02\x0a\x00\x12,\x0a\x01c\x12\x01iB\x10\x0a\x0e\x0a\x03cpu\x12\x07\x0a\x051500mR\x12\x0a\x0e\x12\x0c\x0a\x01/\x12\x07\x08\x00\x10\x90?\x1a\x00\x10\x05 \x1e\xca\x83\x06\x03new\x1a\x00\x22\x00";

fn decoded(bytes: &[u8]) -> Value {
    decode_protobuf(bytes).unwrap().1
}

#[test]
fn maps_and_bytes_are_entries_and_base64() {
    let map = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "c", "labels": {"app": "x"}},
        "data": {"k": "v"}, "binaryData": {"b": "AP8="}});
    assert_eq!(decoded(CONFIG_MAP), map);
    assert_eq!(encode_protobuf(&map).unwrap(), CONFIG_MAP);
    let secret = json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"},
        "data": {"password": "aHVudGVyMg=="}, "type": "Opaque"});
    assert_eq!(decoded(SECRET), secret);
    assert_eq!(encode_protobuf(&secret).unwrap(), SECRET);
}

#[test]
fn a_zero_that_was_given_is_kept_and_what_is_always_written_is_there() {
    let deployment = decoded(DEPLOYMENT);
    assert_eq!(
        deployment,
        json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "web"}, "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "nginx", "image": "nginx:1", "resources": {}}]}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
        }, "status": {}})
    );
    assert_eq!(decoded(&encode_protobuf(&deployment).unwrap()), deployment);
}

#[test]
fn quantities_ports_times_and_embedded_messages_become_plain_json_and_unknown_fields_are_skipped() {
    let pod = decoded(POD);
    assert_eq!(
        pod,
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "creationTimestamp": "2026-01-02T03:04:05Z"},
            "spec": {
                "volumes": [{"name": "data", "emptyDir": {}}],
                "containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "1500m"}},
                    "livenessProbe": {"httpGet": {"path": "/", "port": 8080}, "initialDelaySeconds": 5}}],
                "terminationGracePeriodSeconds": 30,
            }, "status": {}})
    );
    assert_eq!(decoded(&encode_protobuf(&pod).unwrap()), pod);
}

#[test]
fn messages_inside_messages_that_json_does_not_know_are_two_deep_at_most() {
    let binding = json!({"kind": "ValidatingAdmissionPolicyBinding", "apiVersion": "admissionregistration.k8s.io/v1",
        "metadata": {"name": "b"}, "spec": {"policyName": "p", "matchResources": {"resourceRules": [
            {"resourceNames": ["n"], "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}}});
    assert_eq!(decoded(&encode_protobuf(&binding).unwrap()), binding);
}

/// `Verbs` is a message on the wire and a list in JSON.
#[test]
fn verbs_of_discovery_are_a_message_of_their_own() {
    let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources":
        [{"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": ["get", "list"]}]});
    let bytes = encode_protobuf(&list).unwrap();
    let verbs = b"\x22\x0b\x0a\x03get\x0a\x04list";
    assert!(bytes.windows(verbs.len()).any(|part| part == verbs), "{bytes:x?}");
    assert_eq!(decoded(&bytes), list);
}

#[test]
fn schemas_of_custom_kinds_keep_their_choices() {
    let mut definition = json!({"kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": {"name": "ks.example.org"},
        "spec": {"group": "example.org", "names": {"plural": "ks", "kind": "K"}, "scope": "Namespaced", "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "maximum": 1.5, "minimum": 2, "default": {"a": [null, 1]},
                "additionalProperties": {"type": "string"}, "additionalItems": false, "items": [{"type": "string"}],
                "dependencies": {"a": ["b"], "c": {"$ref": "d"}}, "x-kubernetes-preserve-unknown-fields": true}}}]}});
    normalize(
        Schemas::builtin()
            .named("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition")
            .unwrap(),
        &mut definition,
    );
    let mut again = decoded(&encode_protobuf(&definition).unwrap());
    normalize(
        Schemas::builtin()
            .named("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition")
            .unwrap(),
        &mut again,
    );
    assert_eq!(again, definition);
}

#[test]
fn metadata_alone_and_lists_of_it_are_told() {
    let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "a"}}]});
    assert_eq!(decoded(&encode_protobuf(&list).unwrap()), list);
}

#[test]
fn a_list_is_encoded_item_by_item_as_it_is_in_one() {
    let metadata = json!({"resourceVersion": "7"});
    let mut list = ProtobufList::new(&GroupVersionKind::new("", "v1", "ConfigMap"), metadata.clone()).unwrap();
    let item = |length: usize| json!({"metadata": {"name": "a"}, "data": {"k": "v".repeat(length)}});
    let items: Vec<Value> = [vec![item(300); 250], vec![item(100_000)], vec![item(3); 3]].concat();
    items.iter().for_each(|item| list.push(list.encode(item).into()));
    let whole = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": items});
    let pieces = list.finish();
    assert_eq!(pieces.len(), 4, "two of small objects, the large one, and the rest");
    let bytes = Vec::from(pieces).concat();
    assert_eq!(Some(&bytes), encode_protobuf(&whole).as_ref());
    assert_eq!(decoded(&bytes), whole);
}

#[test]
fn a_watch_event_is_a_frame_of_its_length() {
    assert_eq!(protobuf_event("ADDED", b"xy"), b"\0\0\0\x0d\x0a\x05ADDED\x12\x04\x0a\x02xy");
}

#[test]
fn bodies_that_are_no_objects_are_refused_as_upstream_words_it() {
    let gvk = GroupVersionKind::new("", "v1", "ConfigMap");
    let answer = |body: &[u8]| decode_protobuf(body).unwrap_err().to_api_error(&gvk, body).message;
    let head = "the object provided is unrecognized (must be of type ConfigMap): ";
    assert_eq!(answer(b""), format!("{head}empty data (<empty>)"));
    assert_eq!(
        answer(b"{}"),
        format!("{head}provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] ({{}})")
    );
    assert_eq!(answer(CONFIG_MAP.get(..40).unwrap()), format!("{head}unexpected EOF ({} ...)", hex(30)));
    let wrong = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x04\x0a\x02\x08\x01";
    assert_eq!(
        answer(wrong),
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: proto: wrong wireType = 0 for field Name"
    );
    let told = |message: &[u8]| {
        let mut body = Writer(b"k8s\0".to_vec());
        body.bytes(1, b"\x0a\x02v1\x12\x09ConfigMap");
        body.bytes(2, message);
        decode_protobuf(&body.0).map_or_else(|error| error.to_string(), |(_, value)| value.to_string())
    };
    for (message, why) in [
        (&b"\x00"[..], "proto: ConfigMap: illegal tag 0 (wire type 0)"),
        (b"\x07", "proto: ConfigMap: illegal tag 0 (wire type 7)"),
        (b"\x04", "proto: ConfigMap: wiretype end group for non-group"),
        (b"\x0a\x01\x00", "proto: ObjectMeta: illegal tag 0 (wire type 0)"),
        (b"\x08\x05", "proto: wrong wireType = 0 for field ObjectMeta"),
        (b"\x0a\x03\x28\x01\x00", "proto: wrong wireType = 0 for field UID"),
        (b"\x0a\x05a", "unexpected EOF"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "proto: negative length found during unmarshaling"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "proto: integer overflow"),
        (b"\x9e\x06", "proto: illegal wireType 6"),
        (b"\x9b\x06\x9c\x06\x9c\x06", "proto: ConfigMap: wiretype end group for non-group"),
        (b"\x9b\x06", "unexpected EOF"),
        (b"\x9a\x06\x05abc", "unexpected EOF"),
    ] {
        assert_eq!(told(message), why, "{message:02x?}");
    }
    assert_eq!(told(b"\x9b\x06\x08\x01\x9c\x06\x9d\x06abcd"), told(b""), "groups that nobody knows are passed over");
    assert!(told(b"\x0a\x04\x0a\x02a\xff").contains("\"name\":\"a\u{fffd}\""));
    let pieces = told(b"\x0a\x03\x0a\x01a\x0a\x03\x1a\x01b");
    assert!(pieces.contains("\"name\":\"a\"") && pieces.contains("\"namespace\":\"b\""), "{pieces}");
}

fn hex(length: usize) -> String {
    CONFIG_MAP.iter().take(length).map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn depth_and_number_of_values_are_bounded() {
    let mut inner = Vec::new();
    for _ in 0..200 {
        let mut out = Writer::default();
        out.bytes(28, &inner);
        inner = out.0;
    }
    let schema = Schemas::builtin().named("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps");
    let envelope = Envelope { api_version: "".into(), kind: "".into(), message: &inner };
    assert_eq!(envelope.decode(schema.unwrap()), Err(ProtobufError::Depth));
    let metadata = Schemas::builtin().named("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").unwrap();
    // Finalizers of no letters, and labels without key and value.
    for many in [b"\x72\x00".repeat(500_000), b"\x5a\x00".repeat(500_000)] {
        let envelope = Envelope { api_version: "".into(), kind: "".into(), message: &many };
        assert_eq!(envelope.decode(metadata), Err(ProtobufError::TooMany));
    }
}

#[test]
fn entries_of_maps_read_little_behind_their_ends_in_all() {
    // A label of four bytes whose key says that it is as long as 32 KiB.
    let entry = [0x5a, 4, 0x0a, 0x80, 0x80, 0x02];
    let metadata = Schemas::builtin().named("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").unwrap();
    let read = |times: usize| {
        let message = [entry.repeat(times), b"\x0a\x00".repeat(20_000)].concat();
        Envelope { api_version: "".into(), kind: "".into(), message: &message }.decode(metadata)
    };
    assert!(read(1).is_ok(), "one is read as upstream reads it");
    assert_eq!(read(3), Err(ProtobufError::TooMany));
}

#[test]
fn packed_numbers_are_counted() {
    let security = Schemas::builtin().named("io.k8s.api.core.v1.PodSecurityContext").unwrap();
    let mut message = Writer::default();
    message.bytes(4, &vec![1; 500_000]);
    let envelope = Envelope { api_version: "".into(), kind: "".into(), message: &message.0 };
    assert_eq!(envelope.decode(security), Err(ProtobufError::TooMany));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(message in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..200, byte: u8) {
        let schema = Schemas::builtin().get(&GroupVersionKind::new("", "v1", "Pod")).unwrap();
        let _refused = Envelope { api_version: "".into(), kind: "".into(), message: &message }.decode(schema);
        for vector in [CONFIG_MAP, DEPLOYMENT, POD] {
            let mut bytes = vector.to_vec();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            if let Ok((_, value)) = decode_protobuf(&bytes) {
                let again = encode_protobuf(&value).unwrap();
                prop_assert_eq!(decoded(&again), value);
            }
        }
    }

    #[test]
    fn what_json_tells_protobuf_tells(
        data in proptest::collection::btree_map("[a-c]{1,2}", "\\PC{0,200}", 0..4), replicas: i32, delay in 0i32..9, seconds in -60_000_000_000i64..200_000_000_000,
    ) {
        let time = crate::clock::rfc3339_seconds(jiff::Timestamp::from_second(seconds).unwrap());
        let deployment = json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"annotations": data, "deletionTimestamp": time},
            "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "c", "startupProbe": {"initialDelaySeconds": delay}}]}}}});
        let schema = Schemas::builtin().get(&GroupVersionKind::new("apps", "v1", "Deployment")).unwrap();
        let normal = super::super::decode_value(schema, deployment).unwrap().value;
        let mut again = decoded(&encode_protobuf(&normal).unwrap());
        normalize(schema, &mut again);
        let mut normal = normal;
        normalize(schema, &mut normal);
        prop_assert_eq!(again, normal);
    }
}
