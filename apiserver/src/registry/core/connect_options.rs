//! What a client asks for when it connects to an object: `PodExecOptions` and its like.
//!
//! Read once from the query. What policies and webhooks judge, and what the node is then asked for, are both made of it: who
//! finds a way to write the query that one of them reads differently gains nothing.

use martello_api::{
    query::{Query, encode},
    status::ApiError,
};
use serde::{Deserialize, Serialize};

use crate::registry::{call::Call, kind::Kind, options::number_fault};

/// The options of a call that connects, as upstream's kinds have them; each kind uses some of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConnectOptions {
    /// `PodExecOptions` …
    pub kind: String,
    /// Of the kind.
    pub api_version: String,
    /// Whether the client sends standard input.
    #[serde(skip_serializing_if = "is_false")]
    pub stdin: bool,
    /// Whether the client wants standard output.
    #[serde(skip_serializing_if = "is_false")]
    pub stdout: bool,
    /// Whether the client wants standard error.
    #[serde(skip_serializing_if = "is_false")]
    pub stderr: bool,
    /// Whether the process has a terminal.
    #[serde(skip_serializing_if = "is_false")]
    pub tty: bool,
    /// The container; empty for the only one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub container: String,
    /// Program and arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Ports to forward.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// The path behind a proxy.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl ConnectOptions {
    /// What a call on a subresource that connects asks for.
    pub fn read(kind: &Kind, call: &Call) -> Result<Self, ApiError> {
        let subresource = call.target.subresource.as_str();
        let named = kind.resource.subresources.iter().find(|own| own.name == subresource);
        let made = Self {
            kind: named.map_or_else(String::new, |own| own.gvk.kind.to_string()),
            api_version: "v1".to_owned(),
            ..Self::asked(subresource, &call.query)?
        };
        let passed_on = !matches!(subresource, "exec" | "attach" | "portforward");
        Ok(if passed_on { Self { path: format!("/{}", call.rest), ..made } } else { made })
    }

    fn asked(subresource: &str, query: &Query) -> Result<Self, ApiError> {
        let process = || Self {
            stdin: query.is_set("stdin"),
            stdout: query.is_set("stdout"),
            stderr: query.is_set("stderr"),
            tty: query.is_set("tty"),
            container: query.get("container").to_owned(),
            ..Self::default()
        };
        Ok(match subresource {
            "exec" => Self { command: query.all("command").map(str::to_owned).collect(), ..process() },
            "attach" => process(),
            "portforward" => Self { ports: ports(query)?, ..Self::default() },
            _ => Self::default(),
        })
    }

    /// The query for the node's agent, in the names and the one spelling that it knows.
    #[must_use]
    pub fn for_node(&self) -> String {
        let flags = [("input", self.stdin), ("output", self.stdout), ("error", self.stderr), ("tty", self.tty)];
        let flags = flags.into_iter().filter(|(_, set)| *set).map(|(name, _)| format!("{name}=1"));
        let command = self.command.iter().map(|argument| format!("command={}", encode(argument)));
        let ports = self.ports.iter().map(|port| format!("port={port}"));
        flags.chain(command).chain(ports).collect::<Vec<_>>().join("&")
    }
}

/// Each `ports` may be a list.
fn ports(query: &Query) -> Result<Vec<u16>, ApiError> {
    let read = |port: &str| {
        port.parse().map_err(|_| {
            let why = number_fault(port);
            ApiError::bad_request(format!("cannot convert to []int32: strconv.ParseUint: parsing {port:?}: {why}"))
        })
    };
    query.all("ports").flat_map(|ports| ports.split(',')).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(subresource: &str, query: &str) -> ConnectOptions {
        ConnectOptions::asked(subresource, &Query::parse(query)).unwrap()
    }

    #[test]
    fn what_is_judged_is_what_the_node_is_asked_for() {
        let hidden = format!("{}command=sh&command=-c+%26&tty=True&stdin&stdout=yes&stderr=false", "x&".repeat(300));
        let options = asked("exec", &hidden);
        assert_eq!(options.command, ["sh", "-c &"]);
        assert!(options.tty && options.stdin && options.stdout && !options.stderr);
        assert_eq!(options.for_node(), "input=1&output=1&tty=1&command=sh&command=-c%20%26");
    }

    #[test]
    fn the_nodes_own_names_mean_nothing_here() {
        let options = asked("exec", "input=1&output=1&error=1&stdout=1&command=id&port=80");
        assert_eq!(options.for_node(), "output=1&command=id");
        assert_eq!(asked("attach", "stdin=1&command=id").for_node(), "input=1");
    }

    #[test]
    fn ports_are_numbers_or_the_request_is_refused() {
        assert_eq!(asked("portforward", "ports=80,8080&ports=9").for_node(), "port=80&port=8080&port=9");
        let refused = |query: &str| ConnectOptions::asked("portforward", &Query::parse(query)).unwrap_err().to_string();
        assert!(refused("ports=http").contains("strconv.ParseUint: parsing \"http\": invalid syntax"));
        assert!(refused("ports=70000").contains("parsing \"70000\": value out of range"));
    }
}
