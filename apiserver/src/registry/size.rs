//! How large an object may be: as large as upstream's store takes it.

use std::sync::Arc;

use martello_api::{schema::encode_protobuf, status::ApiError};
use serde_json::Value;

use super::{
    call::Call,
    codec,
    kind::Kind,
    object,
    storage::{Expected, WriteError},
};
use crate::{server::Core, store::Entry};

/// Largest object that is stored: what etcd takes of a request unless it is set to more.
pub const MAX_OBJECT_BYTES: usize = 1536 * 1024;

/// What upstream's store says of a larger one, which reaches clients as it is.
const TOO_LARGE: &str = "etcdserver: request is too large";

impl Core {
    /// Stores what a client made of an object, as long as it is not too large. Whose fields are whose is forgotten where that
    /// alone makes it too large, as upstream does, but for an apply, which is about nothing else.
    ///
    /// An object that was larger before may be made smaller, so that it can be mended. What deletes an object does not come
    /// this way: a mark that makes it a little larger must not keep it for ever.
    pub async fn put_fitting(
        &self,
        kind: &Kind,
        call: &Call,
        new: &mut Value,
        old: Option<&Entry>,
    ) -> Result<Arc<Entry>, WriteError> {
        let before = old.map_or(0, |old| old.bytes().len());
        let expected = old.map_or(Expected::Absent, |old| Expected::Revision(old.revision));
        let mut packed = self.packed(kind, new).await?;
        if packed.1.body.len() > before && !fits(new, packed.1.body.len()) {
            if codec::is_apply(call) || object::remove(new, &["metadata"], "managedFields").is_none() {
                return Err(too_large().into());
            }
            packed = self.packed(kind, new).await?;
            if !fits(new, packed.1.body.len()) {
                return Err(too_large().into());
            }
        }
        self.put_packed(packed, expected).await
    }
}

/// Whether upstream would store the object, of which there is JSON of this length. It stores custom objects as JSON, and the
/// others in protobuf, which is as short at least, but for a hundredth at most: a look at JSON is enough for nearly all.
fn fits(object: &Value, json_bytes: usize) -> bool {
    json_bytes <= MAX_OBJECT_BYTES || encode_protobuf(object).is_some_and(|protobuf| protobuf.len() <= MAX_OBJECT_BYTES)
}

fn too_large() -> ApiError {
    ApiError::new(500, "", TOO_LARGE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fits(object: &Value) -> bool {
        super::fits(object, object.to_string().len())
    }

    #[test]
    fn a_custom_object_is_measured_as_json_and_others_in_protobuf() {
        let custom =
            |text: String| json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {}, "text": text});
        let map =
            |text: String| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {"text": text}});
        let (escaped, plain) = ("\n".repeat(1_000_000), "x".repeat(MAX_OBJECT_BYTES));
        assert!(fits(&map(escaped.clone())), "protobuf escapes nothing");
        assert!(!fits(&custom(escaped)));
        assert!(!fits(&map(plain.clone())) && !fits(&custom(plain)));
    }
}
