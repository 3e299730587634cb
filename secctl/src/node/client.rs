//! The node's client of the API server: TLS with an identity that renews itself.

use std::sync::Arc;

use anyhow::Context as _;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::client::Body;
use martello_pki::{
    AuthorityKind, client_config,
    enroll::{EnrollRequest, EnrollResponse, NodeIdentity},
};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tower::util::MapRequestLayer;

/// Where machines become nodes and nodes renew their certificates.
const ENROLLMENTS: &str = "/apis/martello.dev/v1alpha1/nodeenrollments";
/// The answer holds two chains and three bundles.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

fn connector(config: &Arc<ClientConfig>) -> HttpsConnector<HttpConnector> {
    let mut config = ClientConfig::clone(config);
    // The connector sets it to what it speaks.
    config.alpn_protocols.clear();
    HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().build()
}

/// A client as this node.
pub fn api(identity: &NodeIdentity, server: &Uri) -> anyhow::Result<kube::Client> {
    let config =
        client_config(&identity.trust, AuthorityKind::Servers, Some(&identity.client)).context("set up TLS")?;
    let http = Client::builder(TokioExecutor::new()).build::<_, Body>(connector(&config));
    let base = server.clone();
    let service = tower::ServiceBuilder::new()
        .layer(MapRequestLayer::new(move |mut request: Request<Body>| {
            *request.uri_mut() = absolute(&base, request.uri());
            let agent = header::HeaderValue::from_static(concat!("kubelet/", env!("CARGO_PKG_VERSION")));
            request.headers_mut().entry(header::USER_AGENT).or_insert(agent);
            request
        }))
        .service(http);
    Ok(kube::Client::new(service, "default"))
}

fn absolute(base: &Uri, path: &Uri) -> Uri {
    let mut parts = base.clone().into_parts();
    parts.path_and_query = path.path_and_query().cloned();
    Uri::from_parts(parts).unwrap_or_else(|_| base.clone())
}

/// Sends an enrollment: with a join token by which a machine becomes a node, or with the node's own certificate.
pub async fn enroll(
    config: &Arc<ClientConfig>,
    server: &Uri,
    token: Option<&str>,
    request: &EnrollRequest,
) -> anyhow::Result<EnrollResponse> {
    let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector(config));
    let body = json!({
        "apiVersion": "martello.dev/v1alpha1", "kind": "NodeEnrollment", "metadata": {},
        "spec": {"token": token, "request": request},
    });
    let mut call = Request::builder()
        .method(Method::POST)
        .uri(absolute(server, &Uri::from_static(ENROLLMENTS)))
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        call = call.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let call = call.body(Full::new(Bytes::from(serde_json::to_vec(&body)?)))?;
    let answer = client.request(call).await.with_context(|| format!("reach the API server at {server}"))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("read the API server's answer: {error}"))?.to_bytes();
    let value: Value = serde_json::from_slice(&body).context("read the API server's answer")?;
    if !status.is_success() {
        let message = value.get("message").and_then(Value::as_str).unwrap_or_default();
        anyhow::bail!("the API server answered {status}: {message}");
    }
    let response = value.get("status").cloned().unwrap_or_default();
    serde_json::from_value(response).context("read the API server's answer")
}
