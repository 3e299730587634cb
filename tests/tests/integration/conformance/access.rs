//! Who somebody is and what they may: accounts and their tokens, the issuer's keys, reviews.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Server, facts};
use crate::answers::{ask_as_user, done, pod, refused};

#[tokio::test(flavor = "multi_thread")]
async fn accounts_and_reviews_work() {
    let (_cluster, server) = Server::start().await;
    facts!(server;
        the_issuer_of_tokens_is_discovered,
        a_token_is_bound_and_reviewed,
        a_pod_gets_its_token_unless_it_opts_out,
        the_authority_is_told_in_every_namespace,
        reviews_say_what_requests_are_answered,
        a_review_of_oneself_says_who_asks,
        an_account_is_watched_patched_and_updated,
    );
}

/// The claims of a token.
fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

async fn the_issuer_of_tokens_is_discovered(server: Server) {
    let document = server.get("/.well-known/openid-configuration").await;
    assert_eq!(document["response_types_supported"], json!(["id_token"]));
    assert_eq!(document["subject_types_supported"], json!(["public"]));
    let keys = server.admin.ask("GET", "/openid/v1/jwks", "").await.unwrap();
    assert_eq!(keys.headers["content-type"], "application/jwk-set+json");
    let body = json!({"spec": {"expirationSeconds": 600}});
    server.namespace("issuer").await;
    let token = server.post("/api/v1/namespaces/issuer/serviceaccounts/default/token", &body).await;
    let token = token["status"]["token"].as_str().unwrap().to_owned();
    assert_eq!(claims(&token)["iss"], document["issuer"]);
    let head: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    let known = keys.json()["keys"]
        .as_array()
        .unwrap()
        .iter()
        .any(|key| key["kid"] == head["kid"] && key["alg"] == head["alg"]);
    assert!(known, "{head}");
}

async fn a_token_is_bound_and_reviewed(server: Server) {
    let namespace = server.namespace("tokens").await;
    let made = server.post(&format!("{namespace}/pods"), &pod("one")).await;
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "one", "uid": made["metadata"]["uid"]});
    let body = json!({"spec": {"audiences": ["vault"], "expirationSeconds": 600, "boundObjectRef": bound}});
    let path = format!("{namespace}/serviceaccounts/default/token");
    let token = server.post(&path, &body).await["status"]["token"].as_str().unwrap().to_owned();
    let found = claims(&token);
    assert_eq!((&found["aud"], &found["sub"]), (&json!(["vault"]), &json!("system:serviceaccount:tokens:default")));
    assert_eq!(found["exp"].as_i64().unwrap() - found["iat"].as_i64().unwrap(), 600);
    assert_eq!(found["kubernetes.io"]["pod"], json!({"name": "one", "uid": made["metadata"]["uid"]}));
    let review = |audiences: Value| json!({"spec": {"token": token, "audiences": audiences}});
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let known = server.post(reviews, &review(json!(["vault", "other"]))).await;
    assert_eq!((&known["status"]["authenticated"], &known["status"]["audiences"]), (&json!(true), &json!(["vault"])));
    let groups = &known["status"]["user"]["groups"];
    assert_eq!(groups, &json!(["system:serviceaccounts", "system:serviceaccounts:tokens", "system:authenticated"]));
    assert_ne!(server.post(reviews, &review(json!(["other"]))).await["status"]["authenticated"], true);
    server.delete(&format!("{namespace}/pods/one")).await;
    assert_ne!(
        server.post(reviews, &review(json!(["vault"]))).await["status"]["authenticated"],
        true,
        "the pod is gone"
    );
}

async fn a_pod_gets_its_token_unless_it_opts_out(server: Server) {
    let namespace = server.namespace("mounts").await;
    for (account, mounts) in [("says-nothing", Value::Null), ("mounts", json!(true)), ("opts-out", json!(false))] {
        let body = json!({"metadata": {"name": account}, "automountServiceAccountToken": mounts});
        server.post(&format!("{namespace}/serviceaccounts"), &body).await;
    }
    for (account, own, gets) in [
        ("says-nothing", Value::Null, true),
        ("mounts", Value::Null, true),
        ("opts-out", Value::Null, false),
        ("says-nothing", json!(true), true),
        ("mounts", json!(true), true),
        ("opts-out", json!(true), true),
        ("says-nothing", json!(false), false),
        ("mounts", json!(false), false),
        ("opts-out", json!(false), false),
    ] {
        let mut pod = pod("x");
        pod["metadata"] = json!({"generateName": "p-"});
        pod["spec"]["serviceAccountName"] = json!(account);
        pod["spec"]["automountServiceAccountToken"] = own.clone();
        let made = server.post(&format!("{namespace}/pods"), &pod).await;
        let mounts = made["spec"]["containers"][0]["volumeMounts"].as_array().cloned().unwrap_or_default();
        let place = "/var/run/secrets/kubernetes.io/serviceaccount";
        assert_eq!(mounts.iter().any(|mount| mount["mountPath"] == place), gets, "{account} {own}");
        if gets {
            let sources = &made["spec"]["volumes"][0]["projected"]["sources"];
            assert_eq!(sources[0]["serviceAccountToken"], json!({"expirationSeconds": 3607, "path": "token"}));
            assert_eq!(sources[1]["configMap"]["name"], "kube-root-ca.crt");
            assert_eq!(sources[2]["downwardAPI"]["items"][0]["path"], "namespace");
        }
    }
}

async fn the_authority_is_told_in_every_namespace(server: Server) {
    let namespace = server.namespace("authority").await;
    let path = format!("{namespace}/configmaps/kube-root-ca.crt");
    let told =
        |map: &Value| map["data"]["ca.crt"].as_str().is_some_and(|pem| pem.starts_with("-----BEGIN CERTIFICATE"));
    let first = server.until(&path, told).await;
    server.delete(&path).await;
    let second = server.until(&path, told).await;
    assert_ne!(first["metadata"]["uid"], second["metadata"]["uid"]);
    server.merge(&path, &json!({"data": {"ca.crt": "", "more": "x"}})).await;
    let third = server.until(&path, told).await;
    assert_eq!(third["data"]["ca.crt"], first["data"]["ca.crt"]);
}

async fn reviews_say_what_requests_are_answered(server: Server) {
    let namespace = server.namespace("reviews").await;
    let user = "system:serviceaccount:reviews:default";
    let attributes = json!({"namespace": "reviews", "verb": "list", "version": "v1", "resource": "configmaps"});
    let groups = json!(["system:authenticated", "system:serviceaccounts"]);
    let review = json!({"spec": {"user": user, "groups": groups, "resourceAttributes": attributes}});
    let own = json!({"spec": {"resourceAttributes": attributes}});
    const AUTHORIZATION: &str = "/apis/authorization.k8s.io/v1";
    let mut local = review.clone();
    local["metadata"] = json!({"namespace": "reviews"});
    for allowed in [false, true] {
        if allowed {
            let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"});
            let subject = json!({"kind": "ServiceAccount", "name": "default", "namespace": "reviews"});
            let binding = json!({"metadata": {"name": "view"}, "roleRef": role, "subjects": [subject]});
            server.post("/apis/rbac.authorization.k8s.io/v1/namespaces/reviews/rolebindings", &binding).await;
        }
        let told = server.post(&format!("{AUTHORIZATION}/subjectaccessreviews"), &review).await;
        assert_eq!(told["status"]["allowed"], allowed);
        let told = server.post(&format!("{AUTHORIZATION}/namespaces/reviews/localsubjectaccessreviews"), &local).await;
        assert_eq!(told["status"]["allowed"], allowed);
        let groups = ["system:serviceaccounts"];
        let reviews = format!("{AUTHORIZATION}/selfsubjectaccessreviews");
        let told = done(&ask_as_user(&server.admin, user, &groups, "POST", &reviews, Some(&own)).await);
        assert_eq!(told["status"]["allowed"], allowed);
        let answer = ask_as_user(&server.admin, user, &groups, "GET", &format!("{namespace}/configmaps"), None).await;
        assert_eq!(answer.status == 200, allowed, "{}", answer.text());
        if !allowed {
            let message = refused(&answer, 403, "Forbidden");
            assert_eq!(
                message,
                format!(
                    "configmaps is forbidden: User {user:?} cannot list resource \"configmaps\" in API group \"\" in the namespace \"reviews\""
                )
            );
        }
    }
}

async fn a_review_of_oneself_says_who_asks(server: Server) {
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let told = done(&ask_as_user(&server.admin, "jane", &["team"], "POST", path, Some(&json!({}))).await);
    assert_eq!(told["status"]["userInfo"], json!({"username": "jane", "groups": ["team", "system:authenticated"]}));
}

async fn an_account_is_watched_patched_and_updated(server: Server) {
    let accounts = format!("{}/serviceaccounts", server.namespace("lives").await);
    let mut events = server.watch(&format!("{accounts}?watch=1&labelSelector=own%3Dyes")).await;
    let account = json!({"metadata": {"name": "one", "labels": {"own": "yes"}}});
    server.post(&accounts, &account).await;
    let one = format!("{accounts}/one");
    assert_eq!(
        server.merge(&one, &json!({"automountServiceAccountToken": false})).await["automountServiceAccountToken"],
        false
    );
    server.change(&one, |found| found["automountServiceAccountToken"] = json!(true)).await;
    server.delete(&format!("{accounts}?labelSelector=own%3Dyes")).await;
    for kind in ["ADDED", "MODIFIED", "MODIFIED", "DELETED"] {
        assert_eq!(events.next().await.0, kind);
    }
}
