//! `secctl policy`: what the server's policies say.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use crate::admin;

/// What to do with the policies.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Say whether somebody may do something, and which rule decides; the exit status is 1 if they may not.
    Explain(Explain),
}

/// A question: who, what, on what.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Explain {
    #[command(flatten)]
    admin: admin::Flags,
    /// The user, as alice or system:serviceaccount:shop:web.
    #[arg(long = "as", value_name = "USER")]
    user: String,
    /// A group of the user; may be given again. `system:authenticated`, and a service account's groups, go without saying.
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// The namespace of the objects [default: all].
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Show every policy that was asked, in Cedar.
    #[arg(long)]
    policies: bool,
    /// Whole answer as JSON.
    #[arg(long, conflicts_with = "policies")]
    json: bool,
    /// What is to be done: get, list, watch, create, update, patch, delete, deletecollection; for paths the method.
    verb: String,
    /// On what: pods, pods/log, deployments.apps, or a path as /metrics.
    resource: String,
    /// The object's name [default: any].
    name: Option<String>,
}

/// Carries the command out.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    let Command::Explain(flags) = command;
    let request = json!({
        "apiVersion": "martello.dev/v1alpha1", "kind": "AccessExplanation", "metadata": {}, "spec": question(&flags),
    });
    let path = "/apis/martello.dev/v1alpha1/accessexplanations";
    let answer = crate::runtime()?.block_on(admin::ask(&flags.admin.data_dir, Method::POST, path, Some(&request)))?;
    let status = answer.get("status").cloned().unwrap_or_default();
    if flags.json {
        println!("{status:#}");
    } else {
        print!("{}", shown(&status, flags.policies));
    }
    let allowed = status.get("allowed").and_then(Value::as_bool).unwrap_or(false);
    Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn question(flags: &Explain) -> Value {
    let mut groups = flags.group.clone();
    let mut add = |group: String| {
        if !groups.contains(&group) {
            groups.push(group);
        }
    };
    if let Some((namespace, _)) =
        flags.user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'))
    {
        add("system:serviceaccounts".to_owned());
        add(format!("system:serviceaccounts:{namespace}"));
    }
    add(if flags.user == "system:anonymous" { "system:unauthenticated" } else { "system:authenticated" }.to_owned());
    let (kind, asked) = if flags.resource.starts_with('/') {
        ("nonResourceAttributes", json!({"verb": flags.verb, "path": flags.resource}))
    } else {
        let (resource, subresource) = flags.resource.split_once('/').unwrap_or((&flags.resource, ""));
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let asked = json!({
            "verb": flags.verb, "group": group, "resource": resource, "subresource": subresource,
            "namespace": flags.namespace, "name": flags.name,
        });
        ("resourceAttributes", asked)
    };
    json!({"user": flags.user, "groups": groups, (kind): asked})
}

fn shown(status: &Value, policies: bool) -> String {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let allowed = status.get("allowed").and_then(Value::as_bool).unwrap_or(false);
    let mut shown = format!("{}: {}\n", if allowed { "allowed" } else { "denied" }, text(status, "reason"));
    let hint = text(status, "hint");
    if !hint.is_empty() {
        shown.push_str(&format!("what would allow it: {hint}"));
        shown.push('\n');
    }
    let considered = status.get("considered").and_then(Value::as_array).into_iter().flatten();
    for policy in considered {
        let answer = text(policy, "answer");
        if policies {
            shown.push_str(&format!("\n// {} {answer}\n{}\n", text(policy, "policy"), text(policy, "text").trim()));
        } else if answer != "says nothing" {
            shown.push_str(&format!("  {} {answer}\n", text(policy, "policy")));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }

    fn asked(words: &[&str]) -> Value {
        let Command::Explain(flags) = Line::parse_from([&["x", "explain"], words].concat()).command;
        question(&flags)
    }

    #[test]
    fn resources_subresources_groups_and_paths_are_told_apart() {
        let spec = asked(&["--as", "alice", "-n", "shop", "get", "deployments.apps/scale", "web"]);
        let resource = json!({"verb": "get", "group": "apps", "resource": "deployments", "subresource": "",
            "namespace": "shop", "name": "web"});
        assert_ne!(spec["resourceAttributes"], resource, "the subresource is lost");
        assert_eq!(spec["resourceAttributes"]["subresource"], "scale");
        assert_eq!(spec["resourceAttributes"]["group"], "apps");
        assert_eq!(spec["groups"], json!(["system:authenticated"]));
        let spec = asked(&["--as", "system:serviceaccount:shop:web", "get", "/metrics"]);
        assert_eq!(spec["nonResourceAttributes"], json!({"verb": "get", "path": "/metrics"}));
        assert_eq!(
            spec["groups"],
            json!(["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"])
        );
    }

    #[test]
    fn only_policies_that_speak_are_listed_unless_all_are_wanted() {
        let status = json!({"allowed": false, "reason": "no", "hint": "do so", "considered": [
            {"policy": "a", "text": "permit(…);", "answer": "says nothing"},
            {"policy": "b", "text": "forbid(…);", "answer": "forbids"}]});
        assert_eq!(shown(&status, false), "denied: no\nwhat would allow it: do so\n  b forbids\n");
        assert!(shown(&status, true).contains("// a says nothing\npermit(…);"));
    }
}
