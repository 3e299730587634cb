//! The node's lease: a small object whose renewal says that the node lives.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
};
use kube::api::{Api, PostParams};
use martello_api::clock;
use tokio_util::sync::CancellationToken;

/// Where the leases of nodes live.
pub const NAMESPACE: &str = "kube-node-lease";
/// How often it's renewed, as upstream.
const RENEW: Duration = Duration::from_secs(10);
/// After a failed renewal, it's tried again after this.
const AGAIN: Duration = Duration::from_secs(2);
/// How long it counts, as upstream.
const COUNTS_SECONDS: i32 = 40;

/// Renews the lease of `node` until told to stop.
pub async fn keep(client: kube::Client, node: String, uid: Option<String>, shutdown: CancellationToken) {
    let api: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let mut known: Option<Lease> = None;
    loop {
        let pause = match renew(&api, &node, uid.as_deref(), known.take()).await {
            Ok(lease) => {
                known = Some(lease);
                RENEW
            }
            Err(error) => {
                tracing::warn!(node, %error, "the node's lease was not renewed");
                AGAIN
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn renew(api: &Api<Lease>, node: &str, uid: Option<&str>, known: Option<Lease>) -> Result<Lease, kube::Error> {
    let known = match known {
        Some(known) => Some(known),
        None => api.get_opt(node).await?,
    };
    let lease = lease(node, uid, known.as_ref(), clock::now());
    match known {
        Some(_) => api.replace(node, &PostParams::default(), &lease).await,
        None => api.create(&PostParams::default(), &lease).await,
    }
}

fn lease(node: &str, uid: Option<&str>, known: Option<&Lease>, now: Timestamp) -> Lease {
    let owner = uid.map(|uid| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    });
    let fresh = ObjectMeta {
        name: Some(node.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        owner_references: owner.map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    Lease {
        metadata: known.map_or(fresh, |known| known.metadata.clone()),
        spec: Some(LeaseSpec {
            holder_identity: Some(node.to_owned()),
            lease_duration_seconds: Some(COUNTS_SECONDS),
            renew_time: Some(MicroTime(now)),
            ..known.and_then(|known| known.spec.clone()).unwrap_or_default()
        }),
    }
}
