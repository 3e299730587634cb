//! One authorized call, as the verbs see it.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use martello_api::{attributes::ResourceTarget, identity::User, status::ApiError};
use martello_policy::Permit;
use parking_lot::Mutex;
use serde_json::Value;

use super::{
    codec::Conversions,
    core::connect_options::ConnectOptions,
    object,
    options::{MAX_MANAGER_BYTES, is_printable},
};
use crate::http::{negotiate::Accepted, outbound::Takeover, query::Query};

/// A call that was authorized: handlers can't be reached without its [`Permit`].
pub struct Call {
    /// Who asks.
    pub user: Arc<User>,
    /// Who proved to be somebody: the same, or the one who acts as `user`.
    pub authenticated: Arc<User>,
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
    /// What was converted to other versions on the way.
    pub conversions: Conversions,
    /// The connection, for calls that take it over.
    pub upgrade: Mutex<Option<Takeover>>,
    /// What a call that connects asks for, as policies and webhooks let it pass.
    pub connects: ConnectOptions,
    /// From where it comes, for calls that are passed on; none for our own components.
    pub address: Option<std::net::SocketAddr>,
    /// Headers of the request, for calls that are passed on.
    pub headers: http::HeaderMap,
    /// Method of the request.
    pub method: http::Method,
}

/// Most warnings that are kept: an answer has room for a few of them.
const MOST_WARNINGS: usize = 4096;

/// An annotation of the audit trail.
pub type Note = (Cow<'static, str>, String);

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

    /// Whether an object bears the namespace and the name that are in the path. The namespace may be left out, and is passed
    /// over where the path has none.
    pub fn check_identity(&self, object: &Value) -> Result<(), ApiError> {
        let namespace = object::namespace(object);
        if !namespace.is_empty() && !self.namespace().is_empty() && namespace != self.namespace() {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        let name = object::name(object);
        if name == self.name() {
            return Ok(());
        }
        Err(ApiError::bad_request(if name.is_empty() {
            format!("the name of the object ({} based on URL) was undeterminable: name must be provided", self.name())
        } else {
            format!("the name of the object ({name}) does not match the name on the URL ({})", self.name())
        }))
    }

    /// Tells the client something besides, once.
    pub fn warn(&self, message: impl Into<String>) {
        let message = message.into();
        let mut warnings = self.warnings.lock();
        if warnings.len() < MOST_WARNINGS && !warnings.contains(&message) {
            warnings.push(message);
        }
    }

    /// Tells the audit trail something besides. Of the object's name the last counts, of other keys the first.
    pub fn note(&self, notes: Vec<(&'static str, String)>) {
        self.notes.lock().extend(notes.into_iter().map(|(key, value)| (Cow::Borrowed(key), value)));
    }

    /// Tells the audit trail something whose key is not known before; of the same key the first stays, as upstream has it.
    pub fn annotate(&self, key: String, value: String) {
        let mut notes = self.notes.lock();
        if !notes.iter().any(|(own, _)| *own == key) {
            notes.push((Cow::Owned(key), value));
        }
    }

    /// Whose fields a write sets: what was asked for, or the client's name.
    #[must_use]
    pub fn manager(&self) -> String {
        let asked = self.query.get("fieldManager");
        if !asked.is_empty() {
            return asked.to_owned();
        }
        client_name(&self.user_agent)
    }

    /// Whether nothing may be kept; `options` names the options of the verb in messages.
    pub fn dry_run(&self, options: &str) -> Result<bool, ApiError> {
        super::options::WriteOptions::read(&self.query, options).map(|options| options.dry_run)
    }

    /// Whether people read the answer as it comes: it is then set in lines.
    #[must_use]
    pub fn pretty(&self) -> bool {
        self.accepted.pretty || is_for_people(&self.query, &self.user_agent)
    }
}

/// Whether people read what answers such a query of such a client.
#[must_use]
pub fn is_for_people(query: &Query, user_agent: &str) -> bool {
    match query.get("pretty") {
        "" => ["curl", "Wget", "Mozilla/5.0"].iter().any(|client| user_agent.starts_with(client)),
        asked => matches!(asked, "1" | "t" | "T" | "true" | "TRUE" | "True"),
    }
}

impl Call {
    /// The query as it was sent.
    #[must_use]
    pub fn raw_query(&self) -> &str {
        self.query.raw()
    }
}

/// What stands before the first slash of a user agent, as far as it can be printed and fits.
fn client_name(user_agent: &str) -> String {
    let mut name = String::new();
    for character in user_agent.split('/').next().unwrap_or_default().chars().filter(|one| is_printable(*one)) {
        if name.len() + character.len_utf8() > MAX_MANAGER_BYTES {
            break;
        }
        name.push(character);
    }
    if name.is_empty() { "unknown".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_named_by_the_first_part_of_its_user_agent() {
        assert_eq!(client_name("kubectl/v1.32 (linux/amd64)"), "kubectl");
        assert_eq!(client_name(""), "unknown");
        assert_eq!(client_name("/x"), "unknown");
        assert_eq!(client_name("a\u{7}b"), "ab");
        assert_eq!(client_name(&"é".repeat(100)).len(), 128);
    }
}
