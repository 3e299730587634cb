//! The built-in signers of certificate requests, and the approval of what node agents ask for themselves.

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use martello_api::{
    attributes::{Attributes, ResourceTarget, Target},
    clock,
    identity::{GROUP_NODES, NODE_USER_PREFIX, User},
    status::ApiError,
};
use martello_pki::{Profile, ServerName, request::SigningRequest};
use serde_json::{Value, json};

use super::{Core, extensions::FRONT_PROXY, followup};
use crate::registry::object;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const GROUP: &str = "certificates.k8s.io";
/// Upstream tells mail addresses from URIs; they are read alike here.
const OTHER_NAMES: &str = "Email subjectAltNames are not allowed";
/// What certificates for clients may be used for.
const CLIENT_USAGES: [&str; 3] = ["client auth", "digital signature", "key encipherment"];

/// Follows a write of a certificate request: approves it, or signs it, where that is ours to do.
pub fn follow(core: &Arc<Core>, request: &Value) {
    let name = object::name(request).to_owned();
    let (core, request) = (Arc::clone(core), request.clone());
    match next(&request) {
        Next::Nothing => {}
        Next::Approve => followup::spawn("approve a certificate request", &name.clone(), async move {
            approve(&core, &request, clock::now()).await
        }),
        Next::Sign => followup::spawn("sign a certificate request", &name.clone(), async move {
            sign(&core, &request, clock::now()).await
        }),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Nothing,
    Approve,
    Sign,
}

/// What is to be done about a request.
fn next(request: &Value) -> Next {
    let signer = object::text(request, &["spec", "signerName"]);
    let has = |kind: &str| conditions(request).iter().any(|one| object::text(one, &["type"]) == kind);
    let issued = !object::text(request, &["status", "certificate"]).is_empty();
    if !matches!(signer, CLIENT | KUBELET_CLIENT | KUBELET_SERVING) || issued || has("Denied") || has("Failed") {
        return Next::Nothing;
    }
    match has("Approved") {
        true => Next::Sign,
        false if signer == KUBELET_CLIENT => Next::Approve,
        false => Next::Nothing,
    }
}

fn conditions(request: &Value) -> &[Value] {
    object::list(request, &["status", "conditions"])
}

fn asked(request: &Value) -> Result<SigningRequest, String> {
    let pem = STANDARD.decode(object::text(request, &["spec", "request"])).unwrap_or_default();
    SigningRequest::from_pem(&pem).map_err(|error| error.to_string())
}

fn usages(request: &Value) -> BTreeSet<&str> {
    object::list(request, &["spec", "usages"]).iter().filter_map(Value::as_str).collect()
}

/// Approves what a node agent asks for, if it may ask for it.
async fn approve(core: &Arc<Core>, request: &Value, now: Timestamp) -> Result<(), ApiError> {
    let Ok(asked) = asked(request) else { return Ok(()) };
    if kubelet_client(&asked, &usages(request)).is_err() {
        return Ok(());
    }
    let user = requester(request);
    let own = asked.common_name.as_deref() == Some(user.name.as_str());
    let grants = [
        (own, "selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."),
        (true, "nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."),
    ];
    let granted = grants.iter().find(|(fits, part, _)| *fits && may_create(core, &user, part));
    let Some((_, _, message)) = granted else { return Ok(()) };
    let condition = json!({"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message});
    change(core, request, "approval", |request| {
        let mut all = conditions(request).to_vec();
        all.push(condition);
        json!({"conditions": all})
    })
    .await?;
    tracing::info!(name = object::name(request), user = user.name, %now, "approved a node's certificate request");
    Ok(())
}

fn requester(request: &Value) -> User {
    let texts = |value: Option<&Value>| -> Vec<String> {
        value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let spec = request.get("spec").unwrap_or(&Value::Null);
    let extra = spec.get("extra").and_then(Value::as_object).into_iter().flatten();
    User {
        name: object::text(spec, &["username"]).to_owned(),
        uid: spec.get("uid").and_then(Value::as_str).map(str::to_owned),
        groups: texts(spec.get("groups")),
        extra: extra.map(|(key, values)| (key.clone(), texts(Some(values)))).collect(),
    }
}

fn may_create(core: &Core, user: &User, part: &str) -> bool {
    let target = ResourceTarget {
        group: GROUP.to_owned(),
        version: "*".to_owned(),
        resource: "certificatesigningrequests".to_owned(),
        subresource: part.to_owned(),
        ..ResourceTarget::default()
    };
    let attributes =
        Attributes { user: Arc::new(user.clone()), verb: "create".to_owned(), target: Target::Resource(target) };
    core.authorizer.authorize(&attributes).is_allowed()
}

/// Signs an approved request, or says why that can't be.
async fn sign(core: &Arc<Core>, request: &Value, now: Timestamp) -> Result<(), ApiError> {
    let issued = asked(request).and_then(|asked| issue(core, request, &asked, now));
    match issued {
        Ok(pem) => {
            let certificate = STANDARD.encode(pem);
            change(core, request, "status", |_| json!({"certificate": certificate})).await
        }
        Err(why) => {
            let failed =
                json!({"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": why});
            change(core, request, "status", |request| {
                let mut all = conditions(request).to_vec();
                all.push(failed);
                json!({"conditions": all})
            })
            .await
        }
    }
}

fn issue(core: &Core, request: &Value, asked: &SigningRequest, now: Timestamp) -> Result<String, String> {
    let profile = profile(object::text(request, &["spec", "signerName"]), asked, &usages(request))?;
    let key = asked.key.as_ref().ok_or("the public key is not accepted: use ECDSA P-256 or P-384, Ed25519, or RSA")?;
    let lifetime = object::int(request, &["spec", "expirationSeconds"]).map(SignedDuration::from_secs);
    let issued = core.pki.signer().certify(&profile, key, lifetime, now).map_err(|error| error.to_string())?;
    Ok(issued.chain_pem())
}

/// What is to be issued, if the signer issues it.
fn profile(signer: &str, asked: &SigningRequest, usages: &BTreeSet<&str>) -> Result<Profile, String> {
    match signer {
        CLIENT => {
            if let Some(other) = usages.iter().find(|usage| !CLIENT_USAGES.contains(usage)) {
                return Err(format!("invalid usage for client certificate: {other}"));
            }
            if !usages.contains("client auth") {
                return Err("missing required usage for client certificate: client auth".to_owned());
            }
            let name = asked.common_name.clone().ok_or("the request has not one common name")?;
            if name == FRONT_PROXY {
                return Err(format!("{FRONT_PROXY:?} is this server's own name towards extension servers"));
            }
            Ok(Profile::User { name, groups: asked.organizations.clone() })
        }
        KUBELET_CLIENT => kubelet_client(asked, usages).map(|node| Profile::NodeClient { node }),
        _ => {
            is_of_nodes(asked)?;
            if asked.dns_names.is_empty() && asked.addresses.is_empty() {
                return Err("DNS or IP subjectAltName is required".to_owned());
            }
            if asked.other_names > 0 {
                return Err(OTHER_NAMES.to_owned());
            }
            has_usages(usages, "[digital signature key encipherment server auth]", "server auth")?;
            let node = node(asked)?;
            let names = asked.dns_names.iter().map(|name| ServerName::Dns(name.clone()));
            let names = names.chain(asked.addresses.iter().map(|address| ServerName::Ip(*address))).collect();
            Ok(Profile::NodeServing { node, names })
        }
    }
}

fn kubelet_client(asked: &SigningRequest, usages: &BTreeSet<&str>) -> Result<String, String> {
    is_of_nodes(asked)?;
    if !asked.dns_names.is_empty() {
        return Err("DNS subjectAltNames are not allowed".to_owned());
    }
    if !asked.addresses.is_empty() {
        return Err("IP subjectAltNames are not allowed".to_owned());
    }
    if asked.other_names > 0 {
        return Err(OTHER_NAMES.to_owned());
    }
    let node = node(asked)?;
    has_usages(usages, "[client auth digital signature key encipherment]", "client auth")?;
    Ok(node)
}

fn is_of_nodes(asked: &SigningRequest) -> Result<(), String> {
    if asked.organizations == [GROUP_NODES] {
        return Ok(());
    }
    Err(format!("subject organization is not {GROUP_NODES}"))
}

/// Whether a certificate is to be used for what its signer grants: encipherment is for keys that can do that.
fn has_usages(usages: &BTreeSet<&str>, all: &str, purpose: &str) -> Result<(), String> {
    let others: BTreeSet<&str> = usages.iter().filter(|usage| **usage != "key encipherment").copied().collect();
    if others == BTreeSet::from(["digital signature", purpose]) {
        return Ok(());
    }
    Err(format!("usages did not match {all}"))
}

/// The node that a request of a node agent speaks of.
fn node(asked: &SigningRequest) -> Result<String, String> {
    let name = asked.common_name.as_deref().unwrap_or_default();
    let node = name.strip_prefix(NODE_USER_PREFIX).filter(|node| !node.is_empty());
    node.map(str::to_owned).ok_or_else(|| format!("subject common name does not begin with {NODE_USER_PREFIX}"))
}

/// Changes a part of the status of the request as it is now, unless somebody else was faster.
async fn change(
    core: &Arc<Core>,
    request: &Value,
    part: &str,
    status: impl FnOnce(&Value) -> Value,
) -> Result<(), ApiError> {
    let kind = core.registry.find(GROUP, "v1", "certificatesigningrequests").ok_or_else(ApiError::no_such_route)?;
    let entry = core.get(kind, "", object::name(request)).await?;
    let present = core.value(kind, &entry).await?;
    if next(&present) == Next::Nothing || object::uid(&present) != object::uid(request) {
        return Ok(());
    }
    let revision = object::text(&present, &["metadata", "resourceVersion"]).to_owned();
    let body = json!({"metadata": {"resourceVersion": revision}, "status": status(&present)});
    let path = format!("/apis/{GROUP}/v1/certificatesigningrequests/{}/{part}", object::name(request));
    followup::patch(&core.own_client(), &path, &body).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(name: &str, groups: &[&str]) -> SigningRequest {
        SigningRequest {
            common_name: Some(name.to_owned()),
            organizations: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..SigningRequest::default()
        }
    }

    #[test]
    fn a_node_gets_what_nodes_get() {
        let node = asks("system:node:worker", &["system:nodes"]);
        let usages = |list: &[&'static str]| list.iter().copied().collect::<BTreeSet<_>>();
        let client = usages(&["digital signature", "client auth"]);
        assert_eq!(profile(KUBELET_CLIENT, &node, &client), Ok(Profile::NodeClient { node: "worker".to_owned() }));
        assert!(profile(KUBELET_CLIENT, &asks("system:node:worker", &["others"]), &client).is_err());
        assert!(profile(KUBELET_CLIENT, &asks("jane", &["system:nodes"]), &client).is_err());
        assert!(profile(KUBELET_SERVING, &node, &usages(&["digital signature", "server auth"])).is_err());
        assert!(profile(CLIENT, &asks("jane", &[]), &usages(&["server auth"])).is_err());
        assert!(profile(CLIENT, &asks("jane", &[]), &usages(&["client auth"])).is_ok());
    }

    #[test]
    fn what_is_not_signed_is_told_in_upstreams_words() {
        let usages = |list: &[&'static str]| list.iter().copied().collect::<BTreeSet<_>>();
        let why = |signer: &str, asked: &SigningRequest, of: &[&'static str]| {
            profile(signer, asked, &usages(of)).unwrap_err()
        };
        let (jane, node) = (asks("jane", &[]), asks("system:node:worker", &["system:nodes"]));
        assert_eq!(why(CLIENT, &jane, &["signing", "client auth"]), "invalid usage for client certificate: signing");
        assert_eq!(
            why(CLIENT, &jane, &["digital signature"]),
            "missing required usage for client certificate: client auth"
        );
        assert_eq!(
            why(KUBELET_CLIENT, &node, &["client auth"]),
            "usages did not match [client auth digital signature key encipherment]"
        );
        let named = SigningRequest { dns_names: vec!["worker".to_owned()], ..node };
        assert_eq!(why(KUBELET_CLIENT, &named, &["client auth"]), "DNS subjectAltNames are not allowed");
        assert_eq!(
            why(KUBELET_SERVING, &named, &["server auth"]),
            "usages did not match [digital signature key encipherment server auth]"
        );
    }

    #[test]
    fn only_approved_requests_of_our_signers_are_signed() {
        let request = |signer: &str, conditions: Value| {
            next(&json!({"spec": {"signerName": signer}, "status": {"conditions": conditions}}))
        };
        let approved = json!([{"type": "Approved"}]);
        assert_eq!(request("example.com/s", approved.clone()), Next::Nothing);
        assert_eq!(request(CLIENT, json!([])), Next::Nothing);
        assert_eq!(request(CLIENT, approved), Next::Sign);
        assert_eq!(request(KUBELET_CLIENT, json!([])), Next::Approve);
        assert_eq!(request(KUBELET_CLIENT, json!([{"type": "Approved"}, {"type": "Failed"}])), Next::Nothing);
    }
}
