//! `secctl status`: how the server of this machine is, in one look.

use std::fmt::Write as _;

use clap::Args;
use http::Method;
use jiff::Timestamp;
use martello_api::clock;
use serde_json::{Value, json};

use crate::admin;

/// How to show it.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Flags {
    #[command(flatten)]
    admin: admin::Flags,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What is weaker than the default: in the server's settings, in its objects, on its nodes.
const WEAKER: &str = "weakerSettings";
/// Prints the status.
pub fn run(flags: &Flags) -> anyhow::Result<()> {
    let status = crate::runtime()?.block_on(ask(flags))?;
    if flags.json {
        println!("{status:#}");
    } else {
        print!("{}", shown(&status, clock::now()));
    }
    Ok(())
}

async fn ask(flags: &Flags) -> anyhow::Result<Value> {
    let data_dir = &flags.admin.data_dir;
    let request = json!({"apiVersion": "martello.dev/v1alpha1", "kind": "ServerStatus", "metadata": {}});
    let path = "/apis/martello.dev/v1alpha1/serverstatuses";
    let answer = admin::ask(data_dir, Method::POST, path, Some(&request)).await?;
    let mut status = answer.get("status").cloned().unwrap_or_default();
    let list = async |path: &str| -> anyhow::Result<Vec<Value>> {
        let answer = admin::ask(data_dir, Method::GET, path, None).await?;
        Ok(answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
    };
    let nodes = list("/api/v1/nodes").await?;
    let namespaces = list("/api/v1/namespaces").await?;
    let bindings = list("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings").await?;
    let mut weaker = status.get(WEAKER).and_then(Value::as_array).cloned().unwrap_or_default();
    weaker.extend(weaker_objects(&namespaces, &bindings, &nodes).into_iter().map(Value::String));
    if let Some(status) = status.as_object_mut() {
        status.insert(WEAKER.to_owned(), weaker.into());
        status.insert("nodes".to_owned(), nodes.iter().map(node).collect());
    }
    Ok(status)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn condition<'a>(node: &'a Value, name: &str) -> &'a str {
    let found = items(node, "/status/conditions").find(|condition| text(condition, "/type") == name);
    found.map_or("", |condition| text(condition, "/status"))
}

fn node(node: &Value) -> Value {
    let address = items(node, "/status/addresses").find(|address| text(address, "/type") == "InternalIP");
    json!({
        "name": text(node, "/metadata/name"),
        "ready": condition(node, "Ready"),
        "address": address.map_or("", |address| text(address, "/address")),
        "version": text(node, "/status/nodeInfo/kubeletVersion"),
        "unschedulable": node.pointer("/spec/unschedulable").and_then(Value::as_bool).unwrap_or(false),
    })
}

fn weaker_objects(namespaces: &[Value], bindings: &[Value], nodes: &[Value]) -> Vec<String> {
    let mut weaker = Vec::new();
    for namespace in namespaces {
        if text(namespace, "/metadata/labels/pod-security.kubernetes.io~1enforce") == "privileged" {
            weaker.push(format!("namespace {} takes privileged pods (its label)", text(namespace, "/metadata/name")));
        }
    }
    for binding in bindings {
        let strangers = items(binding, "/subjects")
            .find(|subject| matches!(text(subject, "/name"), "system:anonymous" | "system:unauthenticated"));
        // What upstream binds itself gives health and version, which a policy limits strangers to anyway.
        if let Some(subject) = strangers.filter(|_| text(binding, "/metadata/name") != "system:public-info-viewer") {
            let (name, subject) = (text(binding, "/metadata/name"), text(subject, "/name"));
            weaker.push(format!("ClusterRoleBinding {name} gives rights to {subject}"));
        }
    }
    for node in nodes {
        let name = text(node, "/metadata/name");
        if condition(node, "ResourceLimitsEnforced") == "False" {
            weaker.push(format!("node {name} does not hold containers to their limits (no control group)"));
        }
        if condition(node, "PodIdsSeparated") == "False" {
            weaker.push(format!("node {name} runs its pods under one range of ids (too few are granted)"));
        }
    }
    weaker
}

fn shown(status: &Value, now: Timestamp) -> String {
    let mut out = String::new();
    // Writing into memory does not fail.
    write(&mut out, status, now).ok();
    out
}

fn write(out: &mut String, status: &Value, now: Timestamp) -> std::fmt::Result {
    let number = |pointer: &str| status.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let ready = if status.pointer("/ready").and_then(Value::as_bool) == Some(true) { "ready" } else { "starting" };
    writeln!(
        out,
        "server   {} {} at {} (Kubernetes {})",
        text(status, "/version"),
        ready,
        text(status, "/address"),
        text(status, "/kubernetesVersion")
    )?;
    writeln!(
        out,
        "store    revision {}, {} objects, {} in memory, {} of log on disk",
        number("/store/revision"),
        number("/store/objects"),
        size(number("/store/sizeBytes")),
        size(number("/store/logBytes"))
    )?;
    writeln!(out, "audit    {} records, head {}", number("/audit/records"), text(status, "/audit/hash"))?;
    for part in ["store", "audit"] {
        let failure = text(status, &format!("/{part}/failure"));
        if !failure.is_empty() {
            writeln!(out, "{part:8} FAILS: {failure}")?;
        }
    }
    writeln!(out, "certificates")?;
    for certificate in items(status, "/certificates") {
        let until = text(certificate, "/expires");
        let left = until.parse::<Timestamp>().map(|until| left(now, until)).unwrap_or_default();
        writeln!(
            out,
            "         {:24} until {until} ({left}) {}",
            text(certificate, "/name"),
            text(certificate, "/fingerprint")
        )?;
    }
    writeln!(out, "nodes    {}", items(status, "/nodes").count())?;
    for node in items(status, "/nodes") {
        let state = if text(node, "/ready") == "True" { "ready" } else { "NOT READY" };
        writeln!(
            out,
            "         {:24} {state} {} {}",
            text(node, "/name"),
            text(node, "/address"),
            text(node, "/version")
        )?;
    }
    match items(status, "/weakerSettings").count() {
        0 => writeln!(out, "weaker than the default: nothing"),
        _ => {
            writeln!(out, "WEAKER than the default:")?;
            items(status, "/weakerSettings")
                .try_for_each(|weaker| writeln!(out, "         {}", weaker.as_str().unwrap_or_default()))
        }
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

fn left(now: Timestamp, until: Timestamp) -> String {
    let seconds = until.as_second() - now.as_second();
    match seconds {
        ..0 => "EXPIRED".to_owned(),
        0..7_200 => format!("{} minutes left", seconds / 60),
        7_200..172_800 => format!("{} hours left", seconds / 3_600),
        _ => format!("{} days left", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_weaker_than_the_default_is_named() {
        let namespace =
            json!({"metadata": {"name": "legacy", "labels": {"pod-security.kubernetes.io/enforce": "privileged"}}});
        let binding =
            json!({"metadata": {"name": "open"}, "subjects": [{"kind": "Group", "name": "system:unauthenticated"}]});
        let own = json!({"metadata": {"name": "system:public-info-viewer"}, "subjects": [{"name": "system:unauthenticated"}]});
        let node = json!({"metadata": {"name": "n1"}, "status": {"conditions": [
            {"type": "Ready", "status": "True"}, {"type": "ResourceLimitsEnforced", "status": "False"}]}});
        let weaker = weaker_objects(&[namespace], &[binding, own], &[node]);
        assert_eq!(weaker.len(), 3, "{weaker:?}");
        assert!(weaker[0].contains("legacy") && weaker[1].contains("open") && weaker[2].contains("n1"), "{weaker:?}");
    }

    #[test]
    fn a_certificate_that_ends_soon_says_so() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let status = json!({"certificates": [{"name": "this server", "expires": "2026-01-01T01:00:00Z"},
            {"name": "old", "expires": "2025-01-01T01:00:00Z"}]});
        let shown = shown(&status, now);
        assert!(shown.contains("(60 minutes left)") && shown.contains("(EXPIRED)"), "{shown}");
    }
}
