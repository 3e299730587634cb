//! Checks the types of policies against what they are for, and writes what does not fit into their status.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use martello_api::{
    clock,
    identity::{API_SERVER, GROUP_MASTERS, User},
    resource::{GroupVersionKind, Resource},
    schema::Schemas,
};
use serde_json::{Value, json};

use crate::{
    cel::{Declarations, Environment, Schema, Type},
    registry::{Kind, object},
    server::{Core, Server},
    store::{EventKind, ListAt, Page, StoreError},
};

/// Most kinds that an expression is checked against.
const MAX_TYPES: usize = 10;
const GROUP: &str = "admissionregistration.k8s.io";
const PLURAL: &str = "validatingadmissionpolicies";
/// Who applies the status, as upstream's controller calls itself.
const MANAGER: &str = "validatingadmissionpolicy-status";
/// Between attempts to watch a store that fails.
const PAUSE: Duration = Duration::from_millis(100);

/// Keeps the status of policies until the server ends.
pub async fn run(server: Server) {
    let core = Arc::clone(server.core());
    let Some(kind) = core.registry.find(GROUP, "v1", PLURAL).cloned() else { return };
    let client = server.client(User::authenticated(API_SERVER, [GROUP_MASTERS]));
    let keep = async {
        loop {
            if let Err(error) = follow(&core, &kind, &client).await {
                tracing::warn!(%error, "watching policies to check their types ended; starting over");
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = keep => {}
        () = core.drain.cancelled() => {}
    }
}

async fn follow(core: &Arc<Core>, kind: &Kind, client: &kube::Client) -> Result<(), StoreError> {
    let listed = core.store.list(&kind.scope(""), ListAt::Latest, Page::default()).await?;
    for entry in &listed.items {
        check(core, kind, client, entry).await;
    }
    let mut watch = core.store.watch(&kind.scope(""), listed.revision).await?;
    loop {
        for event in watch.next().await?.events.iter().filter(|event| event.kind != EventKind::Deleted) {
            check(core, kind, client, &event.entry).await;
        }
    }
}

/// Checks a policy whose status does not tell of its newest form yet.
async fn check(core: &Arc<Core>, kind: &Kind, client: &kube::Client, entry: &crate::store::Entry) {
    let Ok(policy) = core.value(kind, entry).await else { return };
    let generation = object::int(&policy, &["metadata", "generation"]);
    if object::int(&policy, &["status", "observedGeneration"]) == generation {
        return;
    }
    let name = object::name(&policy);
    let warnings = warnings(core, &policy);
    let mut checking = json!({});
    if !warnings.is_empty() {
        checking = json!({ "expressionWarnings": warnings });
    }
    let status = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "status": {"observedGeneration": generation, "typeChecking": checking},
    });
    let path = format!("/apis/{GROUP}/v1/{PLURAL}/{name}/status?fieldManager={MANAGER}&force=true");
    let request = http::Request::patch(path)
        .header(http::header::CONTENT_TYPE, "application/apply-patch+yaml")
        .body(status.to_string().into_bytes());
    match request {
        Ok(request) => {
            if let Err(error) = client.request::<Value>(request).await {
                tracing::debug!(%error, name, "the status of a policy was not written");
            }
        }
        Err(error) => tracing::error!(%error, name, "asking to write the status of a policy"),
    }
}

/// What does not fit, by field.
fn warnings(core: &Core, policy: &Value) -> Vec<Value> {
    let spec = policy.get("spec").unwrap_or(&Value::Null);
    let types: Vec<(String, Environment)> =
        kinds(core, spec).into_iter().map(|kind| (kind.1, environment(core, spec, &kind.0))).collect();
    let mut warnings = Vec::new();
    for (at, validation) in object::list(spec, &["validations"]).iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let expression = object::text(validation, &[field]);
            if expression.is_empty() {
                continue;
            }
            let found: Vec<String> = types
                .iter()
                .filter_map(|(name, environment)| {
                    environment.compile(expression).err().map(|issues| format!("{name}: {issues}\n"))
                })
                .collect();
            if !found.is_empty() {
                let place = format!("spec.validations[{at}].{field}");
                warnings.push(json!({"fieldRef": place, "warning": found.join("\n")}));
            }
        }
    }
    warnings
}

/// The kinds that a policy names without wildcards, as upstream writes them, in order.
fn kinds(core: &Core, spec: &Value) -> BTreeSet<(GroupVersionKind, String)> {
    let mut found = BTreeSet::new();
    for rule in object::list(spec, &["matchConstraints", "resourceRules"]) {
        let texts = |key: &str| {
            let list = object::list(rule, &[key]).iter().filter_map(Value::as_str);
            list.map(str::to_owned).collect::<BTreeSet<String>>()
        };
        let (groups, versions) = (texts("apiGroups"), texts("apiVersions"));
        if groups.iter().chain(&versions).any(|name| name.contains('*')) {
            continue;
        }
        let mut count = 0;
        for (group, version) in groups.iter().flat_map(|group| versions.iter().map(move |version| (group, version))) {
            for plural in texts("resources").iter().filter(|plural| !plural.contains(['*', '/'])) {
                for gvk in meant(core, group, version, plural) {
                    let shown = format!("{}/{}, Kind={}", gvk.group, gvk.version, gvk.kind);
                    found.insert((gvk, shown));
                    count += 1;
                    if count == MAX_TYPES {
                        return found;
                    }
                }
            }
        }
    }
    found
}

/// The kinds that a rule's names stand for. Upstream's look-up takes the core group for no group at all: then it finds the
/// resource in every group that has it in this version.
fn meant(core: &Core, group: &str, version: &str, plural: &str) -> BTreeSet<GroupVersionKind> {
    let custom = core.registry.custom();
    let kinds = core.registry.kinds().iter().chain(custom.kinds.iter()).map(|kind| &kind.resource);
    let fits = |resource: &&Resource| {
        let gvk = &resource.gvk;
        resource.plural == plural && gvk.version == version && (group.is_empty() || gvk.group == group)
    };
    kinds.filter(fits).map(|resource| resource.gvk.clone()).collect()
}

/// What names mean where the object is of this kind.
fn environment(core: &Core, spec: &Value, gvk: &GroupVersionKind) -> Environment {
    let schema = |gvk: &GroupVersionKind| {
        // Upstream's name of the type, so that the names of two kinds differ.
        let name = format!("{}{}", gvk.kind, clock::now().subsec_nanosecond());
        let custom = || core.registry.find_by(|kind| kind.resource.gvk == *gvk).and_then(|kind| kind.openapi());
        let builtin = Schemas::builtin().get(gvk).map(|found| Schema::of_builtin(found, &name));
        builtin.or_else(|| Schema::of_object(&*custom()?, &name))
    };
    let param = spec.get("paramKind").filter(|kind| kind.is_object()).and_then(|param| {
        let (version, kind) = (object::text(param, &["apiVersion"]), object::text(param, &["kind"]));
        let meant = |own: &Kind| own.name() == kind && own.resource.gvk.api_version() == version;
        let found = core.registry.find_by(meant)?;
        schema(&found.resource.gvk)
    });
    let declared = Declarations {
        params: spec.get("paramKind").is_some_and(Value::is_object),
        authorizer: true,
        object: schema(gvk),
        params_schema: param,
        ..Declarations::default()
    };
    let mut environment = Environment::admission(&declared);
    for variable in object::list(spec, &["variables"]) {
        let program = environment.compile(object::text(variable, &["expression"]));
        let ty = program.map_or(Type::Dyn, |program| program.output_type().clone());
        environment = environment.with_variable(object::text(variable, &["name"]), ty);
    }
    environment
}
