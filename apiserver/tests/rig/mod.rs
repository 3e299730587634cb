//! A server over a store in memory, called in this process.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use kube::client::Body;
use martello_api::{clock, identity::User};
use martello_apiserver::{
    Config, Server,
    server::{audit::Audit, nodes::NoNodes},
    store::{MemoryStore, Store},
};
use martello_audit::{Authenticator, Keys, Log};
use martello_kms::{Key, Kms};
use martello_pki::Pki;
use martello_policy::Authorizer;
use serde_json::{Value, json};

struct HeadKey(Key);

impl Authenticator for HeadKey {
    fn mac(&self, message: &[u8]) -> [u8; 32] {
        self.0.mac(message)
    }

    fn verify_mac(&self, message: &[u8], mac: &[u8]) -> bool {
        self.0.verify_mac(message, mac)
    }
}

/// The server and its store.
pub(crate) struct Rig {
    /// The server.
    pub(crate) server: Server,
    /// Its store.
    pub(crate) store: Arc<MemoryStore>,
    /// Where its keys and its audit trail are.
    pub(crate) directory: tempfile::TempDir,
}

impl Rig {
    /// A fresh server, with the namespace `default` and its account.
    pub(crate) async fn new() -> Self {
        let now = clock::now();
        let directory = tempfile::tempdir().unwrap();
        let kms = Kms::ephemeral(now).unwrap();
        let pki = Pki::load_or_create(directory.path(), &kms, now).unwrap();
        let keys = Keys { authenticator: Arc::new(HeadKey(Key::random().unwrap())), cipher: None };
        let (log, _) =
            Log::open(&directory.path().join("audit"), &keys, &martello_audit::Config::default(), now).unwrap();
        let store = Arc::new(MemoryStore::default());
        let server = Server::build(Config {
            store: Arc::clone(&store) as Arc<dyn Store>,
            authorizer: Authorizer::new(),
            kms,
            pki,
            audit: Audit::new(log),
            nodes: Arc::new(NoNodes),
            service_network: "10.96.0.0/16".parse().unwrap(),
            node_ports: (30000, 32767),
            advertise: ("127.0.0.1".parse().unwrap(), 6443),
            product_version: "0".to_owned(),
            identity: None,
            weaker_settings: Vec::new(),
            runtime_config: martello_apiserver::registry::versions::RuntimeConfig::default(),
            event_ttl: None,
        });
        server.start().await.unwrap();
        let rig = Self { server, store, directory };
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        rig.admin(Method::POST, "/api/v1/namespaces/default/serviceaccounts", Some(&account)).await;
        rig
    }

    /// Asks as somebody.
    pub(crate) async fn call(
        &self,
        user: User,
        method: Method,
        path: &str,
        media: &str,
        body: Vec<u8>,
    ) -> (StatusCode, Value) {
        let request = http::Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, media);
        let answer = self.server.client(user).send(request.body(Body::from(body)).unwrap()).await.unwrap();
        let status = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// Asks as administrator.
    pub(crate) async fn admin(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        self.call(User::authenticated("root", ["system:masters"]), method, path, "application/json", body).await
    }

    /// Asks as administrator, and answers with headers and raw bytes.
    pub(crate) async fn raw(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Raw {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let user = User::authenticated("root", ["system:masters"]);
        let request = request.body(Body::from(body.as_bytes().to_vec())).unwrap();
        let (parts, body) = self.server.client(user).send(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Raw { status: parts.status.as_u16(), headers: parts.headers, bytes: bytes.to_vec() }
    }
}

/// An answer as it came.
pub(crate) struct Raw {
    /// Status code.
    pub(crate) status: u16,
    /// Headers.
    pub(crate) headers: HeaderMap,
    /// Body.
    pub(crate) bytes: Vec<u8>,
}

impl Raw {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    /// The message of a `Status`.
    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> String {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    }
}
