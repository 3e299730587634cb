//! The verbs, implemented once for all kinds.

use std::sync::Arc;

use futures::future::BoxFuture;
use martello_api::status::ApiError;

pub mod answer;
pub mod change;
pub mod chosen;
pub mod computed;
pub mod create;
pub mod delete;
pub mod delete_collection;
pub mod get;
pub mod list;
pub mod list_for_people;
pub mod patch;
pub mod scale;
pub mod update;
pub mod watch;

use super::{
    call::Call,
    codec,
    core::{binding, connect_options::ConnectOptions},
    kind::Kind,
    meta,
};
use crate::{
    admission::{self, Operation},
    http::reply::{self, Reply},
    server::Core,
};
use change::Part;

/// Subresources on which a client connects to what an object stands for.
const CONNECTS: [&str; 4] = ["attach", "exec", "portforward", "proxy"];

/// Serves an authorized call.
pub fn serve(core: Arc<Core>, kind: Arc<Kind>, call: Call) -> BoxFuture<'static, Result<Reply, ApiError>> {
    Box::pin(async move {
        if kind.is_custom() && !fits_scope(&kind, &call) {
            return Ok(reply::page_not_found());
        }
        if let Some(warning) = kind.deprecation() {
            call.warn(warning);
        }
        check_scope(&kind, &call)?;
        if call.target.subresource.is_empty() {
            return main(&core, &kind, call).await;
        }
        subresource(&core, &kind, call).await
    })
}

async fn main(core: &Arc<Core>, kind: &Arc<Kind>, call: Call) -> Result<Reply, ApiError> {
    if !kind.offers("get") && !call.name().is_empty() {
        return Err(ApiError::no_such_route());
    }
    // The watch paths of old are read, whatever the method says that is done.
    if call.verb == "watch" && call.method != http::Method::GET && !kind.is_custom() {
        return Err(ApiError::method_not_allowed());
    }
    // Objects are made in a collection, and changed by name.
    let changes = matches!(call.verb, "update" | "patch");
    if kind.is_custom() && changes && call.name().is_empty() {
        if call.verb == "patch" {
            codec::Patch::check_form(kind, &call)?;
        }
        return Err(ApiError::bad_request("name must be provided"));
    }
    let is_misplaced = (call.verb == "create" && !call.name().is_empty()) || (changes && call.name().is_empty());
    if (is_misplaced && !kind.is_custom()) || !kind.offers(call.verb) {
        return Err(not_offered(kind, call.verb));
    }
    if let Some(refusal) = kind.refuses(call.verb) {
        return Err(refusal);
    }
    if let Some(objects) = kind.computed(core) {
        return computed::serve(kind, &call, objects);
    }
    match call.verb {
        "create" if kind.group().is_empty() && kind.resource.plural == "bindings" => {
            binding::create(core, kind, call).await
        }
        "create" if !kind.offers("get") => answer_review(core, kind, &call).await,
        "create" => create::create(core, kind, &call).await,
        "get" => get::get(core, kind, &call).await,
        "list" => list::list(core, kind, &call).await,
        "watch" => watch::watch(core, kind, call).await,
        "update" => update::update(core, kind, &call, Part::Main).await,
        "patch" => patch::patch(core, kind, &call, Part::Main).await,
        "delete" => delete::delete(core, kind, &call).await,
        "deletecollection" => delete_collection::delete_collection(core, kind, &call).await,
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// 405, as upstream tells it: its router where the kind is built in, else the handler of custom kinds.
fn not_offered(kind: &Kind, verb: &str) -> ApiError {
    if kind.is_custom() {
        return ApiError::method_not_supported(kind.group(), &kind.resource.plural, verb);
    }
    ApiError::method_not_allowed()
}

/// Paths of custom kinds that their scope has no place for are no part of the API.
fn fits_scope(kind: &Kind, call: &Call) -> bool {
    match (kind.resource.namespaced, call.namespace().is_empty()) {
        (true, true) => matches!(call.verb, "list" | "watch"),
        (false, false) => false,
        _ => true,
    }
}

/// One object of a namespaced kind is reached through its namespace; a cluster-scoped one never through any.
///
/// The authorizer decides by the namespace of the path: a cluster-scoped object that could be reached through a
/// namespace would be open to all who may do anything there. A Namespace is its own.
fn check_scope(kind: &Kind, call: &Call) -> Result<(), ApiError> {
    let namespaced = !call.namespace().is_empty();
    let is_namespace =
        kind.group().is_empty() && kind.resource.plural == "namespaces" && call.namespace() == call.name();
    match (kind.resource.namespaced, namespaced) {
        (true, false) if matches!(call.verb, "list" | "watch") => Ok(()),
        (true, false) if call.name().is_empty() => Err(ApiError::method_not_allowed()),
        (true, false) => Err(ApiError::no_such_route()),
        (false, true) if !is_namespace => Err(ApiError::no_such_route()),
        _ => Ok(()),
    }
}

async fn answer_review(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call) -> Result<Reply, ApiError> {
    let mut object = codec::decode(kind, call, "CreateOptions")?;
    meta::fit_namespace(kind, call, &mut object)?;
    meta::drop_system_fields(&mut object);
    codec::track(core, kind, call, None, &mut object, "").await;
    let object = admission::dynamic::changed(core, kind, call, Operation::Create, object).await?;
    kind.check_question(call, &object)?;
    admission::judge_below(core, kind, call, &object).await?;
    match kind.answer(core, call, object) {
        Some(answered) => Ok(answer::encoded(call, 201, &answered.await?)),
        None => Err(ApiError::method_not_allowed()),
    }
}

async fn subresource(core: &Arc<Core>, kind: &Arc<Kind>, mut call: Call) -> Result<Reply, ApiError> {
    let name = call.target.subresource.clone();
    let Some(subresource) = kind.resource.subresources.iter().find(|own| own.name == name) else {
        if kind.is_custom() {
            return Err(kind.not_found(call.name()));
        }
        return Err(ApiError::no_such_route());
    };
    let special = kind.subresource(&name);
    // Only what is proxied has paths below.
    if !kind.is_custom() && name != "proxy" && !call.rest.trim_matches('/').is_empty() {
        return Err(ApiError::no_such_route());
    }
    // Upstream's router goes by the method, which its handler of custom kinds does not.
    let nameless = call.name().is_empty() && matches!(call.verb, "list" | "watch");
    // There is no verb for options; they are what a proxy leads to says.
    let asks_options = name == "proxy" && call.method == http::Method::OPTIONS;
    let wanted = if (nameless || asks_options) && !kind.is_custom() { "get" } else { call.verb };
    let offered = subresource.verbs.iter().any(|own| own == wanted);
    if !offered {
        return Err(not_offered(kind, call.verb));
    }
    if call.name().is_empty() {
        return Err(ApiError::bad_request("name must be provided"));
    }
    if let Some(special) = special {
        if CONNECTS.contains(&name.as_str()) {
            let asked = ConnectOptions::read(kind, &call)?;
            call.connects = admission::dynamic::connect(core, kind, &call, asked).await?;
        }
        return special.serve(core, kind, call).await;
    }
    match (name.as_str(), call.verb) {
        ("scale", _) => scale::serve(core, kind, &call).await,
        (_, "get") => get::get(core, kind, &call).await,
        ("status", "update") => update::update(core, kind, &call, Part::Status).await,
        ("status", "patch") => patch::patch(core, kind, &call, Part::Status).await,
        (name, verb) => match (kind.aspects().iter().find(|own| **own == name), verb) {
            (Some(own), "update") => update::update(core, kind, &call, Part::Aspect(own)).await,
            (Some(own), "patch") => patch::patch(core, kind, &call, Part::Aspect(own)).await,
            _ => Err(ApiError::method_not_allowed()),
        },
    }
}
