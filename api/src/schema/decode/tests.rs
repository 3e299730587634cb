use serde_json::json;

use super::super::Schemas;
use super::*;
use crate::resource::GroupVersionKind;

fn schema(group: &'static str, kind: &'static str) -> &'static Schema {
    Schemas::builtin().get(&GroupVersionKind::new(group, "v1", kind)).unwrap()
}

fn issues(kind: &'static str, body: &str) -> Vec<String> {
    decode_json(schema("", kind), body.as_bytes()).unwrap().issues.iter().map(ToString::to_string).collect()
}

fn error(group: &'static str, kind: &'static str, body: &Value) -> String {
    decode_json(schema(group, kind), body.to_string().as_bytes()).unwrap_err().to_string()
}

#[test]
fn unknown_and_duplicate_fields_are_told_by_path() {
    assert_eq!(
        issues(
            "ConfigMap",
            r#"{"data":{"k":"1","k":"2"},"immutable":false,"immutable":false,"metadata":{"frob":2},"Data":1}"#
        ),
        [
            "duplicate field \"data.k\"",
            "duplicate field \"immutable\"",
            "unknown field \"metadata.frob\"",
            "unknown field \"Data\""
        ]
    );
    assert_eq!(issues("Pod", r#"{"spec":{"containers":[{"bar":1}]}}"#), ["unknown field \"spec.containers[0].bar\""]);
    let yaml = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: \"1\"\n  k: \"2\"\n";
    let decoded = decode_yaml(schema("", "ConfigMap"), yaml).unwrap();
    assert_eq!(
        decoded.issues.first().unwrap().to_string(),
        "yaml: unmarshal errors:\n  line 7: key \"k\" already set in map"
    );
}

#[test]
fn a_number_without_a_fraction_is_a_float_where_floats_are() {
    let decoded = |minimum: &str| {
        let body = format!(r#"{{"spec":{{"versions":[{{"schema":{{"openAPIV3Schema":{{"minimum":{minimum}}}}}}}]}}}}"#);
        let schema = schema("apiextensions.k8s.io", "CustomResourceDefinition");
        let decoded = decode_json(schema, body.as_bytes()).map_err(|error| error.to_string())?;
        let path = "/spec/versions/0/schema/openAPIV3Schema/minimum";
        Ok::<_, String>(decoded.value.pointer(path).unwrap().to_owned())
    };
    assert_eq!(decoded("5.0"), Ok(json!(5)));
    assert_eq!(decoded("9223372036854775807"), Ok(json!(9_223_372_036_854_775_807.0_f64)));
    assert!(decoded("1e309").unwrap_err().starts_with("json: cannot unmarshal number 1e309 into Go struct field"));
}

#[test]
fn what_an_object_is_is_read_without_a_look_at_case() {
    let document = Document::json(br#"{"kind":"A","Kind":"B","APIVERSION":"v1","kind":null}"#).unwrap();
    assert_eq!((document.kind(), document.api_version()), ("B", "v1"));
    let wrong = Document::json(br#"{"KIND":5}"#).unwrap_err().to_string();
    assert!(wrong.ends_with("json: cannot unmarshal number into Go struct field .kind of type string"), "{wrong}");
}

#[test]
fn a_number_that_no_float_holds_is_refused_where_there_are_no_types() {
    let check = |body: &str| Document::json(body.as_bytes()).unwrap().check_numbers().map_err(|why| why.to_string());
    assert_eq!(check(r#"{"a":[1e308,-1e308,1e-400]}"#), Ok(()));
    let why = "json: cannot unmarshal number -1e309 into Go value of type float64";
    assert_eq!(check(r#"{"a":[{"b":-1e309}]}"#), Err(why.to_owned()));
}

#[test]
fn wrong_types_read_as_go_words_them() {
    for (group, kind, body, message) in [
        (
            "",
            "ConfigMap",
            json!({"data": {"k": 1}}),
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
        ),
        (
            "",
            "ConfigMap",
            json!({"data": "x"}),
            "json: cannot unmarshal string into Go struct field ConfigMap.data of type map[string]string",
        ),
        (
            "",
            "Pod",
            json!({"spec": {"containers": [{"ports": [{"containerPort": "x"}]}]}}),
            "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            "scheduling.k8s.io",
            "PriorityClass",
            json!({"value": 1.5}),
            "json: cannot unmarshal number 1.5 into Go struct field PriorityClass.value of type int32",
        ),
        ("", "Secret", json!({"data": {"k": "abc!"}}), "illegal base64 data at input byte 3"),
        (
            "",
            "Pod",
            json!({"metadata": 5}),
            "json: cannot unmarshal number into Go struct field Pod.metadata of type v1.ObjectMeta",
        ),
    ] {
        assert_eq!(error(group, kind, &body), message);
    }
}

#[test]
fn bodies_that_are_no_object_are_shown_in_part() {
    let answer = |body: &[u8]| {
        let gvk = GroupVersionKind::new("", "v1", "ConfigMap");
        decode_json(schema("", "ConfigMap"), body).unwrap_err().to_api_error(&gvk, body).message
    };
    assert_eq!(
        answer(b""),
        "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)"
    );
    assert!(
        answer(br#"{"apiVersion":"v1","kind":"ConfigMap""#)
            .ends_with(r#"unexpected end of JSON input ({"apiVersion":"v1","kind":"Con ...)"#)
    );
    let array = answer(b"[]");
    assert!(array.contains("json: cannot unmarshal array into Go value of type struct {"), "{array}");
    assert!(array.ends_with("(5b5d)"), "{array}");
    assert_eq!(
        answer(br#"{"kind":5}"#),
        "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind of type string ({\"kind\":5})"
    );
    assert!(decode_json(schema("", "ConfigMap"), b"null").is_ok());
}

#[test]
fn what_comes_out_is_what_a_typed_client_would_send() {
    let body = json!({
        "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": 1, "memory": "1024Mi"}}}]}}},
        "metadata": {"name": "d", "creationTimestamp": null, "labels": {}},
    });
    let decoded = decode_json(schema("apps", "Deployment"), body.to_string().as_bytes()).unwrap();
    assert_eq!(
        decoded.value,
        json!({
            "metadata": {"name": "d"},
            "spec": {
                "selector": {},
                "strategy": {},
                "template": {"metadata": {}, "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]}},
            },
            "status": {},
        })
    );
}

#[test]
fn refusals_name_types_as_go_does() {
    let port = |port: Value| error("", "Service", &json!({"spec": {"ports": [port]}}));
    assert_eq!(
        port(json!({"protocol": 1})),
        "json: cannot unmarshal number into Go struct field ServicePort.spec.ports.protocol of type v1.Protocol"
    );
    assert_eq!(
        port(json!({"targetPort": 1.5})),
        "json: cannot unmarshal number 1.5 into Go struct field ServicePort.spec.ports.targetPort of type int32"
    );
    let volume = |spec: Value| error("", "PersistentVolume", &json!({"spec": spec}));
    assert_eq!(
        volume(json!({"accessModes": [true]})),
        "json: cannot unmarshal bool into Go struct field PersistentVolumeSpec.spec.accessModes of type v1.PersistentVolumeAccessMode"
    );
    assert_eq!(
        volume(json!({"accessModes": "x"})),
        "json: cannot unmarshal string into Go struct field PersistentVolumeSpec.spec.accessModes of type []v1.PersistentVolumeAccessMode"
    );
    assert_eq!(
        volume(json!({"capacity": []})),
        "json: cannot unmarshal array into Go struct field PersistentVolumeSpec.spec.capacity of type v1.ResourceList"
    );
    let device = |device: Value| error("resource.k8s.io", "ResourceSlice", &json!({"spec": {"devices": [device]}}));
    assert_eq!(
        device(json!({"attributes": 1})),
        "json: cannot unmarshal number into Go struct field Device.spec.devices.attributes of type map[v1.QualifiedName]v1.DeviceAttribute"
    );
    assert_eq!(
        device(json!({"attributes": {"a": 1}})),
        "json: cannot unmarshal number into Go struct field Device.spec.devices.attributes of type v1.DeviceAttribute"
    );
    let claim = json!({"allocatedResourceStatuses": {"a": 1}});
    assert_eq!(
        error("", "PersistentVolumeClaim", &json!({"status": claim})),
        "json: cannot unmarshal number into Go struct field PersistentVolumeClaimStatus.status.allocatedResourceStatuses of type v1.ClaimResourceStatus"
    );
    assert_eq!(
        volume(json!({"hostPath": 5})),
        "json: cannot unmarshal number into Go struct field PersistentVolumeSpec.spec.PersistentVolumeSource.hostPath of type v1.HostPathVolumeSource"
    );
    let lease = json!({"spec": {"renewTime": {}}});
    assert_eq!(
        error("coordination.k8s.io", "Lease", &lease),
        "json: cannot unmarshal object into Go struct field LeaseSpec.spec.renewTime of type string"
    );
}

#[test]
fn the_first_refusal_is_told_whatever_it_is_about() {
    let body = json!({"metadata": {"namespace": [1]}, "data": {"a": "?"}});
    assert_eq!(
        error("", "Secret", &body),
        "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.namespace of type string"
    );
    assert_eq!(error("", "Secret", &json!({"data": {"a": "?"}, "type": 5})), "illegal base64 data at input byte 0");
}

#[test]
fn what_is_left_out_is_written_as_go_writes_it() {
    let decoded = |kind: &'static str, body: Value| {
        let mut value = decode_json(schema("", kind), body.to_string().as_bytes()).unwrap().value;
        crate::schema::apply_defaults(schema("", kind), &mut value);
        value
    };
    assert_eq!(decoded("ServiceAccount", json!({"imagePullSecrets": [{}]}))["imagePullSecrets"], json!([{}]));
    let node = decoded("Node", json!({"status": {"images": [{"sizeBytes": 5}]}}));
    assert_eq!(node["status"]["images"], json!([{"names": null, "sizeBytes": 5}]));
}
