//! What a volume holds: a pure function of its source and the objects that it names.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, ServiceAccountTokenProjection, Volume, VolumeProjection,
};

use super::VolumeError;
use crate::pods::{
    downward::{self, Facts},
    env::{EnvError, References, Sources},
};

/// What upstream uses where a volume names no mode.
pub const DEFAULT_MODE: u32 = 0o644;
/// A ConfigMap or Secret holds at most 1 MiB; a projected volume may join a few of them.
pub const LARGEST: usize = 16 << 20;
/// Where a volume names no lifetime for its token.
pub const DEFAULT_TOKEN_SECONDS: i64 = 3600;

/// The files of a volume, by relative path.
pub type Files = BTreeMap<String, File>;

/// One file.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Its content.
    pub content: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "File {{ {} bytes [redacted], mode: {:o} }}", self.content.len(), self.mode)
    }
}

/// What a volume is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// An empty directory that lives as long as the pod.
    Empty,
    /// The same in memory: it never reaches a disk.
    Memory,
    /// Files that come from objects.
    Files,
}

/// A token that a volume asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenAsked {
    /// For whom it's meant; empty for the API server.
    pub audience: String,
    /// How long it should live.
    pub seconds: i64,
}

/// The kind of a volume.
///
/// # Errors
/// If this node has no such volumes.
pub fn kind(volume: &Volume) -> Result<Kind, VolumeError> {
    if let Some(empty) = &volume.empty_dir {
        return match empty.medium.as_deref() {
            None | Some("") => Ok(Kind::Empty),
            Some("Memory") => Ok(Kind::Memory),
            Some(_) => Err(VolumeError::Unsupported { kind: "emptyDir with a medium other than Memory" }),
        };
    }
    let files = volume.config_map.is_some() || volume.secret.is_some();
    if files || volume.projected.is_some() || volume.downward_api.is_some() {
        return Ok(Kind::Files);
    }
    Err(VolumeError::Unsupported { kind: unsupported(volume) })
}

fn unsupported(volume: &Volume) -> &'static str {
    if volume.host_path.is_some() {
        "hostPath"
    } else if volume.persistent_volume_claim.is_some() {
        "persistentVolumeClaim"
    } else if volume.ephemeral.is_some() {
        "ephemeral"
    } else if volume.csi.is_some() {
        "csi"
    } else if volume.nfs.is_some() {
        "nfs"
    } else if volume.image.is_some() {
        "image"
    } else if volume.iscsi.is_some() {
        "iscsi"
    } else {
        "other than these"
    }
}

/// Which objects the volumes of `pod` need.
#[must_use]
pub fn references(pod: &Pod) -> References {
    let mut found = References::default();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        found.config_maps.extend(volume.config_map.as_ref().map(|one| one.name.clone()));
        found.secrets.extend(volume.secret.as_ref().and_then(|one| one.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            found.config_maps.extend(source.config_map.as_ref().map(|one| one.name.clone()));
            found.secrets.extend(source.secret.as_ref().map(|one| one.name.clone()));
        }
    }
    found
}

/// Which tokens a volume needs.
#[must_use]
pub fn tokens(volume: &Volume) -> Vec<TokenAsked> {
    let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    sources.filter_map(|source| source.service_account_token.as_ref()).map(asked).collect()
}

fn asked(token: &ServiceAccountTokenProjection) -> TokenAsked {
    TokenAsked {
        audience: token.audience.clone().unwrap_or_default(),
        seconds: token.expiration_seconds.unwrap_or(DEFAULT_TOKEN_SECONDS),
    }
}

/// The files of a volume of [`Kind::Files`]; `tokens` are those that [`tokens`] asked for.
///
/// # Errors
/// If something is missing, or a path leads out of the volume.
pub fn files(
    pod: &Pod,
    volume: &Volume,
    sources: &Sources,
    tokens: &BTreeMap<TokenAsked, String>,
    facts: &Facts<'_>,
) -> Result<Files, VolumeError> {
    let mut made = Files::new();
    if let Some(source) = &volume.config_map {
        let mode = mode(source.default_mode, DEFAULT_MODE);
        let optional = source.optional == Some(true);
        from_config_map(&source.name, source.items.as_deref(), optional, mode, sources, &mut made)?;
    } else if let Some(source) = &volume.secret {
        let mode = mode(source.default_mode, DEFAULT_MODE);
        let name = source.secret_name.as_deref().unwrap_or_default();
        from_secret(name, source.items.as_deref(), source.optional == Some(true), mode, sources, &mut made)?;
    } else if let Some(source) = &volume.downward_api {
        let mode = mode(source.default_mode, DEFAULT_MODE);
        from_downward(pod, source.items.as_deref().unwrap_or_default(), mode, facts, &mut made)?;
    } else if let Some(source) = &volume.projected {
        let mode = mode(source.default_mode, DEFAULT_MODE);
        for part in source.sources.iter().flatten() {
            let mut own = Files::new();
            from_projection(pod, part, mode, sources, tokens, facts, &mut own)?;
            for (path, file) in own {
                if made.contains_key(&path) {
                    return Err(VolumeError::Conflict { path });
                }
                made.insert(path, file);
            }
        }
    }
    let bytes = made.values().map(|file| file.content.len()).sum();
    if bytes > LARGEST {
        return Err(VolumeError::TooLarge { bytes, limit: LARGEST });
    }
    Ok(made)
}

fn mode(mode: Option<i32>, default: u32) -> u32 {
    mode.and_then(|mode| u32::try_from(mode).ok()).map_or(default, |mode| mode & 0o777)
}

fn from_projection(
    pod: &Pod,
    part: &VolumeProjection,
    mode: u32,
    sources: &Sources,
    tokens: &BTreeMap<TokenAsked, String>,
    facts: &Facts<'_>,
    made: &mut Files,
) -> Result<(), VolumeError> {
    if let Some(source) = &part.config_map {
        let optional = source.optional == Some(true);
        return from_config_map(&source.name, source.items.as_deref(), optional, mode, sources, made);
    }
    if let Some(source) = &part.secret {
        let optional = source.optional == Some(true);
        return from_secret(&source.name, source.items.as_deref(), optional, mode, sources, made);
    }
    if let Some(source) = &part.downward_api {
        return from_downward(pod, source.items.as_deref().unwrap_or_default(), mode, facts, made);
    }
    if let Some(source) = &part.service_account_token {
        let token = tokens.get(&asked(source)).cloned().unwrap_or_default();
        // Upstream makes tokens readable by their owner only, unless all containers run as one other user.
        return put(made, &source.path, token.into_bytes(), mode);
    }
    Err(VolumeError::Unsupported { kind: "projected with a source other than these (and serviceAccountToken)" })
}

fn from_config_map(
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: bool,
    mode: u32,
    sources: &Sources,
    made: &mut Files,
) -> Result<(), VolumeError> {
    let Some(map) = sources.config_maps.get(name) else {
        return absent("configmap", name, optional);
    };
    let text = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
    pick(text.chain(binary).collect(), items, optional, mode, "config", made)
}

fn from_secret(
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: bool,
    mode: u32,
    sources: &Sources,
    made: &mut Files,
) -> Result<(), VolumeError> {
    let Some(secret) = sources.secrets.get(name) else {
        return absent("secret", name, optional);
    };
    let data = secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
    pick(data.collect(), items, optional, mode, "secret", made)
}

/// What becomes of a volume whose object isn't there.
fn absent(kind: &'static str, name: &str, optional: bool) -> Result<(), VolumeError> {
    if optional { Ok(()) } else { Err(EnvError::NoObject { kind, name: name.to_owned() }.into()) }
}

fn pick(
    mut data: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    optional: bool,
    default: u32,
    kind: &'static str,
    made: &mut Files,
) -> Result<(), VolumeError> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return data.into_iter().try_for_each(|(key, content)| put(made, &key, content, default));
    };
    for item in items {
        match data.remove(&item.key) {
            Some(content) => put(made, &item.path, content, mode(item.mode, default))?,
            None if optional => {}
            None => return Err(VolumeError::NoKey { kind, key: item.key.clone() }),
        }
    }
    Ok(())
}

fn from_downward(
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    default: u32,
    facts: &Facts<'_>,
    made: &mut Files,
) -> Result<(), VolumeError> {
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => downward::field(pod, &field.field_path, facts)?,
            (None, Some(selector)) => downward::resource(pod, None, selector, facts)?,
            (None, None) => continue,
        };
        put(made, &item.path, text.into_bytes(), mode(item.mode, default))?;
    }
    Ok(())
}

/// Adds a file, if its path stays inside the volume.
fn put(made: &mut Files, path: &str, content: Vec<u8>, mode: u32) -> Result<(), VolumeError> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let outside = path.starts_with('/') || parts.contains(&"..") || path.contains('\0');
    let reserved = parts.first().is_none_or(|first| first.starts_with(".."));
    if outside || reserved {
        return Err(VolumeError::Path { path: path.to_owned() });
    }
    made.insert(parts.join("/"), File { content, mode });
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sources() -> Sources {
        let mut sources = Sources::default();
        let map = json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "/w=="}});
        sources.config_maps.insert("cfg".into(), serde_json::from_value(map).unwrap());
        let secret = json!({"data": {"k": "dg=="}});
        sources.secrets.insert("s".into(), serde_json::from_value(secret).unwrap());
        sources
    }

    fn made(volume: serde_json::Value) -> Result<Files, VolumeError> {
        let volume: Volume = serde_json::from_value(volume).unwrap();
        let tokens = tokens(&volume).into_iter().map(|asked| (asked, "tok".to_owned())).collect();
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}})).unwrap();
        files(&pod, &volume, &sources(), &tokens, &Facts::default())
    }

    #[test]
    fn keys_become_files_with_their_modes() {
        let all = made(json!({"name": "v", "configMap": {"name": "cfg"}})).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(all["a"].mode, 0o644);
        let items = json!({"name": "v", "configMap": {"name": "cfg", "defaultMode": 256,
            "items": [{"key": "a", "path": "x/y"}, {"key": "b", "path": "z", "mode": 420}]}});
        let some = made(items).unwrap();
        assert_eq!((some["x/y"].mode, some["z"].mode), (0o400, 0o644));
    }

    #[test]
    fn what_is_missing_is_told() {
        let missing = made(json!({"name": "v", "secret": {"secretName": "no"}})).unwrap_err();
        assert_eq!(missing.to_string(), "secret \"no\" not found");
        let key = json!({"name": "v", "configMap": {"name": "cfg", "items": [{"key": "zz", "path": "p"}]}});
        assert_eq!(made(key).unwrap_err().to_string(), "references non-existent config key: zz");
        assert!(made(json!({"name": "v", "secret": {"secretName": "no", "optional": true}})).unwrap().is_empty());
    }

    #[test]
    fn no_path_leaves_the_volume() {
        for path in ["../x", "/x", "a/../../x", "..data", "", "."] {
            let volume = json!({"name": "v", "configMap": {"name": "cfg", "items": [{"key": "a", "path": path}]}});
            assert!(matches!(made(volume), Err(VolumeError::Path { .. })), "{path}");
        }
    }

    #[test]
    fn projected_sources_join_and_may_not_collide() {
        let all = made(json!({"name": "v", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "cfg", "items": [{"key": "a", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        ]}}))
        .unwrap();
        assert_eq!(all["token"].content, b"tok");
        assert_eq!(all["name"].content, b"p");
        let twice = made(json!({"name": "v", "projected": {"sources": [
            {"configMap": {"name": "cfg"}}, {"secret": {"name": "s", "items": [{"key": "k", "path": "a"}]}}]}}));
        assert!(matches!(twice, Err(VolumeError::Conflict { .. })));
    }

    #[test]
    fn other_volumes_are_refused_by_name() {
        let volume = serde_json::from_value(json!({"name": "v", "hostPath": {"path": "/"}})).unwrap();
        assert!(kind(&volume).unwrap_err().to_string().contains("hostPath"));
    }

    #[test]
    fn contents_are_not_shown() {
        let all = made(json!({"name": "v", "secret": {"secretName": "s"}})).unwrap();
        assert!(format!("{all:?}").contains("1 bytes [redacted]"));
    }
}
