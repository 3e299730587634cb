//! Puts the volumes of a pod in place, and keeps what they hold up to date.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume};

use super::{
    VolumeError, atomic,
    mounts::Places,
    payload::{self, Files, Kind, TokenAsked},
};
use crate::{
    pods::{downward::Facts, env::Sources},
    runtime::{Runtime, Source},
};

/// What the files of each volume were when they were last written, by volume; only digests are kept.
pub type Written = BTreeMap<String, u64>;

/// Everything that what a pod's volumes hold depends on.
pub struct Placing<'a> {
    /// Gives files to the pod's users.
    pub runtime: &'a dyn Runtime,
    /// The pod.
    pub pod: &'a Pod,
    /// The objects that its volumes name.
    pub sources: &'a Sources,
    /// The tokens that they ask for.
    pub tokens: &'a BTreeMap<TokenAsked, String>,
    /// What the node knows of the pod.
    pub facts: &'a Facts<'a>,
    /// Names new directories.
    pub now: Timestamp,
}

impl Placing<'_> {
    /// Makes the directory of each volume and writes what it holds; writes nothing that hasn't changed.
    ///
    /// # Errors
    /// The first volume that can't be set up, by name.
    pub async fn place(&self, written: &mut Written) -> Result<(), (String, VolumeError)> {
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        let places = Places::of(&self.runtime.info(), uid);
        for volume in self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let placed = self.one(uid, volume, &places, written).await;
            placed.map_err(|error| (volume.name.clone(), error))?;
        }
        Ok(())
    }

    async fn one(&self, uid: &str, volume: &Volume, places: &Places, written: &mut Written) -> Result<(), VolumeError> {
        // What is in memory is the shim's.
        let Source::Path(dir) = places.source(volume)? else { return Ok(()) };
        let group = fs_group(self.pod);
        if payload::kind(volume)? == Kind::Empty {
            if dir.is_dir() {
                return Ok(());
            }
            make_empty(&dir, group.is_some())?;
            self.runtime.own(uid, &dir, 0, group.unwrap_or(0)).await?;
            return Ok(());
        }
        let mut files = payload::files(self.pod, volume, self.sources, self.tokens, self.facts)?;
        if group.is_some() {
            files.values_mut().for_each(|file| file.mode |= 0o440);
        }
        let digest = digest(&files);
        if written.get(&volume.name) == Some(&digest) {
            return Ok(());
        }
        // An agent that has just started compares with what lies there; what it can't read counts as changed.
        if !atomic::holds(&dir, &files) {
            let stamp = self.now.strftime("%Y_%m_%d_%H_%M_%S.%9f").to_string();
            let staged = atomic::stage(&dir, &files, &stamp)?;
            for path in files.keys() {
                self.runtime.own(uid, &staged.join(path), 0, group.unwrap_or(0)).await?;
            }
            atomic::publish(&dir, &staged, &files)?;
        }
        written.insert(volume.name.clone(), digest);
        Ok(())
    }
}

/// Tells a change, within one process; not a proof of anything.
fn digest(files: &Files) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (path, file) in files {
        (path, &file.content, file.mode).hash(&mut hasher);
    }
    hasher.finish()
}

/// The group that owns the pod's volumes, where it names one.
pub fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

fn make_empty(dir: &Path, setgid: bool) -> Result<(), VolumeError> {
    let mode = if setgid { 0o2777 } else { 0o777 };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(mode)))
        .map_err(|source| VolumeError::io("make directory", dir, source))
}
