//! SubjectAccessReview and its siblings: may they do that.

use std::sync::Arc;

use martello_api::{
    attributes::{Attributes, ResourceTarget, Target},
    identity::User,
    resource::Resource,
    selector::{FieldSelector, LabelSelector},
    status::{ApiError, Cause},
};
use martello_policy::Decision;
use serde_json::{Value, json};

use crate::{
    registry::{
        call::Call,
        codec,
        kind::resource,
        object,
        reviews::Review,
        select::equalities,
        validation::{
            field::{Field, go_form},
            internal, text,
        },
    },
    server::Core,
};

/// Reviews of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reviews {
    /// Of anyone, in one namespace.
    Local,
    /// Of the caller.
    Own,
    /// Of anyone.
    Any,
}

const GROUP: &str = "authorization.k8s.io";

impl Review for Reviews {
    fn resource(&self) -> Resource {
        let (kind, plural) = match self {
            Self::Local => ("LocalSubjectAccessReview", "localsubjectaccessreviews"),
            Self::Own => ("SelfSubjectAccessReview", "selfsubjectaccessreviews"),
            Self::Any => ("SubjectAccessReview", "subjectaccessreviews"),
        };
        let built = resource(GROUP, "v1", kind, plural).verbs(&["create"]);
        if *self == Self::Local { built.build() } else { built.cluster_scoped().build() }
    }

    fn check(&self, call: &Call, review: &Value) -> Result<(), ApiError> {
        self.refuse(call, review)
    }

    async fn review(&self, core: &Arc<Core>, call: &Call, mut review: Value) -> Result<Value, ApiError> {
        let user = if *self == Self::Own { Arc::clone(&call.user) } else { Arc::new(subject(&review)) };
        let status = decide(core, user, &review);
        if let Some(kind) = core.registry.find(GROUP, "v1", &self.resource().plural) {
            codec::track(core, kind, call, None, &mut review, "").await;
        }
        object::set(&mut review, &[], "status", status);
        Ok(review)
    }
}

impl Reviews {
    /// Refuses a question that can't be answered.
    pub(in crate::registry) fn refuse(self, call: &Call, review: &Value) -> Result<(), ApiError> {
        let resource = object::at(review, &["spec", "resourceAttributes"]).filter(|value| !value.is_null());
        let path = object::at(review, &["spec", "nonResourceAttributes"]).filter(|value| !value.is_null());
        let mut causes = Vec::new();
        match (resource, path) {
            (Some(_), Some(_)) => causes.push(Cause::invalid(
                "spec.nonResourceAttributes",
                &shown(path),
                "cannot be specified in combination with resourceAttributes",
            )),
            (None, None) => causes.push(Cause::invalid(
                "spec.resourceAttributes",
                &Value::Null,
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            )),
            _ => {}
        }
        let nobody =
            object::text(review, &["spec", "user"]).is_empty() && object::list(review, &["spec", "groups"]).is_empty();
        if self != Self::Own && nobody {
            causes.push(Cause::invalid("spec.user", &json!(""), "at least one of user or group must be specified"));
        }
        if let Some(resource) = resource {
            selectors(&Field::new(resource, "spec.resourceAttributes"), &mut causes);
        }
        self.check_metadata(review, &mut causes);
        if self == Self::Local
            && resource.is_some_and(|resource| object::text(resource, &["namespace"]) != call.namespace())
        {
            causes.push(Cause::invalid(
                "spec.resourceAttributes.namespace",
                &json!(resource.map(|resource| object::text(resource, &["namespace"]))),
                "must match metadata.namespace",
            ));
        }
        if self == Self::Local && path.is_some() {
            let why = "disallowed on this kind of request";
            causes.push(Cause::invalid("spec.nonResourceAttributes", &shown(path), why));
        }
        if causes.is_empty() { Ok(()) } else { Err(ApiError::invalid(GROUP, "", "", causes)) }
    }
}

impl Reviews {
    /// Reviews are not kept, so that nothing names them.
    fn check_metadata(self, review: &Value, causes: &mut Vec<Cause>) {
        let Some(metadata) = review.get("metadata") else { return };
        let ignored = |key: &str| key == "managedFields" || self == Self::Local && key == "namespace";
        let says_more = |(key, value): (&String, &Value)| !ignored(key) && !object::is_zero(value);
        if metadata.as_object().is_some_and(|map| map.iter().any(says_more)) {
            let why = if self == Self::Local { "must be empty except for namespace" } else { "must be empty" };
            let shown = internal::of("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", metadata);
            causes.push(Cause::invalid("metadata", &shown, why));
        }
    }
}

/// Checks by which selectors a collection is narrowed. Operators that are not known may come from newer clients.
fn selectors(resource: &Field<'_>, causes: &mut Vec<Cause>) {
    for key in ["fieldSelector", "labelSelector"] {
        let Some(selector) = resource.get(key) else { continue };
        let (raw, requirements) = (selector.at("rawSelector"), selector.items("requirements"));
        match (raw.text().is_empty(), requirements.is_empty()) {
            (false, false) => raw.invalid("may not specified at the same time as requirements", causes),
            (true, true) => {
                let why = format!("when {} is specified, requirements or rawSelector is required", selector.path);
                selector.at("requirements").required(&why, causes);
            }
            _ => {}
        }
        requirements.iter().for_each(|requirement| self::requirement(requirement, key == "labelSelector", causes));
    }
}

fn requirement(requirement: &Field<'_>, of_labels: bool, causes: &mut Vec<Cause>) {
    let (key, values) = (requirement.at("key"), requirement.at("values"));
    if !of_labels && key.text().is_empty() {
        key.required("must be specified", causes);
    }
    match (requirement.str("operator"), requirement.count("values")) {
        ("In" | "NotIn", 0) => values.required("must be specified when `operator` is 'In' or 'NotIn'", causes),
        ("Exists" | "DoesNotExist", 1..) => {
            values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'", causes);
        }
        _ => {}
    }
    if of_labels {
        key.check(text::label_key, causes);
        requirement.items("values").iter().for_each(|value| value.check(text::label_value, causes));
    }
}

/// What the field selector of a question demands by equality; nothing where it can't be read, as upstream has it.
fn demands(asked: &Value) -> Vec<(String, String)> {
    let raw = object::text(asked, &["fieldSelector", "rawSelector"]);
    if !raw.is_empty() {
        return equalities(raw);
    }
    let requirements = object::list(asked, &["fieldSelector", "requirements"]).iter();
    requirements
        .filter(|one| object::text(one, &["operator"]) == "In")
        .filter_map(|one| match object::list(one, &["values"]) {
            [only] => Some((object::text(one, &["key"]).to_owned(), only.as_str()?.to_owned())),
            _ => None,
        })
        .collect()
}

fn shown(path: Option<&Value>) -> Value {
    path.map_or(Value::Null, |path| go_form(path, &[("path", "Path", json!("")), ("verb", "Verb", json!(""))]))
}

/// Of whom a review asks.
pub(in crate::registry) fn subject(review: &Value) -> User {
    let texts = |path: &[&str]| -> Vec<String> {
        object::list(review, path).iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let extra = object::at(review, &["spec", "extra"]).and_then(Value::as_object).into_iter().flatten();
    User {
        name: object::text(review, &["spec", "user"]).to_owned(),
        uid: Some(object::text(review, &["spec", "uid"]).to_owned()).filter(|uid| !uid.is_empty()),
        groups: texts(&["spec", "groups"]),
        extra: extra
            .map(|(key, values)| {
                let values =
                    values.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
                (key.to_lowercase(), values)
            })
            .collect(),
    }
}

/// What a review asks about `user`.
pub(in crate::registry) fn attributes(user: Arc<User>, review: &Value) -> Attributes {
    match object::at(review, &["spec", "resourceAttributes"]).filter(|value| !value.is_null()) {
        Some(asked) => {
            let text = |key: &str| object::text(asked, &[key]).to_owned();
            let target = ResourceTarget {
                group: text("group"),
                version: text("version"),
                resource: text("resource"),
                subresource: text("subresource"),
                namespace: text("namespace"),
                name: text("name"),
                selected_fields: demands(asked),
            };
            Attributes { user, verb: text("verb"), target: Target::Resource(target) }
        }
        None => {
            let text = |key: &str| object::text(review, &["spec", "nonResourceAttributes", key]).to_owned();
            Attributes { user, verb: text("verb"), target: Target::Path(text("path")) }
        }
    }
}

fn decide(core: &Arc<Core>, user: Arc<User>, review: &Value) -> Value {
    let (allowed, reason) = match core.authorizer.authorize(&attributes(user, review)) {
        Decision::Allow(permit) => (true, permit.reason().upstream()),
        Decision::Deny(denial) => (false, denial.reason()),
    };
    let mut status = json!({"allowed": allowed});
    let unread = object::at(review, &["spec", "resourceAttributes"]).map(unread).unwrap_or_default();
    for (key, text) in [("reason", reason), ("evaluationError", unread)] {
        if !text.is_empty() {
            object::set(&mut status, &[], key, text);
        }
    }
    status
}

/// A selector of a question: its key, whether a text is one, and whether a requirement is known.
struct Selectors {
    key: &'static str,
    is_selector: fn(&str) -> bool,
    is_requirement: fn(&Value) -> bool,
}

const SELECTORS: [Selectors; 2] = [
    Selectors {
        key: "fieldSelector",
        is_selector: |raw| FieldSelector::parse(raw).is_ok(),
        is_requirement: is_field_requirement,
    },
    Selectors {
        key: "labelSelector",
        is_selector: |raw| LabelSelector::parse(raw).is_ok(),
        is_requirement: is_label_requirement,
    },
];

/// Which selectors of a question could not be read, or only in part, in upstream's words.
fn unread(asked: &Value) -> String {
    let mut told = Vec::new();
    for Selectors { key, is_selector, is_requirement } in SELECTORS {
        let raw = object::text(asked, &[key, "rawSelector"]);
        let requirements = object::list(asked, &[key, "requirements"]);
        let known = requirements.iter().filter(|one| is_requirement(one)).count();
        let how = match (raw.is_empty(), known) {
            (false, _) if !is_selector(raw) => "ignored",
            (false, _) => continue,
            (true, known) if known == requirements.len() => continue,
            (true, 0) => "ignored",
            (true, _) => "partially ignored",
        };
        told.push(format!("spec.resourceAttributes.{key} {how} due to parse error"));
    }
    told.join("; ")
}

fn is_field_requirement(one: &Value) -> bool {
    matches!(object::text(one, &["operator"]), "In" | "NotIn") && object::list(one, &["values"]).len() == 1
}

fn is_label_requirement(one: &Value) -> bool {
    matches!(object::text(one, &["operator"]), "In" | "NotIn" | "Exists" | "DoesNotExist")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(resource: Value) -> Vec<String> {
        let mut causes = Vec::new();
        selectors(&Field::new(&resource, "r"), &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn selectors_are_raw_or_have_requirements() {
        assert_eq!(
            faults(
                json!({"fieldSelector": {"rawSelector": "a=b", "requirements": [{"operator": "Later"}]}, "labelSelector": {}})
            ),
            [
                "r.fieldSelector.rawSelector: Invalid value: \"a=b\": may not specified at the same time as requirements",
                "r.fieldSelector.requirements[0].key: Required value: must be specified",
                "r.labelSelector.requirements: Required value: when r.labelSelector is specified, requirements or rawSelector is required",
            ]
        );
        let labels = json!({"requirements": [{"key": "a", "operator": "In"}, {"key": "a", "operator": "Exists", "values": ["-"]}]});
        let found = faults(json!({"labelSelector": labels}));
        assert_eq!(
            found[0],
            "r.labelSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
        );
        assert!(found[1].starts_with("r.labelSelector.requirements[1].values: Forbidden"));
        assert!(found[2].starts_with("r.labelSelector.requirements[1].values[0]: Invalid value: \"-\""));
    }

    #[test]
    fn what_could_not_be_read_of_selectors_is_told() {
        assert_eq!(unread(&json!({"fieldSelector": {"rawSelector": "a=b"}, "verb": "list"})), "");
        let several = json!({"requirements": [{"key": "a", "operator": "In", "values": ["b", "c"]}]});
        assert_eq!(
            unread(&json!({"fieldSelector": several})),
            "spec.resourceAttributes.fieldSelector ignored due to parse error"
        );
        let newer = json!({"requirements": [{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "Newer"}]});
        assert_eq!(
            unread(&json!({"fieldSelector": {"rawSelector": "a"}, "labelSelector": newer})),
            "spec.resourceAttributes.fieldSelector ignored due to parse error; spec.resourceAttributes.labelSelector partially ignored due to parse error"
        );
    }

    #[test]
    fn what_a_field_selector_demands_is_asked_with_it() {
        let own = [("spec.nodeName".to_owned(), "n1".to_owned())];
        assert_eq!(demands(&json!({"fieldSelector": {"rawSelector": "spec.nodeName=n1,a!=b"}})), own);
        let requirement = json!({"key": "spec.nodeName", "operator": "In", "values": ["n1"]});
        assert_eq!(demands(&json!({"fieldSelector": {"requirements": [requirement]}})), own);
        assert!(demands(&json!({"fieldSelector": {"rawSelector": "a,,=b"}})).is_empty());
    }
}
