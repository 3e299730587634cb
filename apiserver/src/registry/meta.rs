//! `metadata` as the server keeps it: what a client may not decide.

use std::collections::HashSet;

use jiff::Timestamp;
use martello_api::{clock::rfc3339_seconds, schema, status::ApiError};
use rand::Rng as _;
use serde_json::Value;

use super::{
    call::Call,
    codec,
    kind::{Generation, Kind},
    object,
};

/// Longest base of a generated name: with the random part it still fits a label.
const MAX_GENERATED_BASE: usize = 58;
/// Random characters of a generated name.
const RANDOM_CHARS: usize = 5;
/// Without vowels and what looks alike, so that no words come out.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A name from its base and random characters.
#[must_use]
pub fn generate_name(base: &str) -> String {
    let mut cut = base.len().min(MAX_GENERATED_BASE);
    while !base.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut name = base.get(..cut).unwrap_or_default().to_owned();
    let mut random = rand::rng();
    name.extend(
        (0..RANDOM_CHARS)
            .filter_map(|_| ALPHABET.get(random.random_range(0..ALPHABET.len())).map(|byte| char::from(*byte))),
    );
    name
}

/// Checks that the namespace of a body is that of the path, and fills it in; where objects have none it is dropped.
pub fn fit_namespace(kind: &Kind, call: &Call, object: &mut Value) -> Result<(), ApiError> {
    if kind.resource.namespaced {
        return fit_namespace_of(call, object);
    }
    object::remove(object, &["metadata"], "namespace");
    Ok(())
}

/// The same of what is in the namespace of the path in any case.
pub fn fit_namespace_of(call: &Call, object: &mut Value) -> Result<(), ApiError> {
    let own = object::namespace(object);
    if own.is_empty() {
        object::set(object, &["metadata"], "namespace", call.namespace());
        return Ok(());
    }
    if own == call.namespace() {
        return Ok(());
    }
    Err(ApiError::bad_request("the namespace of the provided object does not match the namespace sent on the request"))
}

/// Drops what a client can't say of a new object.
pub fn drop_system_fields(object: &mut Value) {
    for key in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        object::remove(object, &["metadata"], key);
    }
}

/// Metadata of a new object.
pub fn prepare_create(kind: &Kind, object: &mut Value, now: Timestamp) {
    drop_system_fields(object);
    object::set(object, &["metadata"], "uid", uuid::Uuid::new_v4().to_string());
    object::set(object, &["metadata"], "creationTimestamp", rfc3339_seconds(now));
    if kind.generation() != Generation::Untouched {
        object::set(object, &["metadata"], "generation", 1);
    }
    if !kind.resource.namespaced {
        object::remove(object, &["metadata"], "namespace");
    }
}

/// Metadata of a changed object: what only the server changes is as it was.
pub fn prepare_update(object: &mut Value, old: &Value) {
    if object::uid(object).is_empty() {
        restore(object, old, "uid");
    }
    for key in ["creationTimestamp", "generation"] {
        restore(object, old, key);
    }
    // A delete that has begun stays so in silence; one that has not can't be begun by an update, and validation says so.
    if object::is_terminating(old) {
        restore(object, old, "deletionTimestamp");
    }
    if object::at(object, &["metadata", "deletionGracePeriodSeconds"]).is_none() {
        restore(object, old, "deletionGracePeriodSeconds");
    }
    object::remove(object, &["metadata"], "selfLink");
}

/// Members of an object whose changes the generation does not count.
const UNCOUNTED: [&str; 4] = ["metadata", "status", "kind", "apiVersion"];

/// Whether all that the generation counts is as it was.
fn counts_alike(kind: &Kind, object: &Value, old: &Value) -> bool {
    let known = Some(codec::schema_of(kind)).filter(|_| !kind.is_custom());
    let all = [object, old].into_iter().filter_map(Value::as_object).flatten();
    let mut counted = all.filter(|(key, _)| !UNCOUNTED.contains(&key.as_str()));
    counted.all(|(key, _)| {
        let (now, before) = (object.get(key), old.get(key));
        let typed = known.filter(|schema| schema.field(key).is_some());
        typed.map_or_else(|| object::same(now, before), |schema| schema::same_member(schema, key, now, before))
    })
}

/// Lets the generation grow where the kind says so.
pub fn bump_generation(kind: &Kind, object: &mut Value, old: &Value) {
    let keys = |value| Value::as_object(value).into_iter().flatten().map(|(key, _)| key.as_str());
    let mut counted = keys(object).chain(keys(old)).filter(|key| !UNCOUNTED.contains(key));
    let same = match kind.generation() {
        Generation::Untouched => return,
        Generation::Spec => {
            counts_alike(kind, object, old) || {
                // What was not decoded may lack what a type always has.
                let mut shaped = object.clone();
                codec::normalize(kind, &mut shaped);
                counts_alike(kind, &shaped, old)
            }
        }
        Generation::Exact { status } => {
            counted.all(|key| object.get(key) == old.get(key)) && (!status || object.get("status") == old.get("status"))
        }
    };
    if !same {
        let generation = object::int(old, &["metadata", "generation"]).unwrap_or(0);
        object::set(object, &["metadata"], "generation", generation + 1);
    }
}

/// Makes a field of the metadata what it was.
pub fn restore(object: &mut Value, old: &Value, key: &str) {
    match object::at(old, &["metadata", key]).cloned() {
        Some(value) => object::set(object, &["metadata"], key, value),
        None => {
            object::remove(object, &["metadata"], key);
        }
    }
}

/// Lists with one owner twice are kept with it once, and the client is told; `admitted`: after admission has been asked.
pub fn dedup_owners(call: &Call, object: &mut Value, admitted: bool) {
    let Some(owners) = object::list_mut(object, &["metadata", "ownerReferences"]) else { return };
    let mut seen: HashSet<Value> = HashSet::with_capacity(owners.len());
    let mut twice: Vec<String> = Vec::new();
    owners.retain(|owner| {
        let is_new = seen.insert(owner.clone());
        if !is_new {
            twice.push(object::text(owner, &["uid"]).to_owned());
        }
        is_new
    });
    if twice.is_empty() {
        return;
    }
    let after = if admitted { " after mutating admission happens" } else { "" };
    let uids = twice.join(", ");
    call.warn(format!(
        ".metadata.ownerReferences contains duplicate entries{after}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {uids}"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_update_says_of_a_delete_is_left_for_validation_unless_one_has_begun() {
        let given = serde_json::json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z", "deletionGracePeriodSeconds": 4}});
        let mut object = given.clone();
        prepare_update(&mut object, &serde_json::json!({"metadata": {"uid": "u"}}));
        assert_eq!(object["metadata"]["deletionTimestamp"], given["metadata"]["deletionTimestamp"]);
        let old = serde_json::json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}});
        prepare_update(&mut object, &old);
        assert_eq!(object["metadata"]["deletionTimestamp"], old["metadata"]["deletionTimestamp"]);
        assert_eq!(object["metadata"]["deletionGracePeriodSeconds"], 4);
        let mut silent = serde_json::json!({"metadata": {}});
        prepare_update(&mut silent, &old);
        assert_eq!(silent["metadata"]["deletionGracePeriodSeconds"], 0);
    }

    #[test]
    fn a_generated_name_is_cut_and_fits_a_label() {
        let name = generate_name(&"g".repeat(70));
        assert_eq!(name.len(), 63);
        assert!(generate_name("web-").starts_with("web-"));
        assert_ne!(generate_name("web-"), generate_name("web-"));
    }
}
