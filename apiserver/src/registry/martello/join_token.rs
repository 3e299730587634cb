//! JoinTokens: tokens by which machines become nodes. The secret part is told once.

use std::sync::Arc;

use jiff::SignedDuration;
use martello_api::{
    resource::Resource,
    status::{ApiError, Cause},
};
use martello_pki::join::JoinTokenSpec;
use serde_json::{Value, json};

use super::client_certificate::server_url;
use crate::{
    registry::{call::Call, kind::resource, object, reviews::Review},
    server::Core,
};

/// JoinTokens.
pub struct JoinTokens;

impl Review for JoinTokens {
    fn resource(&self) -> Resource {
        resource("martello.dev", "v1alpha1", "JoinToken", "jointokens").cluster_scoped().verbs(&["create"]).build()
    }

    async fn review(&self, core: &Arc<Core>, call: &Call, mut review: Value) -> Result<Value, ApiError> {
        let invalid = |cause| ApiError::invalid("martello.dev", "JoinToken", "", vec![cause]);
        let mut spec = JoinTokenSpec::default();
        if let Some(seconds) = object::int(&review, &["spec", "ttlSeconds"]) {
            spec.lifetime = SignedDuration::from_secs(seconds);
        }
        if let Some(uses) = object::int(&review, &["spec", "uses"]) {
            let uses = u32::try_from(uses).ok().filter(|uses| *uses > 0);
            let uses =
                uses.ok_or_else(|| invalid(Cause::invalid("spec.uses", &json!(uses), "must be greater than 0")))?;
            spec.uses = Some(uses);
        }
        spec.node = Some(object::text(&review, &["spec", "node"]).to_owned()).filter(|node| !node.is_empty());
        spec.description = object::text(&review, &["spec", "description"]).to_owned();
        let token = core.pki.join_tokens().create(spec, call.now);
        let token = token.map_err(|error| invalid(Cause::forbidden("spec", &error.to_string())))?;
        let fingerprint = core.pki.trust().load().servers.fingerprints().first().map(ToString::to_string);
        let status = json!({
            "token": token.expose(),
            "server": server_url(core),
            "caFingerprint": fingerprint.unwrap_or_default(),
        });
        object::set(&mut review, &[], "status", status);
        Ok(review)
    }
}
