//! Which Secrets a pod may use, where its service account limits that.

use std::sync::Arc;

use martello_api::status::ApiError;
use serde_json::Value;

use super::Operation;
use crate::{
    registry::{call::Call, kind::Kind, object},
    server::Core,
};

/// What an account bears that limits its pods to the Secrets that it names.
const ANNOTATION: &str = "kubernetes.io/enforce-mountable-secrets";
/// How clients may write it.
const TRUE: [&str; 6] = ["1", "t", "T", "TRUE", "true", "True"];
/// Lists of containers of a new pod, and what messages call one.
const CONTAINERS: [(&str, &str); 2] = [("initContainers", "init container"), ("containers", "container")];

/// What is wrong with a new pod, if it uses a Secret that its account limits it from.
#[must_use]
pub fn fault(account: &Value, pod: &Value) -> Option<String> {
    let account = Account::limiting(account)?;
    let volumes = object::list(pod, &["spec", "volumes"]).iter().filter_map(|volume| {
        let secret = volume.get("secret").filter(|secret| !secret.is_null())?;
        account.refusal("secrets", object::text(secret, &["secretName"]), "volume with")
    });
    let containers = CONTAINERS.iter().filter_map(|(list, title)| account.of_containers(pod, list, title));
    volumes.chain(containers).next().or_else(|| account.of_pulls(pod))
}

/// Refuses ephemeral containers that use a Secret that the pod's account limits it from.
pub async fn check_ephemeral(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    operation: Operation,
    object: Option<&Value>,
) -> Result<(), ApiError> {
    let concerns = operation == Operation::Update
        && (kind.group(), kind.name(), call.target.subresource.as_str()) == ("", "Pod", "ephemeralcontainers");
    let (Some(pod), Some(accounts)) = (object.filter(|_| concerns), core.registry.find("", "v1", "serviceaccounts"))
    else {
        return Ok(());
    };
    let name = object::text(pod, &["spec", "serviceAccountName"]);
    let Some(entry) = core.find(accounts, call.namespace(), name).await? else { return Ok(()) };
    let account = core.value(accounts, &entry).await?;
    let found = Account::limiting(&account)
        .and_then(|account| account.of_containers(pod, "ephemeralContainers", "ephemeral container"));
    found.map_or(Ok(()), |why| Err(kind.forbidden(object::name(pod), &why)))
}

/// An account that limits its pods.
struct Account<'a>(&'a Value);

impl<'a> Account<'a> {
    fn limiting(account: &'a Value) -> Option<Self> {
        let limits = TRUE.contains(&object::text(account, &["metadata", "annotations", ANNOTATION]));
        limits.then_some(Self(account))
    }

    fn names(&self, list: &str, name: &str) -> bool {
        object::list(self.0, &[list]).iter().any(|own| object::text(own, &["name"]) == name)
    }

    /// Why what `user` does with the Secret is refused, if the account does not name it.
    fn refusal(&self, list: &str, secret: &str, user: &str) -> Option<String> {
        let account = object::name(self.0);
        (!self.names(list, secret)).then(|| {
            format!(
                "{user} secret.secretName=\"{secret}\" is not allowed because service account {account} does not reference that secret"
            )
        })
    }

    fn of_containers(&self, pod: &Value, list: &str, title: &str) -> Option<String> {
        object::list(pod, &["spec", list]).iter().find_map(|container| {
            let name = object::text(container, &["name"]);
            let single = object::list(container, &["env"]).iter().find_map(|env| {
                let secret = object::at(env, &["valueFrom", "secretKeyRef"]).filter(|secret| !secret.is_null())?;
                let user = format!("{title} {name} with envVar {} referencing", object::text(env, &["name"]));
                self.refusal("secrets", object::text(secret, &["name"]), &user)
            });
            let whole = || {
                object::list(container, &["envFrom"]).iter().find_map(|source| {
                    let secret = source.get("secretRef").filter(|secret| !secret.is_null())?;
                    let user = format!("{title} {name} with envFrom referencing");
                    self.refusal("secrets", object::text(secret, &["name"]), &user)
                })
            };
            single.or_else(whole)
        })
    }

    fn of_pulls(&self, pod: &Value) -> Option<String> {
        let pulls = object::list(pod, &["spec", "imagePullSecrets"]).iter().enumerate();
        let mut names = pulls.map(|(at, pull)| (at, object::text(pull, &["name"])));
        let (at, name) = names.find(|(_, name)| !self.names("imagePullSecrets", name))?;
        let account = object::name(self.0);
        Some(format!(
            "imagePullSecrets[{at}].name=\"{name}\" is not allowed because service account {account} does not reference that imagePullSecret"
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_account_may_limit_the_secrets_of_its_pods() {
        let account = |limits: &str| json!({"metadata": {"name": "sa", "annotations": {ANNOTATION: limits}}, "secrets": [{"name": "own"}]});
        let pod = |secret: &str| {
            json!({"spec": {
                "volumes": [{"name": "v", "secret": {"secretName": "own"}}],
                "containers": [{"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": secret}}}]}],
            }})
        };
        assert_eq!(fault(&account("true"), &pod("own")), None);
        assert_eq!(fault(&account("false"), &pod("other")), None);
        assert_eq!(
            fault(&account("true"), &pod("other")).as_deref(),
            Some(
                "container c with envVar E referencing secret.secretName=\"other\" is not allowed because service account sa does not reference that secret"
            )
        );
        let pulling = json!({"spec": {"imagePullSecrets": [{"name": "own"}]}});
        assert_eq!(
            fault(&account("1"), &pulling).as_deref(),
            Some(
                "imagePullSecrets[0].name=\"own\" is not allowed because service account sa does not reference that imagePullSecret"
            )
        );
    }
}
