//! What a token says, in upstream's form.

use jiff::{SignedDuration, Timestamp};
use martello_api::identity::SERVICE_ACCOUNT_USER_PREFIX;
use serde::{Deserialize, Serialize};

use super::{MAX_TOKEN_LIFETIME, MIN_TOKEN_LIFETIME};

/// What to put into a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSpec {
    /// The service account's namespace.
    pub namespace: String,
    /// The service account's name.
    pub service_account: String,
    /// The service account's uid.
    pub uid: String,
    /// For whom the token is; empty means the API server.
    pub audiences: Vec<String>,
    /// How long it should hold; bounded by [`MIN_TOKEN_LIFETIME`] and [`MAX_TOKEN_LIFETIME`].
    pub lifetime: SignedDuration,
    /// The pod that it dies with.
    pub pod: Option<BoundObject>,
    /// The node of that pod, or the node that it dies with.
    pub node: Option<BoundObject>,
    /// The Secret that it dies with.
    pub secret: Option<BoundObject>,
    /// Whether it stands in that Secret for whoever may read it, as upstream's legacy tokens.
    pub stands_in_secret: bool,
    /// After how long its use is noted as stale.
    pub warn_after: Option<SignedDuration>,
}

/// An object that a token is bound to: it holds as long as this very object exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundObject {
    /// The object's name.
    pub name: String,
    /// The object's uid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// The claims of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// For whom it is.
    pub aud: Vec<String>,
    /// When it expires, in seconds since 1970.
    pub exp: i64,
    /// When it was issued, in seconds since 1970.
    pub iat: i64,
    /// Who issued it.
    pub iss: String,
    /// Its id.
    pub jti: String,
    /// What it is bound to.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: KubernetesClaims,
    /// When it begins to hold, in seconds since 1970.
    pub nbf: i64,
    /// Whether it stands in the Secret that it is bound to; one that somebody asked for, and had bound to a Secret, does not.
    #[serde(rename = "martello.dev/stands-in-secret", default, skip_serializing_if = "std::ops::Not::not")]
    pub stands_in_secret: bool,
    /// Whose it is: `system:serviceaccount:<namespace>:<name>`.
    pub sub: String,
}

/// What a token is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesClaims {
    /// The service account's namespace.
    pub namespace: String,
    /// The node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<BoundObject>,
    /// The pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<BoundObject>,
    /// The Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<BoundObject>,
    /// The service account.
    pub serviceaccount: BoundObject,
    /// After when its use is noted as stale, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

impl Claims {
    pub(crate) fn new(issuer: &str, spec: TokenSpec, now: Timestamp) -> Self {
        let issued = now.as_second();
        let lifetime = spec.lifetime.clamp(MIN_TOKEN_LIFETIME, MAX_TOKEN_LIFETIME);
        let audiences = if spec.audiences.is_empty() { vec![issuer.to_owned()] } else { spec.audiences };
        Self {
            aud: audiences,
            exp: issued.saturating_add(lifetime.as_secs()),
            iat: issued,
            iss: issuer.to_owned(),
            jti: uuid::Uuid::new_v4().to_string(),
            nbf: issued,
            stands_in_secret: spec.stands_in_secret,
            sub: subject(&spec.namespace, &spec.service_account),
            kubernetes: KubernetesClaims {
                namespace: spec.namespace,
                node: spec.node,
                pod: spec.pod,
                secret: spec.secret,
                serviceaccount: BoundObject { name: spec.service_account, uid: spec.uid },
                warnafter: spec.warn_after.map(|after| issued.saturating_add(after.as_secs())),
            },
        }
    }

    /// Whether the subject is the service account that the other claims speak of.
    pub(crate) fn is_consistent(&self) -> bool {
        self.sub == subject(&self.kubernetes.namespace, &self.kubernetes.serviceaccount.name)
    }
}

fn subject(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT_USER_PREFIX}{namespace}:{name}")
}
