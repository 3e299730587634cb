//! Whom the load is put on.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Request;
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::json;

use crate::{
    process,
    raw::{Answer, Connection, Endpoint, Http, whole},
};

/// Bytes of one ConfigMap as it is sent.
const CONFIG_MAP_BYTES: usize = 1024;

/// Objects that are removed by one request.
const REMOVED_AT_ONCE: usize = 5000;
/// ConfigMaps that the cluster itself keeps in every namespace, and makes anew.
const OWN: usize = 1;

/// A server, who asks it, and the processes whose cost is counted.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where and as whom.
    pub endpoint: Endpoint,
    /// What the server speaks with each worker.
    pub http: Http,
    /// The server's processes on this machine; empty where they are not known.
    pub pids: Vec<u32>,
    /// Begins the name of every namespace that is made.
    pub prefix: String,
}

impl Target {
    /// Processor time that the server has used so far.
    #[must_use]
    pub fn cpu(&self) -> Option<Duration> {
        if self.pids.is_empty() { None } else { process::cpu_time(&self.pids).ok() }
    }

    /// Processor time since an earlier look.
    #[must_use]
    pub fn cpu_since(&self, before: Option<Duration>) -> Option<Duration> {
        Some(self.cpu()?.saturating_sub(before?))
    }

    /// Resident memory of the server, in bytes.
    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        if self.pids.is_empty() { None } else { process::resident_bytes(&self.pids).ok() }
    }

    /// Forgets how much memory the server once had, so that [`Target::peak`] tells of what comes now; answers whether
    /// the system lets us.
    #[must_use]
    pub fn forget_peak(&self) -> bool {
        !self.pids.is_empty() && process::forget_peak(&self.pids).is_ok()
    }

    /// The most resident memory that the server had, in bytes.
    #[must_use]
    pub fn peak(&self) -> Option<u64> {
        if self.pids.is_empty() { None } else { process::peak_bytes(&self.pids).ok() }
    }

    /// A new, empty namespace.
    pub async fn namespace(&self, purpose: &str) -> Result<String> {
        let name = format!("{}-{purpose}", self.prefix);
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).to_string();
        let answer = self.endpoint.ask("POST", "/api/v1/namespaces", body).await?;
        ensure!(answer.status == 201, "making the namespace {name} was answered with {}", answer.text());
        Ok(name)
    }

    /// Removes a namespace and what it holds.
    pub async fn remove(&self, namespace: &str) -> Result<()> {
        let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
        loop {
            // In parts: a server may not have the time for all at once.
            let gone = self.endpoint.ask("DELETE", &format!("{maps}?limit={REMOVED_AT_ONCE}"), "").await?;
            ensure!(gone.status == 200, "emptying {namespace} was answered with {}", gone.text());
            let left = self.endpoint.ask("GET", &format!("{maps}?limit={}", OWN + 1), "").await?.json();
            if left.get("items").and_then(|items| items.as_array()).is_none_or(|items| items.len() <= OWN) {
                break;
            }
        }
        self.endpoint.ask("DELETE", &format!("/api/v1/namespaces/{namespace}"), "").await?;
        Ok(())
    }

    /// A connection of one worker.
    pub async fn connect(&self) -> Result<Connection> {
        self.endpoint.connect(self.http).await
    }
}

/// A ConfigMap of 1 KiB.
#[must_use]
pub(super) fn config_map(name: &str, round: u64) -> Bytes {
    let with = |text: &str| {
        let data = json!({"round": round.to_string(), "text": text});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}).to_string()
    };
    let missing = CONFIG_MAP_BYTES.saturating_sub(with("").len());
    Bytes::from(with(&"x".repeat(missing)))
}

/// Sends a request and reads its answer, which must have this status.
pub(super) async fn expect(connection: &mut Connection, request: Request<Full<Bytes>>, status: u16) -> Result<Answer> {
    let answer = whole(connection.send(request).await?).await.context("read an answer")?;
    ensure!(answer.status == status, "expected {status}, got {}: {}", answer.status, answer.text());
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_map_is_one_kibibyte() {
        for (name, round) in [("a", 0), ("worker-12-12345", 999)] {
            assert_eq!(config_map(name, round).len(), CONFIG_MAP_BYTES);
        }
    }
}
