//! Who set which field: `metadata.managedFields`, kept on every write, and server-side apply, which rests on it.
//!
//! [`track_update`] is for create, update and the patches without an owner: call it on the decoded and defaulted
//! object, before admission and before the server fills anything in. [`apply`] is for apply patches.

mod apply;
mod check;
mod compare;
mod element;
mod entries;
mod last_applied;
mod merge;
mod scale;
mod set;
mod shape;
mod versions;

use jiff::Timestamp;
use serde_json::Value;

use crate::clock::rfc3339_seconds;
use crate::schema::{Kind, Link, Schema, zero};
use crate::status::{ApiError, Cause, Details};

pub use apply::{apply, check as check_config, merged};
pub use scale::{ReplicasIn, SCALE_VERSION, owners_after_scale, owners_of_scale};
pub use set::FieldSet;
pub use versions::{Convert, Unconverted};

use compare::compare_objects;
use entries::Managed;
use versions::{Alike, Differences};

/// What an endpoint leaves as it is, whatever is sent to it, so that no writer owns anything of it.
#[derive(Clone, Copy, Debug)]
pub enum Ignored<'a> {
    /// These fields, with all below them.
    Paths(&'a [&'a [&'a str]]),
    /// All but these fields, with all below them, and the elements of lists that lead to them. `*` is any element.
    AllBut(&'a [&'a [&'a str]]),
}

impl Ignored<'_> {
    /// An endpoint that writes all that is sent.
    pub const NOTHING: Self = Self::Paths(&[]);

    fn take_from(self, set: &mut FieldSet) {
        match self {
            Self::Paths(paths) => paths.iter().for_each(|path| set.prune(path)),
            Self::AllBut(paths) => set.keep(paths),
        }
    }
}

/// Who writes, by what.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// `fieldManager`, or what stands before the first `/` of the user agent.
    pub manager: &'a str,
    /// Of the request, for instance `apps/v1`.
    pub api_version: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// What this endpoint ignores, for instance `["status"]` for the object, `["spec"]` for its status.
    pub reset_fields: Ignored<'a>,
    /// The time of the write.
    pub now: Timestamp,
    /// The kind in its other versions; nothing where all have the same fields.
    pub versions: Option<&'a dyn Convert>,
}

/// What an apply patch came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The object, not yet decoded and defaulted, with its `managedFields`.
    pub value: Value,
    /// Whether the object stays as it was, its `managedFields` aside.
    pub unchanged: bool,
}

/// Why an apply patch can't be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The patch brings `managedFields` of its own.
    #[error("metadata.managedFields must be nil")]
    ManagedFields,
    /// The patch does not fit the schema, in upstream's words.
    #[error("failed to create typed patch object ({object}): {why}")]
    Untyped {
        /// `namespace/name; group/version, Kind=kind`
        object: String,
        /// Which field, and what is wrong with it.
        why: String,
    },
    /// What the patch makes of the object can't be read as its kind, in upstream's words.
    #[error("failed to convert new object ({object}) to proper version: {why}")]
    Unfit {
        /// `namespace/name; group/version, Kind=kind`
        object: String,
        /// What is wrong.
        why: String,
    },
    /// The object can't be seen, or can't be seen yet, in a version that owns fields of it.
    #[error("{0}")]
    Unconverted(#[from] Unconverted),
    /// Others own fields that the patch changes.
    #[error("{}", conflict_message(.conflicts))]
    Conflict {
        /// One per field, those of one manager together.
        conflicts: Vec<Conflict>,
    },
}

/// A field that another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Who, as upstream prints it: `"kubectl" using apps/v1`.
    pub manager: String,
    /// Which, for instance `.spec.replicas`.
    pub path: String,
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", one.manager, one.path);
    }
    let (mut lines, mut manager) = (Vec::with_capacity(conflicts.len() * 2), None);
    for one in conflicts {
        if manager.replace(&one.manager) != Some(&one.manager) {
            lines.push(format!("conflicts with {}:", one.manager));
        }
        lines.push(format!("- {}", one.path));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

impl ApplyError {
    /// The failure as the API answers it.
    #[must_use]
    pub fn to_api_error(&self) -> ApiError {
        match self {
            Self::ManagedFields => ApiError::bad_request(self.to_string()),
            Self::Untyped { .. } | Self::Unfit { .. } | Self::Unconverted(_) => {
                ApiError::new(500, "", self.to_string())
            }
            Self::Conflict { conflicts } => {
                let cause = |one: &Conflict| {
                    Cause::new("FieldManagerConflict", one.path.clone(), format!("conflict with {}", one.manager))
                };
                let mut error = ApiError::new(409, "Conflict", self.to_string());
                error.details =
                    Some(Box::new(Details { causes: conflicts.iter().map(cause).collect(), ..Details::default() }));
                error
            }
        }
    }
}

/// Notes in `new.metadata.managedFields` what `writer` changed from `live` (nothing: on create).
///
/// # Errors
/// [`Unconverted::Later`] where other versions have to be there first: `new` is then as it was. Where the object can't be
/// converted, `new` is left without any `managedFields`, as upstream leaves it.
pub fn track_update(
    schema: &Schema,
    live: Option<&Value>,
    new: &mut Value,
    writer: &Writer<'_>,
) -> Result<(), Unconverted> {
    let given = take_managed(new);
    match tracked(schema, live, new, given.as_ref(), writer) {
        Ok(managed) => {
            put_managed(new, managed);
            Ok(())
        }
        Err(error) => {
            if let (Unconverted::Later, Some(given)) = (&error, given) {
                set_managed(new, given);
            }
            Err(error)
        }
    }
}

fn tracked(
    schema: &Schema,
    live: Option<&Value>,
    new: &Value,
    given: Option<&Value>,
    writer: &Writer<'_>,
) -> Result<Vec<Value>, Unconverted> {
    let kept = live.and_then(|live| live.pointer("/metadata/managedFields"));
    let given = given.filter(|given| writer.subresource.is_empty() && Some(*given) != kept);
    let blank = if live.is_none() { empty_object(schema, new) } else { Value::Null };
    let live = live.unwrap_or(&blank);
    let mut changes = compare_objects(schema, live, new);
    changes.exclude(writer.reset_fields);
    let found = kept.and_then(Managed::decode);
    let alike = Alike(schema);
    let versions = writer.versions.unwrap_or(&alike);
    if let (true, None, Some(Value::Array(kept)), Some(found)) = (changes.is_empty(), given, kept, &found) {
        let mut reconciled = found.clone();
        reconciled.reconcile(versions, live)?;
        if reconciled == *found {
            return Ok(kept.clone());
        }
    }
    let managed = match given {
        Some(given) if entries::is_reset(given) => Some(Managed::default()),
        Some(given) => Managed::decode(given).filter(|found| !found.is_empty()).or(found),
        None => found,
    };
    let mut managed = managed.unwrap_or_default();
    let uid = live.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    if managed.is_empty() && !uid.is_empty() {
        return Ok(Vec::new());
    }
    managed.reconcile(versions, live)?;
    managed.update(changes, Differences::new(versions, (live, new), writer.reset_fields), writer)?;
    Ok(managed.encode())
}

/// Whether `new` is `live`, but for the times in their `managedFields`, or that there are none: such a write is kept from
/// the store.
#[must_use]
pub fn same_but_for_times(live: &Value, new: &Value) -> bool {
    fn same(live: &Value, new: &Value, path: &[&str]) -> bool {
        match (live, new, path) {
            (Value::Object(live), Value::Object(new), [here, below @ ..]) => {
                let counts = |name: &String| !below.is_empty() || name != here;
                let (ours, theirs) = (live.keys().filter(|name| counts(name)), new.keys().filter(|name| counts(name)));
                ours.count() == theirs.count()
                    && live.iter().filter(|(name, _)| counts(name)).all(|(name, ours)| match new.get(name) {
                        Some(theirs) if name == here => same(ours, theirs, below),
                        Some(theirs) => ours == theirs,
                        None => false,
                    })
            }
            (Value::Array(live), Value::Array(new), _) => {
                live.len() == new.len() && live.iter().zip(new).all(|(ours, theirs)| same(ours, theirs, path))
            }
            _ => live == new,
        }
    }
    same(live, new, &["metadata", "managedFields", "time"])
}

/// An object of the kind of `like` before anything is set, as a typed struct would be written.
fn empty_object(schema: &Schema, like: &Value) -> Value {
    let mut value = Value::Object(serde_json::Map::new());
    crate::schema::normalize(schema, &mut value);
    if let Value::Object(map) = &mut value {
        for key in ["apiVersion", "kind"] {
            if let Some(own) = like.get(key) {
                map.insert(key.to_owned(), own.clone());
            }
        }
    }
    value
}

fn take_managed(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields").filter(|found| !found.is_null())
}

fn put_managed(object: &mut Value, managed: Vec<Value>) {
    if !managed.is_empty() {
        set_managed(object, Value::Array(managed));
    }
}

fn set_managed(object: &mut Value, managed: Value) {
    if let Value::Object(map) = object {
        let metadata = map.entry("metadata").or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Value::Object(metadata) = metadata {
            metadata.insert("managedFields".into(), managed);
        }
    }
}

#[cfg(test)]
#[path = "managed_fields/tests.rs"]
mod tests;
