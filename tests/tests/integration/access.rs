//! Who gets in, and how far.

use std::{process::Command, time::Duration};

use martello_tests::{binary, cluster::Cluster, raw::Endpoint};
use serde_json::json;

use crate::answers::{ask_as_user, done, refused};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

#[tokio::test]
async fn nobody_in_particular_reaches_health_and_version_only() {
    let mut cluster = Cluster::start().await.unwrap();
    let anyone = cluster.anonymous().await.unwrap();
    for path in ["/livez", "/readyz", "/healthz", "/version"] {
        done(&anyone.ask("GET", path, "").await.unwrap());
    }
    for path in [
        "/",
        "/api",
        "/apis",
        "/api/v1",
        SECRETS,
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/logs",
        "/debug/pprof/",
        "/nothing",
        "/.well-known/openid-configuration",
    ] {
        refused(&anyone.ask("GET", path, "").await.unwrap(), 403, "Forbidden");
    }
    for path in
        ["//api//v1", "/api/v1//secrets", "//api/v1/secrets", "/version/../api/v1/secrets", "/healthz/..", "/%61pi"]
    {
        let answer = anyone.ask("GET", path, "").await.unwrap();
        assert!((300..500).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
    }
    let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}).to_string();
    let message = refused(&anyone.ask("POST", SECRETS, body).await.unwrap(), 403, "Forbidden");
    assert!(
        message.contains("system:anonymous") && message.contains("create") && message.contains("secrets"),
        "{message}"
    );
}

#[tokio::test]
async fn wrong_credentials_are_not_taken_for_none() {
    let mut cluster = Cluster::start().await.unwrap();
    let anyone = cluster.anonymous().await.unwrap();
    let forged = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6a3ViZS1zeXN0ZW06ZGVmYXVsdCJ9.";
    for token in ["x", "a.b.c", forged, "abcdef.0123456789abcdef", &"x".repeat(7000)] {
        // Even what anybody may see is not shown to somebody who lies.
        for path in [SECRETS, "/version"] {
            refused(&anyone.clone().with_token(token).ask("GET", path, "").await.unwrap(), 401, "Unauthorized");
        }
    }
    refused(
        &anyone.ask_with("GET", SECRETS, &[("authorization", "Basic YWRtaW46YWRtaW4=")], "").await.unwrap(),
        403,
        "Forbidden",
    );
}

#[tokio::test]
async fn a_certificate_of_a_foreign_authority_proves_nothing() {
    let mut cluster = Cluster::start().await.unwrap();
    let authority = cluster.authority_pem().await.unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "admin");
    parameters.distinguished_name.push(rcgen::DnType::OrganizationName, "system:masters");
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let foreign = parameters.self_signed(&key).unwrap();
    let mallory =
        Endpoint::with_certificate("127.0.0.1", cluster.port(), &authority, &foreign.pem(), &key.serialize_pem());
    refused(&mallory.unwrap().ask("GET", SECRETS, "").await.unwrap(), 401, "Unauthorized");
}

#[tokio::test]
async fn only_tls_1_3_is_spoken() {
    let mut cluster = Cluster::start().await.unwrap();
    let authority = cluster.authority_pem().await.unwrap();
    let with = |version| Endpoint::with_versions("127.0.0.1", cluster.port(), &authority, &[version]).unwrap();
    assert!(with(&rustls::version::TLS13).open(&[b"h2"]).await.is_ok());
    let refusal = with(&rustls::version::TLS12).open(&[b"h2"]).await.unwrap_err();
    assert!(format!("{refusal:#}").to_lowercase().contains("version"), "{refusal:#}");
}

#[tokio::test]
async fn a_kubeconfig_holds_for_its_time_only() {
    let mut cluster = Cluster::start().await.unwrap();
    let short = cluster.new_kubeconfig(&["--ttl", "5s"]).unwrap();
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&short).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    let briefly = Endpoint::from_kube(&config).unwrap();
    done(&briefly.ask("GET", SECRETS, "").await.unwrap());
    let mut interval = tokio::time::interval(Duration::from_millis(100));
    let refusal = async {
        loop {
            interval.tick().await;
            let answer = briefly.ask("GET", SECRETS, "").await.unwrap();
            if answer.status != 200 {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(60), refusal).await.expect("the certificate expires");
    refused(&answer, 401, "Unauthorized");
    assert!(cluster.new_kubeconfig(&["--ttl", "-1h"]).is_err());
    cluster.kubeconfig().unwrap();
}

#[tokio::test]
async fn the_local_socket_serves_its_owner_only() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let cluster = Cluster::start().await.unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    let socket = cluster.data_dir().join("admin.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "the socket's mode is {mode:o}");
    // With every door on the way left open, the server itself still looks at who comes.
    for (path, mode) in [(cluster.folder().to_owned(), 0o755), (cluster.data_dir(), 0o755), (socket, 0o777)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let program = cluster.folder().join("secctl-of-another");
    std::fs::copy(binary::secctl().unwrap(), &program).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(&program)
        .args(["kubeconfig", "--data-dir"])
        .arg(cluster.data_dir())
        .output()
        .unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(cluster.log().contains("a local connection of another user was refused uid=65534"), "{output:?}");
    assert!(cluster.new_kubeconfig(&[]).is_ok());
}

#[tokio::test]
async fn nobody_grants_more_than_they_hold() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let roles = format!("{rbac}/namespaces/default/roles");
    let bindings = format!("{rbac}/namespaces/default/rolebindings");
    let role = |name: &str, rules: serde_json::Value| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules});
    let binding = |name: &str, kind: &str, role: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
            "subjects": [{"kind": "User", "name": "mallory", "apiGroup": "rbac.authorization.k8s.io"}],
            "roleRef": {"kind": kind, "name": role, "apiGroup": "rbac.authorization.k8s.io"},
        })
    };
    let writer = json!([
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["get", "create", "update", "patch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]},
    ]);
    done(&admin.ask("POST", &roles, role("writer", writer).to_string()).await.unwrap());
    done(&admin.ask("POST", &bindings, binding("mallory-writes", "Role", "writer").to_string()).await.unwrap());

    let mallory = |path: String, body: serde_json::Value| {
        let admin = admin.clone();
        async move { ask_as_user(&admin, "mallory", &[], "POST", &path, Some(&body)).await }
    };
    done(
        &mallory(
            roles.clone(),
            role("held", json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}])),
        )
        .await,
    );
    for rules in [
        json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]),
        json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]),
        json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]),
        json!([{"apiGroups": [""], "resources": ["*"], "verbs": ["get"]}]),
    ] {
        let message = refused(&mallory(roles.clone(), role("more", rules)).await, 403, "Forbidden");
        assert!(message.contains("attempting to grant RBAC permissions not currently held"), "{message}");
    }
    refused(&mallory(bindings.clone(), binding("up", "ClusterRole", "cluster-admin")).await, 403, "Forbidden");
    refused(
        &mallory(format!("{rbac}/clusterrolebindings"), binding("up", "ClusterRole", "cluster-admin")).await,
        403,
        "Forbidden",
    );
    let wider = json!([{"op": "add", "path": "/rules/0/verbs/-", "value": "delete"}]).to_string();
    let headers = [("impersonate-user", "mallory"), ("content-type", "application/json-patch+json")];
    let answer = admin.ask_with("PATCH", &format!("{roles}/held"), &headers, wider).await.unwrap();
    refused(&answer, 403, "Forbidden");
    // Nor may one become somebody else.
    let body = ask_as_user(&admin, "mallory", &[], "GET", SECRETS, None).await;
    let message = refused(&body, 403, "Forbidden");
    assert!(message.contains("mallory") && message.contains("list") && message.contains("secrets"), "{message}");
}

#[tokio::test]
async fn a_service_account_is_known_by_its_token_until_it_is_gone() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let body = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}});
    done(&admin.ask("POST", accounts, body.to_string()).await.unwrap());
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}});
    let answer = done(&admin.ask("POST", &format!("{accounts}/robot/token"), request.to_string()).await.unwrap());
    let token = answer["status"]["token"].as_str().unwrap().to_owned();
    let robot = cluster.anonymous().await.unwrap().with_token(&token);
    let message = refused(&robot.ask("GET", SECRETS, "").await.unwrap(), 403, "Forbidden");
    assert!(message.contains("system:serviceaccount:default:robot"), "{message}");
    let mut changed = token.clone();
    let last = changed.pop().unwrap();
    changed.push(if last == 'A' { 'B' } else { 'A' });
    changed.insert(changed.len() / 2, 'x');
    let liar = cluster.anonymous().await.unwrap().with_token(&changed);
    refused(&liar.ask("GET", SECRETS, "").await.unwrap(), 401, "Unauthorized");
    done(&admin.ask("DELETE", &format!("{accounts}/robot"), "").await.unwrap());
    refused(&robot.ask("GET", SECRETS, "").await.unwrap(), 401, "Unauthorized");
}
