//! Deleting what a selector finds.

use std::sync::Arc;

use martello_api::status::ApiError;
use serde_json::json;

use super::{
    answer,
    delete::delete_object,
    list::{list_metadata, select},
};
use crate::{
    http::reply::Reply,
    registry::{
        call::Call,
        codec,
        kind::Kind,
        object,
        options::{DeleteOptions, ListOptions},
        select::Selection,
    },
    server::Core,
};

/// Serves a deletecollection; answers the list of what was deleted, as it was before.
pub async fn delete_collection(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call) -> Result<Reply, ApiError> {
    let body = codec::decode_options(call, "DeleteOptions")?;
    let options = DeleteOptions::read(&call.query, body.as_ref())?;
    let list_options = ListOptions::read(&call.query, false)?;
    let selection = Selection::read(kind, &call.query)?;
    let selected = select(core, kind, call.namespace(), &selection, &list_options).await?;
    let mut items = Vec::with_capacity(selected.items.len());
    for entry in &selected.items {
        let mut value = core.value(kind, entry).await?;
        match delete_object(core, kind, call, entry.key.namespace(), entry.key.name(), &options).await {
            Ok(_) => {}
            Err(error) if error.code == 404 => {}
            Err(error) => return Err(error),
        }
        if !kind.is_custom() {
            object::remove(&mut value, &[], "kind");
            object::remove(&mut value, &[], "apiVersion");
        }
        items.push(value);
    }
    let list = json!({
        "kind": kind.list_kind(),
        "apiVersion": kind.resource.gvk.api_version(),
        "metadata": list_metadata(kind, &selected),
        "items": items,
    });
    Ok(answer::encoded(call, 200, &list))
}
