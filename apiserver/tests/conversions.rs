//! Kinds that are seen in several versions: objects made from the schema table with any of their fields set lose nothing
//! and change in nothing on their way from any version to the one that is stored and back, and the other way round.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what sets a test up fails as the test does"
)]

use std::{collections::BTreeSet, sync::Arc};

use martello_api::{
    resource::GroupVersionKind,
    schema::{Schema, Schemas, decode_json, normalize},
};
use martello_apiserver::registry::{Kind, Registry, versions::RuntimeConfig};
use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestRng},
};
use serde_json::{Value, json};

#[path = "../../api/tests/filler/mod.rs"]
mod filler;

use filler::{Filler, of_kind};

/// What version 1 of HorizontalPodAutoscalers has as annotations.
const ANNOTATIONS: &str = "autoscaling.alpha.kubernetes.io/";

/// A version, and the one that is stored.
struct Pair {
    view: Arc<Kind>,
    stored: Arc<Kind>,
}

fn pairs() -> Vec<Pair> {
    let registry = Registry::serving(&RuntimeConfig::parse(&["api/all=true".to_owned()]).unwrap());
    let stored: Vec<&Arc<Kind>> = registry.kinds().iter().filter(|kind| !kind.converts()).collect();
    let of = |view: &Arc<Kind>| {
        let mut same = stored.iter().filter(|kind| kind.storage == view.storage);
        let (found, more) = (same.next(), same.next());
        assert!(more.is_none(), "{} is stored in two forms", view.storage);
        Pair { view: Arc::clone(view), stored: Arc::clone(found.unwrap()) }
    };
    registry.kinds().iter().filter(|kind| kind.converts()).map(of).collect()
}

fn schema(kind: &Kind) -> &'static Schema {
    Schemas::builtin().get(&kind.resource.gvk).unwrap()
}

/// An object of a kind as a request brings it, defaults filled in.
fn made(filler: &mut Filler, kind: &Kind) -> Value {
    let gvk = &kind.resource.gvk;
    let mut object = of_kind(filler, schema(kind));
    object["apiVersion"] = json!(gvk.api_version());
    object["kind"] = json!(gvk.kind);
    plausible(&mut object, gvk, filler);
    kind.default(&mut object);
    normalize(schema(kind), &mut object);
    object
}

/// Makes of what no server would accept something that one would.
fn plausible(object: &mut Value, gvk: &GroupVersionKind, filler: &mut Filler) {
    match (&*gvk.kind, &*gvk.version) {
        ("HorizontalPodAutoscaler", "v2") => {
            for (part, key, side) in [("spec", "metrics", "target"), ("status", "currentMetrics", "current")] {
                let mut share_of_cpu = side == "target";
                for metric in object[part][key].as_array_mut().into_iter().flatten() {
                    plausible_metric(metric, side, &mut share_of_cpu, filler);
                }
            }
        }
        ("ResourceSlice", "v1beta1") => {
            for device in object["spec"]["devices"].as_array_mut().into_iter().flatten() {
                device.as_object_mut().unwrap().entry("basic").or_insert_with(|| json!({}));
            }
        }
        ("ResourceClaim" | "ResourceClaimTemplate", "v1beta1") => {
            let path =
                if gvk.kind == "ResourceClaim" { "/spec/devices/requests" } else { "/spec/spec/devices/requests" };
            for request in object.pointer_mut(path).and_then(Value::as_array_mut).into_iter().flatten() {
                if request.get("firstAvailable").is_some() {
                    let alternatives = request["firstAvailable"].take();
                    *request = json!({"name": request["name"], "deviceClassName": "", "firstAvailable": alternatives});
                }
            }
        }
        _ => {}
    }
}

/// One source, and of its amounts those that it has.
fn plausible_metric(metric: &mut Value, side: &str, share_of_cpu: &mut bool, filler: &mut Filler) {
    const SOURCES: [(&str, &str, &[&str]); 5] = [
        ("Object", "object", &["value"]),
        ("Pods", "pods", &["averageValue"]),
        ("Resource", "resource", &["averageUtilization"]),
        ("ContainerResource", "containerResource", &["averageValue"]),
        ("External", "external", &["value"]),
    ];
    let (kind, key, amounts) = SOURCES[filler.rng.next_u32() as usize % SOURCES.len()];
    let mut source = match key {
        "object" => json!({"metric": {"name": "m"}, "describedObject": {"kind": "K", "name": "n", "apiVersion": "v1"}}),
        "pods" | "external" => json!({"metric": {"name": "m", "selector": {"matchLabels": {"a": "b"}}}}),
        "resource" => json!({"name": if *share_of_cpu { "cpu" } else { "memory" }}),
        _ => json!({"name": "cpu", "container": "c"}),
    };
    if key == "resource" {
        *share_of_cpu = false;
    }
    let amount = |name: &str| if name == "averageUtilization" { json!(50) } else { json!("100m") };
    let mut wanted: serde_json::Map<String, Value> =
        amounts.iter().map(|name| ((*name).to_owned(), amount(name))).collect();
    if side == "target" {
        let told = match amounts[0] {
            "averageUtilization" => "Utilization",
            "averageValue" => "AverageValue",
            _ => "Value",
        };
        wanted.insert("type".to_owned(), json!(told));
    }
    source[side] = Value::Object(wanted);
    *metric = json!({"type": kind, key: source});
}

/// What counts when two objects are compared: not what version 1 of autoscalers tells twice, nor the order of metrics,
/// which are named and not counted.
fn bare(mut object: Value) -> Value {
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !key.starts_with(ANNOTATIONS));
        if annotations.is_empty() {
            object["metadata"].as_object_mut().unwrap().remove("annotations");
        }
    }
    if let Some(metrics) = object.pointer_mut("/spec/metrics").and_then(Value::as_array_mut) {
        metrics.sort_by_key(ToString::to_string);
    }
    object
}

/// Where two values differ.
fn difference(left: &Value, right: &Value, path: &str) -> Option<String> {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            let none = Value::Null;
            keys.into_iter().find_map(|key| {
                difference(a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none), &format!("{path}.{key}"))
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(at, (a, b))| difference(a, b, &format!("{path}[{at}]")))
        }
        _ => (left != right).then(|| format!("{path}: {left} became {right}")),
    }
}

/// What is wrong on the way from `from` to `to` and back.
fn faults(
    from: &Kind,
    to: &Kind,
    there: impl Fn(&mut Value),
    back: impl Fn(&mut Value),
    object: &Value,
) -> Vec<String> {
    let names = format!("{} -> {}", from.resource.gvk.api_version(), to.resource.gvk.api_version());
    let mut found = Vec::new();
    let mut changed = object.clone();
    there(&mut changed);
    if changed["apiVersion"] != json!(to.resource.gvk.api_version()) {
        found.push(format!("{names}: {} says {}", from.resource.plural, changed["apiVersion"]));
    }
    let decoded = decode_json(schema(to), changed.to_string().as_bytes()).unwrap();
    found.extend(decoded.issues.iter().map(|issue| format!("{names}: {}: {issue}", from.resource.plural)));
    let mut returned = decoded.value;
    back(&mut returned);
    normalize(schema(from), &mut returned);
    let lost = difference(&bare(object.clone()), &bare(returned), "");
    found.extend(lost.map(|lost| format!("{names} and back: {}{lost}", from.resource.plural)));
    found
}

fn both_ways(pair: &Pair, filler: &mut Filler) -> Vec<String> {
    let (view, stored) = (&pair.view, &pair.stored);
    let (to_stored, show) =
        (|object: &mut Value| view.to_stored(object), |object: &mut Value| view.show_stored(object));
    let (shown, kept) = (made(filler, view), made(filler, stored));
    let mut found = faults(view, stored, to_stored, show, &shown);
    found.extend(faults(stored, view, show, to_stored, &kept));
    found
}

#[test]
fn every_version_with_every_field_set_converts_both_ways() {
    let pairs = pairs();
    let groups: BTreeSet<&str> = pairs.iter().map(|pair| pair.view.group()).collect();
    for group in ["autoscaling", "events.k8s.io", "admissionregistration.k8s.io", "resource.k8s.io"] {
        assert!(groups.contains(group), "{group}");
    }
    assert!(pairs.len() > 15, "only {}", pairs.len());
    let mut filler = Filler { rng: TestRng::deterministic_rng(RngAlgorithm::ChaCha), share: 100 };
    let found: Vec<String> = pairs.iter().flat_map(|pair| both_ways(pair, &mut filler)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_version_converts_both_ways(at in any::<prop::sample::Index>(), seed in any::<[u8; 32]>(), share in 5_u32..95) {
        let pairs = pairs();
        let mut filler = Filler { rng: TestRng::from_seed(RngAlgorithm::ChaCha, &seed), share };
        let found = both_ways(&pairs[at.index(pairs.len())], &mut filler);
        prop_assert!(found.is_empty(), "{}", found.join("\n"));
    }
}
