//! Creating an object.

use std::sync::Arc;

use martello_api::status::ApiError;
use serde_json::Value;

use super::answer;
use crate::{
    admission::{self, Operation, quota},
    http::reply::Reply,
    registry::{
        call::Call,
        codec,
        kind::{Change, Kind},
        meta, object,
        storage::{Expected, WriteError},
        validation,
    },
    server::{Core, audit::OBJECT_NAME},
};

/// Serves a create.
pub async fn create(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call) -> Result<Reply, ApiError> {
    let dry_run = call.dry_run("CreateOptions")?;
    let object = codec::decode(kind, call, "CreateOptions")?;
    let entry = create_object(core, kind, call, object, dry_run).await?;
    answer::stored(core, kind, call, 201, entry).await
}

/// Creates what was decoded: the way of every new object, whatever verb brought it.
pub async fn create_object(
    core: &Arc<Core>,
    kind: &Arc<Kind>,
    call: &Call,
    mut object: Value,
    dry_run: bool,
) -> Result<answer::Written, ApiError> {
    meta::fit_namespace(kind, call, &mut object)?;
    if object::name(&object).is_empty() && !object::text(&object, &["metadata", "generateName"]).is_empty() {
        let name = meta::generate_name(object::text(&object, &["metadata", "generateName"]));
        object::set(&mut object, &["metadata"], "name", name);
    }
    call.note(vec![(OBJECT_NAME, object::name(&object).to_owned())]);
    meta::drop_system_fields(&mut object);
    codec::track(kind, call, None, &mut object, "");
    meta::dedup_owners(call, &mut object);
    admission::mutate(core, kind, call, Operation::Create, &mut object, None).await?;
    meta::prepare_create(kind, &mut object, call.now)?;
    kind.prepare_create(&mut object, call.now);
    let mut causes = Vec::new();
    validation::metadata::create(kind, &object, &mut causes);
    kind.validate(&object, &mut causes);
    kind.validate_create(&object, &mut causes);
    if !causes.is_empty() {
        return Err(kind.invalid(object::name(&object), causes));
    }
    kind.warnings(&object, None).into_iter().for_each(|warning| call.warn(warning));
    admission::validate(core, kind, call, Operation::Create, Some(&object), None).await?;
    let _charged = quota::charge(core, kind, call, Operation::Create, (&object, None), dry_run).await?;
    kind.before_commit(core, call, Change { object: &mut object, old: None, dry_run }).await?;
    codec::normalize(kind, &mut object);
    if dry_run {
        if core.find(kind, object::namespace(&object), object::name(&object)).await?.is_some() {
            return Err(ApiError::already_exists(kind.group(), &kind.resource.plural, object::name(&object)));
        }
        return Ok(answer::Written::Only(object));
    }
    match core.put(kind, &object, Expected::Absent).await {
        Ok(entry) => {
            kind.after_commit(core, Some(&object), None);
            Ok(answer::Written::Stored(entry, object))
        }
        Err(WriteError::Conflict(_)) => {
            kind.abandon(core, &object, None);
            core.quotas.touch(call.namespace());
            Err(ApiError::already_exists(kind.group(), &kind.resource.plural, object::name(&object)))
        }
        Err(WriteError::Failed(error)) => {
            kind.abandon(core, &object, None);
            core.quotas.touch(call.namespace());
            Err(error)
        }
    }
}
