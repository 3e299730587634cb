//! Tokens of service accounts: those that stand in Secrets, those that are bound to something, and the keys by which others
//! verify them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use martello_api::clock;
use martello_tests::{
    cluster::Cluster,
    raw::{Answer, Endpoint},
};
use serde_json::{Value, json};

use crate::{
    answers::{config_map, done, refused},
    audit::tail,
    node_agent::until,
};

const NAMESPACE: &str = "/api/v1/namespaces/default";
const WHOAMI: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const MERGE: &str = "application/merge-patch+json";

async fn make(admin: &Endpoint, path: &str, body: &Value) -> Value {
    done(&admin.ask("POST", &format!("{NAMESPACE}/{path}"), body.to_string()).await.unwrap())
}

async fn merge(admin: &Endpoint, path: &str, patch: &Value) -> Value {
    done(&admin.ask_as("PATCH", &format!("{NAMESPACE}/{path}"), MERGE, patch.to_string()).await.unwrap())
}

async fn whoami(cluster: &mut Cluster, token: &str) -> Answer {
    cluster.anonymous().await.unwrap().with_token(token).ask("POST", WHOAMI, "{}").await.unwrap()
}

async fn review(admin: &Endpoint, token: &str, audiences: &[&str]) -> Value {
    let body = json!({"spec": {"token": token, "audiences": audiences}}).to_string();
    done(&admin.ask("POST", REVIEWS, body).await.unwrap())["status"].clone()
}

/// A Secret for a token of an account.
fn secret(name: &str, account: &str) -> Value {
    json!({"metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": account}},
        "type": "kubernetes.io/service-account-token"})
}

/// Waits until a Secret has all that it should have, and answers it.
async fn filled(admin: &Endpoint, name: &str) -> Value {
    until("the Secret is filled", async || {
        let found = done(&admin.ask("GET", &format!("{NAMESPACE}/secrets/{name}"), "").await.unwrap());
        let filled = ["token", "ca.crt", "namespace"].iter().all(|key| found["data"][key].is_string());
        filled.then_some(found)
    })
    .await
}

fn decoded(secret: &Value, key: &str) -> String {
    String::from_utf8(STANDARD.decode(secret["data"][key].as_str().unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_secret_is_filled_with_a_token_whose_use_is_noted() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let account = make(&admin, "serviceaccounts", &json!({"metadata": {"name": "robot"}})).await;
    make(&admin, "secrets", &secret("one", "robot")).await;
    let found = filled(&admin, "one").await;
    assert_eq!(found["metadata"]["annotations"]["kubernetes.io/service-account.uid"], account["metadata"]["uid"]);
    assert_eq!(decoded(&found, "namespace"), "default");
    assert_eq!(decoded(&found, "ca.crt").as_bytes(), cluster.authority_pem().await.unwrap());
    let (token, today) = (decoded(&found, "token"), clock::now().strftime("%Y-%m-%d").to_string());
    let first = whoami(&mut cluster, &token).await;
    assert_eq!(done(&first)["status"]["userInfo"]["username"], "system:serviceaccount:default:robot");
    assert!(!first.headers.contains_key("warning"), "{:?}", first.headers);
    let labels = until("the use is noted", async || {
        let found = done(&admin.ask("GET", &format!("{NAMESPACE}/secrets/one"), "").await.unwrap());
        found["metadata"].get("labels").cloned()
    })
    .await;
    // It may have become another day in the meantime.
    let tomorrow = clock::now().strftime("%Y-%m-%d").to_string();
    let day = labels["kubernetes.io/legacy-token-last-used"].as_str().unwrap();
    assert!(day == today || day == tomorrow, "{labels}");
    let since = "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking";
    let since = until("it is told since when", async || {
        let answer = admin.ask("GET", since, "").await.unwrap();
        (answer.status == 200).then(|| answer.json())
    })
    .await;
    assert!(since["data"]["since"].as_str().is_some_and(|day| day.len() == today.len()), "{since}");
    let status = review(&admin, &token, &[]).await;
    assert_eq!(
        (&status["authenticated"], &status["user"]["uid"]),
        (&json!(true), &account["metadata"]["uid"]),
        "{status}"
    );

    // Where the account lists the Secret, as if it had been made for it unasked, its user is told of better ones.
    merge(&admin, "serviceaccounts/robot", &json!({"secrets": [{"name": "one"}]})).await;
    let second = whoami(&mut cluster, &token).await;
    done(&second);
    let words = "299 - \"Use tokens from the TokenRequest API or manually created secret-based tokens instead of \
                 auto-generated secret-based tokens.\"";
    assert_eq!(second.headers["warning"], words);
    // Marked, it counts no longer, until the mark is gone.
    let label = "kubernetes.io/legacy-token-invalid-since";
    merge(&admin, "secrets/one", &json!({"metadata": {"labels": {label: today}}})).await;
    let marked = whoami(&mut cluster, &token).await;
    refused(&marked, 401, "Unauthorized");
    // A token that was asked for, and bound to the Secret, is none of the Secret's own.
    let bound = json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": "one"}}});
    let asked = make(&admin, "serviceaccounts/robot/token", &bound).await;
    let other = whoami(&mut cluster, asked["status"]["token"].as_str().unwrap()).await;
    done(&other);
    assert!(!other.headers.contains_key("warning"), "{:?}", other.headers);
    let status = review(&admin, &token, &[]).await;
    assert_eq!(status["authenticated"], Value::Null);
    assert_eq!(
        status["error"],
        format!(
            "[invalid bearer token, the token in secret default/one for service account default/robot has been marked \
             invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the \
             '{label}' label from the secret to temporarily allow use of this token]"
        )
    );
    merge(&admin, "secrets/one", &json!({"metadata": {"labels": {label: null}}})).await;
    done(&whoami(&mut cluster, &token).await);

    // The record of a change is written before it is answered, and with it all that came before.
    make(&admin, "configmaps", &config_map("last")).await;
    let trail = tail(&cluster, "1000");
    let recorded = |answer: &Answer| {
        let id = answer.headers["audit-id"].to_str().unwrap();
        let event = trail.lines().find(|line| line.contains(id)).unwrap();
        serde_json::from_str::<Value>(event).unwrap()
    };
    for (answer, key, value) in [
        (first, "manual-secret", "one"),
        (second, "autogenerated-secret", "one"),
        (marked, "invalidated", "one/default"),
    ] {
        let event = recorded(&answer);
        let note = |key: &str| &event["annotations"][format!("authentication.k8s.io/legacy-token{key}")];
        assert_eq!(note(&format!("-{key}")), value, "{event}");
        assert_eq!(note(""), "system:serviceaccount:default:robot", "{event}");
    }
    let event = recorded(&other);
    assert!(!event["annotations"].to_string().contains("legacy-token"), "{event}");
}

#[tokio::test]
async fn a_secrets_token_ends_with_the_secret_and_with_the_account() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    make(&admin, "serviceaccounts", &json!({"metadata": {"name": "robot"}})).await;
    for name in ["one", "two"] {
        make(&admin, "secrets", &secret(name, "robot")).await;
    }
    let (one, two) = (filled(&admin, "one").await, filled(&admin, "two").await);
    let (one, two) = (decoded(&one, "token"), decoded(&two, "token"));
    done(&whoami(&mut cluster, &one).await);
    done(&admin.ask("DELETE", &format!("{NAMESPACE}/secrets/one"), "").await.unwrap());
    refused(&whoami(&mut cluster, &one).await, 401, "Unauthorized");
    let status = review(&admin, &one, &[]).await;
    assert_eq!(status["error"], "[invalid bearer token, service account token has been invalidated]");
    // What is missing in a Secret comes back, and what was taken for it is put right.
    merge(&admin, "secrets/two", &json!({"data": {"token": null, "ca.crt": STANDARD.encode("a stranger's")}})).await;
    let again = until("the Secret is filled anew", async || {
        let found = filled(&admin, "two").await;
        (decoded(&found, "ca.crt") != "a stranger's").then_some(found)
    })
    .await;
    assert_eq!(decoded(&again, "ca.crt").as_bytes(), cluster.authority_pem().await.unwrap());
    done(&whoami(&mut cluster, &decoded(&again, "token")).await);
    done(&admin.ask("DELETE", &format!("{NAMESPACE}/serviceaccounts/robot"), "").await.unwrap());
    refused(&whoami(&mut cluster, &two).await, 401, "Unauthorized");
    let gone = async |name: &str| {
        let path = format!("{NAMESPACE}/secrets/{name}");
        until("the Secret goes", async || (admin.ask("GET", &path, "").await.unwrap().status == 404).then_some(()))
            .await;
    };
    gone("two").await;
    // Nor does one stay that names nobody.
    make(&admin, "secrets", &secret("three", "nobody")).await;
    gone("three").await;
    let nameless = json!({"metadata": {"name": "four"}, "type": "kubernetes.io/service-account-token"});
    let answer = admin.ask("POST", &format!("{NAMESPACE}/secrets"), nameless.to_string()).await.unwrap();
    let message = refused(&answer, 422, "Invalid");
    assert!(message.ends_with("metadata.annotations[kubernetes.io/service-account.name]: Required value"), "{message}");
}

/// Asks for a token.
async fn request(admin: &Endpoint, spec: &Value) -> Answer {
    let path = format!("{NAMESPACE}/serviceaccounts/robot/token");
    admin.ask("POST", &path, json!({"spec": spec}).to_string()).await.unwrap()
}

#[tokio::test]
async fn a_token_is_for_its_audience_and_its_time() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let account = make(&admin, "serviceaccounts", &json!({"metadata": {"name": "robot"}})).await;
    for (seconds, why) in [
        (599_i64, "Invalid value: 599: may not specify a duration less than 10 minutes"),
        (-1, "Invalid value: -1: may not specify a duration less than 10 minutes"),
        ((1 << 32) + 1, "Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds"),
    ] {
        let message = refused(&request(&admin, &json!({"expirationSeconds": seconds})).await, 422, "Invalid");
        assert_eq!(
            message,
            format!("TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: {why}")
        );
    }
    let told = done(&request(&admin, &json!({})).await);
    let issuer = told["spec"]["audiences"][0].as_str().unwrap().to_owned();
    assert_eq!(told["spec"], json!({"audiences": [issuer], "expirationSeconds": 3600, "boundObjectRef": null}));
    let long = request(&admin, &json!({"expirationSeconds": 100_000})).await;
    assert_eq!(done(&long)["spec"]["expirationSeconds"], 86_400);
    assert_eq!(long.headers["warning"], "299 - \"requested expiration of 100000 seconds shortened to 86400 seconds\"");

    // What is for others is nothing here, and others verify it by what is published.
    let token = done(&request(&admin, &json!({"audiences": ["vault", "bank"], "expirationSeconds": 600})).await);
    let token = token["status"]["token"].as_str().unwrap();
    refused(&whoami(&mut cluster, token).await, 401, "Unauthorized");
    let status = review(&admin, token, &["bank", "other"]).await;
    assert_eq!((&status["authenticated"], &status["audiences"]), (&json!(true), &json!(["bank"])));
    let status = review(&admin, token, &[]).await;
    assert_eq!(status["authenticated"], Value::Null, "{status}");
    let document = done(&admin.ask("GET", "/.well-known/openid-configuration", "").await.unwrap());
    assert_eq!(document["issuer"], issuer);
    let place = document["jwks_uri"].as_str().unwrap();
    assert!(place.ends_with("/openid/v1/jwks"), "{document}");
    let keys = admin.ask("GET", "/openid/v1/jwks", "").await.unwrap();
    let keys: JwkSet = serde_json::from_slice(&keys.body).unwrap();
    let head = decode_header(token).unwrap();
    let named = document["id_token_signing_alg_values_supported"].as_array().unwrap();
    let algorithm = serde_json::to_value(head.alg).unwrap();
    assert!(named.contains(&algorithm), "{document}");
    let key = DecodingKey::from_jwk(keys.find(head.kid.as_deref().unwrap()).unwrap()).unwrap();
    let verify = |audience: &str, algorithm: Algorithm| {
        let mut wanted = Validation::new(algorithm);
        wanted.set_audience(&[audience]);
        wanted.set_issuer(&[&issuer]);
        decode::<Value>(token, &key, &wanted)
    };
    let claims = verify("vault", head.alg).unwrap().claims;
    assert_eq!(claims["sub"], "system:serviceaccount:default:robot");
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);
    let named = json!({"namespace": "default", "serviceaccount": {"name": "robot", "uid": account["metadata"]["uid"]}});
    assert_eq!(claims["kubernetes.io"], named);
    assert!(verify("others", head.alg).is_err());
    // Nobody but who may ask learns the keys.
    let anyone = cluster.anonymous().await.unwrap();
    refused(&anyone.ask("GET", "/openid/v1/jwks", "").await.unwrap(), 403, "Forbidden");
}

#[tokio::test]
async fn a_token_ends_with_what_it_is_bound_to() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    make(&admin, "serviceaccounts", &json!({"metadata": {"name": "robot"}})).await;
    done(&admin.ask("POST", "/api/v1/nodes", json!({"metadata": {"name": "n1"}}).to_string()).await.unwrap());
    make(&admin, "secrets", &json!({"metadata": {"name": "lease"}})).await;
    let mut pod = crate::answers::pod("web");
    pod["spec"]["serviceAccountName"] = json!("robot");
    pod["spec"]["nodeName"] = json!("n1");
    make(&admin, "pods", &pod).await;
    let bind = |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "name": name});
    for (kind, name, path, extra) in [
        ("Secret", "lease", "/api/v1/namespaces/default/secrets/lease", json!({})),
        (
            "Pod",
            "web",
            "/api/v1/namespaces/default/pods/web?gracePeriodSeconds=0",
            json!({"authentication.kubernetes.io/pod-name": ["web"], "authentication.kubernetes.io/node-name": ["n1"]}),
        ),
        ("Node", "n1", "/api/v1/nodes/n1", json!({"authentication.kubernetes.io/node-name": ["n1"]})),
    ] {
        let mut other = bind(kind, name);
        other["uid"] = json!("0d4bdb23-6dd4-4a3d-8a55-93b0a7ac0e5f");
        let message = refused(&request(&admin, &json!({"boundObjectRef": other})).await, 409, "Conflict");
        let words = "the UID in the bound object reference (0d4bdb23-6dd4-4a3d-8a55-93b0a7ac0e5f) does not match the UID in \
                     record. The object might have been deleted and then recreated";
        assert_eq!(message, format!("Operation cannot be fulfilled on {kind} {name:?}: {words}"));
        refused(&request(&admin, &json!({"boundObjectRef": bind(kind, "missing")})).await, 404, "NotFound");
        let told = done(&request(&admin, &json!({"boundObjectRef": bind(kind, name)})).await);
        let token = told["status"]["token"].as_str().unwrap();
        let user = done(&whoami(&mut cluster, token).await)["status"]["userInfo"].clone();
        assert!(user["extra"]["authentication.kubernetes.io/credential-id"][0].as_str().unwrap().starts_with("JTI="));
        for (key, value) in extra.as_object().unwrap() {
            assert_eq!(&user["extra"][key], value, "{kind}: {user}");
        }
        done(&admin.ask("DELETE", path, "").await.unwrap());
        refused(&whoami(&mut cluster, token).await, 401, "Unauthorized");
    }
    let odd = request(&admin, &json!({"boundObjectRef": bind("ConfigMap", "x")})).await;
    assert_eq!(refused(&odd, 400, "BadRequest"), "cannot bind token to object of type /v1, Kind=ConfigMap");
}
