//! Reading one object.

use std::sync::Arc;

use martello_api::status::ApiError;

use super::answer;
use crate::{
    http::reply::Reply,
    registry::{call::Call, kind::Kind, options::parse_revision},
    server::Core,
};

/// Serves a get.
pub async fn get(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call) -> Result<Reply, ApiError> {
    parse_revision(call.query.get("resourceVersion")).map_err(|why| ApiError::new(500, "", why))?;
    let entry = core.get(kind, call.namespace(), call.name()).await?;
    answer::one(core, kind, call, 200, &entry).await
}
