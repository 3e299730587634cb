//! `scale`: the one number that autoscalers and `kubectl scale` change.

use std::sync::Arc;

use martello_api::status::{ApiError, Cause};
use serde_json::{Value, json};

use super::{
    answer,
    change::{Part, Plan, change},
};
use crate::{
    http::{negotiate::Form, reply::Reply},
    registry::{call::Call, codec, kind::Kind, object, table},
    server::Core,
};

/// What stands in a scale for the number that a custom object does not have, as upstream's: nobody can ask for it.
const UNSET: i64 = i32::MIN as i64;

/// Serves a call on the scale of an object.
pub async fn serve(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call) -> Result<Reply, ApiError> {
    if call.verb == "get" {
        let entry = core.get(kind, call.namespace(), call.name()).await?;
        let object = core.value(kind, &entry).await?;
        return told(kind, call, scale_of(kind, &object)?);
    }
    let options = if call.verb == "update" { "UpdateOptions" } else { "PatchOptions" };
    let edit = match kind.is_custom() {
        true => codec::Foreign::read_custom_scale(call)?,
        false => codec::Foreign::read(call, "autoscaling", "v1", "Scale")?,
    };
    let dry_run = call.dry_run(options)?;
    edit.sent().map_or(Ok(()), |scale| call.check_identity(scale))?;
    let plan = Plan {
        part: Part::Whole("scale"),
        dry_run,
        creates: false,
        unconditional: true,
        transform: &|current| {
            let Some(current) = current else { return Err(kind.not_found(call.name())) };
            let mut scale = scale_made_of(kind, current, true)?;
            codec::own_scale(kind, current, &mut scale);
            if let Some(config) = edit.applied() {
                let applied = apply_scale(kind, call, (current, &scale), config)?;
                edit.judge_applied(call)?;
                return Ok(applied);
            }
            if let Some(owned) = edit.owned(call, &scale)? {
                let mut new = current.clone();
                codec::carry(kind, (current, &mut new), &owned);
                return Ok(new);
            }
            let written = edit.apply(call, &scale)?;
            apply(kind, call, (current, &scale), &written)
        },
    };
    let (written, _) = change(core, kind, call, &plan).await?;
    let object = match written {
        answer::Written::Stored(entry, mut object) => {
            crate::registry::storage::set_revision(&mut object, entry.revision);
            object
        }
        answer::Written::Unchanged(entry) => core.value(kind, &entry).await?,
        answer::Written::Only(object) => object,
    };
    told(kind, call, scale_of(kind, &object)?)
}

fn told(kind: &Kind, call: &Call, scale: Value) -> Result<Reply, ApiError> {
    match &call.accepted.form {
        Form::Table(version) => answer::told(call, 200, table::of_scale(call, version, &scale, kind.is_custom())?),
        _ => answer::value(kind, call, 200, scale),
    }
}

/// The object with the number that is applied through its `scale`, which is zero where nobody sets it any more.
fn apply_scale(
    kind: &Kind,
    call: &Call,
    (current, scale): (&Value, &Value),
    config: &Value,
) -> Result<Value, ApiError> {
    call.check_identity(config)?;
    check_replicas(config)?;
    let applied = codec::apply_scale(call, scale, config)?;
    check_uid(kind, call, config, current)?;
    let mut new = current.clone();
    set_replicas(kind, &mut new, object::int(&applied, &["spec", "replicas"]).unwrap_or(0));
    if let Some(version) = object::at(config, &["metadata", "resourceVersion"]) {
        object::set(&mut new, &["metadata"], "resourceVersion", version.clone());
    }
    codec::carry(kind, (current, &mut new), &applied);
    Ok(new)
}

/// Whether a scale that says whose it is speaks of this object. An update pins the uid in its preconditions already.
fn check_uid(kind: &Kind, call: &Call, scale: &Value, current: &Value) -> Result<(), ApiError> {
    let (wanted, found) = (object::uid(scale), object::uid(current));
    if call.verb != "patch" || wanted.is_empty() || wanted == found || kind.is_custom() {
        return Ok(());
    }
    let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}");
    Err(ApiError::conflict(kind.group(), &format!("{}/scale", kind.resource.plural), call.name(), &why))
}

fn check_replicas(scale: &Value) -> Result<(), ApiError> {
    let replicas = object::int(scale, &["spec", "replicas"]).unwrap_or(0);
    if replicas >= 0 {
        return Ok(());
    }
    let cause = Cause::invalid("spec.replicas", &json!(replicas), "must be greater than or equal to 0");
    Err(ApiError::invalid("autoscaling", "Scale", object::name(scale), vec![cause]))
}

/// The object with the number and revision that were `written` of its `scale`.
fn apply(kind: &Kind, call: &Call, (current, scale): (&Value, &Value), written: &Value) -> Result<Value, ApiError> {
    call.check_identity(written)?;
    if !kind.is_custom() {
        // A custom object is judged as a whole.
        check_replicas(written)?;
    }
    check_uid(kind, call, written, current)?;
    let replicas = object::int(written, &["spec", "replicas"]).unwrap_or(0);
    let mut new = current.clone();
    if let Some(paths) = kind.scale_paths().filter(|_| replicas == UNSET) {
        let path = paths.spec_replicas.join(".");
        return Err(ApiError::bad_request(format!("the spec replicas field \".{path}\" cannot be empty")));
    }
    set_replicas(kind, &mut new, replicas);
    codec::track_scale(kind, call, (current, &mut new), scale, replicas);
    for key in ["resourceVersion", "uid"] {
        match object::at(written, &["metadata", key]).cloned() {
            Some(value) => object::set(&mut new, &["metadata"], key, value),
            None => {
                object::remove(&mut new, &["metadata"], key);
            }
        }
    }
    // What the number is in may be new, and has defaults then.
    Ok(if kind.is_custom() { codec::finish(kind, new) } else { new })
}

fn set_replicas(kind: &Kind, value: &mut Value, replicas: i64) {
    match kind.scale_paths() {
        None => object::set(value, &["spec"], "replicas", replicas),
        Some(paths) => set_at(value, &paths.spec_replicas, replicas.into()),
    }
}

/// Where an object of a custom kind keeps what its scale tells, each path by its segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// How many replicas are wanted.
    pub spec_replicas: Vec<String>,
    /// How many there are.
    pub status_replicas: Vec<String>,
    /// The selector of the replicas, as text.
    pub selector: Option<Vec<String>>,
}

fn set_at(object: &mut Value, path: &[String], value: Value) {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    if let Some((last, above)) = path.split_last() {
        object::set(object, above, last, value);
    }
}

fn value_at<'v>(object: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(object, |value, key| value.get(key))
}

/// The scale as which a change of an object's number of replicas is admitted.
pub fn admitted(kind: &Kind, value: &Value) -> Result<Value, ApiError> {
    scale_made_of(kind, value, true)
}

/// Takes over the number that an admitted scale has.
pub fn take_admitted(kind: &Kind, value: &mut Value, scale: &Value) {
    let replicas = object::int(scale, &["spec", "replicas"]).unwrap_or(0);
    set_replicas(kind, value, replicas);
}

/// The scale of an object.
fn scale_of(kind: &Kind, value: &Value) -> Result<Value, ApiError> {
    scale_made_of(kind, value, false)
}

/// The same, of an object that need not say how many replicas it wants where that is about to be `set`.
fn scale_made_of(kind: &Kind, value: &Value, set: bool) -> Result<Value, ApiError> {
    let mut metadata = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(found) = object::at(value, &["metadata", key]) {
            object::set(&mut metadata, &[], key, found.clone());
        }
    }
    let (replicas, present, selector) = match kind.scale_paths() {
        None => (
            object::int(value, &["spec", "replicas"]).unwrap_or(0),
            object::int(value, &["status", "replicas"]).unwrap_or(0),
            selector_of(value),
        ),
        Some(paths) => custom_scale(paths, value, set)?,
    };
    let mut spec = json!({});
    if replicas != 0 {
        object::set(&mut spec, &[], "replicas", replicas);
    }
    let mut status = json!({"replicas": present});
    if !selector.is_empty() {
        object::set(&mut status, &[], "selector", selector);
    }
    Ok(json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status}))
}

fn selector_of(value: &Value) -> String {
    match object::at(value, &["spec", "selector"]) {
        Some(selector) if selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some() => {
            table::selector_text(Some(selector))
        }
        // Of the oldest kinds a selector is a plain map of labels.
        Some(selector) if selector.as_object().is_some_and(|map| map.values().any(Value::is_string)) => {
            table::selector_text(Some(&json!({"matchLabels": selector})))
        }
        _ => String::new(),
    }
}

fn custom_scale(paths: &ScalePaths, value: &Value, set: bool) -> Result<(i64, i64, String), ApiError> {
    let replicas = value_at(value, &paths.spec_replicas).and_then(Value::as_i64);
    let Some(replicas) = replicas.or(set.then_some(UNSET)) else {
        let path = paths.spec_replicas.join(".");
        return Err(ApiError::internal(format!("the spec replicas field \".{path}\" does not exist")));
    };
    let present = value_at(value, &paths.status_replicas).and_then(Value::as_i64).unwrap_or(0);
    let selector = paths.selector.as_ref().and_then(|path| value_at(value, path)).and_then(Value::as_str);
    Ok((replicas, present, selector.unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_told_in_the_order_of_their_keys() {
        let of = |selector: Value| selector_of(&json!({"spec": {"selector": selector}}));
        assert_eq!(of(json!({"z": "1", "a-b": "3", "a": "2"})), "a=2,a-b=3,z=1");
        assert_eq!(of(json!({"matchLabels": {"z": "1", "a": "2"}})), "a=2,z=1");
        assert_eq!(of(json!({})), "");
    }

    #[test]
    fn a_custom_object_without_a_number_has_no_scale_until_one_is_set() {
        let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        let paths = ScalePaths {
            spec_replicas: path("spec.replicas"),
            status_replicas: path("status.replicas"),
            selector: None,
        };
        let bare = json!({"spec": {}, "status": {"replicas": 2}});
        let error = custom_scale(&paths, &bare, false).unwrap_err();
        assert_eq!(error.message, "Internal error occurred: the spec replicas field \".spec.replicas\" does not exist");
        assert_eq!(custom_scale(&paths, &bare, true).unwrap(), (UNSET, 2, String::new()));
    }
}
