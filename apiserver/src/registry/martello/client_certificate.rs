//! ClientCertificates: a short-lived certificate and key for a user, made on demand and kept nowhere.

use std::{net::IpAddr, sync::Arc};

use jiff::SignedDuration;
use martello_api::{
    clock::rfc3339_seconds,
    resource::Resource,
    status::{ApiError, Cause},
};
use martello_pki::profile::LONGEST_LEAF;
use serde_json::{Value, json};

use crate::{
    registry::{call::Call, kind::resource, object, reviews::Review},
    server::Core,
};

/// ClientCertificates.
pub struct ClientCertificates;

/// Where this server is reached.
pub(super) fn server_url(core: &Core) -> String {
    let (address, port) = core.advertise;
    match address {
        IpAddr::V4(ip) => format!("https://{ip}:{port}"),
        IpAddr::V6(ip) => format!("https://[{ip}]:{port}"),
    }
}

impl Review for ClientCertificates {
    fn resource(&self) -> Resource {
        resource("martello.dev", "v1alpha1", "ClientCertificate", "clientcertificates")
            .cluster_scoped()
            .verbs(&["create"])
            .build()
    }

    async fn review(&self, core: &Arc<Core>, call: &Call, mut review: Value) -> Result<Value, ApiError> {
        let invalid = |cause| ApiError::invalid("martello.dev", "ClientCertificate", "", vec![cause]);
        let user = object::text(&review, &["spec", "user"]).to_owned();
        let groups: Vec<&str> = object::list(&review, &["spec", "groups"]).iter().filter_map(Value::as_str).collect();
        let seconds = object::int(&review, &["spec", "ttlSeconds"]);
        if seconds.is_some_and(|seconds| seconds <= 0) {
            return Err(invalid(Cause::invalid("spec.ttlSeconds", &json!(seconds), "must be greater than 0")));
        }
        let most = LONGEST_LEAF.as_secs();
        if seconds.is_some_and(|seconds| seconds > most) {
            let why = format!("must be at most {most}: a certificate can't be revoked, so it must not live longer");
            return Err(invalid(Cause::invalid("spec.ttlSeconds", &json!(seconds), &why)));
        }
        let lifetime = seconds.map(SignedDuration::from_secs);
        let leaf = core.pki.user_certificate(&user, &groups, lifetime, call.now);
        let leaf = leaf.map_err(|error| invalid(Cause::invalid("spec", &json!(user), &error.to_string())))?;
        let status = json!({
            "certificate": leaf.chain_pem(),
            "key": String::from_utf8_lossy(leaf.key_pem().expose()),
            "certificateAuthority": core.pki.server_ca_pem(),
            "server": server_url(core),
            "expirationTimestamp": rfc3339_seconds(leaf.not_after),
        });
        object::set(&mut review, &[], "status", status);
        Ok(review)
    }
}
