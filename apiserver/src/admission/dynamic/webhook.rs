//! Webhooks, made ready to be called.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use super::{call_webhook::Caller, conditions::Condition, matching::Match, review::Version};
use crate::{
    cel::{Declarations, Environment},
    registry::object,
};

/// How long a webhook may take where it does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// And at most.
const MAX_TIMEOUT: Duration = Duration::from_secs(30);

/// A webhook.
pub(super) struct Webhook {
    pub(super) name: String,
    /// Name of the configuration, and of webhooks of one name in it the how many-th this is.
    pub(super) uid: String,
    pub(super) configuration: String,
    pub(super) ignores_failure: bool,
    pub(super) timeout: Duration,
    /// It may be called on a dry run.
    pub(super) dry_runs: bool,
    pub(super) reinvoked: bool,
    /// In which version it is asked.
    pub(super) version: Option<Version>,
    pub(super) matches: Result<Match, String>,
    pub(super) conditions: Vec<Condition>,
    pub(super) caller: Caller,
}

impl Webhook {
    /// Those of a configuration, in its order.
    pub(super) fn compile_all(json: &Value) -> Vec<Arc<Self>> {
        let environment = Environment::admission(&Declarations { authorizer: true, ..Declarations::default() });
        let configuration = object::name(json).to_owned();
        let list = object::list(json, &["webhooks"]).iter().enumerate();
        list.map(|(at, own)| Arc::new(Self::compile(&configuration, at, own, &environment))).collect()
    }

    fn compile(configuration: &str, at: usize, json: &Value, environment: &Environment) -> Self {
        let name = object::text(json, &["name"]).to_owned();
        let seconds = object::int(json, &["timeoutSeconds"]).and_then(|seconds| u64::try_from(seconds).ok());
        let timeout = seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs).min(MAX_TIMEOUT);
        Self {
            uid: format!("{configuration}/{name}/{at}"),
            name,
            configuration: configuration.to_owned(),
            ignores_failure: object::text(json, &["failurePolicy"]) == "Ignore",
            timeout,
            dry_runs: matches!(object::text(json, &["sideEffects"]), "None" | "NoneOnDryRun"),
            reinvoked: object::text(json, &["reinvocationPolicy"]) == "IfNeeded",
            version: Version::of_webhook(json),
            matches: Match::of_webhook(json),
            conditions: Condition::compile(json, environment),
            caller: Caller::new(json.get("clientConfig").unwrap_or(&Value::Null)),
        }
    }
}
