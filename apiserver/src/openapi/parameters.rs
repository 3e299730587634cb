//! Query and path parameters of operations.

use serde_json::{Map, Value, json};

use super::definitions::Flavour;

/// A query parameter: its name, its type, and what it does.
#[derive(Clone, Copy)]
pub(super) struct Parameter(pub(super) &'static str, &'static str, &'static str);

pub(super) const PRETTY: Parameter =
    Parameter("pretty", "string", "Indent the answer if 'true'. By default for browsers, curl and wget only.");
pub(super) const DRY_RUN: Parameter =
    Parameter("dryRun", "string", "Process the request but store nothing. The only value is All.");
const FIELD_MANAGER: Parameter =
    Parameter("fieldManager", "string", "Who makes the change, as managedFields will name it; required for apply.");
const FIELD_VALIDATION: Parameter = Parameter(
    "fieldValidation",
    "string",
    "What unknown and duplicate fields lead to: Ignore, Warn (the default) or Strict, which refuses them.",
);
const FORCE: Parameter = Parameter("force", "boolean", "Take over fields that other managers own; for apply only.");
const RESOURCE_VERSION: Parameter =
    Parameter("resourceVersion", "string", "From which version on, or at which, to read.");

/// Of lists and watches.
pub(super) const LISTING: [Parameter; 11] = [
    Parameter("allowWatchBookmarks", "boolean", "Let a watch send bookmarks of how far it has come."),
    Parameter("continue", "string", "Where the previous page of a list ended."),
    Parameter("fieldSelector", "string", "Only objects with these values of fields."),
    Parameter("labelSelector", "string", "Only objects with these labels."),
    Parameter("limit", "integer", "How many objects to answer with at most."),
    RESOURCE_VERSION,
    Parameter("resourceVersionMatch", "string", "How resourceVersion is meant: Exact or NotOlderThan."),
    Parameter("sendInitialEvents", "boolean", "Start a watch with the objects that are there already."),
    Parameter("shardSelector", "string", "Only objects of a shard. Without effect while that feature is off."),
    Parameter("timeoutSeconds", "integer", "When to end the request, in seconds."),
    Parameter("watch", "boolean", "Follow changes instead of listing."),
];
/// Those of them that say how to watch.
pub(super) const WATCHING: [&str; 2] = ["allowWatchBookmarks", "watch"];
/// Of reads of custom objects; those of built-in ones tell none.
pub(super) const READING: [Parameter; 1] = [RESOURCE_VERSION];
/// Of what is made or replaced.
pub(super) const CHANGING: [Parameter; 3] = [DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
/// Of patches.
pub(super) const PATCHING: [Parameter; 4] = [DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE];
/// Of deletes.
pub(super) const DELETING: [Parameter; 5] = [
    DRY_RUN,
    Parameter("gracePeriodSeconds", "integer", "How long the object may take to end, in seconds; 0 ends it at once."),
    Parameter("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean", "Delete what can no longer be read."),
    Parameter("orphanDependents", "boolean", "Deprecated: leave dependents behind."),
    Parameter("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
];

const CONTAINER: Parameter = Parameter("container", "string", "In which container; by default the only one.");
const STDERR: Parameter = Parameter("stderr", "boolean", "Send the standard error of the process.");
const STDIN: Parameter = Parameter("stdin", "boolean", "Give the process a standard input.");
const STDOUT: Parameter = Parameter("stdout", "boolean", "Send the standard output of the process.");
const TTY: Parameter = Parameter("tty", "boolean", "With a terminal.");

const ATTACHING: [Parameter; 5] = [CONTAINER, STDERR, STDIN, STDOUT, TTY];
const EXECUTING: [Parameter; 6] = [
    Parameter("command", "string", "The program and its arguments, one parameter for each. No shell is involved."),
    CONTAINER,
    STDERR,
    STDIN,
    STDOUT,
    TTY,
];
const FORWARDING: [Parameter; 1] = [Parameter("ports", "integer", "The ports; needed by WebSockets.")];
const PASSING_ON: [Parameter; 1] = [Parameter("path", "string", "The path that the request is passed on with.")];
const LOGGING: [Parameter; 9] = [
    CONTAINER,
    Parameter("follow", "boolean", "Go on with what is logged from now on."),
    Parameter("insecureSkipTLSVerifyBackend", "boolean", "Do not verify the certificate of the node's agent."),
    Parameter("limitBytes", "integer", "How many bytes to answer with at most."),
    Parameter("previous", "boolean", "The log of the container before its last restart."),
    Parameter("sinceSeconds", "integer", "Only what was logged in so many seconds."),
    Parameter("stream", "string", "Which output: All, Stdout or Stderr."),
    Parameter("tailLines", "integer", "Only so many lines of the end."),
    Parameter("timestamps", "boolean", "Begin each line with its time."),
];

/// Of streams, proxies and logs.
pub(super) fn of_stream(subresource: &str) -> &'static [Parameter] {
    match subresource {
        "attach" => &ATTACHING,
        "exec" => &EXECUTING,
        "log" => &LOGGING,
        "portforward" => &FORWARDING,
        "proxy" => &PASSING_ON,
        _ => &[],
    }
}

/// A query parameter as documents tell it.
pub(super) fn query(Parameter(name, kind, words): &Parameter, flavour: Flavour) -> Value {
    told(name, "query", kind, words, flavour)
}

/// A parameter of the path as documents tell it.
pub(super) fn of_path(name: &str, words: &str, flavour: Flavour) -> Value {
    let mut told = told(name, "path", "string", words, flavour);
    if let Value::Object(map) = &mut told {
        map.insert("required".into(), true.into());
    }
    told
}

fn told(name: &str, place: &str, kind: &str, words: &str, flavour: Flavour) -> Value {
    let shape = Map::from_iter([("type".to_owned(), json!(kind)), ("uniqueItems".to_owned(), json!(true))]);
    let mut map = match flavour {
        Flavour::Second => shape,
        Flavour::Third => Map::from_iter([("schema".to_owned(), Value::Object(shape))]),
    };
    for (key, value) in [("name", name), ("in", place), ("description", words)] {
        map.insert(key.into(), value.into());
    }
    Value::Object(map)
}

/// What all operations of a path have in common is told once, bodies apart.
pub(super) fn take_common(operations: &mut Map<String, Value>) -> Vec<Value> {
    let parameters = |operation: &Value| operation.get("parameters").and_then(Value::as_array).cloned();
    let mut lists = operations.values().map(|operation| parameters(operation).unwrap_or_default());
    let mut common = lists.next().unwrap_or_default();
    common.retain(|one| one.get("in").and_then(Value::as_str) != Some("body"));
    lists.for_each(|list| common.retain(|one| list.contains(one)));
    for operation in operations.values_mut().filter_map(Value::as_object_mut) {
        if let Some(Value::Array(mut list)) = operation.remove("parameters") {
            list.retain(|one| !common.contains(one));
            sort(&mut list);
            if !list.is_empty() {
                operation.insert("parameters".into(), Value::Array(list));
            }
        }
    }
    sort(&mut common);
    common
}

/// By name, then by place.
fn sort(parameters: &mut [Value]) {
    let key = |one: &Value| {
        let text = |key: &str| one.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        (text("name"), text("in"))
    };
    parameters.sort_by_cached_key(key);
}
