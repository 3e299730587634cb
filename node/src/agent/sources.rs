//! Fetches the objects that pods refer to, and the tokens that their volumes ask for.

use std::{collections::BTreeMap, time::Duration};

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, Pod, Secret, ServiceAccount},
};
use kube::{
    ResourceExt as _,
    api::{Api, PostParams},
};
use martello_scanner::credentials::Origin;

use super::context::Context;
use crate::{
    images::Credentials,
    pods::{
        backoff::{between, later},
        env::{References, Sources},
    },
    volumes::{
        VolumeError,
        payload::{TokenAsked, tokens},
    },
};

/// The objects that `references` name in `namespace`, and the Services that environments show.
///
/// # Errors
/// If the API server can't be asked; an object that isn't there is no error here.
pub async fn fetch(context: &Context, namespace: &str, references: &References) -> Result<Sources, kube::Error> {
    let config_maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let config_maps = references.config_maps.iter().map(|name| config_maps.get_opt(name));
    let secrets = references.secrets.iter().map(|name| secrets.get_opt(name));
    let (config_maps, secrets) = tokio::try_join!(try_join_all(config_maps), try_join_all(secrets))?;
    let mut sources = Sources {
        config_maps: config_maps.into_iter().flatten().map(|one| (one.name_any(), one)).collect(),
        secrets: secrets.into_iter().flatten().map(|one| (one.name_any(), one)).collect(),
        ..Sources::default()
    };
    for service in context.services.state() {
        let (own, name) = (service.namespace().unwrap_or_default(), service.name_any());
        if own == "default" && name == "kubernetes" {
            sources.api_service = Some((*service).clone());
        } else if own == namespace {
            sources.services.push((*service).clone());
        }
    }
    Ok(sources)
}

/// What the pod's pull secrets hold; one that isn't there is passed over, as upstream does.
///
/// # Errors
/// If the API server can't be asked.
pub async fn credentials(context: &Context, pod: &Pod) -> Result<Vec<Credentials>, kube::Error> {
    let names = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten()).map(|one| one.name.clone());
    let references = References { secrets: names.collect(), ..References::default() };
    if references.secrets.is_empty() {
        return Ok(Vec::new());
    }
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &pod.namespace().unwrap_or_default());
    let found = try_join_all(references.secrets.iter().map(|name| secrets.get_opt(name))).await?;
    Ok(found.into_iter().flatten().filter_map(pull_secret).collect())
}

fn pull_secret(mut secret: Secret) -> Option<Credentials> {
    let origin = Origin {
        namespace: secret.namespace().unwrap_or_default(),
        name: secret.name_any(),
        uid: secret.uid().unwrap_or_default(),
    };
    let mut data = secret.data.take()?;
    let (content, is_old) = match data.remove(".dockerconfigjson") {
        Some(content) => (content, false),
        None => (data.remove(".dockercfg")?, true),
    };
    Some(Credentials { origin, content: content.0, is_old })
}

/// A token and its lifetime.
pub struct Token {
    text: String,
    issued: Timestamp,
    expires: Timestamp,
}

impl Token {
    /// Whether it's time for a new one: at four fifths of its life, or after a day.
    #[must_use]
    pub fn is_stale(&self, now: Timestamp) -> bool {
        let life = between(self.issued, self.expires);
        let age = between(self.issued, now);
        age >= life * 4 / 5 || age >= DAY
    }
}

const DAY: Duration = Duration::from_secs(86_400);

/// The tokens that the volumes of `pod` ask for; those in `kept` that are still fresh are used again.
///
/// # Errors
/// If a token is refused and there is none from before.
pub async fn tokens_for(
    context: &Context,
    pod: &Pod,
    kept: &mut BTreeMap<TokenAsked, Token>,
    now: Timestamp,
) -> Result<BTreeMap<TokenAsked, String>, (String, VolumeError)> {
    let mut made = BTreeMap::new();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        for asked in tokens(volume) {
            if kept.get(&asked).is_none_or(|token| token.is_stale(now)) {
                match ask(context, pod, &asked, now).await {
                    Ok(token) => {
                        kept.insert(asked.clone(), token);
                    }
                    Err(error) if kept.get(&asked).is_none_or(|token| token.expires <= now) => {
                        return Err((volume.name.clone(), error));
                    }
                    Err(error) => tracing::warn!(name = pod.name_any(), error = error.full(), "token not renewed"),
                }
            }
            if let Some(token) = kept.get(&asked) {
                made.insert(asked, token.text.clone());
            }
        }
    }
    Ok(made)
}

async fn ask(context: &Context, pod: &Pod, asked: &TokenAsked, now: Timestamp) -> Result<Token, VolumeError> {
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    let account = account.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned());
    let namespace = pod.namespace().unwrap_or_default();
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: (!asked.audience.is_empty()).then(|| vec![asked.audience.clone()]),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod.name_any()),
                uid: pod.uid(),
            }),
            expiration_seconds: Some(asked.seconds),
        }),
        ..TokenRequest::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(context.client.clone(), &namespace);
    let refused = |why: String| VolumeError::Token { account: format!("{namespace}/{account}"), why };
    let answer = api.create_token_request(&account, &PostParams::default(), &request).await;
    let answer = answer.map_err(|error| refused(error.to_string()))?;
    let status = answer.status.ok_or_else(|| refused("the answer holds no token".to_owned()))?;
    let text = status.token.ok_or_else(|| refused("the answer holds no token".to_owned()))?;
    let asked_for = Duration::from_secs(u64::try_from(asked.seconds).unwrap_or(0).max(1));
    let expires = status.expiration_timestamp.map_or_else(|| later(now, asked_for), |time| time.0);
    Ok(Token { text, issued: now, expires })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pull_secrets_of_both_forms_are_read() {
        let secret = |key: &str| -> Option<Credentials> {
            let metadata = json!({"namespace": "shop", "name": "pull", "uid": "u"});
            pull_secret(serde_json::from_value(json!({"metadata": metadata, "data": {key: "e30="}})).unwrap())
        };
        let new = secret(".dockerconfigjson").unwrap();
        assert_eq!((new.content.as_slice(), new.is_old), (b"{}".as_slice(), false));
        assert_eq!(
            (new.origin.namespace.as_str(), new.origin.name.as_str(), new.origin.uid.as_str()),
            ("shop", "pull", "u")
        );
        assert!(secret(".dockercfg").unwrap().is_old);
        assert!(secret("password").is_none());
    }
}
