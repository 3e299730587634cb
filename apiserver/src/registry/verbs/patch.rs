//! Patching an object or its status: JSON, merge, strategic merge, apply.

use std::sync::Arc;

use martello_api::status::ApiError;

use super::{
    answer,
    change::{Part, Plan, change},
};
use crate::{
    http::reply::Reply,
    registry::{call::Call, codec, kind::Kind},
    server::Core,
};

/// Serves a patch.
pub async fn patch(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call, part: Part) -> Result<Reply, ApiError> {
    let patch = codec::Patch::read(kind, call)?;
    let dry_run = call.dry_run("PatchOptions")?;
    let plan = Plan {
        part,
        dry_run,
        creates: part == Part::Main && patch.is_apply(),
        unconditional: false,
        transform: &|current| match current {
            Some(current) => patch.apply(kind, call, current, part.subresource()),
            None => patch.fresh(kind, call),
        },
    };
    let (written, created) = change(core, kind, call, &plan).await?;
    answer::stored(core, kind, call, if created { 201 } else { 200 }, written).await
}
