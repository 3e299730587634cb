//! `serviceaccounts/token`: tokens that are bound to a pod, for an audience and a time.

use std::sync::Arc;

use jiff::SignedDuration;
use martello_api::{
    attributes::{Attributes, ResourceTarget, Target},
    clock::rfc3339_seconds,
    status::{ApiError, Cause},
};
use martello_pki::token::{BoundObject, MAX_TOKEN_LIFETIME, TokenSpec};
use martello_policy::Decision;
use serde_json::{Value, json};

use crate::{
    admission,
    authn::credentials::own_audiences,
    http::reply::Reply,
    registry::{
        call::Call,
        codec,
        kind::{Connect, Kind, Served},
        object,
        verbs::answer,
    },
    server::Core,
};

const GROUP: &str = "authentication.k8s.io";
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
const DEFAULT_SECONDS: i64 = 3600;

/// The token subresource.
pub struct TokenRequests;

impl Connect for TokenRequests {
    fn serve<'a>(&'a self, core: &'a Arc<Core>, kind: &'a Arc<Kind>, call: Call) -> Served<'a> {
        Box::pin(async move { request(core, kind, &call).await })
    }
}

async fn request(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call) -> Result<Reply, ApiError> {
    let dry_run = call.dry_run("CreateOptions")?;
    let mut body = codec::Foreign::read(call, GROUP, "v1", "TokenRequest")?.apply(call, &Value::Null)?;
    object::set_default(&mut body, &["spec"], "expirationSeconds", DEFAULT_SECONDS);
    body = admission::fill_below(core, kind, call, body).await?;
    check_name(call, &body)?;
    let account = core.get(kind, call.namespace(), call.name()).await?;
    check_account(call.name(), &body, &account.uid)?;
    let asked = asked_fields(&body);
    let mut audiences: Vec<String> =
        object::list(&body, &["spec", "audiences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if audiences.is_empty() {
        audiences = own_audiences(core);
    }
    object::set(&mut body, &["metadata"], "name", call.name());
    object::set(&mut body, &["metadata"], "namespace", call.namespace());
    object::set(&mut body, &["metadata"], "creationTimestamp", rfc3339_seconds(call.now));
    object::set(&mut body, &["spec"], "audiences", audiences.as_slice());
    let seconds = object::int(&body, &["spec", "expirationSeconds"]).unwrap_or(DEFAULT_SECONDS);
    check_seconds(seconds)?;
    admission::judge_below(core, kind, call, &body).await?;
    let granted = seconds.min(MAX_TOKEN_LIFETIME.as_secs());
    if granted < seconds {
        call.warn(format!("requested expiration of {seconds} seconds shortened to {granted} seconds"));
    }
    let mut spec = TokenSpec {
        namespace: call.namespace().to_owned(),
        service_account: call.name().to_owned(),
        uid: account.uid.to_string(),
        audiences,
        lifetime: SignedDuration::from_secs(granted),
        ..TokenSpec::default()
    };
    // What a node may ask for is told by what was asked, without the audiences that are filled in.
    bind(core, call, &asked, &mut spec).await?;
    let issued = core.pki.tokens().issue(spec, call.now).map_err(ApiError::internal)?;
    object::set(&mut body, &[], "kind", "TokenRequest");
    object::set(&mut body, &[], "apiVersion", "authentication.k8s.io/v1");
    object::set(&mut body, &["metadata"], "uid", account.uid.to_string());
    object::set(&mut body, &["spec"], "expirationSeconds", granted);
    object::set_default(&mut body, &["spec"], "boundObjectRef", Value::Null);
    codec::track_foreign(call, &(GROUP, "v1", "TokenRequest"), &asked, &mut body, "token");
    let token = if dry_run { String::new() } else { issued.token };
    let status = json!({"token": token, "expirationTimestamp": rfc3339_seconds(issued.expires)});
    object::set(&mut body, &[], "status", status);
    Ok(answer::encoded(call, 201, &body))
}

/// The body may leave the name out; if it names it, it is that of the path.
fn check_name(call: &Call, body: &Value) -> Result<(), ApiError> {
    let name = object::name(body);
    if name.is_empty() || name == call.name() {
        return Ok(());
    }
    let cause = Cause::invalid("metadata.name", &json!(name), "must match the service account name if specified");
    Err(ApiError::invalid(GROUP, "TokenRequest", call.name(), vec![cause]))
}

/// The body may leave the UID out; if it has one, it is that of the account, so that no namesake gets the token.
fn check_account(name: &str, body: &Value, uid: &str) -> Result<(), ApiError> {
    let asked = object::uid(body);
    if asked.is_empty() || asked == uid {
        return Ok(());
    }
    let why = format!("the UID in the token request ({asked}) does not match the UID of the service account ({uid})");
    // Upstream names the kind where the resource stands otherwise.
    Err(ApiError::conflict(GROUP, "TokenRequest", name, &why))
}

/// What of the body counts as set by the client: upstream decodes the life that is the default, too.
fn asked_fields(body: &Value) -> Value {
    let spec = body.get("spec").cloned().unwrap_or_else(|| json!({}));
    json!({"spec": spec})
}

fn check_seconds(seconds: i64) -> Result<(), ApiError> {
    const PATH: &str = "spec.expirationSeconds";
    let why = match seconds {
        ..MIN_SECONDS => "may not specify a duration less than 10 minutes",
        seconds if seconds > MAX_SECONDS => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(()),
    };
    let cause = Cause::invalid(PATH, &json!(seconds), why);
    Err(ApiError::invalid(GROUP, "TokenRequest", "", vec![cause]))
}

/// Binds the token to the pod or Secret that the request names; a node may ask only for its own pods.
async fn bind(core: &Arc<Core>, call: &Call, body: &Value, spec: &mut TokenSpec) -> Result<(), ApiError> {
    let reference = object::at(body, &["spec", "boundObjectRef"]).filter(|reference| !reference.is_null());
    let node = call.user.node_name();
    let forbidden = |why: &str| ApiError::forbidden("", "serviceaccounts", call.name(), why);
    let Some(reference) = reference else {
        return match node {
            Some(_) => Err(forbidden("node requested token not bound to a pod")),
            None => Ok(()),
        };
    };
    let (kind_name, name) = (object::text(reference, &["kind"]), object::text(reference, &["name"]));
    let version = object::text(reference, &["apiVersion"]);
    if node.is_some() && ((version, kind_name) != ("v1", "Pod") || name.is_empty()) {
        return Err(forbidden("node requested token not bound to a pod"));
    }
    let uid = object::text(reference, &["uid"]);
    if node.is_some() && uid.is_empty() {
        return Err(forbidden("node requested token with a pod binding without a uid"));
    }
    let (group, short) = version.split_once('/').unwrap_or(("", version));
    let plural = match (group, kind_name) {
        ("", "Pod") => "pods",
        ("", "Secret") => "secrets",
        ("", "Node") => "nodes",
        _ => {
            let why = format!("cannot bind token to object of type {group}/{short}, Kind={kind_name}");
            return Err(ApiError::bad_request(why));
        }
    };
    let kind = core.registry.find("", "v1", plural).ok_or_else(ApiError::no_such_route)?;
    if name.is_empty() {
        return Err(ApiError::bad_request("Name parameter required."));
    }
    let entry = core.get(kind, call.namespace(), name).await?;
    // Upstream names the kind where the resource stands otherwise.
    let conflict =
        (!uid.is_empty() && uid != &*entry.uid).then(|| ApiError::conflict("", kind_name, name, &of_another(uid)));
    let bound = Some(BoundObject { name: name.to_owned(), uid: entry.uid.to_string() });
    match plural {
        "pods" => {
            let pod = core.value(kind, &entry).await?;
            if let Some(node) = node {
                check_node(core, call, body, &pod, node).await?;
            }
            let account = object::text(&pod, &["spec", "serviceAccountName"]);
            if account != call.name() {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    call.name()
                )));
            }
            spec.pod = bound;
            spec.node = node_of(core, object::text(&pod, &["spec", "nodeName"])).await?;
        }
        "secrets" => spec.secret = bound,
        _ => spec.node = bound,
    }
    conflict.map_or(Ok(()), Err)
}

fn of_another(uid: &str) -> String {
    format!(
        "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
    )
}

/// A node gets tokens only for the very pods that run on it.
async fn check_node(core: &Arc<Core>, call: &Call, body: &Value, pod: &Value, node: &str) -> Result<(), ApiError> {
    let refuse = |why: &str| Err(ApiError::forbidden("", "serviceaccounts", call.name(), why));
    let uid = object::text(body, &["spec", "boundObjectRef", "uid"]);
    if uid != object::uid(pod) {
        return refuse(&of_another(uid));
    }
    if node != object::text(pod, &["spec", "nodeName"]) {
        return refuse("node requested token bound to a pod scheduled on a different node");
    }
    check_audience(core, call, body, pod).await
}

/// A node gets tokens only for the audiences that its pod asks for, by a projected volume or through its storage drivers,
/// and for those that a rule allows it by name.
async fn check_audience(core: &Arc<Core>, call: &Call, body: &Value, pod: &Value) -> Result<(), ApiError> {
    let refuse = |why: &str| Err(ApiError::forbidden("", "serviceaccounts", call.name(), why));
    let audience = match object::list(body, &["spec", "audiences"]) {
        [] => "",
        [audience] => audience.as_str().unwrap_or_default(),
        _ => return refuse("node may only request 0 or 1 audiences"),
    };
    for volume in object::list(pod, &["spec", "volumes"]) {
        let tokens = object::list(volume, &["projected", "sources"]).iter();
        let mut tokens =
            tokens.filter_map(|source| source.get("serviceAccountToken").filter(|token| token.is_object()));
        if tokens.any(|token| object::text(token, &["audience"]) == audience) {
            return Ok(());
        }
        let Some(driver) = driver_of(core, call.namespace(), pod, volume).await? else { continue };
        let mut asked = object::list(&driver, &["spec", "tokenRequests"]).iter();
        if asked.any(|request| object::text(request, &["audience"]) == audience) {
            return Ok(());
        }
    }
    let target = ResourceTarget {
        version: "v1".to_owned(),
        resource: audience.to_owned(),
        namespace: call.namespace().to_owned(),
        name: call.name().to_owned(),
        ..ResourceTarget::default()
    };
    let verb = "request-serviceaccounts-token-audience".to_owned();
    let attributes = Attributes { user: Arc::clone(&call.user), verb, target: Target::Resource(target) };
    if !audience.is_empty() && matches!(core.authorizer.authorize(&attributes), Decision::Allow(_)) {
        return Ok(());
    }
    refuse(&format!(
        "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
        call.user.name
    ))
}

/// The CSIDriver that serves a volume of a pod, by itself or through a claim.
async fn driver_of(core: &Arc<Core>, namespace: &str, pod: &Value, volume: &Value) -> Result<Option<Value>, ApiError> {
    let inline = object::text(volume, &["csi", "driver"]);
    let mut name = inline.to_owned();
    let mut claim = object::text(volume, &["persistentVolumeClaim", "claimName"]).to_owned();
    if object::at(volume, &["ephemeral"]).is_some() {
        claim = format!("{}-{}", object::name(pod), object::text(volume, &["name"]));
    }
    if !claim.is_empty() {
        let claim = read(core, ("", "v1", "persistentvolumeclaims"), namespace, &claim).await?.unwrap_or_default();
        let volume = object::text(&claim, &["spec", "volumeName"]);
        let volume = read(core, ("", "v1", "persistentvolumes"), "", volume).await?.unwrap_or_default();
        object::text(&volume, &["spec", "csi", "driver"]).clone_into(&mut name);
    }
    read(core, ("storage.k8s.io", "v1", "csidrivers"), "", &name).await
}

async fn read(
    core: &Arc<Core>,
    (group, version, plural): (&str, &str, &str),
    namespace: &str,
    name: &str,
) -> Result<Option<Value>, ApiError> {
    let kind = core.registry.find(group, version, plural).ok_or_else(ApiError::no_such_route)?;
    if name.is_empty() {
        return Ok(None);
    }
    match core.find(kind, namespace, name).await? {
        Some(entry) => Ok(Some(core.value(kind, &entry).await?)),
        None => Ok(None),
    }
}

async fn node_of(core: &Arc<Core>, name: &str) -> Result<Option<BoundObject>, ApiError> {
    let Some(nodes) = core.registry.find("", "v1", "nodes") else { return Ok(None) };
    if name.is_empty() {
        return Ok(None);
    }
    let entry = core.find(nodes, "", name).await?;
    let uid = entry.map(|entry| entry.uid.to_string()).unwrap_or_default();
    Ok(Some(BoundObject { name: name.to_owned(), uid }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namesake_of_the_account_gets_no_token() {
        assert!(check_account("a", &json!({}), "u").is_ok());
        assert!(check_account("a", &json!({"metadata": {"uid": "u"}}), "u").is_ok());
        let refused = check_account("a", &json!({"metadata": {"uid": "v"}}), "u").unwrap_err();
        assert_eq!(refused.code, 409);
        assert_eq!(
            refused.message,
            "Operation cannot be fulfilled on TokenRequest.authentication.k8s.io \"a\": the UID in the token request (v) does not match the UID of the service account (u)"
        );
    }
}
