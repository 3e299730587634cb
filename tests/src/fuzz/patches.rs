//! All forms of patches, on a Deployment as users write them.

use std::sync::LazyLock;

use martello_api::{
    managed_fields::{Ignored, Writer, apply, track_update},
    patch,
    schema::{Schema, decode_value, decode_yaml},
};
use serde_json::{Value, json};

use super::{NOW, objects::schema};

static LIVE: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}, "finalizers": ["a/b", "c/d"]},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
                {"name": "a", "image": "a:1", "ports": [{"containerPort": 80, "protocol": "TCP"}],
                 "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]},
                {"name": "b", "image": "b:1"},
            ], "tolerations": [{"key": "gpu", "operator": "Exists"}]}},
        },
    })
});

fn deployment() -> &'static Schema {
    schema("apps", "v1", "Deployment")
}

fn writer(manager: &'static str) -> Writer<'static> {
    let reset_fields = Ignored::Paths(&[&["status"]]);
    Writer { manager, api_version: "apps/v1", subresource: "", reset_fields, now: NOW, versions: None }
}

fn used(patched: Result<patch::Patched, patch::PatchError>) {
    match patched {
        Ok(patched) => drop(decode_value(deployment(), patched.value)),
        Err(error) => drop(error.to_api_error()),
    }
}

/// JSON patches (RFC 6902).
pub fn json_patch(bytes: &[u8]) {
    used(patch::json_patch(&LIVE, bytes));
}

/// Merge patches (RFC 7386).
pub fn merge_patch(bytes: &[u8]) {
    used(patch::merge_patch(&LIVE, bytes));
}

/// Strategic merge patches.
pub fn strategic_patch(bytes: &[u8]) {
    used(patch::strategic_merge_patch(deployment(), &LIVE, bytes));
}

/// Applied by one, then the same by another: whoever applies what is there already has no conflict.
pub fn apply_patch(bytes: &[u8]) {
    let Ok(config) = decode_yaml(deployment(), bytes) else { return };
    let first = match apply(deployment(), Some(&LIVE), &config.value, &writer("one"), true) {
        Ok(first) => first,
        Err(error) => return drop(error.to_api_error()),
    };
    let Ok(live) = decode_value(deployment(), first.value) else { return };
    let second = apply(deployment(), Some(&live.value), &config.value, &writer("two"), false);
    assert!(second.is_ok(), "{second:?}");
}

/// What a client claims of who owns which field.
pub fn managed_fields(bytes: &[u8]) {
    let Ok(claimed) = serde_json::from_slice::<Value>(bytes) else { return };
    let mut new = LIVE.clone();
    if let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("managedFields".into(), claimed);
    }
    let Ok(decoded) = decode_value(deployment(), new) else { return };
    let mut new = decoded.value;
    if track_update(deployment(), Some(&LIVE), &mut new, &writer("one")).is_err() {
        return;
    }
    drop(apply(deployment(), Some(&new), &LIVE, &writer("two"), false));
}
