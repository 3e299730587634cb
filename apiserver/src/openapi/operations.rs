//! Paths and operations: what can be asked of each resource, and by which parameters.

use martello_api::resource::{GroupVersionKind, Resource, Text};
use martello_api::schema::{Schemas, has_protobuf};
use serde_json::{Map, Value, json};

use super::definitions::{DELETE_OPTIONS, Flavour, PATCH, STATUS, WATCH_EVENT, gvk, list_of, reference};
use super::parameters;
use super::{CustomSchema, Described, custom, place};

mod verb;

use verb::Verb;

/// Encodings of every answer; kinds that protobuf knows have the last one, too.
const ENCODINGS: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// Encodings of streams of events.
const STREAMS: [&str; 2] = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
/// Custom kinds know no strategic merge.
const CUSTOM_PATCHES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];
const CUSTOM_BODIES: [&str; 2] = ["application/json", "application/yaml"];
const ANY: [&str; 1] = ["*/*"];
/// What a proxy passes on: the method, and whether discovery tells it.
const PROXIED: [(&str, &str); 7] = [
    ("get", "get"),
    ("put", "update"),
    ("post", "create"),
    ("delete", "delete"),
    ("patch", "patch"),
    ("head", "get"),
    ("options", "get"),
];

/// All paths of these resources.
pub(super) fn paths(resources: &[&Described], custom: &[CustomSchema], flavour: Flavour) -> Map<String, Value> {
    let mut paths = Map::new();
    for described in resources {
        let resource = &described.resource;
        let is_custom = custom.iter().any(|schema| schema.resource.gvk == resource.gvk);
        let builder = Builder { described, resource, custom, is_custom, flavour };
        builder.put_objects(&mut paths);
        for sub in &resource.subresources {
            builder.put_subresource(&mut paths, &sub.name, &sub.gvk, &sub.verbs);
        }
        if !is_custom {
            builder.put_watches(&mut paths);
        }
    }
    paths
}

struct Builder<'r> {
    described: &'r Described,
    resource: &'r Resource,
    custom: &'r [CustomSchema],
    is_custom: bool,
    flavour: Flavour,
}

impl Builder<'_> {
    fn put_objects(&self, paths: &mut Map<String, Value>) {
        let (collection, resource) = (self.collection("", true), self.resource);
        let verbs = |of_collection: bool| {
            let offered = |name: &str| resource.verbs.iter().any(|given| given == name);
            let fit = Verb::ALL.into_iter().filter(move |(_, verb)| verb.is_of_collection() == of_collection);
            fit.filter(move |(name, _)| offered(name)).map(|(_, verb)| verb).collect::<Vec<_>>()
        };
        self.put(paths, &format!("{collection}/{{name}}"), &verbs(false), &resource.gvk, "");
        if resource.namespaced && verbs(true).contains(&Verb::List) {
            self.put(paths, &self.collection("", false), &[Verb::List], &resource.gvk, "");
        }
        self.put(paths, &collection, &verbs(true), &resource.gvk, "");
    }

    fn put_subresource(&self, paths: &mut Map<String, Value>, name: &str, kind: &GroupVersionKind, verbs: &[Text]) {
        let path = format!("{}/{{name}}/{name}", self.collection("", true));
        let offered = |name: &str| verbs.iter().any(|given| given == name);
        if is_connection(kind) {
            let is_proxy = name == "proxy";
            let methods = PROXIED.into_iter().filter(|(method, _)| is_proxy || !matches!(*method, "head" | "options"));
            let verbs: Vec<Verb> =
                methods.filter(|(_, verb)| offered(verb)).map(|(method, _)| Verb::Connect(method)).collect();
            self.put(paths, &path, &verbs, kind, name);
            if is_proxy {
                self.put(paths, &format!("{path}/{{path}}"), &verbs, kind, name);
            }
            return;
        }
        let verbs: Vec<Verb> = Verb::ALL.into_iter().filter(|(name, _)| offered(name)).map(|(_, verb)| verb).collect();
        self.put(paths, &path, &verbs, kind, name);
    }

    /// The paths of watches from before lists could be followed.
    fn put_watches(&self, paths: &mut Map<String, Value>) {
        if !self.resource.verbs.iter().any(|verb| verb == "watch") {
            return;
        }
        let (gvk, collection) = (&self.resource.gvk, self.collection("/watch", true));
        self.put(paths, &collection, &[Verb::WatchList], gvk, "");
        self.put(paths, &format!("{collection}/{{name}}"), &[Verb::Watch], gvk, "");
        if self.resource.namespaced {
            self.put(paths, &self.collection("/watch", false), &[Verb::WatchList], gvk, "");
        }
    }

    /// The path of a collection, in a namespace if there are any.
    fn collection(&self, prefix: &str, in_namespace: bool) -> String {
        let namespace = if self.resource.namespaced && in_namespace { "/namespaces/{namespace}" } else { "" };
        format!("/{}{prefix}{namespace}/{}", place(self.resource), self.resource.plural)
    }

    fn put(
        &self,
        paths: &mut Map<String, Value>,
        path: &str,
        verbs: &[Verb],
        kind: &GroupVersionKind,
        subresource: &str,
    ) {
        if verbs.is_empty() {
            return;
        }
        let call = |verb: Verb| Call { builder: self, verb, path, kind, subresource };
        let mut item: Map<String, Value> =
            verbs.iter().map(|verb| (verb.method().to_owned(), call(*verb).operation())).collect();
        let common = parameters::take_common(&mut item);
        item.insert("parameters".into(), Value::Array(common));
        paths.insert(path.to_owned(), Value::Object(item));
    }

    fn schema_name(&self, kind: &GroupVersionKind) -> Option<String> {
        let builtin = Schemas::builtin().get(kind).map(|schema| schema.name.to_string());
        builtin.or_else(|| custom::named(self.custom, kind))
    }

    /// The kind of the lists of a kind.
    fn list_kind(&self, kind: &GroupVersionKind) -> GroupVersionKind {
        let custom = self.custom.iter().find(|schema| schema.resource.gvk == *kind);
        custom.map_or_else(|| list_of(kind), custom::list_of)
    }
}

/// One operation.
struct Call<'c> {
    builder: &'c Builder<'c>,
    verb: Verb,
    path: &'c str,
    kind: &'c GroupVersionKind,
    subresource: &'c str,
}

impl Call<'_> {
    fn operation(&self) -> Value {
        let gvk_of = if self.builder.is_custom { &self.builder.resource.gvk } else { self.kind };
        let mut operation = json!({
            "description": self.description(),
            "operationId": self.id(),
            "tags": [tag(&self.builder.resource.gvk)],
            "x-kubernetes-action": self.verb.action(),
            "x-kubernetes-group-version-kind": gvk(gvk_of),
            "responses": self.responses(),
        });
        let Value::Object(map) = &mut operation else { return operation };
        let mut parameters = self.parameters();
        let (body, types) = self.body();
        match self.builder.flavour {
            Flavour::Second => {
                if let Some((body, required)) = body {
                    let mut told = json!({"name": "body", "in": "body", "schema": reference(&body, Flavour::Second)});
                    if let (Value::Object(told), true) = (&mut told, required) {
                        told.insert("required".into(), true.into());
                    }
                    parameters.push(told);
                }
                map.insert("consumes".into(), json!(types));
                map.insert("produces".into(), json!(self.produced()));
                map.insert("schemes".into(), json!(["https"]));
            }
            Flavour::Third => {
                if let Some((body, required)) = body {
                    let mut told = json!({"content": content(types, &reference(&body, Flavour::Third))});
                    if let (Value::Object(told), true) = (&mut told, required) {
                        told.insert("required".into(), true.into());
                    }
                    map.insert("requestBody".into(), told);
                }
            }
        }
        map.insert("parameters".into(), Value::Array(parameters));
        operation
    }

    /// All parameters but the body.
    fn parameters(&self) -> Vec<Value> {
        let (flavour, mut found) = (self.builder.flavour, Vec::new());
        if self.path.contains("/{name}") {
            let of = if self.builder.is_custom { &self.builder.resource.gvk } else { self.kind };
            found.push(parameters::of_path("name", &format!("name of the {}", of.kind), flavour));
        }
        if self.path.contains("/{namespace}") {
            let words = "object name and auth scope, such as for teams and projects";
            found.push(parameters::of_path("namespace", words, flavour));
        }
        if self.path.ends_with("/{path}") {
            found.push(parameters::of_path("path", "path to the resource", flavour));
        }
        if !matches!(self.verb, Verb::Connect(_)) {
            found.push(parameters::query(&parameters::PRETTY, flavour));
        }
        let queries = self.verb.queries(self.builder.is_custom).into_iter();
        found.extend(queries.chain(parameters::of_stream(self.subresource)).map(|one| parameters::query(one, flavour)));
        found
    }

    /// What is sent and whether it must be, and in which encodings.
    fn body(&self) -> (Option<(String, bool)>, &'static [&'static str]) {
        let is_custom = self.builder.is_custom;
        let objects: &[&str] = if is_custom { &CUSTOM_BODIES } else { &ANY };
        match self.verb {
            Verb::Create | Verb::Replace => (self.builder.schema_name(self.kind).map(|name| (name, true)), objects),
            Verb::Patch => (Some((PATCH.to_owned(), true)), if is_custom { &CUSTOM_PATCHES } else { &PATCHES }),
            Verb::DeleteCollection if is_custom => (None, objects),
            Verb::Delete | Verb::DeleteCollection => (Some((DELETE_OPTIONS.to_owned(), false)), objects),
            _ => (None, objects),
        }
    }

    /// In which encodings an operation answers.
    fn produced(&self) -> Vec<&'static str> {
        let count = if has_protobuf(&self.builder.resource.gvk) { ENCODINGS.len() } else { ENCODINGS.len() - 1 };
        let known = ENCODINGS.into_iter().take(count);
        match self.verb {
            Verb::Connect(_) => ANY.to_vec(),
            Verb::List | Verb::Watch | Verb::WatchList if !self.builder.is_custom => {
                known.chain(STREAMS.into_iter().take(count - 1)).collect()
            }
            _ if self.is_log() => ["text/plain"].into_iter().chain(known).collect(),
            _ => known.collect(),
        }
    }

    fn is_log(&self) -> bool {
        self.subresource == "log"
    }

    /// The shape of the answer.
    fn answer(&self) -> Option<Value> {
        let builder = self.builder;
        let name = match self.verb {
            Verb::Connect(_) => None,
            _ if self.is_log() => None,
            Verb::List => builder.schema_name(&builder.list_kind(self.kind)),
            Verb::Watch | Verb::WatchList => Some(WATCH_EVENT.to_owned()),
            Verb::Delete if builder.described.answers_deleted => builder.schema_name(self.kind),
            Verb::Delete | Verb::DeleteCollection => Some(STATUS.to_owned()),
            _ => builder.schema_name(self.kind),
        };
        match name {
            Some(name) => Some(reference(&name, builder.flavour)),
            None if matches!(self.verb, Verb::Connect(_)) || self.is_log() => Some(json!({"type": "string"})),
            None => None,
        }
    }

    fn responses(&self) -> Value {
        let answer = self.answer();
        let with = |words: &str| match (&answer, self.builder.flavour) {
            (None, _) => json!({"description": words}),
            (Some(shape), Flavour::Second) => json!({"description": words, "schema": shape}),
            (Some(shape), Flavour::Third) => json!({"description": words, "content": content(&self.produced(), shape)}),
        };
        let mut all = Map::from_iter([
            ("200".to_owned(), with("OK")),
            ("401".to_owned(), json!({"description": "Unauthorized"})),
        ]);
        let patched = self.verb == Verb::Patch && !self.builder.is_custom;
        if patched || matches!(self.verb, Verb::Create | Verb::Replace) {
            all.insert("201".into(), with("Created"));
        }
        if matches!(self.verb, Verb::Create | Verb::Delete) {
            all.insert("202".into(), with("Accepted"));
        }
        Value::Object(all)
    }

    fn description(&self) -> String {
        let kind = &self.builder.resource.gvk.kind;
        let sub = if self.subresource.is_empty() { String::new() } else { format!(" {} of", self.subresource) };
        let followed = !self.builder.is_custom && self.builder.resource.verbs.iter().any(|verb| verb == "watch");
        let old = "deprecated: use the 'watch' parameter with a list operation instead";
        match self.verb {
            Verb::List if followed => format!("list or watch objects of kind {kind}"),
            Verb::List => format!("list objects of kind {kind}"),
            Verb::Create => format!("create{sub}{}{kind}", article(kind)),
            Verb::DeleteCollection => format!("delete collection of {kind}"),
            Verb::Read => format!("read{sub} the specified {kind}"),
            Verb::Replace => format!("replace{sub} the specified {kind}"),
            Verb::Patch => format!("partially update{sub} the specified {kind}"),
            Verb::Delete => format!("delete{}{kind}", article(kind)),
            Verb::Watch => format!(
                "watch changes to an object of kind {kind}. {old}, filtered to a single item with the 'fieldSelector' parameter."
            ),
            Verb::WatchList => format!("watch individual changes to a list of {kind}. {old}."),
            Verb::Connect(method) => format!("connect {} requests to{sub} {kind}", method.to_ascii_uppercase()),
        }
    }

    /// Clients that are generated call their functions so.
    fn id(&self) -> String {
        let gvk = &self.builder.resource.gvk;
        let (word, part) = self.verb.words();
        let namespaced = self.builder.resource.namespaced;
        let (scope, everywhere) = match (namespaced, self.path.contains("/{namespace}")) {
            (true, true) => ("Namespaced", ""),
            (true, false) => ("", "ForAllNamespaces"),
            (false, _) => ("", ""),
        };
        let list = if self.verb == Verb::WatchList { "List" } else { "" };
        let rest = if self.path.ends_with("/{path}") { "WithPath" } else { "" };
        format!(
            "{word}{}{}{part}{scope}{}{}{list}{everywhere}{rest}",
            capital(&short_group(&gvk.group)),
            capital(&gvk.version),
            gvk.kind,
            capital(self.subresource)
        )
    }
}

/// One shape in several encodings.
pub(super) fn content(types: &[&str], shape: &Value) -> Value {
    types.iter().map(|kind| ((*kind).to_owned(), json!({"schema": shape}))).collect::<Map<_, _>>().into()
}

/// What stands before a kind in a sentence: nothing before a plural.
fn article(kind: &str) -> &'static str {
    if kind.ends_with('s') && !kind.ends_with("ss") {
        return " ";
    }
    if kind.starts_with(['a', 'e', 'i', 'o', 'u', 'A', 'E', 'I', 'O', 'U']) { " an " } else { " a " }
}

/// Streams and proxies: their kinds end so, and no object is sent.
fn is_connection(kind: &GroupVersionKind) -> bool {
    ["ExecOptions", "AttachOptions", "PortForwardOptions", "ProxyOptions"].iter().any(|end| kind.kind.ends_with(end))
}

fn tag(gvk: &GroupVersionKind) -> String {
    format!("{}_{}", short_group(&gvk.group), gvk.version)
}

/// A group as names of functions have it: without the project's domain, its parts joined.
pub(super) fn short_group(group: &str) -> String {
    let mut parts = group.strip_suffix(".k8s.io").unwrap_or(group).split('.');
    let first = parts.next().filter(|first| !first.is_empty()).unwrap_or("core").to_owned();
    parts.fold(first, |name, part| name + &capital(part))
}

/// With a capital at its beginning.
pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_named_as_generated_clients_name_them() {
        for (group, name) in [
            ("", "core"),
            ("apps", "apps"),
            ("rbac.authorization.k8s.io", "rbacAuthorization"),
            ("flowcontrol.apiserver.k8s.io", "flowcontrolApiserver"),
            ("networking.k8s.io", "networking"),
            ("stable.example.com", "stableExampleCom"),
        ] {
            assert_eq!(short_group(group), name);
        }
    }

    #[test]
    fn a_kind_has_the_article_of_its_first_letter_and_a_plural_none() {
        for (kind, with) in [
            ("Pod", " a Pod"),
            ("Ingress", " an Ingress"),
            ("Endpoints", " Endpoints"),
            ("IngressClass", " an IngressClass"),
        ] {
            assert_eq!(format!("{}{kind}", article(kind)), with);
        }
    }
}
