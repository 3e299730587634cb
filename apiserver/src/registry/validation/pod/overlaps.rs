//! Files of a volume that are in each other's way.

use std::{collections::BTreeMap, rc::Rc};

use crate::registry::validation::field::Field;

/// Most overlaps that are told: pairs grow with the square of what a client sends, and an answer shows a few of them.
const MOST_TOLD: usize = 1_000;
/// No longer path names a file (`PATH_MAX`).
const MAX_PATH_BYTES: usize = 4096;

/// A path in a volume, and what brings it where that is told.
#[derive(Clone)]
struct Placed {
    path: String,
    source: String,
}

impl Placed {
    fn shown(&self) -> String {
        if self.source.is_empty() { format!("{:?}", self.path) } else { format!("{:?} ({})", self.path, self.source) }
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
                tell(&volume, &what, items(&source, "").iter(), &mut said);
            }
        }
        let (mut all, mut before): (Vec<Rc<[Placed]>>, Rc<[Placed]>) = (Vec::new(), Rc::from([]));
        for source in volume.at("projected").items("sources") {
            if source.is_empty() {
                said.push(format!("volume {:?} (Projected) has no sources provided", volume.str("name")));
                continue;
            }
            // A source that tells no paths is met, upstream, as if it brought those of the one before.
            before = projected(&source).map_or(before, Rc::from);
            all.push(Rc::clone(&before));
        }
        tell(&volume, "Projected", all.iter().flat_map(|source| source.iter()), &mut said);
    }
    said
}

fn tell<'p>(volume: &Field<'_>, what: &str, paths: impl Iterator<Item = &'p Placed>, said: &mut Vec<String>) {
    let mut places = Places::default();
    for placed in paths.filter(|placed| placed.path.len() <= MAX_PATH_BYTES) {
        for other in places.meet(&placed.path, MOST_TOLD.saturating_sub(said.len())) {
            let (name, own) = (volume.str("name"), placed.shown());
            said.push(format!("volume {name:?} ({what}): overlapping paths: {own} with {other}"));
        }
        if said.len() >= MOST_TOLD {
            return;
        }
        places.add(placed);
    }
}

/// Paths in the order of their names, so that those in the way of one are found without a look at all others.
#[derive(Default)]
struct Places {
    /// Number and text of each that stands at a path.
    by_path: BTreeMap<String, Vec<(usize, String)>>,
    count: usize,
}

impl Places {
    fn add(&mut self, placed: &Placed) {
        let shown = placed.shown();
        let here = self.by_path.entry(placed.path.clone()).or_default();
        // Of the same in the same place one is enough.
        if here.iter().all(|(_, known)| *known != shown) {
            here.push((self.count, shown));
            self.count += 1;
        }
    }

    /// What stands at this path, above it and below it, in the order in which it came; at most so many.
    fn meet(&self, path: &str, most: usize) -> Vec<String> {
        let above = path.match_indices('/').filter_map(|(at, _)| self.by_path.get(path.get(..at)?));
        let below = format!("{path}/");
        let below = self.by_path.range(below.clone()..).take_while(|(other, _)| other.starts_with(&below));
        let here = above.chain(self.by_path.get(path)).chain(below.map(|(_, placed)| placed));
        let mut found: Vec<&(usize, String)> = here.flatten().take(most).collect();
        found.sort_by_key(|(number, _)| *number);
        found.into_iter().map(|(_, shown)| shown.clone()).collect()
    }
}

fn placed(path: &str, source: &str) -> Placed {
    Placed { path: path.trim_end_matches('/').to_owned(), source: source.to_owned() }
}

fn items(source: &Field<'_>, shown: &str) -> Vec<Placed> {
    source.items("items").iter().map(|item| placed(item.str("path"), shown)).collect()
}

/// The paths that a source tells.
fn projected(source: &Field<'_>) -> Option<Vec<Placed>> {
    for (kind, shown) in [("configMap", "ConfigMap"), ("secret", "Secret")] {
        if let Some(found) = source.get(kind).filter(|found| found.get("items").is_some()) {
            return Some(items(&found, &format!("{shown} {:?}", found.str("name"))));
        }
    }
    if let Some(found) = source.get("downwardAPI").filter(|found| found.get("items").is_some()) {
        return Some(items(&found, "DownwardAPI"));
    }
    if let Some(found) = source.get("serviceAccountToken") {
        return Some(vec![placed(found.str("path"), "ServiceAccountToken")]);
    }
    if let Some(found) = source.get("clusterTrustBundle") {
        let name = if found.get("name").is_some() { found.str("name") } else { found.str("signerName") };
        return Some(vec![placed(found.str("path"), &format!("ClusterTrustBundle {name:?}"))]);
    }
    let certificate = source.get("podCertificate")?;
    let paths = [
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    ];
    let told = paths.into_iter().filter(|(key, _)| !certificate.str(key).is_empty());
    Some(told.map(|(key, shown)| placed(certificate.str(key), shown)).collect())
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

    #[test]
    fn a_source_without_paths_counts_as_the_one_before() {
        let spec = json!({"volumes": [{"name": "v", "projected": {"sources": [
            {"configMap": {"name": "a"}},
            {"serviceAccountToken": {"path": "token"}},
            {"configMap": {"name": "b"}},
            {},
        ]}}]});
        let token = r#""token" (ServiceAccountToken)"#;
        assert_eq!(
            warnings(&Field::new(&spec, "spec")),
            [
                r#"volume "v" (Projected) has no sources provided"#.to_owned(),
                format!(r#"volume "v" (Projected): overlapping paths: {token} with {token}"#),
            ]
        );
    }

    #[test]
    fn however_many_files_there_are_the_answer_comes_at_once_and_is_short() {
        let told = |paths: &mut dyn Iterator<Item = String>| {
            let items: Vec<_> = paths.map(|path| json!({"key": "k", "path": path})).collect();
            let spec = json!({"volumes": [{"name": "v", "configMap": {"name": "c", "items": items}}]});
            warnings(&Field::new(&spec, "spec")).len()
        };
        assert_eq!(told(&mut (0..60_000).map(|at| format!("d{at}/f"))), 0);
        assert_eq!(told(&mut (0..60_000).map(|_| "a".to_owned())), MOST_TOLD);
        assert_eq!(told(&mut (1..1_500).map(|depth| vec!["a"; depth].join("/"))), MOST_TOLD);
        assert_eq!(told(&mut ["a/b", "a", "a/c", "a/b/c", "ab"].into_iter().map(str::to_owned)), 4);
    }
}
