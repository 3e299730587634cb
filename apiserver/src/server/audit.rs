//! The server's side of the audit: an event is opened before a request is decided, and closed with its outcome.

use std::sync::Arc;

use http::{Request, header};
use jiff::Timestamp;
use martello_api::{
    attributes::{Attributes, Target},
    clock,
    identity::User,
    status::ApiError,
};
use martello_audit::{Event, Log, LogError, Pending, Stage};
use martello_policy::Permit;

use crate::http::{
    door::{Origin, set_audit_id},
    info::RequestInfo,
    reply::{self, Reply},
};
use crate::registry::call::Note;

/// Key of the note that says what a new object is called: its name is not in the path.
pub const OBJECT_NAME: &str = "objectRef.name";

/// Upstream's annotations of a decision.
const DECISION: &str = "authorization.k8s.io/decision";
const REASON: &str = "authorization.k8s.io/reason";

/// Where records go.
#[derive(Clone)]
pub struct Audit {
    log: Log,
}

/// The record of one request.
pub struct Record {
    log: Log,
    id: String,
    event: Event,
    is_change: bool,
    is_stream: bool,
}

/// The record of a request that was allowed.
pub struct AllowedRecord {
    log: Log,
    id: String,
    is_stream: bool,
    opened: Opened,
}

/// How far the record of a request has come before its answer.
#[allow(clippy::large_enum_variant, reason = "it lives for one request, and most requests read")]
enum Opened {
    /// The intent of a change is in the log already.
    Change(Pending),
    /// Nothing is in the log yet.
    Read(Event),
}

fn unavailable(error: &LogError) -> ApiError {
    tracing::error!(error = error as &dyn std::error::Error, "the audit trail can't be written; requests are refused");
    ApiError::unavailable(format!(
        "no request is served without its audit record: {error}; look after the server's disk"
    ))
}

impl Audit {
    /// Records into `log`.
    #[must_use]
    pub fn new(log: Log) -> Self {
        Self { log }
    }

    /// What keeps records from being written.
    pub fn health(&self) -> Result<(), String> {
        self.log.health().map_err(|error| error.to_string())
    }

    /// The last record so far: its number and the hash over everything up to it.
    #[must_use]
    pub fn head(&self) -> martello_audit::Chain {
        self.log.chain()
    }

    /// Opens the record of a request.
    pub fn open<B>(
        &self,
        origin: &Origin,
        user: &Arc<User>,
        info: &RequestInfo,
        request: &Request<B>,
        now: Timestamp,
    ) -> Record {
        let id = uuid::Uuid::new_v4().to_string();
        let attributes = Attributes { user: Arc::clone(user), verb: info.verb.to_owned(), target: info.target.clone() };
        let agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let source = origin.address.map(|address| address.ip().to_string()).into_iter().collect();
        let uri = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let event = Event::received(id.clone(), &attributes, uri, now).from(source, agent);
        let is_change = matches!(info.target, Target::Resource(_)) && !attributes.is_read_only();
        Record { log: self.log.clone(), id, event, is_change, is_stream: info.verb == "watch" }
    }
}

impl Record {
    /// Notes what allowed the request. The intent of a change is in the log when this returns; if it can't be, the
    /// change must not be made.
    pub async fn allowed(self, permit: &Permit) -> Result<AllowedRecord, ApiError> {
        let event = self.event.annotated(DECISION, "allow").annotated(REASON, &permit.reason().to_string());
        let opened = if self.is_change {
            Opened::Change(self.log.begin(event).await.map_err(|error| unavailable(&error))?)
        } else {
            Opened::Read(event)
        };
        Ok(AllowedRecord { log: self.log, id: self.id, is_stream: self.is_stream, opened })
    }

    /// Notes that the request may act although its verb only reads: what it does is done before there is an answer, and it
    /// must be in the log though the client does not wait for that.
    #[must_use]
    pub fn acting(mut self, acts: bool) -> Self {
        self.is_change |= acts;
        self
    }

    /// Notes what is known of the request besides.
    #[must_use]
    pub fn noted(mut self, notes: impl Iterator<Item = Note>) -> Self {
        self.event = notes.fold(self.event, |event, (key, value)| event.annotated(&key, &value));
        self
    }

    /// Notes who authenticated, where that is another than the one on whose behalf the request is made, and what allowed
    /// that besides the verb `impersonate`.
    #[must_use]
    pub fn made_by(mut self, authenticated: Arc<User>, constraint: Option<&str>) -> Self {
        if !Arc::ptr_eq(&self.event.user, &authenticated) {
            self.event = self.event.impersonated_by(authenticated, constraint);
        }
        self
    }

    /// Closes the record of a request that was refused, for the reason given. The answer names the record.
    pub fn refused(self, error: &ApiError, why: &str) -> Reply {
        let event = self.event.annotated(DECISION, "forbid").annotated(REASON, why);
        let event = event.completed(error.code, &error.reason, clock::now());
        let mut answer = match self.log.record(&event) {
            Ok(()) => reply::failure(error),
            Err(error) => reply::failure(&unavailable(&error)),
        };
        set_audit_id(&mut answer, &self.id);
        answer
    }
}

impl AllowedRecord {
    /// Closes the record with the answer, and hands the answer out. What can't be recorded is not answered.
    pub async fn close(self, mut answer: Reply, notes: &[Note]) -> Reply {
        set_audit_id(&mut answer, &self.id);
        let code = answer.status().as_u16();
        let closed = match self.opened {
            Opened::Change(mut pending) => {
                let (named, notes): (Vec<&Note>, Vec<&Note>) = notes.iter().partition(|(key, _)| *key == OBJECT_NAME);
                if let (Some((_, name)), Some(event)) = (named.last(), pending.event_mut())
                    && let Some(object) = event.object_ref.as_mut().filter(|object| object.name.is_empty())
                {
                    object.name.clone_from(name);
                }
                let notes: Vec<(&str, &str)> = notes.iter().map(|(key, value)| (&**key, value.as_str())).collect();
                pending.close(code, "", &notes, clock::now()).await
            }
            Opened::Read(event) if self.is_stream && code < 400 => {
                self.log.record(&event.completed(code, "", clock::now()).at(Stage::ResponseStarted, clock::now()))
            }
            Opened::Read(event) => self.log.record(&event.completed(code, "", clock::now())),
        };
        match closed {
            Ok(()) => answer,
            Err(error) => reply::failure(&unavailable(&error)),
        }
    }
}
