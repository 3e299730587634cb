//! SubjectAccessReview and its siblings: may they do that.

use std::sync::Arc;

use martello_api::{
    attributes::{Attributes, ResourceTarget, Target},
    identity::User,
    resource::Resource,
    status::{ApiError, Cause},
};
use martello_policy::Decision;
use serde_json::{Value, json};

use crate::{
    registry::{call::Call, codec, kind::resource, object, reviews::Review, validation::field::go_form},
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

    async fn review(&self, core: &Arc<Core>, call: &Call, mut review: Value) -> Result<Value, ApiError> {
        self.check(call, &review)?;
        let user = if *self == Self::Own { Arc::clone(&call.user) } else { Arc::new(subject(&review)) };
        let status = decide(core, user, &review);
        if let Some(kind) = core.registry.find(GROUP, "v1", &self.resource().plural) {
            codec::track(kind, call, None, &mut review, "");
        }
        object::set(&mut review, &[], "status", status);
        Ok(review)
    }
}

impl Reviews {
    /// Refuses a question that can't be answered.
    pub(in crate::registry) fn check(self, call: &Call, review: &Value) -> Result<(), ApiError> {
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
                ..ResourceTarget::default()
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
    match core.authorizer.authorize(&attributes(user, review)) {
        Decision::Allow(permit) => {
            let mut status = json!({"allowed": true});
            let reason = permit.reason().upstream();
            if !reason.is_empty() {
                object::set(&mut status, &[], "reason", reason);
            }
            status
        }
        Decision::Deny(denial) => {
            let mut status = json!({"allowed": false});
            let reason = denial.reason();
            if !reason.is_empty() {
                object::set(&mut status, &[], "reason", reason);
            }
            status
        }
    }
}
