//! Whose fields were set: `metadata.managedFields` of what is written.

use martello_api::{
    managed_fields::{self, Convert, Ignored, Unconverted, Writer},
    resource::GroupVersionKind,
    schema::Schemas,
};
use serde_json::Value;

use super::{patches, schema_of, versions::Versions};
use crate::{
    registry::{call::Call, kind::Kind, object},
    server::Core,
};

/// Writes down whose fields were set.
pub async fn track(core: &Core, kind: &Kind, call: &Call, old: Option<&Value>, new: &mut Value, subresource: &str) {
    if call.content_type == patches::APPLY {
        return;
    }
    call.conversions.forget();
    loop {
        match track_once(kind, call, old, new, subresource) {
            Ok(()) => return,
            Err(Unconverted::Later) if call.conversions.settle(core, kind).await => {}
            Err(error) => {
                let (namespace, name) = (object::namespace(new), object::name(new));
                tracing::warn!(namespace, name, kind = kind.name(), "forgot who owns the fields of an object: {error}");
                return;
            }
        }
    }
}

fn track_once(
    kind: &Kind,
    call: &Call,
    old: Option<&Value>,
    new: &mut Value,
    subresource: &str,
) -> Result<(), Unconverted> {
    let (manager, version) = (call.manager(), kind.resource.gvk.api_version());
    let reset_fields = reset_fields(kind, subresource);
    let versions = Versions { kind, conversions: &call.conversions };
    let (now, versions) = (call.now, Some(&versions as &dyn Convert));
    let writer = Writer { manager: &manager, api_version: &version, subresource, reset_fields, now, versions };
    managed_fields::track_update(schema_of(kind), old, new, &writer)
}

/// Writes down whose fields were set in an object of another kind, which is answered and not kept: where that fails, it is
/// answered without, as by upstream.
pub fn track_foreign(
    call: &Call,
    (group, version, kind): &(&'static str, &'static str, &'static str),
    asked: &Value,
    answered: &mut Value,
    subresource: &str,
) {
    let gvk = GroupVersionKind::new(group, version, kind);
    let Some(schema) = Schemas::builtin().get(&gvk) else {
        return tracing::error!(kind, "there is no schema by which to say whose fields were set");
    };
    let (manager, version) = (call.manager(), gvk.api_version());
    let (reset_fields, now) = (Ignored::NOTHING, call.now);
    let writer = Writer { manager: &manager, api_version: &version, subresource, reset_fields, now, versions: None };
    let mut tracked = asked.clone();
    if let Err(error) = managed_fields::track_update(schema, None, &mut tracked, &writer) {
        return tracing::error!(%error, kind, "whose fields were set could not be found out");
    }
    if let Some(fields) = object::at(&tracked, &["metadata", "managedFields"]).cloned() {
        object::set(answered, &["metadata"], "managedFields", fields);
    }
}

/// What a write through this endpoint does not change, and so does not own.
pub(super) fn reset_fields(kind: &Kind, subresource: &str) -> Ignored<'static> {
    if let Some(written) = kind.written_fields(subresource) {
        return Ignored::AllBut(written);
    }
    if let Some(own) = kind.reset_fields(subresource) {
        return Ignored::Paths(own);
    }
    Ignored::Paths(match subresource {
        "" if kind.keeps_status() => &[&["status"]],
        "status" if kind.is_custom() || kind.status_keeps_metadata() => &[&["metadata"], &["spec"]],
        "status" => &[&["spec"]],
        _ => &[],
    })
}
