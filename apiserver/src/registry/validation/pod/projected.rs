//! Volumes that are put together of several sources.

use std::collections::HashSet;

use martello_api::status::Cause;
use serde_json::json;

use super::volumes::{downward_file, key_file, local_path, mode};
use crate::registry::validation::field::Field;

/// Shortest life of a projected token: ten minutes.
const MIN_TOKEN_SECONDS: i64 = 600;
/// Longest life of a projected token.
const MAX_TOKEN_SECONDS: i64 = 1 << 32;

/// Checks a projected volume.
pub(super) fn check(volume: &Field<'_>, causes: &mut Vec<Cause>) {
    mode(&volume.at("defaultMode"), causes);
    let mut paths: HashSet<&str> = HashSet::new();
    for source in volume.items("sources") {
        let mut kinds = 0;
        for kind in ["secret", "configMap"] {
            let Some(found) = source.get(kind) else { continue };
            kinds += 1;
            found.at("name").needs_text(causes);
            for item in found.items("items") {
                key_file(&item, causes);
                place(volume, item.str("path"), found.str("name"), &mut paths, causes);
            }
        }
        if let Some(found) = source.get("downwardAPI") {
            kinds += 1;
            for item in found.items("items") {
                downward_file(&found, &item, causes);
                place(volume, item.str("path"), item.str("path"), &mut paths, causes);
            }
        }
        if let Some(found) = source.get("serviceAccountToken") {
            kinds += 1;
            token(volume, &found, causes);
        }
        if kinds > 1 {
            source.forbidden("may not specify more than 1 volume type per source", causes);
        }
    }
}

/// Two files can't be at one path; `shown` is what the message calls the second.
fn place<'a>(volume: &Field<'_>, path: &'a str, shown: &str, paths: &mut HashSet<&'a str>, causes: &mut Vec<Cause>) {
    if path.is_empty() {
        return;
    }
    if paths.contains(path) {
        causes.push(Cause::invalid(volume.path.as_str(), &json!(shown), "conflicting duplicate paths"));
    } else {
        paths.insert(path);
    }
}

fn token(volume: &Field<'_>, token: &Field<'_>, causes: &mut Vec<Cause>) {
    let seconds = token.at("expirationSeconds");
    match seconds.int().unwrap_or(0) {
        ..MIN_TOKEN_SECONDS => seconds.invalid("may not specify a duration less than 10 minutes", causes),
        too_long if too_long > MAX_TOKEN_SECONDS => {
            seconds.invalid("may not specify a duration larger than 2^32 seconds", causes);
        }
        _ => {}
    }
    // Upstream names the volume here, not the source.
    let path = Field::new(token.at("path").value, volume.at("path").path);
    if path.needs_text(causes) {
        local_path(&path, true, causes);
    }
}
