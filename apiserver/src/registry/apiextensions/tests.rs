//! Definitions that are refused, with upstream's words.

use serde_json::{Value, json};

use super::spec;

fn crd(change: impl FnOnce(&mut Value)) -> Value {
    let mut crd = json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "conversion": {"strategy": "None"},
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}},
            }}}],
        },
        "status": {"storedVersions": ["v1"]},
    });
    change(&mut crd);
    crd
}

fn told(causes: &[martello_api::status::Cause]) -> Vec<String> {
    causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

fn faults(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut causes = Vec::new();
    spec::create(&crd(change), &mut causes);
    told(&causes)
}

fn of_field(schema: Value) -> Vec<String> {
    let place = "spec.validation.openAPIV3Schema.properties[spec].properties[a]";
    let found = faults(|crd| {
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["a"] = schema;
    });
    found.into_iter().map(|fault| fault.replace(place, "a")).collect()
}

#[test]
fn a_sound_definition_is_accepted() {
    assert_eq!(faults(|_| {}), Vec::<String>::new());
}

#[test]
fn names_versions_and_scope_are_checked() {
    assert_eq!(
        faults(|crd| crd["spec"]["group"] = json!("local")),
        [
            "metadata.name: Invalid value: \"widgets.example.com\": must be spec.names.plural+\".\"+spec.group",
            "spec.group: Invalid value: \"local\": should be a domain with at least one dot",
        ]
    );
    assert_eq!(
        faults(|crd| crd["metadata"]["generateName"] = json!("w-")),
        ["metadata.generateName: Invalid value: \"w-\": must be spec.names.plural+\".\"+spec.group"]
    );
    assert_eq!(faults(|crd| crd["metadata"]["name"] = json!("")), Vec::<String>::new(), "that is told of every kind");
    assert_eq!(
        faults(|crd| crd["spec"]["scope"] = json!("Global")),
        ["spec.scope: Unsupported value: \"Global\": supported values: \"Cluster\", \"Namespaced\""]
    );
    assert_eq!(
        faults(|crd| crd["spec"]["names"]["listKind"] = json!("Widget")),
        ["spec.names.listKind: Invalid value: \"Widget\": kind and listKind may not be the same"]
    );
    let unstored = faults(|crd| crd["spec"]["versions"][0]["storage"] = json!(false));
    assert!(unstored[0].ends_with("must have exactly one version marked as storage version"), "{unstored:?}");
}

#[test]
fn every_version_has_a_schema() {
    for given in [json!({}), Value::Null, json!({"openAPIV3Schema": null})] {
        assert_eq!(
            faults(|crd| crd["spec"]["versions"][0]["schema"] = given),
            ["spec.versions[0].schema.openAPIV3Schema: Required value"]
        );
    }
}

#[test]
fn the_root_says_little_where_the_status_is_apart() {
    let of_root = |schema: Value| {
        faults(|crd| {
            crd["spec"]["versions"][0]["subresources"] = json!({"status": {}});
            crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema;
        })
    };
    let told = of_root(json!({"type": "array", "items": {"type": "string"}, "allOf": [{"required": ["a"]}]}));
    assert!(told[0].contains("only \"object\" is allowed as the type at the root"), "{told:?}");
    let told = of_root(json!({"type": "object", "maxProperties": 0}));
    assert!(told[0].contains("fields are allowed at the root of the schema"), "{told:?}");
    assert_eq!(of_root(json!({"type": "object", "minimum": 0, "nullable": false})), Vec::<String>::new());
}

#[test]
fn what_versions_do_not_share_is_told_where_it_stands() {
    let found = faults(|crd| {
        let second =
            json!({"name": "v2", "served": true, "storage": false, "schema": {"openAPIV3Schema": {"type": "array"}}});
        crd["spec"]["versions"].as_array_mut().unwrap().push(second);
    });
    assert_eq!(
        found,
        [
            "spec.versions[1].schema.openAPIV3Schema.items: Required value: must be specified",
            "spec.versions[1].schema.openAPIV3Schema.type: Invalid value: \"array\": must be object at the root",
        ]
    );
}

#[test]
fn schemas_are_structural_and_their_lists_tell_items_apart() {
    let cases = [
        (json!({}), "a.type: Required value: must not be empty for specified object fields"),
        (
            json!({"type": "null"}),
            "a.type: Unsupported value: \"null\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
        ),
        (
            json!({"type": "string", "anyOf": [{"type": "string"}]}),
            "a.anyOf[0].type: Forbidden: must be empty to be structural",
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true}),
            "a.uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}, "properties": {"b": {"type": "string"}}}),
            "a.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
        ),
        (
            json!({"type": "string", "x-kubernetes-preserve-unknown-fields": false}),
            "a.x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined",
        ),
        (
            json!({"type": "string", "x-kubernetes-list-type": "set"}),
            "a.type: Invalid value: \"string\": must be array if x-kubernetes-list-type is specified",
        ),
        (
            json!({"type": "integer", "default": "x"}),
            "a.default: Invalid value: \"string\":  in body must be of type integer: \"string\"",
        ),
        (
            json!({"type": "object", "default": {"b": 1}}),
            "a.default: Invalid value: {\"b\":1}: must not have unknown fields",
        ),
    ];
    for (schema, expected) in cases {
        assert_eq!(of_field(schema.clone()).first().map(String::as_str), Some(expected), "{schema}");
    }
}

#[test]
fn conversion_by_webhook_needs_a_webhook() {
    assert_eq!(
        faults(|crd| crd["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
            "conversionReviewVersions": ["v1", "v1"], "clientConfig": {"url": "http://x"},
        }})),
        [
            "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            "spec.conversion.conversionReviewVersions[1]: Invalid value: \"v1\": duplicate version",
        ]
    );
}

#[test]
fn an_established_definition_keeps_its_scope_and_kind() {
    let old = crd(|crd| crd["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]));
    let mut new = old.clone();
    new["spec"]["scope"] = json!("Cluster");
    new["spec"]["names"]["kind"] = json!("Gadget");
    let mut causes = Vec::new();
    spec::update(&new, &old, &mut causes);
    assert_eq!(
        told(&causes),
        [
            "spec.scope: Invalid value: \"Cluster\": field is immutable",
            "spec.names.kind: Invalid value: \"Gadget\": field is immutable",
        ]
    );
}
