//! Where the containers of a pod see its volumes.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};

use super::{VolumeError, payload};
use crate::{
    pods::{env, qos, quantity::Amount},
    runtime::{MemoryVolume, Mount, RuntimeInfo, Source, SubPath},
};

/// Where the volumes of one pod lie on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Those that may reach a disk.
    pub lasting: PathBuf,
    /// Those that must not.
    pub volatile: PathBuf,
}

impl Places {
    /// Those of the pod `uid`.
    #[must_use]
    pub fn of(info: &RuntimeInfo, uid: &str) -> Self {
        Self { lasting: info.volumes_dir.join(uid), volatile: info.volatile_dir.join(uid) }
    }

    /// Where a volume is.
    ///
    /// # Errors
    /// If this node has no such volumes.
    pub fn source(&self, volume: &Volume) -> Result<Source, VolumeError> {
        Ok(match payload::kind(volume)? {
            payload::Kind::Empty => Source::Path(self.lasting.join(&volume.name)),
            payload::Kind::Memory => Source::Memory(volume.name.clone()),
            payload::Kind::Files => Source::Path(self.volatile.join(&volume.name)),
        })
    }
}

/// The mounts of a container; `known` are the variables that `subPathExpr` may name.
///
/// # Errors
/// If a mount names a volume that isn't there, or leads out of it.
pub fn mounts(
    pod: &Pod,
    container: &Container,
    places: &Places,
    known: &[(String, String)],
) -> Result<Vec<Mount>, VolumeError> {
    let volumes: Vec<&Volume> = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).collect();
    let mut made = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let missing = || VolumeError::NoVolume { name: mount.name.clone(), container: container.name.clone() };
        let volume = volumes.iter().find(|volume| volume.name == mount.name).ok_or_else(missing)?;
        // Upstream mounts what comes from objects read-only, whatever the spec says.
        let is_files = payload::kind(volume)? == payload::Kind::Files;
        made.push(Mount {
            name: mount.name.clone(),
            source: places.source(volume)?,
            sub_path: sub_path(mount, known)?.map(|path| SubPath { path, make: !is_files }),
            target: absolute(&mount.mount_path),
            read_only: is_files || mount.read_only == Some(true),
        });
    }
    Ok(made)
}

/// The volumes of `pod` that are in memory; `node_bytes` is what pods of this node may use together. A volume holds
/// no more than the pod may use, as upstream has it.
#[must_use]
pub fn in_memory(pod: &Pod, node_bytes: u64, gid: Option<u32>) -> Vec<MemoryVolume> {
    let of_pod = qos::memory_limit(pod).map_or(node_bytes, |limit| limit.units().min(node_bytes));
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let volumes = volumes.filter(|volume| payload::kind(volume).is_ok_and(|kind| kind == payload::Kind::Memory));
    let one = |volume: &Volume| {
        let limit = size_limit(volume).map_or(of_pod, |limit| limit.min(of_pod));
        MemoryVolume { name: volume.name.clone(), size_bytes: limit, gid }
    };
    volumes.map(one).collect()
}

/// How much an `emptyDir` may hold, where the spec says.
#[must_use]
pub fn size_limit(volume: &Volume) -> Option<u64> {
    let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
    Amount::parse(&limit.0).filter(|amount| !amount.is_zero()).map(Amount::units)
}

fn absolute(path: &str) -> PathBuf {
    if path.starts_with('/') { PathBuf::from(path) } else { Path::new("/").join(path) }
}

/// Which part of its volume a mount shows; nothing for all of it.
fn sub_path(mount: &VolumeMount, known: &[(String, String)]) -> Result<Option<PathBuf>, VolumeError> {
    let lookup = |name: &str| known.iter().rev().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    let path = match mount.sub_path_expr.as_deref().filter(|expression| !expression.is_empty()) {
        Some(expression) => {
            let missing = std::cell::RefCell::new(std::collections::BTreeSet::new());
            let known = |name: &str| {
                let value = lookup(name).filter(|value| !value.is_empty());
                if value.is_none() {
                    missing.borrow_mut().insert(name.to_owned());
                }
                value
            };
            let path = env::expand(expression, &known);
            let missing: Vec<String> = missing.into_inner().into_iter().collect();
            if !missing.is_empty() {
                return Err(VolumeError::NoVariable { names: missing.join(", ") });
            }
            path
        }
        None => mount.sub_path.clone().unwrap_or_default(),
    };
    if path.is_empty() {
        return Ok(None);
    }
    if path.starts_with('/') {
        return Err(VolumeError::AbsoluteSubPath { path });
    }
    if path.split('/').any(|part| part == "..") {
        return Err(VolumeError::BackSteps { path });
    }
    Ok(Some(PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": spec})).unwrap()
    }

    fn mounted(mount: serde_json::Value) -> Result<Vec<Mount>, String> {
        let pod = pod(json!({
            "containers": [{"name": "a", "volumeMounts": [mount]}],
            "volumes": [{"name": "cfg", "configMap": {"name": "c"}}, {"name": "data", "emptyDir": {}},
                {"name": "fast", "emptyDir": {"medium": "Memory"}}],
        }));
        let places = Places { lasting: "/l".into(), volatile: "/v".into() };
        let known = [("WHO", "me"), ("NONE", ""), ("UP", "../x")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let container = &pod.spec.as_ref().unwrap().containers[0];
        mounts(&pod, container, &places, &known).map_err(|error| error.full())
    }

    #[test]
    fn a_sub_path_is_judged_as_upstream_judges_it() {
        let error = |mount: serde_json::Value| mounted(mount).unwrap_err();
        let data = |key: &str, value: &str| json!({"name": "data", "mountPath": "/d", key: value});
        assert_eq!(error(data("subPath", "/etc")), "error SubPath `/etc` must not be an absolute path");
        assert_eq!(error(data("subPath", "a/../b")), "unable to provision SubPath `a/../b`: must not contain '..'");
        assert_eq!(error(data("subPathExpr", "$(UP)")), "unable to provision SubPath `../x`: must not contain '..'");
        assert_eq!(error(data("subPathExpr", "$(NONE)/$(NO)/$(NO)")), "missing value for NO, NONE");
        let part = |mount| mounted(mount).unwrap()[0].sub_path.clone();
        assert_eq!(part(data("subPathExpr", "x/$(WHO)")), Some(SubPath { path: "x/me".into(), make: true }));
        assert_eq!(part(data("subPath", "..data/x")), Some(SubPath { path: "..data/x".into(), make: true }));
        assert_eq!(part(data("subPath", "")), None);
        let of_object = json!({"name": "cfg", "mountPath": "/d", "subPath": "key"});
        assert_eq!(part(of_object), Some(SubPath { path: "key".into(), make: false }));
    }

    #[test]
    fn each_kind_of_volume_has_its_place() {
        let source = |name: &str| {
            let mount = mounted(json!({"name": name, "mountPath": "d"})).unwrap().remove(0);
            (mount.source, mount.target.to_string_lossy().into_owned(), mount.read_only)
        };
        assert_eq!(source("data"), (Source::Path("/l/data".into()), "/d".to_owned(), false));
        assert_eq!(source("cfg"), (Source::Path("/v/cfg".into()), "/d".to_owned(), true));
        assert_eq!(source("fast"), (Source::Memory("fast".into()), "/d".to_owned(), false));
    }

    #[test]
    fn a_volume_in_memory_holds_no_more_than_its_pod_may_use() {
        let sizes = |limits: serde_json::Value| -> Vec<u64> {
            let pod = pod(json!({
                "containers": [{"name": "a", "resources": {"limits": limits}}],
                "volumes": [{"name": "all", "emptyDir": {"medium": "Memory"}}, {"name": "disk", "emptyDir": {}},
                    {"name": "little", "emptyDir": {"medium": "Memory", "sizeLimit": "10Mi"}},
                    {"name": "zero", "emptyDir": {"medium": "Memory", "sizeLimit": "0"}}],
            }));
            in_memory(&pod, 1 << 30, None).into_iter().map(|one| one.size_bytes >> 20).collect()
        };
        assert_eq!(sizes(json!({})), [1024, 10, 1024]);
        assert_eq!(sizes(json!({"memory": "64Mi"})), [64, 10, 64]);
        assert_eq!(sizes(json!({"memory": "8Mi"})), [8, 8, 8]);
        assert_eq!(sizes(json!({"memory": "8Gi"})), [1024, 10, 1024]);
    }
}
