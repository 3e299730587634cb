//! Kinds whose objects are not stored: made anew for whoever asks.

use martello_api::status::ApiError;
use serde_json::{Value, json};

use super::answer;
use crate::{
    http::{negotiate::Form, reply::Reply},
    registry::{call::Call, kind::Kind, object, table},
};

/// Answers a get or a list with these objects.
pub fn serve(kind: &Kind, call: &Call, mut objects: Vec<Value>) -> Result<Reply, ApiError> {
    if call.verb == "get" {
        let found = objects.into_iter().find(|one| object::name(one) == call.name());
        let found = found.ok_or_else(|| ApiError::new(500, "", format!("Component not found: {}", call.name())))?;
        return answer::value(kind, call, 200, found);
    }
    if !call.name().is_empty() {
        objects.retain(|one| object::name(one) == call.name());
    }
    let list = match &call.accepted.form {
        Form::Table(version) => {
            return answer::told(call, 200, table::of_list(kind, call, version, &json!({}), &objects)?);
        }
        Form::MetadataList(version) => {
            let items: Vec<Value> = objects.iter().map(|one| answer::metadata_only(version, one)).collect();
            json!({
                "kind": "PartialObjectMetadataList", "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": {}, "items": items,
            })
        }
        Form::Metadata(_) => {
            let why = "you requested PartialObjectMetadata, but the requested object is a list";
            return Err(answer::not_acceptable(&format!("{why} ({}List)", kind.go_type())));
        }
        Form::Objects => {
            for one in &mut objects {
                object::remove(one, &[], "kind");
                object::remove(one, &[], "apiVersion");
            }
            json!({
                "kind": kind.list_kind(), "apiVersion": kind.resource.gvk.api_version(),
                "metadata": {}, "items": objects,
            })
        }
    };
    Ok(answer::encoded(call, 200, &list))
}
