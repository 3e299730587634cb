//! Bindings of policies, and the parameters they name.

use std::sync::Arc;

use martello_api::{selector::LabelSelector, status::ApiError};
use serde_json::Value;

use super::{
    matching::{Match, selector},
    policy::Policy,
    request::Request,
};
use crate::{
    registry::{kind::Kind, object, storage::store_failure},
    store::{ListAt, Page},
};

/// A binding.
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) policy: String,
    pub(super) resources: Option<Result<Match, String>>,
    pub(super) actions: Vec<String>,
    params: Option<ParamRef>,
}

/// Which parameters are meant.
struct ParamRef {
    name: String,
    namespace: String,
    selector: Option<Result<LabelSelector, String>>,
    denies: bool,
}

/// Why there are no parameters.
pub(super) enum NoParams {
    /// The binding can't be used so.
    Binding(String),
    /// The store failed.
    Failed(ApiError),
}

/// The kind of the parameters that a policy takes, if it takes any; the error says why it can't be used.
pub(super) fn param_kind(request: &Request<'_>, policy: &Policy) -> Result<Option<Arc<Kind>>, String> {
    let Some((version, name)) = &policy.param_kind else { return Ok(None) };
    let meant = |kind: &Kind| kind.name() == name && kind.resource.gvk.api_version() == *version;
    if let Some(kind) = request.core.registry.find_by(meant) {
        return Ok(Some(kind));
    }
    let (group, short) = version.split_once('/').unwrap_or(("", version));
    Err(format!("failed to find resource referenced by paramKind: '{group}/{short}, Kind={name}'"))
}

impl Binding {
    pub(super) fn parse(json: &Value) -> Self {
        let spec = json.get("spec").unwrap_or(&Value::Null);
        let resources = spec.get("matchResources").filter(|own| own.is_object());
        let params = spec.get("paramRef").filter(|own| own.is_object()).map(|own| ParamRef {
            name: object::text(own, &["name"]).to_owned(),
            namespace: object::text(own, &["namespace"]).to_owned(),
            selector: own.get("selector").filter(|own| own.is_object()).map(|own| selector(Some(own))),
            denies: object::text(own, &["parameterNotFoundAction"]) == "Deny",
        });
        let actions = object::list(spec, &["validationActions"]).iter().filter_map(Value::as_str);
        Self {
            name: object::name(json).to_owned(),
            policy: object::text(spec, &["policyName"]).to_owned(),
            resources: resources.map(Match::of_policy),
            actions: actions.map(str::to_owned).collect(),
            params,
        }
    }

    /// The parameters of this kind that a policy is to be evaluated with: one null where it takes none.
    pub(super) async fn params(&self, request: &Request<'_>, kind: Option<&Kind>) -> Result<Vec<Value>, NoParams> {
        let (Some(kind), Some(wanted)) = (kind, &self.params) else { return Ok(vec![Value::Null]) };
        let namespace = wanted.namespace_in(request, kind).map_err(NoParams::Binding)?;
        let found = wanted.find(request, kind, &namespace).await?;
        if found.is_empty() && wanted.denies {
            return Err(NoParams::Binding(
                "no params found for policy binding with `Deny` parameterNotFoundAction".to_owned(),
            ));
        }
        Ok(found)
    }
}

impl ParamRef {
    fn namespace_in(&self, request: &Request<'_>, kind: &Kind) -> Result<String, String> {
        if !kind.resource.namespaced {
            return if self.namespace.is_empty() {
                Ok(String::new())
            } else {
                Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned())
            };
        }
        if !self.namespace.is_empty() {
            return Ok(self.namespace.clone());
        }
        if request.namespace.is_empty() {
            return Err(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".to_owned()
            );
        }
        Ok(request.namespace.clone())
    }

    async fn find(&self, request: &Request<'_>, kind: &Kind, namespace: &str) -> Result<Vec<Value>, NoParams> {
        let core = request.core;
        let mut entries = Vec::new();
        if !self.name.is_empty() {
            entries.extend(core.find(kind, namespace, &self.name).await.map_err(NoParams::Failed)?);
        } else if let Some(selector) = &self.selector {
            let selector = selector.as_ref().map_err(|why| NoParams::Binding(why.clone()))?;
            let listed = core.store.list(&kind.scope(namespace), ListAt::Latest, Page::default()).await;
            let listed = listed.map_err(|error| NoParams::Failed(store_failure(&error)))?;
            let fits = |entry: &Arc<crate::store::Entry>| selector.matches_by(|key| entry.labels.get(key));
            entries.extend(listed.items.into_iter().filter(fits));
        } else {
            return Err(NoParams::Binding("one of name or selector must be provided".to_owned()));
        }
        let mut found = Vec::with_capacity(entries.len());
        for entry in entries {
            found.push(core.value(kind, &entry).await.map_err(NoParams::Failed)?);
        }
        Ok(found)
    }
}
