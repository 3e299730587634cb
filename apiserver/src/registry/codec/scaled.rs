//! Who owns the number of replicas, where it is written through a scale.

use martello_api::{
    managed_fields::{self, Applied, Ignored, ReplicasIn, SCALE_VERSION, Writer, owners_after_scale, owners_of_scale},
    resource::GroupVersionKind,
    schema::{Schema, Schemas},
    status::ApiError,
};
use serde_json::Value;

use crate::registry::{call::Call, kind::Kind, martello::open_schema, object};

/// What upstream says of a scale of a custom object that it can't apply, where nobody owns the number yet.
const UNAPPLIED_FIRST: &str = "failed to create manager for existing fields: failed to convert live object (/; autoscaling/v1, Kind=Scale) to proper version: request to convert CR to an invalid group/version: autoscaling/v1";

/// Gives the scale of `current` its owners, so that a write of it can be told from them.
pub fn own_scale(kind: &Kind, current: &Value, scale: &mut Value) {
    let owners = owners_of_scale(current, &|version: &str| replicas_in(kind, version));
    set_owners(scale, owners);
}

/// Carries to `new` what a write of `scale`, as [`own_scale`] left it, makes of the owners of the number of `current`.
pub fn track_scale(kind: &Kind, call: &Call, (current, new): (&Value, &mut Value), scale: &Value, replicas: i64) {
    let mut written = scale.clone();
    match replicas {
        // A scale does not tell a zero from no number.
        0 => {
            object::remove(&mut written, &["spec"], "replicas");
        }
        _ => object::set(&mut written, &["spec"], "replicas", replicas),
    }
    let manager = call.manager();
    if let Err(error) = managed_fields::track_update(schema(), Some(scale), &mut written, &writer(call, &manager)) {
        tracing::error!(%error, "whose number of a scale was set could not be found out");
    }
    carry(kind, (current, new), &written);
}

/// The scale that an applied one makes of `scale`, as [`own_scale`] left it, with its owners.
pub fn apply_scale(call: &Call, scale: &Value, config: &Value) -> Result<Value, ApiError> {
    applied(call, scale, config).map(|applied| applied.value)
}

/// The scale of a custom object with the owners that an applied one leaves it. Upstream looks for conflicts, tells who owns
/// a number that stays as it is, and fails to make an object of anything that would change.
pub(super) fn own_by_apply(call: &Call, scale: &Value, config: &Value) -> Result<Value, ApiError> {
    if object::at(scale, &["metadata", "managedFields"]).is_none() {
        return Err(ApiError::new(500, "", UNAPPLIED_FIRST));
    }
    let applied = applied(call, scale, config)?;
    if applied.unchanged {
        return Ok(applied.value);
    }
    let (namespace, name) = (object::namespace(config), object::name(config));
    let why = format!(
        "failed to convert new object ({namespace}/{name}; {SCALE_VERSION}, Kind=Scale) to proper version: request to convert CR to an invalid group/version: {SCALE_VERSION}"
    );
    Err(ApiError::new(500, "", why))
}

fn applied(call: &Call, scale: &Value, config: &Value) -> Result<Applied, ApiError> {
    let (manager, force) = (call.manager(), call.query.flag("force").unwrap_or(false));
    let applied = managed_fields::apply(schema(), Some(scale), config, &writer(call, &manager), force);
    applied.map_err(|error| error.to_api_error())
}

/// Carries the owners of the number in a written scale to `new`, which was `current`.
pub fn carry(kind: &Kind, (current, new): (&Value, &mut Value), scale: &Value) {
    let version = kind.resource.gvk.api_version();
    let own: ReplicasIn<'_> = &|version: &str| replicas_in(kind, version);
    set_owners(new, owners_after_scale(current, scale, &version, own));
}

fn set_owners(object: &mut Value, owners: Vec<Value>) {
    match owners.is_empty() {
        true => {
            object::remove(object, &["metadata"], "managedFields");
        }
        false => object::set(object, &["metadata"], "managedFields", owners),
    }
}

fn replicas_in(kind: &Kind, api_version: &str) -> Option<Vec<String>> {
    if kind.is_custom() {
        return kind.replicas_in(api_version);
    }
    Some(["spec", "replicas"].map(str::to_owned).to_vec())
}

fn writer<'a>(call: &Call, manager: &'a str) -> Writer<'a> {
    let (reset_fields, now) = (Ignored::NOTHING, call.now);
    Writer { manager, api_version: SCALE_VERSION, subresource: "scale", reset_fields, now, versions: None }
}

fn schema() -> &'static Schema {
    let scale = GroupVersionKind::new("autoscaling", "v1", "Scale");
    Schemas::builtin().get(&scale).unwrap_or_else(|| open_schema())
}
