//! ServerStatuses: how this server is, for its operator: what runs, what is kept, until when its identities hold.

use std::sync::Arc;

use martello_api::{clock::rfc3339_seconds, resource::Resource, status::ApiError};
use martello_pki::{authority::AuthorityKind, verify::expires};
use serde_json::{Value, json};

use super::client_certificate::server_url;
use crate::{
    registry::{call::Call, kind::resource, object, reviews::Review},
    server::Core,
};

/// ServerStatuses.
pub struct ServerStatuses;

impl Review for ServerStatuses {
    fn resource(&self) -> Resource {
        resource("martello.dev", "v1alpha1", "ServerStatus", "serverstatuses")
            .cluster_scoped()
            .verbs(&["create"])
            .build()
    }

    async fn review(&self, core: &Arc<Core>, _: &Call, mut review: Value) -> Result<Value, ApiError> {
        let store = core.store.status();
        let head = core.audit.head();
        let status = json!({
            "version": core.product_version,
            "kubernetesVersion": crate::http::routes::KUBERNETES_VERSION,
            "address": server_url(core),
            "ready": core.ready.load(std::sync::atomic::Ordering::Acquire),
            "certificates": certificates(core),
            "weakerSettings": core.weaker_settings,
            "store": {
                "revision": store.revision,
                "oldestRevision": store.compacted,
                "objects": store.objects,
                "sizeBytes": store.size_bytes,
                "logBytes": store.log_bytes,
                "members": store.members.iter().map(|(_, address)| address).collect::<Vec<_>>(),
                "failure": store.failure,
            },
            "audit": {"records": head.number, "hash": hex(&head.hash), "failure": core.audit.health().err()},
        });
        object::set(&mut review, &[], "status", status);
        Ok(review)
    }
}

/// The authorities, every generation that is trusted, and this server's own certificate.
fn certificates(core: &Core) -> Vec<Value> {
    let shown = |name: &str, expires: Option<jiff::Timestamp>, fingerprint: Option<String>| json!({"name": name, "expires": expires.map(rfc3339_seconds), "fingerprint": fingerprint});
    let bundles = core.pki.trust().load();
    let mut all = Vec::new();
    for kind in [AuthorityKind::Servers, AuthorityKind::Clients, AuthorityKind::Nodes] {
        let bundle = bundles.of(kind);
        for (certificate, fingerprint) in bundle.certificates().iter().zip(bundle.fingerprints()) {
            let until = expires(std::slice::from_ref(certificate));
            all.push(shown(&format!("authority for {}", kind.name()), until, Some(fingerprint.to_string())));
        }
    }
    if let Some(identity) = &core.identity {
        all.push(shown("this server", expires(identity.load().chain()), None));
    }
    all
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing into memory does not fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}
