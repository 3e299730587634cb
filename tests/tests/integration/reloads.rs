//! Who is known changes while the server runs: its files, the keys of providers, the token for its webhook.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Bytes;
use martello_api::clock;
use martello_tests::{
    foreign::ForeignServer,
    raw::{Answer, Endpoint},
};
use rustls::version::TLS13;
use serde_json::{Value, json};

use crate::{
    answers::{done, refused},
    identity::{Signer, cluster_with, provider_of, whoami},
    node_agent::until,
};

const AUDIENCE: &str = "martello";
const CONFIG: &str = "--authentication-config";

/// A provider and how often it was asked for its keys.
struct Provider {
    server: ForeignServer,
    keys: Arc<Mutex<Value>>,
    asked: Arc<AtomicUsize>,
}

impl Provider {
    async fn start(keys: Value) -> Self {
        let (keys, asked) = (Arc::new(Mutex::new(json!({"keys": keys}))), Arc::new(AtomicUsize::new(0)));
        let (told, counted) = (Arc::clone(&keys), Arc::clone(&asked));
        let tell = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            told.lock().unwrap().clone()
        };
        Self { server: provider_of(tell).await, keys, asked }
    }

    fn issuer(&self) -> String {
        format!("https://127.0.0.1:{}", self.server.port)
    }

    /// As it stands in the configuration.
    fn entry(&self, prefix: &str) -> Value {
        json!({
            "issuer": {"url": self.issuer(), "audiences": [AUDIENCE], "certificateAuthority": self.server.authority_pem},
            "claimMappings": {"username": {"claim": "sub", "prefix": prefix}},
        })
    }

    fn claims(&self, subject: &str) -> Value {
        json!({"iss": self.issuer(), "aud": AUDIENCE, "sub": subject, "exp": clock::now().as_second() + 600})
    }
}

fn config(jwt: &Value, anonymous: &Value) -> String {
    let mut config = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": jwt,
    });
    if !anonymous.is_null() {
        config["anonymous"] = anonymous.clone();
    }
    config.to_string()
}

/// Writes a file as an administrator does, who must not be read halfway.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("next");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

async fn name_of(nobody: &Endpoint, token: &str) -> Option<String> {
    let answer = whoami(nobody, token).await;
    (answer.status == 201).then(|| answer.json()["status"]["userInfo"]["username"].as_str().unwrap().to_owned())
}

/// How often the file was taken, or refused.
async fn reloads(admin: &Endpoint, status: &str) -> u64 {
    let metrics = admin.ask("GET", "/metrics", "").await.unwrap().text();
    let name = "apiserver_authentication_config_controller_automatic_reloads_total{";
    let line = metrics.lines().find(|line| line.starts_with(name) && line.contains(&format!("status=\"{status}\"")));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_changed_configuration_counts_without_a_restart_and_a_wrong_one_does_not() {
    let signer = Signer::new();
    let first = Provider::start(json!([signer.public("k")])).await;
    let second = Provider::start(json!([signer.public("k")])).await;
    let nobody_known = Value::Null;
    let text = config(&json!([first.entry("a:")]), &nobody_known);
    let (mut cluster, folder) = cluster_with(CONFIG, &text).await;
    let path = folder.path().join("config.yaml");
    let (admin, nobody) = (cluster.admin().await.unwrap(), cluster.anonymous().await.unwrap());
    let jane = signer.token(Some("k"), &first.claims("jane"));
    let joe = signer.token(Some("k"), &second.claims("joe"));
    assert_eq!(name_of(&nobody, &jane).await.as_deref(), Some("a:jane"));
    assert_eq!(name_of(&nobody, &joe).await, None);
    assert_eq!((reloads(&admin, "success").await, reloads(&admin, "failure").await), (0, 0));

    replace(&path, &config(&json!([first.entry("b:"), second.entry("c:")]), &nobody_known));
    until("the second provider is known", async || name_of(&nobody, &joe).await.filter(|name| name == "c:joe")).await;
    assert_eq!(name_of(&nobody, &jane).await.as_deref(), Some("b:jane"));
    until("that is counted", async || (reloads(&admin, "success").await == 1).then_some(())).await;

    for (count, wrong) in [
        "jwt: [",
        "",
        &config(&json!([{"issuer": {"url": "http://plain.example"}}]), &nobody_known),
        &config(&json!([]), &json!({"enabled": false})),
    ]
    .into_iter()
    .enumerate()
    {
        replace(&path, wrong);
        let refused = u64::try_from(count).unwrap() + 1;
        until("a refusal is counted", async || (reloads(&admin, "failure").await == refused).then_some(())).await;
        assert_eq!(name_of(&nobody, &joe).await.as_deref(), Some("c:joe"), "{wrong:?} changed who is known");
        assert_eq!(nobody.ask("GET", "/version", "").await.unwrap().status, 200);
    }
    assert!(cluster.log().contains("anonymous: Forbidden: changed from initial configuration file"));

    replace(&path, &config(&json!([second.entry("d:")]), &nobody_known));
    until("the first provider is gone", async || name_of(&nobody, &jane).await.is_none().then_some(())).await;
    assert_eq!(name_of(&nobody, &joe).await.as_deref(), Some("d:joe"));
    until("that is counted", async || (reloads(&admin, "success").await == 2).then_some(())).await;
    assert_eq!(reloads(&admin, "failure").await, 4, "what is refused is refused once");
}

#[tokio::test]
async fn keys_of_a_provider_are_fetched_at_the_start_and_when_a_token_needs_others() {
    let (old, new) = (Signer::new(), Signer::new());
    let provider = Provider::start(json!([old.public("k")])).await;
    let (mut cluster, _folder) = cluster_with(CONFIG, &config(&json!([provider.entry("")]), &Value::Null)).await;
    until("the provider is asked", async || (provider.asked.load(Ordering::SeqCst) > 0).then_some(())).await;
    let (admin, nobody) = (cluster.admin().await.unwrap(), cluster.anonymous().await.unwrap());
    let fetched = "apiserver_authentication_jwt_authenticator_jwks_fetch_last_timestamp_seconds{result=\"success\"";
    until("that shows", async || {
        admin.ask("GET", "/metrics", "").await.unwrap().text().contains(fetched).then_some(())
    })
    .await;
    let claims = provider.claims("jane");
    assert_eq!(name_of(&nobody, &old.token(Some("k"), &claims)).await.as_deref(), Some("jane"));
    assert_eq!(provider.asked.load(Ordering::SeqCst), 1, "no token needed other keys");
    // Another key under the same name: the provider is asked again, though the name is known.
    *provider.keys.lock().unwrap() = json!({"keys": [new.public("k")]});
    let token = new.token(Some("k"), &claims);
    until("the new key counts", async || name_of(&nobody, &token).await.filter(|name| name == "jane")).await;
    refused(&whoami(&nobody, &old.token(Some("k"), &claims)).await, 401, "Unauthorized");
}

#[tokio::test]
async fn requests_without_credentials_are_let_in_where_the_configuration_says() {
    let health = json!({"enabled": true, "conditions": [{"path": "/livez"}, {"path": "/readyz"}]});
    for (anonymous, lets_in) in [(json!({"enabled": false}), [].as_slice()), (health, &["/livez", "/readyz"])] {
        let (mut cluster, _folder) = cluster_with(CONFIG, &config(&json!([]), &anonymous)).await;
        let (admin, nobody) = (cluster.admin().await.unwrap(), cluster.anonymous().await.unwrap());
        for path in ["/livez", "/readyz", "/livez/ping", "/healthz", "/version", "/api/v1/namespaces", "/nowhere"] {
            let answer: Answer = nobody.ask("GET", path, "").await.unwrap();
            if lets_in.contains(&path) {
                assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{path}");
            } else {
                assert_eq!(refused(&answer, 401, "Unauthorized"), "Unauthorized", "{path}");
            }
        }
        // Credentials that do not hold are never taken for none.
        refused(&nobody.clone().with_token("wrong").ask("GET", "/livez", "").await.unwrap(), 401, "Unauthorized");
        assert_eq!(done(&admin.ask("GET", "/version", "").await.unwrap())["major"], "1");
    }
}

#[tokio::test]
async fn a_webhook_is_called_under_the_token_that_its_file_holds() {
    let bearers: Arc<Mutex<Vec<String>>> = Arc::default();
    let notes = Arc::clone(&bearers);
    let answer = move |request: Request<Bytes>| {
        notes.lock().unwrap().push(request.headers()["authorization"].to_str().unwrap().to_owned());
        let status = json!({"authenticated": true, "user": {"username": "joe"}});
        let review = json!({"apiVersion": "authentication.k8s.io/v1beta1", "kind": "TokenReview", "status": status});
        std::future::ready(Response::new(Full::from(review.to_string())))
    };
    let server = ForeignServer::start(&[&TLS13], answer).await.unwrap();
    use base64::Engine as _;
    let authority = base64::engine::general_purpose::STANDARD.encode(&server.authority_pem);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "of-the-file\n").unwrap();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "hook",
        "clusters": [{"name": "hook", "cluster": {
            "server": format!("https://127.0.0.1:{}/review", server.port), "certificate-authority-data": authority}}],
        "users": [{"name": "us", "user": {"token": "given", "tokenFile": file}}],
        "contexts": [{"name": "hook", "context": {"cluster": "hook", "user": "us"}}],
    });
    let (mut cluster, _folder) = cluster_with("--authentication-token-webhook-config-file", &config.to_string()).await;
    let nobody = cluster.anonymous().await.unwrap();
    assert_eq!(name_of(&nobody, "known").await.as_deref(), Some("joe"));
    assert_eq!(*bearers.lock().unwrap(), ["Bearer of-the-file"]);
    assert!(!cluster.log().contains("of-the-file"));
}
