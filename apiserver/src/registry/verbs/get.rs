//! Reading one object.

use std::sync::Arc;

use martello_api::status::ApiError;

use super::answer;
use crate::{
    http::reply::Reply,
    registry::{call::Call, kind::Kind, options::parse_revision, storage::store_failure},
    server::Core,
    store::StoreError,
};

/// Serves a get.
pub async fn get(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call) -> Result<Reply, ApiError> {
    let wanted =
        parse_revision(call.query.get("resourceVersion")).map_err(|why| ApiError::new(500, "", why))?.unwrap_or(0);
    if wanted > 0 {
        let current = core.store.progress().await.map_err(|error| store_failure(&error))?;
        if wanted > current {
            return Err(store_failure(&StoreError::Future { wanted, current }));
        }
    }
    let entry = core.get(kind, call.namespace(), call.name()).await?;
    answer::one(core, kind, call, 200, &entry).await
}
