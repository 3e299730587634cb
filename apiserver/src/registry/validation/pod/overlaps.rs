//! Files of a volume that are in each other's way.

use crate::registry::validation::field::Field;

/// A path in a volume, and what brings it where that is told.
struct Placed {
    path: String,
    source: String,
}

impl Placed {
    fn shown(&self) -> String {
        if self.source.is_empty() { format!("{:?}", self.path) } else { format!("{:?} ({})", self.path, self.source) }
    }

    fn meets(&self, other: &Self) -> bool {
        let (own, other) = (&self.path, &other.path);
        own == other || own.starts_with(&format!("{other}/")) || other.starts_with(&format!("{own}/"))
    }
}

/// Warnings about paths in the volumes of a pod spec that overlap.
pub(super) fn warnings(spec: &Field<'_>) -> Vec<String> {
    let mut said = Vec::new();
    for volume in spec.items("volumes") {
        for (kind, what) in [
            ("configMap", format!("ConfigMap {:?}", volume.at("configMap").str("name"))),
            ("secret", format!("Secret {:?}", volume.at("secret").str("secretName"))),
            ("downwardAPI", "DownwardAPI".to_owned()),
        ] {
            if let Some(source) = volume.get(kind) {
                tell(&volume, &what, items(&source, ""), &mut said);
            }
        }
        let mut all = Vec::new();
        for source in volume.at("projected").items("sources") {
            if source.is_empty() {
                said.push(format!("volume {:?} (Projected) has no sources provided", volume.str("name")));
            }
            all.extend(projected(&source));
        }
        tell(&volume, "Projected", all, &mut said);
    }
    said
}

fn tell(volume: &Field<'_>, what: &str, paths: Vec<Placed>, said: &mut Vec<String>) {
    let mut before: Vec<Placed> = Vec::new();
    for placed in paths {
        for other in before.iter().filter(|other| other.meets(&placed)) {
            let (name, own, other) = (volume.str("name"), placed.shown(), other.shown());
            said.push(format!("volume {name:?} ({what}): overlapping paths: {own} with {other}"));
        }
        before.push(placed);
    }
}

fn placed(path: &str, source: &str) -> Placed {
    Placed { path: path.trim_end_matches('/').to_owned(), source: source.to_owned() }
}

fn items(source: &Field<'_>, shown: &str) -> Vec<Placed> {
    source.items("items").iter().map(|item| placed(item.str("path"), shown)).collect()
}

fn projected(source: &Field<'_>) -> Vec<Placed> {
    if let Some(found) = source.get("configMap") {
        return items(&found, &format!("ConfigMap {:?}", found.str("name")));
    }
    if let Some(found) = source.get("secret") {
        return items(&found, &format!("Secret {:?}", found.str("name")));
    }
    if let Some(found) = source.get("downwardAPI") {
        return items(&found, "DownwardAPI");
    }
    if let Some(found) = source.get("serviceAccountToken") {
        return vec![placed(found.str("path"), "ServiceAccountToken")];
    }
    if let Some(found) = source.get("clusterTrustBundle") {
        let name = if found.get("name").is_some() { found.str("name") } else { found.str("signerName") };
        return vec![placed(found.str("path"), &format!("ClusterTrustBundle {name:?}"))];
    }
    let certificate = source.at("podCertificate");
    [
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    ]
    .into_iter()
    .filter(|(key, _)| !certificate.str(key).is_empty())
    .map(|(key, shown)| placed(certificate.str(key), shown))
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_in_the_way_of_another_is_told() {
        let spec = json!({"volumes": [{"name": "v", "projected": {"sources": [
            {"secret": {"name": "s", "items": [{"key": "k", "path": "a"}]}},
            {"serviceAccountToken": {"path": "a/token"}},
        ]}}]});
        assert_eq!(
            warnings(&Field::new(&spec, "spec")),
            [r#"volume "v" (Projected): overlapping paths: "a/token" (ServiceAccountToken) with "a" (Secret "s")"#]
        );
    }
}
