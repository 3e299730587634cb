//! Reading one object.

use std::sync::Arc;

use martello_api::status::ApiError;

use super::answer;
use crate::{
    http::reply::Reply,
    registry::{call::Call, kind::Kind, options::parse_revision, storage::store_failure},
    server::Core,
    store::{ListAt, Page, Scope},
};

/// Serves a get.
pub async fn get(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call) -> Result<Reply, ApiError> {
    let wanted =
        parse_revision(call.query.get("resourceVersion")).map_err(|why| ApiError::new(500, "", why))?.unwrap_or(0);
    if wanted > 0 {
        // Waits for it as a list does, whether or not the object is there.
        let scope = Scope::object(&kind.key(call.namespace(), call.name()));
        let page = Page { limit: Some(1), after: None };
        let listed = core.store.list(&scope, ListAt::NotOlderThan(wanted), page).await;
        listed.map_err(|error| store_failure(&error))?;
    }
    let entry = core.get(kind, call.namespace(), call.name()).await?;
    answer::one(core, kind, call, 200, &entry).await
}
