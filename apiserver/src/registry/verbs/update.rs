//! Replacing an object or its status.

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

/// Serves an update.
pub async fn update(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call, part: Part) -> Result<Reply, ApiError> {
    let body = codec::decode(kind, call, "UpdateOptions")?;
    let dry_run = call.dry_run("UpdateOptions")?;
    call.check_identity(&body)?;
    let plan = Plan {
        part,
        dry_run,
        creates: part == Part::Main && kind.creates_on_update(),
        unconditional: false,
        transform: &|_| Ok(body.clone()),
    };
    let (written, created) = change(core, kind, call, &plan).await?;
    answer::stored(core, kind, call, if created { 201 } else { 200 }, written).await
}
