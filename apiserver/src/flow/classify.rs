//! A flow schema as it decides: which requests it takes, and which of them are one flow.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use martello_api::{attributes::Target, identity::User};
use serde_json::Value;

use crate::registry::object;

/// A schema.
#[derive(Debug)]
pub struct Schema {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: Arc<str>,
    /// The name of its level.
    pub level: Arc<str>,
    /// The smallest is asked first.
    pub precedence: i64,
    by: By,
    rules: Vec<Rule>,
}

/// By what flows differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Nothing,
    User,
    Namespace,
}

#[derive(Debug)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

#[derive(Debug)]
enum Subject {
    User(String),
    Group(String),
    Account { namespace: String, name: String },
}

#[derive(Debug)]
struct ResourceRule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    cluster: bool,
    namespaces: Vec<String>,
}

#[derive(Debug)]
struct PathRule {
    verbs: Vec<String>,
    paths: Vec<String>,
}

impl Schema {
    /// Of the object; none if it names no level.
    #[must_use]
    pub fn read(schema: &Value) -> Option<Self> {
        let spec = schema.get("spec")?;
        let level = object::text(spec, &["priorityLevelConfiguration", "name"]);
        let by = match object::text(spec, &["distinguisherMethod", "type"]) {
            "ByUser" => By::User,
            "ByNamespace" => By::Namespace,
            _ => By::Nothing,
        };
        (!level.is_empty()).then(|| Self {
            name: object::name(schema).to_owned(),
            uid: object::uid(schema).into(),
            level: level.into(),
            precedence: object::int(spec, &["matchingPrecedence"]).unwrap_or(0),
            by,
            rules: object::list(spec, &["rules"]).iter().map(Rule::read).collect(),
        })
    }

    /// Whether it takes a request.
    #[must_use]
    pub fn takes(&self, user: &User, verb: &str, target: &Target) -> bool {
        self.rules.iter().any(|rule| {
            rule.subjects.iter().any(|subject| subject.is(user))
                && match target {
                    Target::Resource(target) => rule.resources.iter().any(|rule| rule.takes(verb, target)),
                    Target::Path(path) => rule.paths.iter().any(|rule| rule.takes(verb, path)),
                }
        })
    }

    /// What a request's flow is called.
    #[must_use]
    pub fn flow(&self, user: &User, target: &Target) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.name.hash(&mut hasher);
        match (self.by, target) {
            (By::User, _) => user.name.hash(&mut hasher),
            (By::Namespace, Target::Resource(target)) => target.namespace.hash(&mut hasher),
            _ => {}
        }
        hasher.finish()
    }
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    object::list(value, &[key]).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Whether a list has a text, or the wildcard.
fn has(list: &[String], text: &str) -> bool {
    list.iter().any(|own| own == "*" || own == text)
}

impl Rule {
    fn read(rule: &Value) -> Self {
        let subjects = object::list(rule, &["subjects"]).iter().filter_map(Subject::read).collect();
        let resources = object::list(rule, &["resourceRules"]).iter().map(|rule| ResourceRule {
            verbs: texts(rule, "verbs"),
            groups: texts(rule, "apiGroups"),
            resources: texts(rule, "resources"),
            cluster: object::flag(rule, &["clusterScope"]),
            namespaces: texts(rule, "namespaces"),
        });
        let paths = object::list(rule, &["nonResourceRules"])
            .iter()
            .map(|rule| PathRule { verbs: texts(rule, "verbs"), paths: texts(rule, "nonResourceURLs") });
        Self { subjects, resources: resources.collect(), paths: paths.collect() }
    }
}

impl Subject {
    fn read(subject: &Value) -> Option<Self> {
        let text = |path: &[&str]| object::text(subject, path).to_owned();
        match object::text(subject, &["kind"]) {
            "User" => Some(Self::User(text(&["user", "name"]))),
            "Group" => Some(Self::Group(text(&["group", "name"]))),
            "ServiceAccount" => Some(Self::Account {
                namespace: text(&["serviceAccount", "namespace"]),
                name: text(&["serviceAccount", "name"]),
            }),
            _ => None,
        }
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Self::User(name) => name == "*" || *name == user.name,
            Self::Group(name) => name == "*" || user.is_in(name),
            Self::Account { namespace, name } => user
                .as_service_account()
                .is_some_and(|(own, account)| own == namespace && (name == "*" || account == name)),
        }
    }
}

impl ResourceRule {
    fn takes(&self, verb: &str, target: &martello_api::attributes::ResourceTarget) -> bool {
        let resource = || {
            if target.subresource.is_empty() {
                has(&self.resources, &target.resource)
            } else {
                self.resources.iter().any(|own| {
                    own == "*" || own.split_once('/') == Some((target.resource.as_str(), target.subresource.as_str()))
                })
            }
        };
        let place = || {
            if target.namespace.is_empty() { self.cluster } else { has(&self.namespaces, &target.namespace) }
        };
        has(&self.verbs, verb) && has(&self.groups, &target.group) && resource() && place()
    }
}

impl PathRule {
    fn takes(&self, verb: &str, path: &str) -> bool {
        let fits = |own: &String| match own.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => own.trim_end_matches('/') == path.trim_end_matches('/'),
        };
        has(&self.verbs, verb) && self.paths.iter().any(fits)
    }
}
