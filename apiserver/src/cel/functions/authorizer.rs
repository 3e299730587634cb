//! Questions to the authorizer from within an expression.

use std::{fmt, sync::Arc};

use martello_api::{
    attributes::{Attributes, ResourceTarget, Target},
    identity::User,
    names,
    selector::FieldSelector,
};

use super::{Fault, Library, Outcome, fail, text};
use crate::cel::{opaque::Opaque, value::Value};

/// Who knows what somebody may do.
pub trait Authority: Send + Sync {
    /// Whether the call is allowed, and why.
    fn decide(&self, call: &Attributes) -> Decision;
}

/// An authorizer and for whom it is asked.
#[derive(Clone)]
pub struct Authorizer {
    authority: Arc<dyn Authority>,
    user: Arc<User>,
}

/// A question about a path.
#[derive(Debug)]
pub struct PathCheck {
    authorizer: Authorizer,
    path: String,
}

/// A question about a group.
#[derive(Debug)]
pub struct GroupCheck {
    authorizer: Authorizer,
    group: String,
}

/// A question about a resource.
#[derive(Clone, Debug)]
pub struct ResourceCheck {
    authorizer: Authorizer,
    target: ResourceTarget,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// What went wrong; empty for nothing.
    pub error: String,
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Authorizer").field("user", &self.user.name).finish_non_exhaustive()
    }
}

impl Authorizer {
    /// For this user.
    #[must_use]
    pub fn new(authority: Arc<dyn Authority>, user: Arc<User>) -> Self {
        Self { authority, user }
    }

    /// The value `authorizer`.
    #[must_use]
    pub fn value<'a>(&self) -> Value<'a> {
        Value::Opaque(Opaque::Authorizer(self.clone()))
    }

    /// The value `authorizer.requestResource`.
    #[must_use]
    pub fn for_resource<'a>(&self, target: ResourceTarget) -> Value<'a> {
        Value::Opaque(Opaque::ResourceCheck(Arc::new(ResourceCheck { authorizer: self.clone(), target })))
    }

    fn ask<'a>(&self, verb: &str, target: Target) -> Value<'a> {
        let call = Attributes { user: Arc::clone(&self.user), verb: verb.to_owned(), target };
        Value::Opaque(Opaque::Decision(Arc::new(self.authority.decide(&call))))
    }
}

pub(super) const LIBRARY: Library = &[
    ("path", &["authorizer_path: Authorizer.(string) -> PathCheck"], |args| match args {
        [Value::Opaque(Opaque::Authorizer(_)), Value::String(path)] if path.trim().is_empty() => {
            fail("path must not be empty")
        }
        [Value::Opaque(Opaque::Authorizer(own)), Value::String(path)] => {
            Ok(Value::Opaque(Opaque::PathCheck(Arc::new(PathCheck {
                authorizer: own.clone(),
                path: path.to_string(),
            }))))
        }
        _ => Err(Fault::NoOverload),
    }),
    ("group", &["authorizer_group: Authorizer.(string) -> GroupCheck"], |args| match args {
        [Value::Opaque(Opaque::Authorizer(own)), Value::String(group)] => {
            Ok(Value::Opaque(Opaque::GroupCheck(Arc::new(GroupCheck {
                authorizer: own.clone(),
                group: group.to_string(),
            }))))
        }
        _ => Err(Fault::NoOverload),
    }),
    ("serviceAccount", &["authorizer_serviceaccount: Authorizer.(string, string) -> Authorizer"], service_account),
    ("resource", &["groupcheck_resource: GroupCheck.(string) -> ResourceCheck"], |args| match args {
        [Value::Opaque(Opaque::GroupCheck(_)), Value::String(resource)] if resource.trim().is_empty() => {
            fail("resource must not be empty")
        }
        [Value::Opaque(Opaque::GroupCheck(own)), Value::String(resource)] => {
            let target = ResourceTarget {
                group: own.group.clone(),
                version: "*".to_owned(),
                resource: resource.to_string(),
                ..ResourceTarget::default()
            };
            Ok(own.authorizer.for_resource(target))
        }
        _ => Err(Fault::NoOverload),
    }),
    ("subresource", &["resourcecheck_subresource: ResourceCheck.(string) -> ResourceCheck"], |args| {
        narrowed(args, |target, text| text.clone_into(&mut target.subresource))
    }),
    ("namespace", &["resourcecheck_namespace: ResourceCheck.(string) -> ResourceCheck"], |args| {
        narrowed(args, |target, text| text.clone_into(&mut target.namespace))
    }),
    ("name", &["resourcecheck_name: ResourceCheck.(string) -> ResourceCheck"], |args| {
        narrowed(args, |target, text| text.clone_into(&mut target.name))
    }),
    ("fieldSelector", &["authorizer_fieldselector: ResourceCheck.(string) -> ResourceCheck"], |args| {
        narrowed(args, |target, text| target.selected_fields = demands(text))
    }),
    ("labelSelector", &["authorizer_labelselector: ResourceCheck.(string) -> ResourceCheck"], |args| {
        narrowed(args, |_, _| {})
    }),
    (
        "check",
        &["pathcheck_check: PathCheck.(string) -> Decision", "resourcecheck_check: ResourceCheck.(string) -> Decision"],
        |args| match args {
            [Value::Opaque(Opaque::PathCheck(own)), Value::String(verb)] => {
                Ok(own.authorizer.ask(verb, Target::Path(own.path.clone())))
            }
            [Value::Opaque(Opaque::ResourceCheck(own)), Value::String(verb)] => {
                Ok(own.authorizer.ask(verb, Target::Resource(own.target.clone())))
            }
            _ => Err(Fault::NoOverload),
        },
    ),
    ("allowed", &["decision_allowed: Decision.() -> bool"], |args| decided(args, |own| Value::Bool(own.allowed))),
    ("errored", &["decision_errored: Decision.() -> bool"], |args| {
        decided(args, |own| Value::Bool(!own.error.is_empty()))
    }),
    ("error", &["decision_error: Decision.() -> string"], |args| decided(args, |own| text(own.error.as_str()))),
    ("reason", &["decision_reason: Decision.() -> string"], |args| decided(args, |own| text(own.reason.as_str()))),
];

fn service_account<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Opaque(Opaque::Authorizer(own)), Value::String(namespace), Value::String(name)] = args else {
        return Err(Fault::NoOverload);
    };
    if !names::dns1123_subdomain(name).is_empty() {
        return fail("Invalid service account name");
    }
    if !names::dns1123_label(namespace).is_empty() {
        return fail("Invalid service account namespace");
    }
    let user = Arc::new(User::service_account(namespace, name));
    Ok(Authorizer { authority: Arc::clone(&own.authority), user }.value())
}

fn narrowed<'a>(args: &[Value<'a>], change: impl Fn(&mut ResourceTarget, &str)) -> Outcome<'a> {
    match args {
        [Value::Opaque(Opaque::ResourceCheck(own)), Value::String(text)] => {
            let mut check = (**own).clone();
            change(&mut check.target, text);
            Ok(Value::Opaque(Opaque::ResourceCheck(Arc::new(check))))
        }
        _ => Err(Fault::NoOverload),
    }
}

/// What a field selector demands by equality; nothing where it can't be read, as upstream has it.
fn demands(text: &str) -> Vec<(String, String)> {
    let parsed = FieldSelector::parse(text).unwrap_or_default();
    let equal = parsed.requirements().iter().filter(|own| own.equals);
    equal.map(|own| (own.field.clone(), own.value.clone())).collect()
}

fn decided<'a>(args: &[Value<'a>], of: impl Fn(&Decision) -> Value<'a>) -> Outcome<'a> {
    match args {
        [Value::Opaque(Opaque::Decision(own))] => Ok(of(own)),
        _ => Err(Fault::NoOverload),
    }
}
