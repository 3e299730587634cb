//! Users of others: an identity provider and a token webhook, as real HTTPS servers.

use std::sync::{Arc, Mutex};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use martello_api::clock;
use martello_tests::{
    cluster::{Cluster, Options},
    foreign::ForeignServer,
    raw::{Answer, Endpoint},
};
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};

use crate::answers::{done, refused};

const WHOAMI: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const AUDIENCE: &str = "martello";
/// The provider's key, as tokens name it.
const KID: &str = "first";

/// A key that signs tokens.
pub(crate) struct Signer(rcgen::KeyPair);

impl Signer {
    pub(crate) fn new() -> Self {
        Self(rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap())
    }

    /// As providers publish it.
    pub(crate) fn public(&self, kid: &str) -> Value {
        let (x, y) = self.0.public_key_raw()[1..].split_at(32);
        let encoded = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid, "x": encoded(x), "y": encoded(y)})
    }

    pub(crate) fn token(&self, kid: Option<&str>, claims: &Value) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::ES256) };
        encode(&header, claims, &EncodingKey::from_ec_der(&self.0.serialize_der())).unwrap()
    }
}

/// Starts a provider that publishes `keys`.
async fn provider(keys: Value) -> ForeignServer {
    provider_of(move || keys.clone()).await
}

/// Starts a provider that publishes what `keys` are when they are asked for.
pub(crate) async fn provider_of(keys: impl Fn() -> Value + Clone + Send + Sync + 'static) -> ForeignServer {
    let answer = move |request: Request<Bytes>| {
        let issuer = format!("https://{}", request.headers()["host"].to_str().unwrap());
        let body = match request.uri().path() {
            "/.well-known/openid-configuration" => json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")}),
            "/keys" => keys(),
            other => json!({"no such path": other}),
        };
        std::future::ready(Response::new(Full::from(body.to_string())))
    };
    ForeignServer::start(&[&TLS12], answer).await.unwrap()
}

/// Starts a server that reads this file with this argument.
pub(crate) async fn cluster_with(argument: &str, text: &str) -> (Cluster, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, text).unwrap();
    let arguments = vec![argument.to_owned(), path.to_str().unwrap().to_owned()];
    (Cluster::start_with(Options { arguments, ..Options::default() }).await.unwrap(), folder)
}

pub(crate) async fn whoami(nobody: &Endpoint, token: &str) -> Answer {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    nobody.clone().with_token(token).ask("POST", WHOAMI, review.to_string()).await.unwrap()
}

#[tokio::test]
async fn a_provider_vouches_for_users_as_its_configuration_says() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    let server = provider(json!({"keys": [signer.public(KID)]})).await;
    let issuer = format!("https://127.0.0.1:{}", server.port);
    let config = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
        "jwt": [{
            "issuer": {"url": issuer, "audiences": [AUDIENCE], "certificateAuthority": server.authority_pem},
            "claimValidationRules": [
                {"claim": "tenant", "requiredValue": "shop"},
                {"expression": "claims.email_verified == true", "message": "the address must be verified"},
            ],
            "claimMappings": {
                "username": {"expression": "'idp:' + claims.email.split('@')[0]"},
                "groups": {"expression": "claims.roles.map(role, 'idp:' + role)"},
                "uid": {"claim": "sub"},
                "extra": [{"key": "example.com/tenant", "valueExpression": "claims.tenant"}],
            },
            "userValidationRules": [{"expression": "!user.username.startsWith('idp:root')", "message": "not this one"}],
        }],
    });
    let (mut cluster, _folder) = cluster_with("--authentication-config", &config.to_string()).await;
    let nobody = cluster.anonymous().await.unwrap();
    let now = clock::now().as_second();
    let claims = json!({
        "iss": issuer, "aud": [AUDIENCE, "others"], "sub": "u-1", "exp": now + 600, "nbf": now - 5,
        "email": "jane@example.com", "email_verified": true, "roles": ["devs", "ops"], "tenant": "shop",
    });
    let with = |key: &str, value: Value| {
        let mut claims = claims.clone();
        claims[key] = value;
        claims
    };
    for kid in [Some(KID), None] {
        let user = done(&whoami(&nobody, &signer.token(kid, &claims)).await)["status"]["userInfo"].clone();
        assert_eq!(
            user,
            json!({
                "username": "idp:jane", "uid": "u-1", "groups": ["idp:devs", "idp:ops", "system:authenticated"],
                "extra": {"example.com/tenant": ["shop"]},
            }),
            "{kid:?}"
        );
    }
    let admin = cluster.admin().await.unwrap();
    let review = |audiences: Value| {
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": signer.token(Some(KID), &claims), "audiences": audiences}})
    };
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let reviewed = done(&admin.ask("POST", path, review(json!([])).to_string()).await.unwrap());
    assert_eq!(
        (&reviewed["status"]["authenticated"], &reviewed["status"]["user"]["uid"]),
        (&json!(true), &json!("u-1"))
    );
    let reviewed = done(&admin.ask("POST", path, review(json!(["others"])).to_string()).await.unwrap());
    assert_ne!(reviewed["status"]["authenticated"], json!(true), "{reviewed}");
    for (about, token) in [
        ("another key", stranger.token(Some(KID), &claims)),
        ("a key that nobody knows", stranger.token(Some("second"), &claims)),
        ("no key", stranger.token(None, &claims)),
        ("another audience", signer.token(Some(KID), &with("aud", json!("others")))),
        ("an issuer that nobody knows", signer.token(Some(KID), &with("iss", json!("https://example.com")))),
        ("an end that is over", signer.token(Some(KID), &with("exp", json!(now - 60)))),
        ("a begin that is not yet", signer.token(Some(KID), &with("nbf", json!(now + 60)))),
        ("another tenant", signer.token(Some(KID), &with("tenant", json!("bank")))),
        ("an address that is not verified", signer.token(Some(KID), &with("email_verified", json!(false)))),
        ("a user who is refused", signer.token(Some(KID), &with("email", json!("root@example.com")))),
        ("claims that the mapping can't read", signer.token(Some(KID), &with("roles", json!(7)))),
    ] {
        refused(&whoami(&nobody, &token).await, 401, "Unauthorized");
        assert!(!cluster.log().contains(&token), "{about}: a token stands in the log");
    }
    let (head, rest) = signer.token(Some(KID), &claims).split_once('.').map(|(a, b)| (a.len(), b.to_owned())).unwrap();
    assert!(head > 0);
    let unsigned = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), rest);
    refused(&whoami(&nobody, &unsigned).await, 401, "Unauthorized");
}

#[tokio::test]
async fn a_webhook_vouches_for_tokens_that_it_knows() {
    let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
    let notes = Arc::clone(&asked);
    let answer = move |request: Request<Bytes>| {
        let bearer = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let review: Value = serde_json::from_slice(request.body()).unwrap();
        let user = json!({"username": "joe", "uid": "7", "groups": ["devs"], "extra": {"scopes": ["all"]}});
        let status = match review["spec"]["token"].as_str().unwrap() {
            "known" => json!({"authenticated": true, "user": user}),
            "for-others" => json!({"authenticated": true, "user": user, "audiences": ["others"]}),
            _ => json!({"authenticated": false, "error": "who is this"}),
        };
        let broken = review["spec"]["token"] == "broken";
        notes.lock().unwrap().push(json!({"bearer": bearer, "review": review}));
        let answer = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status});
        let mut response = Response::new(Full::from(answer.to_string()));
        if broken {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        std::future::ready(response)
    };
    let server = ForeignServer::start(&[&TLS13], answer).await.unwrap();
    let authority = base64::engine::general_purpose::STANDARD.encode(&server.authority_pem);
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "hook",
        "clusters": [{"name": "hook", "cluster": {
            "server": format!("https://127.0.0.1:{}/review", server.port), "certificate-authority-data": authority}}],
        "users": [{"name": "us", "user": {"token": "our-own"}}],
        "contexts": [{"name": "hook", "context": {"cluster": "hook", "user": "us"}}],
    });
    let (mut cluster, _folder) = cluster_with("--authentication-token-webhook-config-file", &config.to_string()).await;
    let nobody = cluster.anonymous().await.unwrap();
    for _ in 0..2 {
        let user = done(&whoami(&nobody, "known").await)["status"]["userInfo"].clone();
        assert_eq!(
            user,
            json!({"username": "joe", "uid": "7", "groups": ["devs", "system:authenticated"], "extra": {"scopes": ["all"]}})
        );
    }
    for token in ["unknown", "for-others", "broken"] {
        refused(&whoami(&nobody, token).await, 401, "Unauthorized");
    }
    let asked = asked.lock().unwrap();
    let of = |token: &str| asked.iter().filter(|one| one["review"]["spec"]["token"] == token).collect::<Vec<_>>();
    assert_eq!(of("known").len(), 1, "what was answered is believed for a while");
    assert_eq!(of("known")[0]["bearer"], "Bearer our-own");
    assert_eq!(of("known")[0]["review"]["kind"], "TokenReview");
    assert!(!cluster.log().contains("our-own"));
}
