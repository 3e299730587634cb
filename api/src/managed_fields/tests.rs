use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::schema::{Field, Schemas, apply_defaults, decode_value};

fn schema(name: &str) -> &'static Schema {
    Schemas::builtin().named(name).unwrap()
}

const CONFIG_MAP: &str = "io.k8s.api.core.v1.ConfigMap";
const POD: &str = "io.k8s.api.core.v1.Pod";

fn writer(manager: &str, second: i64) -> Writer<'_> {
    let now = Timestamp::from_second(1_700_000_000 + second).unwrap();
    let reset_fields = Ignored::Paths(&[&["status"]]);
    Writer { manager, api_version: "v1", subresource: "", reset_fields, now, versions: None }
}

fn decoded(kind: &str, value: Value) -> Value {
    let mut value = decode_value(schema(kind), value).unwrap().value;
    apply_defaults(schema(kind), &mut value);
    value
}

fn created(kind: &str, value: Value, manager: &str) -> Value {
    let mut value = decoded(kind, value);
    track_update(schema(kind), None, &mut value, &writer(manager, 0)).unwrap();
    value["metadata"]["uid"] = json!("u");
    value
}

fn owners(object: &Value) -> Vec<(String, String, Value)> {
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|entry| (text(entry, "manager"), text(entry, "operation"), entry["fieldsV1"].clone())).collect()
}

fn owner(manager: &str, operation: &str, fields: Value) -> (String, String, Value) {
    (manager.to_owned(), operation.to_owned(), fields)
}

#[test]
fn who_owns_a_map_goes_on_owning_it_when_it_is_emptied() {
    let apply_as = |live: Option<&Value>, data: Option<Value>, manager: &str, second: i64| {
        let mut config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        if let Some(data) = data {
            config["data"] = data;
        }
        let mut value = apply(schema(CONFIG_MAP), live, &config, &writer(manager, second), false).unwrap().value;
        value["metadata"]["uid"] = json!("u");
        value
    };
    let first = apply_as(None, Some(json!({"k": "1"})), "one", 0);
    let second = apply_as(Some(&first), Some(json!({})), "two", 1);
    let emptied = apply_as(Some(&second), None, "one", 2);
    assert_eq!(owners(&emptied), [owner("two", "Apply", json!({"f:data": {}}))]);
}

#[test]
fn a_create_owns_what_it_set_and_what_was_defaulted() {
    let object = created(CONFIG_MAP, json!({"metadata": {"name": "a", "labels": {"x": "1"}}, "data": {"k": "v"}}), "m");
    assert_eq!(
        owners(&object),
        [owner(
            "m",
            "Update",
            json!({"f:metadata": {"f:labels": {".": {}, "f:x": {}}}, "f:data": {".": {}, "f:k": {}}})
        )]
    );
    let pod = created(
        POD,
        json!({"spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}}),
        "m",
    );
    assert_eq!(
        owners(&pod),
        [owner(
            "m",
            "Update",
            json!({"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {
                ".": {}, "f:image": {}, "f:name": {}, "f:resources": {},
                "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}}},
            }}}})
        )]
    );
}

#[test]
fn env_given_twice_is_owned_as_one() {
    let env = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]);
    let pod = created(POD, json!({"spec": {"containers": [{"name": "c", "env": env}]}}), "m");
    let (_, _, fields) = owners(&pod).remove(0);
    assert_eq!(
        fields["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"]["f:env"],
        json!({".": {}, "k:{\"name\":\"A\"}": {}})
    );
}

#[test]
fn an_update_takes_what_it_changes_from_its_owner() {
    let live = created(CONFIG_MAP, json!({"data": {"k": "v", "l": "v"}}), "m1");
    let mut new = decoded(CONFIG_MAP, json!({"data": {"k": "w", "n": "x"}}));
    track_update(schema(CONFIG_MAP), Some(&live), &mut new, &writer("m2", 1)).unwrap();
    assert_eq!(
        owners(&new),
        [
            owner("m1", "Update", json!({"f:data": {}})),
            owner("m2", "Update", json!({"f:data": {"f:k": {}, "f:n": {}}})),
        ]
    );
    let mut same = new.clone();
    track_update(schema(CONFIG_MAP), Some(&new), &mut same, &writer("m3", 2)).unwrap();
    assert_eq!(same, new, "an update that changes nothing leaves no trace");
}

#[test]
fn owners_are_forgotten_when_a_client_asks_and_then_no_longer_tracked() {
    let live = created(CONFIG_MAP, json!({"data": {"k": "v"}}), "m1");
    let mut cleared = decoded(CONFIG_MAP, json!({"metadata": {"managedFields": [{}]}, "data": {"k": "w"}}));
    track_update(schema(CONFIG_MAP), Some(&live), &mut cleared, &writer("m2", 1)).unwrap();
    assert_eq!(owners(&cleared), []);
}

#[test]
fn entries_that_are_none_change_no_owners() {
    let live = created(CONFIG_MAP, json!({"metadata": {"name": "a"}, "data": {"k": "v"}}), "first");
    let entry = |fields: Value| json!({"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields});
    let after = |entry: Value| {
        let mut new = live.clone();
        new["metadata"]["managedFields"] = json!([entry]);
        track_update(schema(CONFIG_MAP), Some(&live), &mut new, &writer("second", 2)).unwrap();
        owners(&new).remove(0).0
    };
    let good = json!({"f:data": {"f:k": {}, "k:{\"a\":1}": {}, "v:\"x\"": {}, "i:1": {}, ".": {}}});
    assert_eq!(after(entry(good)), "m");
    for bad in [
        json!({"bad": {}}),
        json!({"f:data": {"x": {}}}),
        json!({"v:x": {}}),
        json!({"k:1": {}}),
        json!({"i:x": {}}),
        json!({"f:data": 5}),
    ] {
        assert_eq!(after(entry(bad.clone())), "first", "{bad}");
    }
    let mut versionless = entry(json!({"f:data": {"f:k": {}}}));
    versionless["apiVersion"] = json!("");
    assert_eq!(after(versionless), "first");
}

#[test]
fn many_updates_are_joined() {
    let mut live = created(CONFIG_MAP, json!({"data": {"k0": "v"}}), "m0");
    for at in 1..14 {
        let mut new = live.clone();
        new["data"][format!("k{at}")] = json!("v");
        track_update(schema(CONFIG_MAP), Some(&live), &mut new, &writer(&format!("m{at:02}"), at)).unwrap();
        live = new;
    }
    let owners = owners(&live);
    assert_eq!(owners.len(), 10);
    assert_eq!(owners.first().unwrap().0, "ancient-changes");
    // The bucket is as old as the youngest that is in it.
    let latest = rfc3339_seconds(writer("", 4).now);
    assert_eq!(live["metadata"]["managedFields"][0]["time"], latest);
}

#[test]
fn updates_through_a_part_are_joined_with_those_of_the_whole() {
    let part = |at: i64| Writer { subresource: "status", ..writer("m", at) };
    let mut live = decoded(CONFIG_MAP, json!({"data": {"k0": "v"}}));
    track_update(schema(CONFIG_MAP), None, &mut live, &part(0)).unwrap();
    live["metadata"]["uid"] = json!("u");
    for at in 1..14 {
        let mut new = live.clone();
        new["data"][format!("k{at}")] = json!("v");
        let manager = format!("m{at:02}");
        track_update(schema(CONFIG_MAP), Some(&live), &mut new, &Writer { manager: &manager, ..part(at) }).unwrap();
        live = new;
    }
    let bucket = &live["metadata"]["managedFields"][0];
    assert_eq!((&bucket["manager"], &bucket["subresource"]), (&json!("ancient-changes"), &Value::Null));
}

#[test]
fn who_writes_at_another_version_owns_what_it_wrote_by_itself() {
    let event = "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler";
    let at = |version: &'static str, second: i64| Writer { api_version: version, ..writer("m", second) };
    let scaler = |version: &str, most: i64, annotation: &str| {
        decoded(
            event,
            json!({"apiVersion": version, "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a", "annotations": {"a": annotation}}, "spec": {"maxReplicas": most, "scaleTargetRef": {"kind": "D", "name": "d"}}}),
        )
    };
    let mut live = scaler("autoscaling/v2", 1, "x");
    track_update(schema(event), None, &mut live, &at("autoscaling/v2", 0)).unwrap();
    let mut new = scaler("autoscaling/v2", 2, "x");
    track_update(schema(event), Some(&live), &mut new, &at("autoscaling/v1", 1)).unwrap();
    let entries = new["metadata"]["managedFields"].as_array().unwrap().clone();
    let versions: Vec<&Value> = entries.iter().map(|entry| &entry["apiVersion"]).collect();
    assert_eq!(versions, ["autoscaling/v2", "autoscaling/v1"]);
}

#[test]
fn what_was_there_before_the_first_apply_is_owned_but_for_what_is_reset() {
    let live = decoded(POD, json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "status": {"phase": "Running"}}));
    let config = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"z": "w"}}});
    let made = apply(schema(POD), Some(&live), &config, &writer("m", 5), false).unwrap().value;
    let owned = owners(&made);
    let names: Vec<&str> = owned.iter().map(|(manager, ..)| manager.as_str()).collect();
    assert_eq!(names, ["m", "before-first-apply"]);
    let before = &owned.last().unwrap().2;
    assert_eq!(before["f:metadata"]["f:labels"], json!({".": {}, "f:x": {}}));
    assert_eq!(before.get("f:status"), None);
}

#[test]
fn what_an_applier_removes_is_no_longer_owned_by_those_who_changed_it() {
    let spec = |containers: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": containers}});
    let both = json!([{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]);
    let mut live = apply(schema(POD), None, &spec(both), &writer("m", 5), false).unwrap().value;
    live["metadata"]["uid"] = json!("u");
    let mut new = live.clone();
    new["spec"]["containers"][1]["imagePullPolicy"] = json!("Always");
    track_update(schema(POD), Some(&live), &mut new, &writer("other", 6)).unwrap();
    assert_eq!(owners(&new).len(), 2);
    let one = json!([{"name": "c", "image": "i"}]);
    let left = apply(schema(POD), Some(&new), &spec(one), &writer("m", 7), false).unwrap().value;
    assert_eq!(left["spec"]["containers"].as_array().unwrap().len(), 1);
    assert_eq!(owners(&left).len(), 1, "nobody owns what is gone");
}

fn applied(live: Option<&Value>, config: &Value, manager: &str, force: bool) -> Result<Value, ApplyError> {
    let applied = apply(schema(CONFIG_MAP), live, config, &writer(manager, 5), force)?;
    let mut value = decoded(CONFIG_MAP, applied.value);
    value["metadata"]["uid"] = json!("u");
    Ok(value)
}

fn config(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

#[test]
fn what_an_applier_drops_goes_unless_another_owns_it() {
    let one = applied(None, &config(json!({"k": "v", "l": "w"})), "m1", false).unwrap();
    assert_eq!(owners(&one), [owner("m1", "Apply", json!({"f:data": {"f:k": {}, "f:l": {}}}))]);
    let two = applied(Some(&one), &config(json!({"k": "v"})), "m2", false).unwrap();
    assert_eq!(owners(&two).iter().map(|(manager, ..)| manager.as_str()).collect::<Vec<_>>(), ["m2", "m1"]);
    let three = applied(Some(&two), &config(json!({})), "m1", false).unwrap();
    assert_eq!(three["data"], json!({"k": "v"}));
    let four = applied(
        Some(&three),
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}),
        "m2",
        false,
    )
    .unwrap();
    assert_eq!(four.get("data"), None);
}

#[test]
fn conflicts_read_as_upstream_words_them_and_force_overrides() {
    let one = applied(None, &config(json!({"k": "v", "l": "v"})), "m1", false).unwrap();
    let both = config(json!({"k": "w", "l": "w"}));
    let error = applied(Some(&one), &both, "m2", false).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 2 conflicts: conflicts with \"m1\":\n- .data.k\n- .data.l");
    assert_eq!(error.to_api_error().details.unwrap().causes.first().unwrap().reason, "FieldManagerConflict");
    let single =
        applied(Some(&created(CONFIG_MAP, config(json!({"k": "v"})), "upd")), &config(json!({"k": "w"})), "m1", false);
    assert_eq!(
        single.unwrap_err().to_string(),
        "Apply failed with 1 conflict: conflict with \"upd\" using v1: .data.k"
    );
    let forced = applied(Some(&one), &both, "m2", true).unwrap();
    assert_eq!(owners(&forced), [owner("m2", "Apply", json!({"f:data": {"f:k": {}, "f:l": {}}}))]);
}

#[test]
fn configs_that_do_not_fit_are_refused_in_upstreams_words() {
    let error = |config: Value| applied(None, &config, "m", false).unwrap_err().to_string();
    assert_eq!(
        error(config(json!({"k": 5}))),
        "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .data.k: expected string, got &value.valueUnstructured{Value:5}"
    );
    let mut twice = config(json!({}));
    twice["metadata"]["finalizers"] = json!(["e/a", "e/a"]);
    assert!(error(twice).ends_with(".metadata.finalizers: duplicate entries for key [=\"e/a\"]"));
    let mut managed = config(json!({}));
    managed["metadata"]["managedFields"] = json!([]);
    assert_eq!(error(managed), "metadata.managedFields must be nil");
}

#[test]
fn a_write_that_only_touches_times_is_told_from_one_that_changes_something() {
    let live = created(CONFIG_MAP, json!({"data": {"k": "v"}}), "m1");
    let mut new = live.clone();
    new["metadata"]["managedFields"][0]["time"] = json!("2030-01-01T00:00:00Z");
    assert!(same_but_for_times(&live, &new));
    new["metadata"]["managedFields"][0].as_object_mut().unwrap().remove("time");
    assert!(same_but_for_times(&live, &new) && same_but_for_times(&new, &live));
    new["data"]["k"] = json!("w");
    assert!(!same_but_for_times(&live, &new));
}

/// A kind with a field `any` of which the schema says nothing.
fn untyped() -> Schema {
    let loose = |fields| {
        let mut schema = Schema::of("x", fields);
        schema.loose = true;
        schema
    };
    let spec = loose(vec![Field::new("any", Kind::Any)]);
    loose(vec![
        Field::new("apiVersion", Kind::String),
        Field::new("kind", Kind::String),
        Field::new("metadata", Kind::Any),
        Field::new("spec", Kind::Message(Link::to(Arc::new(spec)))),
    ])
}

#[test]
fn what_an_endpoint_ignores_takes_nothing_from_who_owns_it_in_another_version() {
    let owned = json!([{"manager": "m1", "operation": "Apply", "apiVersion": "g/v1", "fieldsType": "FieldsV1",
        "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:any": {}}}}]);
    let live = json!({"apiVersion": "g/v2", "kind": "X", "metadata": {"uid": "u", "managedFields": owned},
        "spec": {"any": 1}});
    let config = json!({"apiVersion": "g/v2", "kind": "X", "metadata": {}, "spec": {"any": 2}});
    let writer = Writer {
        manager: "m2",
        api_version: "g/v2",
        subresource: "status",
        reset_fields: Ignored::Paths(&[&["spec"]]),
        now: Timestamp::UNIX_EPOCH,
        versions: None,
    };
    let applied = apply(&untyped(), Some(&live), &config, &writer, false).unwrap();
    assert_eq!(applied.value["metadata"]["managedFields"], owned);
}

#[test]
fn what_has_no_declared_form_takes_the_applied_one_and_conflicts_as_a_whole() {
    let schema = untyped();
    let spec =
        |any: &Value| json!({"apiVersion": "e/v1", "kind": "X", "metadata": {"name": "a"}, "spec": {"any": any}});
    for (live, config) in [
        (json!({"a": 1}), json!([1])),
        (json!({"a": 1}), json!("x")),
        (json!([1]), json!({"a": 1})),
        (json!({"a": 1, "b": {"c": 1}}), json!(5)),
    ] {
        let mut stored = spec(&live);
        track_update(&schema, None, &mut stored, &writer("cr", 0)).unwrap();
        let refused = apply(&schema, Some(&stored), &spec(&config), &writer("m", 1), false).unwrap_err().to_string();
        assert!(refused.contains(".spec.any"), "{refused}");
        let forced = apply(&schema, Some(&stored), &spec(&config), &writer("m", 1), true).unwrap().value;
        assert_eq!(forced["spec"]["any"], config);
    }
    let mut stored = spec(&json!({"a": {"b": 1}}));
    track_update(&schema, None, &mut stored, &writer("cr", 0)).unwrap();
    let added = apply(&schema, Some(&stored), &spec(&json!({"a": {"c": 1}})), &writer("m", 1), false).unwrap().value;
    assert_eq!(added["spec"]["any"], json!({"a": {"b": 1, "c": 1}}));
}

#[test]
fn objects_as_deep_as_bodies_may_be_do_not_exhaust_the_stack_of_a_worker() {
    let crd = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition";
    let depth = crate::schema::MAX_DEPTH - 8;
    let (open, close) = ("{\"not\":".repeat(depth), "}".repeat(depth));
    let body = format!(
        "{{\"spec\":{{\"versions\":[{{\"name\":\"v1\",\"schema\":{{\"openAPIV3Schema\":{open}{{}}{close}}}}}]}}}}"
    );
    let mut object = crate::schema::decode_json(schema(crd), body.as_bytes()).unwrap().value;
    crate::schema::normalize(schema(crd), &mut object);
    track_update(schema(crd), None, &mut object, &writer("m", 0)).unwrap();
    let again = apply(schema(crd), Some(&object), &object_without_owners(&object), &writer("n", 1), true).unwrap();
    assert!(again.unchanged);
}

fn object_without_owners(object: &Value) -> Value {
    let mut bare = object.clone();
    bare["metadata"].as_object_mut().unwrap().remove("managedFields");
    bare
}

/// As upstream's 1.36.4 filters what `pods/resize` and `pods/ephemeralcontainers` write.
#[test]
fn an_endpoint_may_write_a_part_of_lists_elements_alone() {
    let own = json!({
        "f:metadata": {"f:labels": {"f:a": {}}},
        "f:spec": {
            "f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}, "f:name": {}, "f:resources": {"f:limits": {"f:cpu": {}}}}},
            "f:ephemeralContainers": {"k:{\"name\":\"e\"}": {".": {}, "f:image": {}, "f:name": {}}},
        },
    });
    let left = |paths: &[&[&str]]| {
        let mut set = FieldSet::decode(&own);
        Ignored::AllBut(paths).take_from(&mut set);
        set.encode()
    };
    assert_eq!(
        left(&[&["spec", "containers", "*", "resources"], &["spec", "initContainers", "*", "resources"]]),
        json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:resources": {"f:limits": {"f:cpu": {}}}}}}})
    );
    assert_eq!(
        left(&[&["spec", "ephemeralContainers"]]),
        json!({"f:spec": {"f:ephemeralContainers": {"k:{\"name\":\"e\"}": {".": {}, "f:image": {}, "f:name": {}}}}})
    );
    assert_eq!(left(&[&["status"]]), json!({}));
}

fn data() -> impl Strategy<Value = Value> {
    proptest::collection::btree_map("[a-d]", "[x-y]", 1..4).prop_map(|map| json!(map))
}

proptest! {
    #[test]
    fn applying_again_changes_nothing(first in data(), second in data()) {
        let one = applied(None, &config(first.clone()), "m1", false).unwrap();
        let two = applied(Some(&one), &config(second), "m2", true).unwrap();
        let back = applied(Some(&two), &config(first.clone()), "m1", true).unwrap();
        let again = apply(schema(CONFIG_MAP), Some(&back), &config(first.clone()), &writer("m1", 9), false).unwrap();
        prop_assert!(again.unchanged);
        for (key, value) in first.as_object().unwrap() {
            prop_assert_eq!(&back["data"][key], value);
        }
    }

    #[test]
    fn every_field_that_is_set_has_an_owner(first in data(), second in data()) {
        let live = created(CONFIG_MAP, config(first), "m1");
        let mut new = decoded(CONFIG_MAP, config(second.clone()));
        track_update(schema(CONFIG_MAP), Some(&live), &mut new, &writer("m2", 1)).unwrap();
        let owned = owners(&new);
        for key in second.as_object().unwrap().keys() {
            let count = owned.iter().filter(|(_, _, fields)| fields["f:data"].get(format!("f:{key}")).is_some()).count();
            prop_assert_eq!(count, 1);
        }
    }

    #[test]
    fn sets_read_back_as_they_were_written(keys in proptest::collection::vec("[a-c]", 0..6)) {
        let mut set = FieldSet::default();
        for pair in keys.chunks(2) {
            let mut child = FieldSet::leaf();
            if let [_, below] = pair {
                child.attach(format!("f:{below}"), FieldSet::leaf());
            }
            set.attach(format!("f:{}", pair[0]), child);
        }
        prop_assert_eq!(FieldSet::decode(&set.encode()), set);
    }
}
