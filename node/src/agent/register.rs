//! Keeps the Node object: registers it, and sends its status when it changes, and every few minutes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use kube::api::{Api, Patch, PatchParams, PostParams};
use martello_api::clock;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{checks::full, context::Context, events::Kind};
use crate::{
    pods::backoff::between,
    status::{
        machine,
        node::{self, Seen},
    },
};

/// How often the node is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How long an unchanged status stays unsent.
const SEND: Duration = Duration::from_secs(300);
/// After a failure, registration is tried again after this.
const AGAIN: Duration = Duration::from_secs(2);

/// Registers the node; tries until it works or the agent is told to stop. Returns the node's uid.
pub async fn register(context: &Arc<Context>, shutdown: &CancellationToken) -> Option<String> {
    loop {
        match try_register(context).await {
            Ok(node) => return node.metadata.uid,
            Err(error) => {
                let name = &context.config.node_name;
                tracing::warn!(node = name, error = full(&error), "the node is not registered yet; trying again");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = shutdown.cancelled() => return None,
        }
    }
}

async fn try_register(context: &Context) -> Result<Node, kube::Error> {
    let api: Api<Node> = Api::all(context.client.clone());
    let seen = seen(context).await;
    let made = node::object(&seen, clock::now());
    match api.create(&PostParams::default(), &made).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let labels = node::labels(&context.config, &context.machine);
            let change = json!({"metadata": {"labels": labels}});
            api.patch(&context.config.node_name, &PatchParams::default(), &Patch::Merge(change)).await
        }
        other => other,
    }
}

async fn seen(context: &Context) -> Seen<'_> {
    Seen {
        config: &context.config,
        machine: &context.machine,
        pressure: machine::pressure(&context.config.state_dir),
        runtime: &context.runtime_info,
        images: context.images.list().await,
        extended: BTreeMap::new(),
    }
}

/// Sends the node's status until told to stop.
pub async fn keep(context: Arc<Context>, shutdown: CancellationToken) {
    let api: Api<Node> = Api::all(context.client.clone());
    let name = context.config.node_name.clone();
    context.events.node(&name, Kind::Normal, "Starting", "Starting kubelet.");
    let mut sent: Option<(NodeStatus, Timestamp)> = None;
    let mut extended = BTreeMap::new();
    loop {
        let now = clock::now();
        let mut withdrawn = Vec::new();
        match api.get_opt(&name).await {
            Ok(Some(node)) => (extended, withdrawn) = (node::extended(&node), node::withdrawn(&node)),
            Ok(None) => {}
            Err(error) => tracing::debug!(node = name, error = full(&error), "the node was not read"),
        }
        let seen = Seen { extended: extended.clone(), ..seen(&context).await };
        let status = node::status(&seen, sent.as_ref().map(|(status, _)| status), now);
        let due = !withdrawn.is_empty()
            || sent
                .as_ref()
                .is_none_or(|(before, at)| !node::says_the_same(before, &status) || between(*at, now) >= SEND);
        if due {
            let mut change = json!({"status": &status});
            if let Some(allocatable) = change.pointer_mut("/status/allocatable").and_then(Value::as_object_mut) {
                allocatable.extend(withdrawn.into_iter().map(|name| (name, Value::Null)));
            }
            match api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(change)).await {
                Ok(_) => {
                    if sent.is_none() {
                        let message = format!("Node {name} status is now: NodeReady");
                        context.events.node(&name, Kind::Normal, "NodeReady", message);
                    }
                    sent = Some((status, now));
                }
                Err(kube::Error::Api(answer)) if answer.code == 404 => {
                    // Somebody deleted the object: the node comes back as a new one.
                    sent = None;
                    register(&context, &shutdown).await;
                }
                Err(error) => tracing::warn!(node = name, error = full(&error), "the node's status was not sent"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shutdown.cancelled() => return,
        }
    }
}
