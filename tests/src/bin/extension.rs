//! A webhook and an extension server in one, which runs in a pod behind the Service `extension` of the namespace `default`:
//! prints the authority of its certificate, and serves HTTPS on port 8443.

#![allow(clippy::print_stdout, reason = "its log is how the authority is told")]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Bytes;
use martello_tests::foreign::ForeignServer;
use rustls::version::TLS13;
use serde_json::{Value, json};

const GROUP_VERSION: &str = "extension.example.com/v1";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server = ForeignServer::start_at("0.0.0.0:8443", "extension.default.svc", &[&TLS13], answer).await?;
    println!("{}", server.authority_pem);
    std::future::pending().await
}

async fn answer(request: Request<Bytes>) -> Response<Full<Bytes>> {
    let said = match request.uri().path() {
        "/label" => label(request.body()),
        "/apis/extension.example.com/v1" => json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION,
            "resources": [{"name": "askers", "kind": "Asker", "singularName": "asker", "namespaced": false, "verbs": ["get"]}],
        }),
        "/apis/extension.example.com/v1/askers/me" => {
            let user = request.headers().get("x-remote-user").and_then(|user| user.to_str().ok()).unwrap_or_default();
            json!({"kind": "Asker", "apiVersion": GROUP_VERSION, "metadata": {"name": "me"}, "user": user})
        }
        _ => {
            let mut missing = Response::new(Full::default());
            *missing.status_mut() = http::StatusCode::NOT_FOUND;
            return missing;
        }
    };
    let mut response = Response::new(Full::from(said.to_string()));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

/// Lets an object pass, with a label.
fn label(body: &[u8]) -> Value {
    let review: Value = serde_json::from_slice(body).unwrap_or_default();
    let uid = review.pointer("/request/uid").cloned().unwrap_or_default();
    let patch = json!([{"op": "add", "path": "/metadata/labels", "value": {"seen": "yes"}}]).to_string();
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "response": {"uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch)},
    })
}
