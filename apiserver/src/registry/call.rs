//! One authorized call, as the verbs see it.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use martello_api::{attributes::ResourceTarget, identity::User, status::ApiError};
use martello_policy::Permit;
use parking_lot::Mutex;

use crate::http::{negotiate::Accepted, query::Query};

/// A call that was authorized: handlers can't be reached without its [`Permit`].
pub struct Call {
    /// Who asks.
    pub user: Arc<User>,
    /// `create`, `get` …
    pub verb: &'static str,
    /// On what.
    pub target: ResourceTarget,
    /// Segments behind the subresource.
    pub rest: String,
    /// The query.
    pub query: Query,
    /// The form of the answer.
    pub accepted: Accepted,
    /// Media type of the body, without parameters.
    pub content_type: String,
    /// The body, bounded.
    pub body: Bytes,
    /// `User-Agent`, of which the name of the field manager is made.
    pub user_agent: String,
    /// When the request came.
    pub now: Timestamp,
    /// What allows it.
    pub permit: Permit,
    /// What the client is told besides.
    pub warnings: Arc<Mutex<Vec<String>>>,
    /// What the audit trail is told besides.
    pub notes: Arc<Mutex<Vec<Note>>>,
    /// The connection, for calls that take it over.
    pub upgrade: Mutex<Option<hyper::upgrade::OnUpgrade>>,
    /// Headers of the request, for calls that are passed on.
    pub headers: http::HeaderMap,
    /// Method of the request.
    pub method: http::Method,
}

/// An annotation of the audit trail.
pub type Note = (&'static str, String);

/// Longest name of a field manager.
const MAX_MANAGER_CHARS: usize = 128;

impl Call {
    /// The namespace; empty for none.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.target.namespace
    }

    /// The name; empty for collections.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.target.name
    }

    /// Tells the client something besides, once.
    pub fn warn(&self, message: impl Into<String>) {
        let message = message.into();
        let mut warnings = self.warnings.lock();
        if !warnings.contains(&message) {
            warnings.push(message);
        }
    }

    /// Tells the audit trail something besides; of the same key the last counts.
    pub fn note(&self, notes: Vec<Note>) {
        self.notes.lock().extend(notes);
    }

    /// Whose fields a write sets: what was asked for, or the client's name.
    #[must_use]
    pub fn manager(&self) -> String {
        let asked = self.query.get("fieldManager");
        if !asked.is_empty() {
            return asked.to_owned();
        }
        let client = self.user_agent.split('/').next().unwrap_or_default();
        if client.is_empty() { "unknown".to_owned() } else { client.chars().take(MAX_MANAGER_CHARS).collect() }
    }

    /// Whether nothing may be kept; `options` names the options of the verb in messages.
    pub fn dry_run(&self, options: &str) -> Result<bool, ApiError> {
        super::options::dry_run(self.query.all("dryRun"), options)
    }
}

impl Call {
    /// The query as it was sent.
    #[must_use]
    pub fn raw_query(&self) -> &str {
        self.query.raw()
    }
}
