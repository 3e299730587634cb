//! What requests are about: objects of 1 KiB, of a built-in kind or of one that a definition makes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::target::Target;

/// Bytes of one object as it is sent.
const OBJECT_BYTES: usize = 1024;
/// How long a definition may take until its kind is served.
const PATIENCE: Duration = Duration::from_secs(30);
const GROUP: &str = "load.martello.dev";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Built in.
    #[value(name = "configmap")]
    ConfigMap,
    /// Of a definition: its schema has defaults, and a status of its own.
    Custom,
}

impl Kind {
    /// As figures call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Custom => "custom",
        }
    }

    /// How many of them a cluster puts into every namespace itself.
    pub(super) fn own(self) -> usize {
        match self {
            Self::ConfigMap => 1,
            Self::Custom => 0,
        }
    }

    /// Where those of a namespace are.
    pub(super) fn path(self, namespace: &str) -> String {
        match self {
            Self::ConfigMap => format!("/api/v1/namespaces/{namespace}/configmaps"),
            Self::Custom => format!("/apis/{GROUP}/v1/namespaces/{namespace}/widgets"),
        }
    }

    /// One of 1 KiB.
    pub(super) fn object(self, name: &str, round: u64) -> Bytes {
        let with = |text: &str| {
            let (round, metadata) = (round.to_string(), json!({"name": name}));
            let content = json!({"round": round, "text": text});
            match self {
                Self::ConfigMap => {
                    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": content})
                }
                Self::Custom => {
                    let version = format!("{GROUP}/v1");
                    json!({"apiVersion": version, "kind": "Widget", "metadata": metadata, "spec": content})
                }
            }
            .to_string()
        };
        let missing = OBJECT_BYTES.saturating_sub(with("").len());
        Bytes::from(with(&"x".repeat(missing)))
    }

    /// Method, type and body of a request that changes one, whatever its revision: custom objects are replaced only by who
    /// names the revision, so they are patched.
    pub(super) fn update(self, name: &str, round: u64) -> (&'static str, &'static str, Bytes) {
        match self {
            Self::ConfigMap => ("PUT", "application/json", self.object(name, round)),
            Self::Custom => ("PATCH", "application/merge-patch+json", self.patch(round)),
        }
    }

    /// A merge patch that changes one field of one.
    pub(super) fn patch(self, round: u64) -> Bytes {
        let content = json!({"round": round.to_string()});
        match self {
            Self::ConfigMap => json!({"data": content}),
            Self::Custom => json!({"spec": content}),
        }
        .to_string()
        .into()
    }
}

/// Defines the custom kind, and returns when it is served.
pub async fn define(target: &Target) -> Result<()> {
    let answer = target.endpoint.ask("POST", DEFINITIONS, definition().to_string()).await?;
    ensure!(answer.status == 201, "defining the custom kind was answered with {}", answer.text());
    let path = format!("/apis/{GROUP}/v1/widgets");
    let mut interval = tokio::time::interval(Duration::from_millis(100));
    let served = async {
        while target.endpoint.ask("GET", &path, "").await?.status != 200 {
            interval.tick().await;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, served).await.with_context(|| format!("the custom kind is not served after {PATIENCE:?}"))?
}

/// Removes the definition.
pub async fn undefine(target: &Target) -> Result<()> {
    target.endpoint.ask("DELETE", &format!("{DEFINITIONS}/widgets.{GROUP}"), "").await.map(drop)
}

fn definition() -> Value {
    let text = json!({"type": "string", "maxLength": OBJECT_BYTES});
    let spec = json!({"type": "object", "required": ["round"], "properties": {
        "round": {"type": "string", "pattern": "^[0-9]+$"}, "text": text,
        "size": {"type": "integer", "minimum": 0, "default": 3},
    }});
    let status = json!({"type": "object", "properties": {"ready": {"type": "boolean"}}});
    let schema = json!({"type": "object", "properties": {"spec": spec, "status": status}});
    let columns = json!([{"name": "Round", "type": "string", "jsonPath": ".spec.round"}]);
    let version = json!({
        "name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}}, "additionalPrinterColumns": columns,
    });
    let names = json!({"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{GROUP}")},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_one_kibibyte_whatever_its_kind() {
        for kind in [Kind::ConfigMap, Kind::Custom] {
            for (name, round) in [("a", 0), ("worker-12-12345", 999)] {
                assert_eq!(kind.object(name, round).len(), OBJECT_BYTES);
            }
        }
    }
}
