//! `pods/eviction`: a delete that asks the budgets first.

use std::sync::Arc;

use futures::future::BoxFuture;
use martello_api::status::ApiError;
use serde_json::{Value, json};

use crate::{
    http::reply::Reply,
    registry::{
        call::Call,
        codec,
        kind::{Connect, Kind},
        object,
        options::DeleteOptions,
        verbs::{answer, delete::delete_object},
    },
    server::Core,
};

/// The eviction subresource.
pub struct Evictions;

impl Connect for Evictions {
    fn serve<'a>(
        &'a self,
        core: &'a Arc<Core>,
        kind: &'a Arc<Kind>,
        call: Call,
    ) -> BoxFuture<'a, Result<Reply, ApiError>> {
        Box::pin(async move {
            let dry_run = call.dry_run("CreateOptions")?;
            let body = codec::Foreign::read(&call, "policy", "v1", "Eviction")?.apply(&Value::Null)?;
            let name = object::name(&body);
            if !name.is_empty() && name != call.name() {
                return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
            }
            let mut options = DeleteOptions::read(&call.query, body.get("deleteOptions"))?;
            options.dry_run |= dry_run;
            delete_object(core, kind, &call, call.namespace(), call.name(), &options).await?;
            let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
            Ok(answer::encoded(&call, 201, &done))
        })
    }
}
