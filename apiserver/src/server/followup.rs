//! Work that follows a write: what the server alone can do, because it takes a signature. Each piece is done by a client of
//! this server, through the same door as everything else, and is looked for again at every start.

use std::sync::Arc;

use kube::Client;
use martello_api::{
    identity::{API_SERVER, GROUP_MASTERS, User},
    status::ApiError,
};
use serde_json::Value;

use super::{Core, inprocess::InProcess};

impl Core {
    /// A client of this server in this process, as the server itself.
    #[must_use]
    pub fn own_client(self: &Arc<Self>) -> Client {
        let user = User::authenticated(API_SERVER, [GROUP_MASTERS]);
        Client::new(InProcess::new(Arc::clone(self), user), "default")
    }
}

/// Does `work` beside the request that led to it; a failure is logged, and the next start tries again.
pub fn spawn(what: &'static str, name: &str, work: impl Future<Output = Result<(), ApiError>> + Send + 'static) {
    let name = name.to_owned();
    tokio::spawn(async move {
        match work.await {
            Ok(()) => {}
            // Somebody else did it, or changed their mind.
            Err(error) if matches!(error.code, 404 | 409) => tracing::debug!(what, name, %error, "nothing left to do"),
            Err(error) => tracing::warn!(what, name, %error, "a write was not followed up"),
        }
    });
}

/// Sends a merge patch.
pub async fn patch(client: &Client, path: &str, body: &Value) -> Result<(), ApiError> {
    send(client, "PATCH", path, MERGE_PATCH, body).await
}

/// Applies an object, whoever else its fields belong to.
pub async fn apply(client: &Client, path: &str, manager: &str, body: &Value) -> Result<(), ApiError> {
    let path = format!("{path}?fieldManager={manager}&force=true");
    send(client, "PATCH", &path, APPLY_PATCH, body).await
}

const MERGE_PATCH: &str = "application/merge-patch+json";
/// YAML, of which JSON is a part.
const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// Deletes an object.
pub async fn delete(client: &Client, path: &str) -> Result<(), ApiError> {
    send(client, "DELETE", path, MERGE_PATCH, &Value::Null).await
}

async fn send(client: &Client, method: &str, path: &str, form: &str, body: &Value) -> Result<(), ApiError> {
    let failed = |why: String| ApiError::internal(format!("{method} {path}: {why}"));
    let bytes = if body.is_null() { Ok(Vec::new()) } else { serde_json::to_vec(body) };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, form)
        .header(http::header::USER_AGENT, "kube-apiserver")
        .body(bytes.map_err(|error| failed(error.to_string()))?)
        .map_err(|error| failed(error.to_string()))?;
    match client.request::<Value>(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(ApiError::new(status.code, &status.reason, status.message.clone())),
        Err(error) => Err(failed(error.to_string())),
    }
}
