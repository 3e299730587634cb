//! A pod acts as a service account: the account is filled in, must exist, and its token is mounted.

use std::sync::Arc;

use martello_api::status::ApiError;
use serde_json::{Value, json};

use super::{forbidden, mountable_secrets};
use crate::{
    registry::{call::Call, kind::Kind, meta, object},
    server::Core,
};

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// Seconds after which the token is made anew, as upstream's: an hour, and the time clients may be late.
const TOKEN_SECONDS: i64 = 3607;
const MIRROR: &str = "kubernetes.io/config.mirror";
const CONTAINERS: [&str; 2] = ["initContainers", "containers"];
/// How the sources of volumes name Secrets.
const SECRET_KEYS: [&str; 3] = ["secretRef", "secretName", "nodePublishSecretRef"];

/// Fills in the service account of a new pod.
pub async fn inject(core: &Arc<Core>, kind: &Kind, call: &Call, pod: &mut Value) -> Result<(), ApiError> {
    if object::at(pod, &["metadata", "annotations", MIRROR]).is_some() {
        return check_mirror(kind, call, pod);
    }
    let legacy = object::text(pod, &["spec", "serviceAccount"]).to_owned();
    if object::text(pod, &["spec", "serviceAccountName"]).is_empty() {
        let name = if legacy.is_empty() { "default" } else { &legacy };
        object::set(pod, &["spec"], "serviceAccountName", name);
    }
    let name = object::text(pod, &["spec", "serviceAccountName"]).to_owned();
    object::set(pod, &["spec"], "serviceAccount", name.as_str());
    let Some(accounts) = core.registry.find("", "v1", "serviceaccounts") else { return Ok(()) };
    let Some(entry) = core.find(accounts, call.namespace(), &name).await? else {
        let namespace = call.namespace();
        let why = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
        return Err(forbidden(kind, call, pod, &why));
    };
    let account = core.value(accounts, &entry).await?;
    if object::list(pod, &["spec", "imagePullSecrets"]).is_empty() {
        let secrets = object::list(&account, &["imagePullSecrets"]).to_vec();
        if !secrets.is_empty() {
            object::set(pod, &["spec"], "imagePullSecrets", secrets);
        }
    }
    if automounts(pod, &account) {
        mount(pod);
    }
    mountable_secrets::fault(&account, pod).map_or(Ok(()), |why| Err(forbidden(kind, call, pod, &why)))
}

/// A pod that a node made of a file stands for itself: it may not reach for what the API holds.
fn check_mirror(kind: &Kind, call: &Call, pod: &Value) -> Result<(), ApiError> {
    let refuse = |why: &str| Err(forbidden(kind, call, pod, why));
    if !object::text(pod, &["spec", "serviceAccountName"]).is_empty() {
        return refuse("a mirror pod may not reference service accounts");
    }
    let volumes = object::list(pod, &["spec", "volumes"]);
    let pulls = !object::list(pod, &["spec", "imagePullSecrets"]).is_empty();
    let from_env = CONTAINERS.iter().flat_map(|list| object::list(pod, &["spec", list])).any(|container| {
        let from = |key: &str, path: &[&str]| {
            object::list(container, &[key]).iter().any(|source| object::at(source, path).is_some())
        };
        from("env", &["valueFrom", "secretKeyRef"]) || from("envFrom", &["secretRef"])
    });
    if pulls || from_env || volumes.iter().any(names_secret) {
        return refuse("a mirror pod may not reference secrets");
    }
    let tokens = volumes.iter().flat_map(|volume| object::list(volume, &["projected", "sources"]));
    if tokens.into_iter().any(|source| source.get("serviceAccountToken").is_some()) {
        return refuse("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

/// Whether a volume takes anything from a Secret, in whatever way.
fn names_secret(volume: &Value) -> bool {
    let sources = volume.as_object().into_iter().flatten().map(|(_, source)| source);
    let named = sources.into_iter().any(|source| SECRET_KEYS.iter().any(|key| source.get(key).is_some()));
    let projected = object::list(volume, &["projected", "sources"]).iter().any(|source| source.get("secret").is_some());
    volume.get("secret").is_some() || named || projected
}

fn automounts(pod: &Value, account: &Value) -> bool {
    let own = object::at(pod, &["spec", "automountServiceAccountToken"]).and_then(Value::as_bool);
    let of_account = object::at(account, &["automountServiceAccountToken"]).and_then(Value::as_bool);
    own.or(of_account).unwrap_or(true)
}

fn mount(pod: &mut Value) {
    // A volume of this name is taken for the token's, whoever put it there.
    let mut names = object::list(pod, &["spec", "volumes"]).iter().map(|volume| object::text(volume, &["name"]));
    let existing = names.find(|name| name.starts_with(VOLUME_PREFIX)).map(str::to_owned);
    let mut volume = existing.clone();
    for list in CONTAINERS {
        let Some(containers) = object::list_mut(pod, &["spec", list]) else { continue };
        for container in containers {
            let mounted = object::list(container, &["volumeMounts"])
                .iter()
                .any(|mount| object::text(mount, &["mountPath"]) == MOUNT_PATH);
            if mounted {
                continue;
            }
            let name = volume.get_or_insert_with(|| meta::generate_name(VOLUME_PREFIX)).clone();
            let mut mounts = object::list(container, &["volumeMounts"]).to_vec();
            mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
            object::set(container, &[], "volumeMounts", mounts);
        }
    }
    let Some(name) = volume.filter(|_| existing.is_none()) else { return };
    let mut volumes = object::list(pod, &["spec", "volumes"]).to_vec();
    volumes.push(json!({
        "name": name,
        "projected": {
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
                ]}},
            ],
            "defaultMode": 420,
        },
    }));
    object::set(pod, &["spec"], "volumes", volumes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_in_all_sources_of_volumes() {
        for volume in [
            json!({"name": "v", "secret": {"secretName": "s"}}),
            json!({"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}),
            json!({"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s"}}}),
            json!({"name": "v", "azureFile": {"shareName": "x", "secretName": "s"}}),
        ] {
            assert!(names_secret(&volume), "{volume}");
        }
        assert!(!names_secret(&json!({"name": "v", "emptyDir": {}})));
    }

    #[test]
    fn the_token_is_mounted_where_nothing_else_is() {
        let mut pod = json!({"spec": {"containers": [
            {"name": "a"},
            {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]},
        ]}});
        mount(&mut pod);
        let volume = pod["spec"]["volumes"][0]["name"].as_str().unwrap();
        assert!(volume.starts_with(VOLUME_PREFIX));
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["name"], volume);
        assert_eq!(pod["spec"]["containers"][1]["volumeMounts"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_volume_of_the_tokens_name_is_mounted_and_not_made_again() {
        let mut pod = json!({"spec": {
            "containers": [{"name": "a"}],
            "volumes": [{"name": "kube-api-access-own", "emptyDir": {}}],
        }});
        mount(&mut pod);
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["name"], "kube-api-access-own");
        assert_eq!(pod["spec"]["volumes"].as_array().unwrap().len(), 1);
    }
}
