//! Certificates on request: asked for, approved, issued by the built-in signers, and good for what they say.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use martello_api::clock;
use martello_pki::verify;
use martello_tests::{
    cluster::Cluster,
    raw::{Answer, Endpoint},
};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::{
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    server::ParsedCertificate,
};
use serde_json::{Value, json};

use crate::{
    answers::{done, refused},
    impersonation::grant,
    node_agent::until,
};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const WHOAMI: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING: &str = "kubernetes.io/kubelet-serving";
/// How far the end of a certificate may be from where it was asked to be: the request takes its time.
const TOLERANCE: Duration = Duration::from_secs(90);

/// What is asked for, with the key of whoever asks.
struct Asking {
    key: KeyPair,
    object: Value,
}

/// A request for a certificate with this subject and these names.
fn asking(name: &str, signer: &str, (user, group): (&str, &str), names: &[&str], usages: &[&str]) -> Asking {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).unwrap();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, user);
    parameters.distinguished_name.push(DnType::OrganizationName, group);
    let request = parameters.serialize_request(&key).unwrap().pem().unwrap();
    let spec = json!({"request": STANDARD.encode(request), "signerName": signer, "usages": usages});
    Asking { key, object: json!({"metadata": {"name": name}, "spec": spec}) }
}

async fn ask(user: &Endpoint, asking: &Asking) -> Answer {
    user.ask("POST", REQUESTS, asking.object.to_string()).await.unwrap()
}

/// Decides a request, as `kubectl certificate approve` and `deny` do.
async fn decide(user: &Endpoint, name: &str, decision: &str) -> Answer {
    let path = format!("{REQUESTS}/{name}/approval");
    let mut request = user.ask("GET", &format!("{REQUESTS}/{name}"), "").await.unwrap().json();
    let condition = json!({"type": decision, "status": "True", "reason": "Tested", "message": "by a test"});
    let conditions = request["status"]["conditions"].as_array().cloned().unwrap_or_default();
    request["status"]["conditions"] = [conditions, vec![condition]].concat().into();
    user.ask("PUT", &path, request.to_string()).await.unwrap()
}

/// Waits until a request has a certificate, and answers that as PEM.
async fn issued(admin: &Endpoint, name: &str) -> String {
    until("the certificate is issued", async || {
        let request = done(&admin.ask("GET", &format!("{REQUESTS}/{name}"), "").await.unwrap());
        let certificate = request["status"]["certificate"].as_str()?.to_owned();
        Some(String::from_utf8(STANDARD.decode(certificate).unwrap()).unwrap())
    })
    .await
}

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap()
}

async fn endpoint(cluster: &mut Cluster, pem: &str, key: &KeyPair) -> Endpoint {
    let authority = cluster.authority_pem().await.unwrap();
    Endpoint::with_certificate("127.0.0.1", cluster.port(), &authority, pem, &key.serialize_pem()).unwrap()
}

/// A node that proves with a certificate of its own which one it is.
pub(crate) async fn node(cluster: &mut Cluster, name: &str) -> Endpoint {
    let admin = cluster.admin().await.unwrap();
    let user = format!("system:node:{name}");
    // Whoever may ask for nodes needs nobody's approval.
    let wanted = asking(name, KUBELET, (&user, "system:nodes"), &[], &["client auth", "digital signature"]);
    done(&ask(&admin, &wanted).await);
    let pem = issued(&admin, name).await;
    endpoint(cluster, &pem, &wanted.key).await
}

async fn whoami(user: &Endpoint) -> Value {
    done(&user.ask("POST", WHOAMI, "{}").await.unwrap())["status"]["userInfo"].clone()
}

#[tokio::test]
async fn an_approved_request_makes_a_user_for_its_time() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let usages = ["client auth", "digital signature", "key encipherment"];
    let mut jane = asking("jane", CLIENT, ("jane", "devs"), &[], &usages);
    jane.object["spec"]["expirationSeconds"] = json!(1800);
    // Who asks is written down by the server, whatever the request says.
    jane.object["spec"]["username"] = json!("root");
    let made = done(&ask(&admin, &jane).await);
    assert_eq!((&made["spec"]["username"], &made["status"]), (&json!("admin"), &json!({})));
    let approved = done(&decide(&admin, "jane", "Approved").await);
    let condition = &approved["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["reason"]), (&json!("Approved"), &json!("Tested")));
    assert!(condition["lastUpdateTime"].is_string() && condition["lastTransitionTime"].is_string(), "{condition}");
    let pem = issued(&admin, "jane").await;
    let expires = verify::expires(&chain(&pem)).unwrap();
    let left = Duration::try_from(expires.duration_since(clock::now())).unwrap();
    assert!(left <= Duration::from_secs(1800) && left > Duration::from_secs(1800) - TOLERANCE, "{left:?}");
    let user = whoami(&endpoint(&mut cluster, &pem, &jane.key).await).await;
    assert_eq!((&user["username"], &user["groups"]), (&json!("jane"), &json!(["devs", "system:authenticated"])));
    let proof = user["extra"]["authentication.kubernetes.io/credential-id"][0].as_str().unwrap();
    assert!(proof.starts_with("X509SHA256="), "{user}");

    // What was issued stays, and what was decided is not undone.
    let path = format!("{REQUESTS}/jane/status");
    let other = json!({"status": {"certificate": STANDARD.encode(&pem).replace("LS0", "QUI")}}).to_string();
    let merge = "application/merge-patch+json";
    assert_eq!(admin.ask_as("PATCH", &path, merge, other).await.unwrap().status, 422);
    let message = refused(&decide(&admin, "jane", "Denied").await, 422, "Invalid");
    let words = "CertificateSigningRequest.certificates.k8s.io \"jane\" is invalid: status.conditions: Invalid value: \"Denied\": \
                 Approved and Denied conditions are mutually exclusive";
    assert_eq!(message, words);
}

#[tokio::test]
async fn a_signer_says_what_it_does_not_sign() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let node = ("system:node:n1", "system:nodes");
    let client = ["client auth", "digital signature"];
    for (name, signer, subject, names, usages, why) in [
        (
            "serves",
            CLIENT,
            ("jane", "devs"),
            &[][..],
            &["server auth"][..],
            "invalid usage for client certificate: server auth",
        ),
        (
            "says-nothing",
            CLIENT,
            ("jane", "devs"),
            &[],
            &["digital signature"],
            "missing required usage for client certificate: client auth",
        ),
        (
            "no-node",
            KUBELET,
            ("jane", "system:nodes"),
            &[],
            &client,
            "subject common name does not begin with system:node:",
        ),
        ("no-nodes", KUBELET, ("system:node:n1", "devs"), &[], &client, "subject organization is not system:nodes"),
        ("named", KUBELET, node, &["n1.example.com"], &client, "DNS subjectAltNames are not allowed"),
        ("addressed", KUBELET, node, &["10.0.0.1"], &client, "IP subjectAltNames are not allowed"),
        (
            "both-ways",
            KUBELET,
            node,
            &[],
            &["client auth", "server auth"],
            "usages did not match [client auth digital signature key encipherment]",
        ),
        ("nameless", SERVING, node, &[], &["server auth", "digital signature"], "DNS or IP subjectAltName is required"),
        (
            "asks",
            SERVING,
            node,
            &["n1.example.com"],
            &client,
            "usages did not match [digital signature key encipherment server auth]",
        ),
    ] {
        done(&ask(&admin, &asking(name, signer, subject, names, usages)).await);
        done(&decide(&admin, name, "Approved").await);
        let failed = until("the signer says so", async || {
            let request = done(&admin.ask("GET", &format!("{REQUESTS}/{name}"), "").await.unwrap());
            let conditions = request["status"]["conditions"].as_array()?.clone();
            conditions.into_iter().find(|condition| condition["type"] == "Failed")
        })
        .await;
        let told = (&failed["status"], &failed["reason"], &failed["message"]);
        assert_eq!(told, (&json!("True"), &json!("SignerValidationFailure"), &json!(why)), "{name}");
    }
    // Some of it is not even asked for.
    let masters = ask(&admin, &asking("up", CLIENT, ("jane", "system:masters"), &[], &client)).await;
    assert_eq!(
        refused(&masters, 403, "Forbidden"),
        "certificatesigningrequests.certificates.k8s.io \"up\" is forbidden: use of kubernetes.io/kube-apiserver-client \
         signer with system:masters group is not allowed"
    );
    let mut brief = asking("brief", CLIENT, ("jane", "devs"), &[], &client);
    brief.object["spec"]["expirationSeconds"] = json!(599);
    let legacy = asking("old", "kubernetes.io/legacy-unknown", ("jane", "devs"), &[], &client);
    for (asked, why) in [
        (
            brief,
            "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)",
        ),
        (
            legacy,
            "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed via this API version",
        ),
    ] {
        let message = refused(&ask(&admin, &asked).await, 422, "Invalid");
        assert!(message.ends_with(why), "{message}");
    }
    // What is denied gets nothing, also if it is approved later on.
    done(&ask(&admin, &asking("denied", CLIENT, ("jane", "devs"), &[], &client)).await);
    let denied = done(&decide(&admin, "denied", "Denied").await);
    assert_eq!(denied["status"]["conditions"][0]["type"], "Denied");
    refused(&decide(&admin, "denied", "Approved").await, 422, "Invalid");
}

#[tokio::test]
async fn who_decides_and_who_signs_is_granted_by_signer() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let group = "certificates.k8s.io";
    let all = json!([
        {"apiGroups": [group], "resources": ["certificatesigningrequests"], "verbs": ["get", "create"]},
        {"apiGroups": [group], "resources": ["certificatesigningrequests/approval", "certificatesigningrequests/status"],
            "verbs": ["update", "patch"]},
    ]);
    let on = |verb: &str, signer: &str| json!({"apiGroups": [group], "resources": ["signers"], "resourceNames": [signer], "verbs": [verb]});
    let with = |rule: Value| json!([all[0], all[1], rule]);
    grant(&admin, "nobody", all.clone()).await;
    grant(&admin, "approver", with(on("approve", CLIENT))).await;
    grant(&admin, "family", with(on("approve", "example.com/*"))).await;
    grant(&admin, "signer", with(on("sign", "example.com/own"))).await;
    let (nobody, approver) = (cluster.user("nobody").await.unwrap(), cluster.user("approver").await.unwrap());
    let (family, signer) = (cluster.user("family").await.unwrap(), cluster.user("signer").await.unwrap());
    for (name, signer) in [("one", CLIENT), ("two", "example.com/own")] {
        let made = done(&ask(&nobody, &asking(name, signer, ("jane", "devs"), &[], &["client auth"])).await);
        assert_eq!(made["spec"]["username"], "nobody");
    }
    let not_approved = |name: &str, signer: &str| {
        format!(
            "certificatesigningrequests.certificates.k8s.io {name:?} is forbidden: user not permitted to approve \
             requests with signerName {signer:?}"
        )
    };
    for (user, name, of) in [(&nobody, "one", CLIENT), (&family, "one", CLIENT), (&approver, "two", "example.com/own")]
    {
        assert_eq!(refused(&decide(user, name, "Approved").await, 403, "Forbidden"), not_approved(name, of));
    }
    done(&decide(&family, "two", "Approved").await);
    done(&decide(&approver, "one", "Approved").await);
    let pem = issued(&admin, "one").await;
    let merge = "application/merge-patch+json";
    let signed = json!({"status": {"certificate": STANDARD.encode(&pem)}}).to_string();
    let path = format!("{REQUESTS}/two/status");
    let message = refused(&nobody.ask_as("PATCH", &path, merge, signed.clone()).await.unwrap(), 403, "Forbidden");
    assert!(message.ends_with("user not permitted to sign requests with signerName \"example.com/own\""), "{message}");
    let found = done(&signer.ask_as("PATCH", &path, merge, signed).await.unwrap());
    assert_eq!(found["status"]["certificate"], STANDARD.encode(&pem));
}

#[tokio::test]
async fn nodes_are_approved_for_themselves_and_serve_by_approval() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let group = "certificates.k8s.io";
    let create = |parts: &[&str]| {
        let parts: Vec<String> = parts.iter().map(|part| format!("certificatesigningrequests{part}")).collect();
        json!([{"apiGroups": [group], "resources": parts, "verbs": ["create"]}])
    };
    grant(&admin, "bootstrapper", create(&["", "/nodeclient"])).await;
    grant(&admin, "stranger", create(&[""])).await;
    let subject = ("system:node:n1", "system:nodes");
    let usages = ["client auth", "digital signature"];
    // Whoever may ask for nodes does so, and others only ask.
    let (bootstrapper, stranger) =
        (cluster.user("bootstrapper").await.unwrap(), cluster.user("stranger").await.unwrap());
    done(&ask(&stranger, &asking("waits", KUBELET, subject, &[], &usages)).await);
    let first = asking("first", KUBELET, subject, &[], &usages);
    done(&ask(&bootstrapper, &first).await);
    let pem = issued(&admin, "first").await;
    let condition =
        done(&admin.ask("GET", &format!("{REQUESTS}/first"), "").await.unwrap())["status"]["conditions"][0].clone();
    assert_eq!(
        (&condition["type"], &condition["reason"], &condition["message"]),
        (
            &json!("Approved"),
            &json!("AutoApproved"),
            &json!("Auto approving kubelet client certificate after SubjectAccessReview.")
        )
    );
    let node = endpoint(&mut cluster, &pem, &first.key).await;
    let user = whoami(&node).await;
    assert_eq!(
        (&user["username"], &user["groups"]),
        (&json!("system:node:n1"), &json!(["system:nodes", "system:authenticated"]))
    );

    // The node renews its certificate itself, if all nodes may.
    let name = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient";
    let rbac = "rbac.authorization.k8s.io";
    let binding = json!({"metadata": {"name": "renewal"}, "roleRef": {"kind": "ClusterRole", "name": name, "apiGroup": rbac},
        "subjects": [{"kind": "Group", "name": "system:nodes", "apiGroup": rbac}]});
    done(&admin.ask("POST", &format!("{RBAC}/clusterrolebindings"), binding.to_string()).await.unwrap());
    done(&ask(&node, &asking("renewed", KUBELET, subject, &[], &usages)).await);
    issued(&admin, "renewed").await;
    let renewed = done(&admin.ask("GET", &format!("{REQUESTS}/renewed"), "").await.unwrap());
    assert_eq!(
        renewed["status"]["conditions"][0]["message"],
        "Auto approving self kubelet client certificate after SubjectAccessReview."
    );

    // What it serves with is approved by somebody, and bears what was asked for.
    let names = ["n1.example.com", "10.1.2.3"];
    let serving = asking("serving", SERVING, subject, &names, &["server auth", "digital signature"]);
    done(&ask(&node, &serving).await);
    done(&decide(&admin, "serving", "Approved").await);
    let pem = issued(&admin, "serving").await;
    let leaf = chain(&pem).remove(0);
    let parsed = ParsedCertificate::try_from(&leaf).unwrap();
    for name in names {
        rustls::client::verify_server_name(&parsed, &ServerName::try_from(name).unwrap()).unwrap();
    }
    let other = ServerName::try_from("n2.example.com").unwrap();
    assert!(rustls::client::verify_server_name(&parsed, &other).is_err());
    // It proves nothing to this server.
    let impostor = endpoint(&mut cluster, &pem, &serving.key).await;
    assert!(impostor.ask("GET", "/api/v1/nodes", "").await.map_or(true, |answer| answer.status == 401));

    let waits = done(&admin.ask("GET", &format!("{REQUESTS}/waits"), "").await.unwrap());
    assert_eq!(waits["status"], json!({}));
}
