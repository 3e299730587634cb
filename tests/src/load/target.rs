//! Whom the load is put on.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use http::Request;
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::json;

use super::kind::Kind;
use crate::{
    process,
    raw::{Answer, Connection, Endpoint, Http, whole},
};

/// Objects that are removed by one request.
const REMOVED_AT_ONCE: usize = 5000;

/// A server, who asks it, and the processes whose cost is counted.
#[derive(Clone, Debug)]
pub struct Target {
    /// What figures call it.
    pub name: String,
    /// The file that says where it is.
    pub kubeconfig: PathBuf,
    /// Where and as whom.
    pub endpoint: Endpoint,
    /// Others who may do as much, for more connections than a server lets one user have.
    pub others: Vec<Endpoint>,
    /// Who has the namespaces of a server that has none itself, because it serves custom kinds only.
    pub namespaces: Option<Endpoint>,
    /// What the server speaks with each worker.
    pub http: Http,
    /// The server's processes on this machine; empty where they are not known.
    pub pids: Vec<u32>,
    /// Begins the name of every namespace that is made.
    pub prefix: String,
}

impl Target {
    /// Processor time that each of the server's processes has used so far.
    #[must_use]
    pub fn cpu(&self) -> Vec<Duration> {
        self.pids.iter().map(|pid| process::cpu_time(&[*pid]).unwrap_or_default()).collect()
    }

    /// What the server's processes are called.
    #[must_use]
    pub fn process_names(&self) -> Vec<String> {
        self.pids.iter().map(|pid| process::name(*pid)).collect()
    }

    /// The most resident memory that each of the server's processes had, in bytes.
    #[must_use]
    pub fn peaks(&self) -> Vec<u64> {
        self.pids.iter().map(|pid| process::peak_bytes(&[*pid]).unwrap_or_default()).collect()
    }

    /// Resident memory of the server, in bytes.
    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        if self.pids.is_empty() { None } else { process::resident_bytes(&self.pids).ok() }
    }

    /// Forgets how much memory the server once had, so that [`Target::peaks`] tells of what comes now; answers whether
    /// the system lets us.
    #[must_use]
    pub fn forget_peak(&self) -> bool {
        !self.pids.is_empty() && process::forget_peak(&self.pids).is_ok()
    }

    /// A new, empty namespace.
    pub async fn namespace(&self, purpose: &str) -> Result<String> {
        // One that was removed may still be going when the next of its purpose is made.
        static MADE: AtomicU64 = AtomicU64::new(0);
        let name = format!("{}-{purpose}-{}", self.prefix, MADE.fetch_add(1, Ordering::Relaxed));
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).to_string();
        let answer = self.namespaces().ask("POST", "/api/v1/namespaces", body).await?;
        ensure!(answer.status == 201, "making the namespace {name} was answered with {}", answer.text());
        Ok(name)
    }

    /// Removes a namespace and what it holds, which is of this kind.
    pub async fn remove(&self, namespace: &str, kind: Kind) -> Result<()> {
        let (objects, own) = (kind.path(namespace), kind.own());
        loop {
            // In parts: a server may not have the time for all at once.
            let gone = self.endpoint.ask("DELETE", &format!("{objects}?limit={REMOVED_AT_ONCE}"), "").await?;
            ensure!(gone.status == 200, "emptying {namespace} was answered with {}", gone.text());
            let left = self.endpoint.ask("GET", &format!("{objects}?limit={}", own + 1), "").await?.json();
            if left.get("items").and_then(|items| items.as_array()).is_none_or(|items| items.len() <= own) {
                break;
            }
        }
        self.namespaces().ask("DELETE", &format!("/api/v1/namespaces/{namespace}"), "").await?;
        Ok(())
    }

    fn namespaces(&self) -> &Endpoint {
        self.namespaces.as_ref().unwrap_or(&self.endpoint)
    }

    /// A connection of one worker.
    pub async fn connect(&self) -> Result<Connection> {
        self.endpoint.connect(self.http).await
    }
}

/// Sends a request and reads its answer, which must have this status.
pub(super) async fn expect(connection: &mut Connection, request: Request<Full<Bytes>>, status: u16) -> Result<Answer> {
    let answer = whole(connection.send(request).await?).await.context("read an answer")?;
    ensure!(answer.status == status, "expected {status}, got {}: {}", answer.status, answer.text());
    Ok(answer)
}
