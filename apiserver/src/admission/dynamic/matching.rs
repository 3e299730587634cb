//! Which requests a policy, a binding or a webhook is for.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as Selector;
use martello_api::{selector::LabelSelector, status::ApiError};
use serde_json::{Map, Value};

use super::request::Request;
use crate::{
    admission::Operation,
    registry::{kind::Kind, object},
};

/// What a rule names.
#[derive(Debug)]
struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    names: Vec<String>,
    scope: String,
}

/// What all of a request must meet.
#[derive(Debug)]
pub(super) struct Match {
    namespaces: LabelSelector,
    objects: LabelSelector,
    rules: Vec<Rule>,
    /// Whether everything is meant where there are no rules.
    open: bool,
    excluded: Vec<Rule>,
    equivalent: bool,
}

impl Match {
    /// Of `matchConstraints` or `matchResources`: without rules they are for everything.
    pub(super) fn of_policy(spec: &Value) -> Result<Self, String> {
        Self::parse(spec, "resourceRules", true)
    }

    /// Of a webhook: without rules it is for nothing.
    pub(super) fn of_webhook(spec: &Value) -> Result<Self, String> {
        Self::parse(spec, "rules", false)
    }

    fn parse(spec: &Value, rules: &str, open: bool) -> Result<Self, String> {
        let list = |key: &str| object::list(spec, &[key]).iter().map(Rule::parse).collect::<Vec<_>>();
        Ok(Self {
            namespaces: selector(spec.get("namespaceSelector"))?,
            objects: selector(spec.get("objectSelector"))?,
            rules: list(rules),
            open,
            excluded: list("excludeResourceRules"),
            equivalent: object::text(spec, &["matchPolicy"]) != "Exact",
        })
    }

    /// The kind by which a request is matched, if it is: its own, or another version of it.
    pub(super) async fn kind(
        &self,
        request: &Request<'_>,
        new: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<Option<Matched>, ApiError> {
        if !self.objects.is_everything() && !self.matches_object(request, new, old) {
            return Ok(None);
        }
        let Some(matched) = self.by_rules(request) else { return Ok(None) };
        if !self.namespaces.is_everything() && !self.matches_namespace(request, new).await? {
            return Ok(None);
        }
        Ok(Some(matched))
    }

    fn by_rules(&self, request: &Request<'_>) -> Option<Matched> {
        if self.named_by(&self.excluded, request).is_some() {
            return None;
        }
        if self.rules.is_empty() {
            return self.open.then_some(Matched::Own);
        }
        self.named_by(&self.rules, request)
    }

    /// The kind that rules name: that of the request before other versions of it, and earlier rules before later ones.
    fn named_by(&self, rules: &[Rule], request: &Request<'_>) -> Option<Matched> {
        if rules.iter().any(|rule| rule.matches(request, request.kind)) {
            return Some(Matched::Own);
        }
        let subresource = request.subresource();
        let has_part = |other: &Kind| {
            subresource.is_empty() || other.resource.subresources.iter().any(|own| own.name == subresource)
        };
        rules.iter().filter(|_| self.equivalent).find_map(|rule| {
            let fits = |other: &Kind| {
                other.storage == request.kind.storage
                    && other.resource.gvk != request.kind.resource.gvk
                    && has_part(other)
                    && rule.matches(request, other)
            };
            request.core.registry.find_by(fits).map(Matched::Other)
        })
    }

    fn matches_object(&self, request: &Request<'_>, new: Option<&Value>, old: Option<&Value>) -> bool {
        if request.operation == Operation::Connect {
            // Options of a connection bear no labels, not even none.
            return false;
        }
        [new, old]
            .into_iter()
            .flatten()
            .filter(|object| object.is_object())
            .any(|object| self.objects.matches_json(labels(object)))
    }

    async fn matches_namespace(&self, request: &Request<'_>, new: Option<&Value>) -> Result<bool, ApiError> {
        if request.is_namespace() && request.subresource().is_empty() && !request.is_delete() {
            return Ok(self.namespaces.matches_json(new.and_then(labels)));
        }
        if request.namespace.is_empty() {
            return Ok(true);
        }
        match request.namespace_entry().await? {
            Some(entry) => Ok(self.namespaces.matches_by(|key| entry.labels.get(key))),
            None => Err(ApiError::not_found("", "namespaces", &request.namespace)),
        }
    }
}

/// By which kind a request is matched.
#[derive(Clone)]
pub(super) enum Matched {
    /// Its own.
    Own,
    /// Another version of it.
    Other(Arc<Kind>),
}

impl Matched {
    pub(super) fn kind<'k>(&'k self, request: &'k Request<'_>) -> &'k Kind {
        match self {
            Self::Own => request.kind,
            Self::Other(kind) => kind,
        }
    }
}

impl Rule {
    fn parse(rule: &Value) -> Self {
        let texts = |key: &str| {
            object::list(rule, &[key]).iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        Self {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources"),
            names: texts("resourceNames"),
            scope: object::text(rule, &["scope"]).to_owned(),
        }
    }

    fn matches(&self, request: &Request<'_>, kind: &Kind) -> bool {
        let has = |list: &[String], wanted: &str| list.iter().any(|own| own == "*" || own == wanted);
        let gvk = &kind.resource.gvk;
        has(&self.operations, request.operation_name())
            && has(&self.groups, &gvk.group)
            && has(&self.versions, &gvk.version)
            && self.matches_scope(kind)
            && self.matches_resource(&kind.resource.plural, request.subresource())
            && (self.names.is_empty() || self.names.contains(&request.name))
    }

    fn matches_scope(&self, kind: &Kind) -> bool {
        match self.scope.as_str() {
            "Namespaced" => kind.resource.namespaced,
            "Cluster" => !kind.resource.namespaced,
            _ => true,
        }
    }

    fn matches_resource(&self, plural: &str, subresource: &str) -> bool {
        self.resources.iter().any(|entry| {
            let (resource, sub) = entry.split_once('/').unwrap_or((entry, ""));
            (resource == "*" || resource == plural) && (sub == "*" || sub == subresource)
        })
    }
}

/// A label selector; everything where there is none.
pub(super) fn selector(json: Option<&Value>) -> Result<LabelSelector, String> {
    let parsed: Option<Selector> = match json {
        None | Some(Value::Null) => Some(Selector::default()),
        Some(json) => Some(serde_json::from_value(json.clone()).map_err(|error| error.to_string())?),
    };
    LabelSelector::of_object(parsed.as_ref()).map_err(|error| error.to_string())
}

fn labels(object: &Value) -> Option<&Map<String, Value>> {
    object::at(object, &["metadata", "labels"]).and_then(Value::as_object)
}
