//! Paths and operations: what can be asked of each resource, and by which parameters.

use martello_api::resource::{GroupVersionKind, Resource};
use martello_api::schema::{Schemas, has_protobuf};
use serde_json::{Map, Value, json};

use super::definitions::{DELETE_OPTIONS, Flavour, PATCH, STATUS, gvk, list_of, reference};
use super::{CustomSchema, custom, place};

/// Encodings of every answer; kinds that protobuf knows have the last one, too.
const ENCODINGS: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// Custom kinds know no strategic merge.
const CUSTOM_PATCHES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

/// A query parameter.
struct Parameter(&'static str, &'static str, &'static str);

const PRETTY: Parameter = Parameter("pretty", "string", "Indent the answer if 'true'.");
const DRY_RUN: Parameter =
    Parameter("dryRun", "string", "Process the request but store nothing. The only value is All.");
const FIELD_MANAGER: Parameter =
    Parameter("fieldManager", "string", "Who makes the change, as managedFields will name it; required for apply.");
const FIELD_VALIDATION: Parameter = Parameter(
    "fieldValidation",
    "string",
    "What unknown and duplicate fields lead to: Ignore, Warn (the default) or Strict, which refuses them.",
);
const FORCE: Parameter = Parameter("force", "boolean", "Take over fields that other managers own; for apply only.");
const LISTING: [Parameter; 11] = [
    Parameter("allowWatchBookmarks", "boolean", "Let a watch send bookmarks of how far it has come."),
    Parameter("continue", "string", "Where the previous page of a list ended."),
    Parameter("fieldSelector", "string", "Only objects with these values of fields."),
    Parameter("labelSelector", "string", "Only objects with these labels."),
    Parameter("limit", "integer", "How many objects to answer with at most."),
    Parameter("resourceVersion", "string", "From which version on, or at which, to read."),
    Parameter("resourceVersionMatch", "string", "How resourceVersion is meant: Exact or NotOlderThan."),
    Parameter("shardSelector", "string", "Only objects of a shard. Without effect while that feature is off."),
    Parameter("sendInitialEvents", "boolean", "Start a watch with the objects that are there already."),
    Parameter("timeoutSeconds", "integer", "When to end the request, in seconds."),
    Parameter("watch", "boolean", "Follow changes instead of listing."),
];
const DELETING: [Parameter; 5] = [
    DRY_RUN,
    Parameter("gracePeriodSeconds", "integer", "How long the object may take to end, in seconds; 0 ends it at once."),
    Parameter("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean", "Delete what can no longer be read."),
    Parameter("orphanDependents", "boolean", "Deprecated: leave dependents behind."),
    Parameter("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
];

/// All paths of these resources.
pub(super) fn paths(resources: &[&Resource], custom: &[CustomSchema], flavour: Flavour) -> Value {
    let mut paths = Map::new();
    for resource in resources {
        let root = format!("/{}", place(resource));
        let base = if resource.namespaced { format!("{root}/namespaces/{{namespace}}") } else { root.clone() };
        let collection = format!("{base}/{}", resource.plural);
        let item = format!("{collection}/{{name}}");
        let builder = Builder { resource, custom, flavour };
        builder.put(
            &mut paths,
            &collection,
            &["list", "create", "deletecollection"],
            &resource.verbs,
            &resource.gvk,
            "",
        );
        builder.put(&mut paths, &item, &["get", "update", "patch", "delete"], &resource.verbs, &resource.gvk, "");
        if resource.namespaced {
            builder.put(
                &mut paths,
                &format!("{root}/{}", resource.plural),
                &["list"],
                &resource.verbs,
                &resource.gvk,
                "",
            );
        }
        for sub in &resource.subresources {
            let path = format!("{item}/{}", sub.name);
            builder.put(
                &mut paths,
                &path,
                &["get", "create", "update", "patch", "delete"],
                &sub.verbs,
                &sub.gvk,
                &sub.name,
            );
        }
    }
    Value::Object(paths)
}

struct Builder<'r> {
    resource: &'r Resource,
    custom: &'r [CustomSchema],
    flavour: Flavour,
}

impl Builder<'_> {
    fn put(
        &self,
        paths: &mut Map<String, Value>,
        path: &str,
        possible: &[&str],
        verbs: &[std::borrow::Cow<'static, str>],
        kind: &GroupVersionKind,
        subresource: &str,
    ) {
        let mut entry = Map::new();
        for verb in possible.iter().filter(|verb| verbs.iter().any(|given| given == *verb)) {
            let method = match *verb {
                "list" | "get" => "get",
                "create" => "post",
                "update" => "put",
                "patch" => "patch",
                _ => "delete",
            };
            entry.insert(method.into(), self.operation(verb, path, kind, subresource));
        }
        if entry.is_empty() {
            return;
        }
        let mut common = self.take_common(&mut entry);
        if path.contains("{name}") {
            common.push(self.path_parameter("name", &format!("Name of the {}.", self.resource.gvk.kind)));
        }
        if path.contains("{namespace}") {
            common.push(self.path_parameter("namespace", "Namespace of the object."));
        }
        if !is_connection(kind) {
            common.push(self.query(&PRETTY));
        }
        entry.insert("parameters".into(), Value::Array(common));
        paths.insert(path.to_owned(), Value::Object(entry));
    }

    /// What all operations of a path have in common is told once, bodies apart.
    fn take_common(&self, operations: &mut Map<String, Value>) -> Vec<Value> {
        let parameters = |operation: &Value| operation.get("parameters").and_then(Value::as_array).cloned();
        let mut lists = operations.values().filter_map(parameters);
        let mut common = lists.next().unwrap_or_default();
        common.retain(|one| one.get("in").and_then(Value::as_str) != Some("body"));
        lists.for_each(|list| common.retain(|one| list.contains(one)));
        for operation in operations.values_mut() {
            if let Some(list) = operation.get_mut("parameters").and_then(Value::as_array_mut) {
                list.retain(|one| !common.contains(one));
            }
        }
        common
    }

    fn operation(&self, verb: &str, path: &str, kind: &GroupVersionKind, subresource: &str) -> Value {
        let changes = [DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
        let (action, queries): (&str, Vec<&Parameter>) = match verb {
            _ if is_connection(kind) => ("connect", Vec::new()),
            "list" => ("list", LISTING.iter().collect()),
            "deletecollection" => {
                ("deletecollection", LISTING.iter().filter(|one| !WATCHING.contains(&one.0)).chain(&DELETING).collect())
            }
            "get" => ("get", Vec::new()),
            "create" => ("post", changes.iter().collect()),
            "update" => ("put", changes.iter().collect()),
            "patch" => ("patch", changes.iter().chain([&FORCE]).collect()),
            _ => ("delete", DELETING.iter().collect()),
        };
        let (body, body_types): (Option<String>, &[&str]) = match verb {
            "create" | "update" if action != "connect" => (self.schema_name(kind), &["*/*"]),
            "patch" if action != "connect" && !self.custom.is_empty() && Schemas::builtin().get(kind).is_none() => {
                (Some(PATCH.to_owned()), &CUSTOM_PATCHES)
            }
            "patch" if action != "connect" => (Some(PATCH.to_owned()), &PATCHES),
            "delete" | "deletecollection" if action != "connect" => (Some(DELETE_OPTIONS.to_owned()), &["*/*"]),
            _ => (None, &["*/*"]),
        };
        let answer = match verb {
            "list" => self.schema_name(&self.list_kind(kind)),
            "delete" | "deletecollection" => Some(STATUS.to_owned()),
            _ => self.schema_name(kind),
        };
        let gvk_value = gvk(kind);
        let mut parameters: Vec<Value> = queries.into_iter().map(|one| self.query(one)).collect();
        let mut operation = json!({
            "description": format!("{verb} {}", if subresource.is_empty() { self.resource.plural.to_string() } else { format!("{} of {}", subresource, self.resource.plural) }),
            "operationId": self.operation_id(if action == "connect" { action } else { verb }, verb, path, subresource),
            "tags": [tag(&self.resource.gvk)],
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk_value,
        });
        let Value::Object(map) = &mut operation else { return operation };
        match self.flavour {
            Flavour::Second => {
                if let Some(body) = body {
                    let required = verb != "delete" && verb != "deletecollection";
                    parameters.push(json!({"name": "body", "in": "body", "required": required, "schema": reference(&body, self.flavour)}));
                }
                map.insert("consumes".into(), json!(body_types));
                map.insert(
                    "produces".into(),
                    json!(self.produced(if action == "connect" { action } else { verb }, subresource)),
                );
                map.insert("schemes".into(), json!(["https"]));
            }
            Flavour::Third => {
                if let Some(body) = body {
                    let types: Map<String, Value> = body_types
                        .iter()
                        .map(|kind| ((*kind).to_owned(), json!({"schema": reference(&body, self.flavour)})))
                        .collect();
                    map.insert("requestBody".into(), json!({"content": types}));
                }
            }
        }
        map.insert("parameters".into(), Value::Array(parameters));
        let answered = if action == "connect" || subresource == "log" { "connect" } else { verb };
        map.insert("responses".into(), self.responses(answered, answer.as_deref()));
        operation
    }

    /// In which encodings an operation answers.
    fn produced(&self, verb: &str, subresource: &str) -> Vec<&'static str> {
        let protobuf = has_protobuf(&self.resource.gvk);
        let known = ENCODINGS.into_iter().filter(|one| protobuf || !one.ends_with("protobuf"));
        match verb {
            "connect" => vec!["*/*"],
            "list" => {
                let streams = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
                known.chain(streams.into_iter().take(if protobuf { 2 } else { 1 })).collect()
            }
            _ if subresource == "log" => ["text/plain"].into_iter().chain(known).collect(),
            _ => known.collect(),
        }
    }

    fn responses(&self, verb: &str, answer: Option<&str>) -> Value {
        if verb == "connect" {
            let schema = json!({"type": "string"});
            let ok = match self.flavour {
                Flavour::Second => json!({"description": "OK", "schema": schema}),
                Flavour::Third => json!({"description": "OK", "content": {"*/*": {"schema": schema}}}),
            };
            return json!({"200": ok, "401": {"description": "Unauthorized"}});
        }
        let with = |words: &str| {
            let Some(answer) = answer else { return json!({"description": words}) };
            let schema = reference(answer, self.flavour);
            match self.flavour {
                Flavour::Second => json!({"description": words, "schema": schema}),
                Flavour::Third => {
                    let content: Map<String, Value> = self
                        .produced(verb, "")
                        .into_iter()
                        .map(|kind| (kind.to_owned(), json!({"schema": schema})))
                        .collect();
                    json!({"description": words, "content": content})
                }
            }
        };
        let mut all = json!({"200": with("OK"), "401": {"description": "Unauthorized"}});
        if let (Value::Object(map), true) = (&mut all, matches!(verb, "create" | "update" | "patch")) {
            map.insert("201".into(), with("Created"));
        }
        if let (Value::Object(map), true) = (&mut all, matches!(verb, "create" | "delete")) {
            map.insert("202".into(), with("Accepted"));
        }
        all
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

    /// Clients that are generated call their functions so.
    fn operation_id(&self, action: &str, verb: &str, path: &str, subresource: &str) -> String {
        let gvk = &self.resource.gvk;
        let method = match verb {
            "create" => "Post",
            "update" => "Put",
            "patch" => "Patch",
            "delete" => "Delete",
            _ => "Get",
        };
        let (word, part) = match action {
            "connect" => ("connect", method),
            "get" => ("read", ""),
            "update" => ("replace", ""),
            "deletecollection" => ("delete", "Collection"),
            other => (other, ""),
        };
        let scope = match (self.resource.namespaced, path.contains("{namespace}")) {
            (true, true) => "Namespaced",
            _ => "",
        };
        let everywhere = if self.resource.namespaced && scope.is_empty() { "ForAllNamespaces" } else { "" };
        format!(
            "{word}{}{}{part}{scope}{}{}{everywhere}",
            capital(&short_group(&gvk.group)),
            capital(&gvk.version),
            gvk.kind,
            capital(subresource)
        )
    }

    fn query(&self, Parameter(name, kind, words): &Parameter) -> Value {
        match self.flavour {
            Flavour::Second => {
                json!({"name": name, "in": "query", "type": kind, "description": words, "uniqueItems": true})
            }
            Flavour::Third => {
                json!({"name": name, "in": "query", "description": words, "schema": {"type": kind, "uniqueItems": true}})
            }
        }
    }

    fn path_parameter(&self, name: &str, words: &str) -> Value {
        match self.flavour {
            Flavour::Second => {
                json!({"name": name, "in": "path", "required": true, "type": "string", "description": words, "uniqueItems": true})
            }
            Flavour::Third => {
                json!({"name": name, "in": "path", "required": true, "description": words, "schema": {"type": "string", "uniqueItems": true}})
            }
        }
    }
}

/// Parameters that only a list or watch has.
const WATCHING: [&str; 2] = ["allowWatchBookmarks", "watch"];

/// Streams and proxies: their kinds end so, and no object is sent.
fn is_connection(kind: &GroupVersionKind) -> bool {
    ["ExecOptions", "AttachOptions", "PortForwardOptions", "ProxyOptions"].iter().any(|end| kind.kind.ends_with(end))
}

fn tag(gvk: &GroupVersionKind) -> String {
    format!("{}_{}", short_group(&gvk.group), gvk.version)
}

/// A group as names of functions have it: without the project's domain, its parts joined.
fn short_group(group: &str) -> String {
    let mut parts = group.strip_suffix(".k8s.io").unwrap_or(group).split('.');
    let first = parts.next().filter(|first| !first.is_empty()).unwrap_or("core").to_owned();
    parts.fold(first, |name, part| name + &capital(part))
}

fn capital(text: &str) -> String {
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
}
