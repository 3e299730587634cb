//! Where the containers of a pod see its volumes.

use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, Volume};

use super::{VolumeError, payload};
use crate::{
    pods::{env, quantity::Amount},
    runtime::{Mount, RuntimeInfo},
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

    /// The directory of a volume.
    ///
    /// # Errors
    /// If this node has no such volumes.
    pub fn dir(&self, volume: &Volume) -> Result<PathBuf, VolumeError> {
        Ok(match payload::kind(volume)? {
            payload::Kind::Empty { memory: false } => self.lasting.join(&volume.name),
            payload::Kind::Empty { memory: true } | payload::Kind::Files => self.volatile.join(&volume.name),
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
        let dir = places.dir(volume)?;
        let lookup = |name: &str| known.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        let below = match (&mount.sub_path_expr, &mount.sub_path) {
            (Some(expression), _) => env::expand(expression, &lookup),
            (None, Some(path)) => path.clone(),
            (None, None) => String::new(),
        };
        let is_files = payload::kind(volume)? == payload::Kind::Files;
        made.push(Mount {
            source: Some(inside(&dir, &below, !is_files)?),
            target: absolute(&mount.mount_path),
            // Upstream mounts what comes from objects read-only, whatever the spec says.
            read_only: is_files || mount.read_only == Some(true),
            tmpfs_bytes: None,
        });
    }
    Ok(made)
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

/// The real path of `below` in `dir`; made if it's missing and `make` is set. A link that leads out is refused.
fn inside(dir: &Path, below: &str, make: bool) -> Result<PathBuf, VolumeError> {
    if below.is_empty() {
        return Ok(dir.to_owned());
    }
    let bad = || VolumeError::Path { path: below.to_owned() };
    let relative = Path::new(below);
    if !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(bad());
    }
    let root = dir.canonicalize().map_err(|source| VolumeError::io("find", dir, source))?;
    let mut path = root.clone();
    for part in relative.components() {
        path.push(part);
        match path.canonicalize() {
            Ok(real) if real.starts_with(&root) => path = real,
            Ok(_) => return Err(bad()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && make => {
                std::fs::create_dir(&path).map_err(|source| VolumeError::io("make directory", &path, source))?;
            }
            Err(source) => return Err(VolumeError::io("find", &path, source)),
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_sub_path_stays_inside_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc", dir.path().join("out")).unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        symlink("in", dir.path().join("link")).unwrap();
        assert!(inside(dir.path(), "out", true).is_err());
        assert!(inside(dir.path(), "out/passwd", true).is_err());
        assert!(inside(dir.path(), "../x", true).is_err());
        assert!(inside(dir.path(), "/etc", true).is_err());
        assert!(inside(dir.path(), "no", false).is_err());
        assert!(inside(dir.path(), "link", false).unwrap().ends_with("in"));
        assert!(inside(dir.path(), "new/deep", true).unwrap().is_dir());
    }
}
