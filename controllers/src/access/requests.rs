//! Certificate requests that nobody needs any more: they go some time after they were decided, or if nobody decides.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Preconditions},
};
use martello_api::clock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::runtime::{Attempt, Chain, RequestError};

/// How often they are looked at, as upstream.
const PERIOD: Duration = Duration::from_secs(3600);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(30);
/// How long a decided request stays, in seconds.
const DECIDED: i64 = 3600;
/// How long an undecided request stays, in seconds.
const PENDING: i64 = 24 * 3600;

pub(crate) fn spawn(client: &Client, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let (api, stop): (Api<CertificateSigningRequest>, _) = (Api::all(client.clone()), shutdown.clone());
    tasks.spawn(async move {
        let mut pause = RETRY;
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            pause = match clean(&api).await {
                Ok(()) => PERIOD,
                Err(error) => {
                    tracing::warn!(controller = "csr-cleaner", error = %Chain(&error), "failed, will try again");
                    RETRY
                }
            };
        }
    });
}

async fn clean(api: &Api<CertificateSigningRequest>) -> Result<(), RequestError> {
    let all = api.list(&ListParams::default()).await.attempt(|| "list certificate requests".to_owned())?;
    let now = clock::now();
    let mut failed = None;
    for request in all.items.iter().filter(|request| is_past(request, now)) {
        let (name, uid) = (request.name_any(), request.uid());
        let preconditions = Some(Preconditions { uid, ..Preconditions::default() });
        let deleted = api.delete(&name, &DeleteParams { preconditions, ..DeleteParams::default() }).await;
        // One that stays keeps no other.
        failed = failed.or(deleted.attempt_unless_gone(|| format!("delete the certificate request {name}")).err());
    }
    failed.map_or(Ok(()), Err)
}

/// Whether the time of a request is over: an approved one counts from when it was approved, once it is issued.
fn is_past(request: &CertificateSigningRequest, now: Timestamp) -> bool {
    let is_older = |since: Option<Timestamp>, seconds: i64| {
        since.is_some_and(|since| now.duration_since(since) > jiff::SignedDuration::from_secs(seconds))
    };
    let status = request.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    if conditions.is_empty() {
        return is_older(request.metadata.creation_timestamp.as_ref().map(|time| time.0), PENDING);
    }
    let is_issued = status.and_then(|status| status.certificate.as_ref()).is_some_and(|issued| !issued.0.is_empty());
    conditions.iter().any(|condition| {
        let counts = match condition.type_.as_str() {
            "Approved" => is_issued,
            "Denied" | "Failed" => true,
            _ => false,
        };
        counts && is_older(condition.last_update_time.as_ref().map(|time| time.0), DECIDED)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn requests_go_when_their_time_is_over() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let past = |age: i64, kind: &str, certificate: &str| {
            let since = clock::rfc3339_seconds(Timestamp::from_second(1_000_000 - age).unwrap());
            let conditions: Vec<Value> = match kind {
                "" => Vec::new(),
                kind => vec![json!({"type": kind, "status": "True", "lastUpdateTime": since})],
            };
            let spec = json!({"request": "", "signerName": "example.com/s"});
            let mut status = json!({"conditions": conditions});
            if !certificate.is_empty() {
                status["certificate"] = json!(certificate);
            }
            let request =
                json!({"metadata": {"name": "r", "creationTimestamp": since}, "spec": spec, "status": status});
            is_past(&serde_json::from_value(request).unwrap(), now)
        };
        assert!(past(3601, "Denied", "") && past(3601, "Failed", "") && past(3601, "Approved", "QQ=="));
        assert!(!past(3599, "Denied", "") && !past(3601, "Approved", "") && !past(3601, "", ""));
        assert!(past(24 * 3600 + 1, "", ""));
    }
}
