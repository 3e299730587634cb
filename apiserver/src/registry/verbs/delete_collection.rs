//! Deleting what a selector finds.

use std::sync::Arc;

use martello_api::status::ApiError;

use super::{
    answer,
    delete::delete_object,
    list::{select, shaped},
};
use crate::{
    http::reply::Reply,
    registry::{
        call::Call,
        codec,
        kind::Kind,
        options::{DeleteOptions, Match},
        select::Selection,
    },
    server::Core,
};

/// Serves a deletecollection; answers the list of what was deleted, as it was before.
pub async fn delete_collection(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call) -> Result<Reply, ApiError> {
    let (mut list_options, selection) = Selection::listed(kind, &call.query, false)?;
    // Upstream reads in pages even where no limit is asked for, and of pages a version is exactly the one that is meant.
    if let Match::NotOlderThan(revision) = list_options.version
        && call.query.get("resourceVersionMatch").is_empty()
    {
        list_options.version = Match::Exact(revision);
    }
    let body = codec::decode_delete_options(call)?;
    let options = DeleteOptions::read(&call.query, body.as_ref())?;
    let selected = select(core, kind, call.namespace(), &selection, &list_options).await?;
    let mut items = Vec::with_capacity(selected.items.len());
    for entry in &selected.items {
        let value = core.value(kind, entry).await?;
        match delete_object(core, kind, call, entry.key.namespace(), entry.key.name(), &options).await {
            Ok(_) => {}
            Err(error) if error.code == 404 => {}
            Err(error) => return Err(error),
        }
        items.push(value);
    }
    answer::told(call, 200, shaped(kind, call, &selected, items)?)
}
