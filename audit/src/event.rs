//! One event of `audit.k8s.io/v1`, at the levels that hold no bodies.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use martello_api::{
    attributes::{Attributes, Target},
    clock,
    identity::User,
};
use serde::{Deserialize, Serialize, Serializer};

/// Longest request URI that is recorded, in bytes; the rest is cut off. URIs beyond it are refused by most servers.
pub const MAX_URI_BYTES: usize = 8 * 1024;
/// Longest text of the client's own choice that is recorded (user agent, annotation), in bytes.
pub const MAX_TEXT_BYTES: usize = 1024;

/// Most annotations of an event: a request has a handful, and webhooks and policies choose how many they add.
pub const MAX_ANNOTATIONS: usize = 64;
/// Longest key of an annotation, in bytes.
const MAX_KEY_BYTES: usize = 256;
/// Most groups of a user, and longest of their names, in an event that had to be shortened.
const SHORT_GROUPS: usize = 16;
const SHORT_TEXT_BYTES: usize = 128;
/// Says in an event that had to be shortened that it was.
const SHORTENED: &str = "audit.martello.dev/shortened";

/// How much is recorded. Bodies never are: they may hold secrets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// Who asked what, and how it ended.
    #[default]
    Metadata,
}

/// When in a request's life the event was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// It was received: the record of an intent.
    RequestReceived,
    /// The answer's head was sent and its body goes on, as of a watch.
    ResponseStarted,
    /// It ended.
    ResponseComplete,
    /// It ended without an answer.
    Panic,
}

/// The user as recorded.
pub type UserInfo = Arc<User>;

/// Facts about how a request was authenticated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthenticationMetadata {
    /// The verb that allowed to act as another in a constrained way.
    pub impersonation_constraint: String,
}

/// What a request was about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectReference {
    /// Plural name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// Namespace; empty for those of the cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name; empty for collections.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Identity of the object, where it is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// API group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    /// Its version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Subresource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}

/// How a request ended. The message is left out: it may repeat what the request's body said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResponseStatus {
    /// `Success` or `Failure`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// For instance `Forbidden`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// HTTP status.
    pub code: u16,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// How much is recorded.
    pub level: Level,
    /// Joins the events of one request; the answer carries it as `Audit-Id`.
    #[serde(rename = "auditID")]
    pub audit_id: String,
    /// When in the request's life.
    pub stage: Stage,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// The verb that was authorized.
    pub verb: String,
    /// Who presented the credentials.
    pub user: UserInfo,
    /// On whose behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impersonated_user: Option<UserInfo>,
    /// How the right to act on that behalf came about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication_metadata: Option<AuthenticationMetadata>,
    /// Where the request came from.
    #[serde(rename = "sourceIPs", default, skip_serializing_if = "Vec::is_empty")]
    pub source_ips: Vec<String>,
    /// The client, as it names itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    /// What it is about; nothing for paths outside the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<ObjectReference>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_status: Option<ResponseStatus>,
    /// When the request came.
    #[serde(serialize_with = "micros")]
    pub request_received_timestamp: Timestamp,
    /// When the event was made.
    #[serde(serialize_with = "micros")]
    pub stage_timestamp: Timestamp,
    /// Why it was decided so: `authorization.k8s.io/decision`, `authorization.k8s.io/reason` and others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Event {
    /// The event of a request that was received. What comes from the client is cut to size.
    #[must_use]
    pub fn received(audit_id: String, attributes: &Attributes, request_uri: &str, now: Timestamp) -> Self {
        Self {
            level: Level::Metadata,
            audit_id,
            stage: Stage::RequestReceived,
            request_uri: cut(request_uri, MAX_URI_BYTES),
            verb: attributes.verb.clone(),
            user: Arc::clone(&attributes.user),
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: Vec::new(),
            user_agent: String::new(),
            object_ref: ObjectReference::of(&attributes.target),
            response_status: None,
            request_received_timestamp: now,
            stage_timestamp: now,
            annotations: BTreeMap::new(),
        }
    }

    /// The client's address and how it names itself.
    #[must_use]
    pub fn from(mut self, source_ips: Vec<String>, user_agent: &str) -> Self {
        self.source_ips = source_ips;
        self.user_agent = cut(user_agent, MAX_TEXT_BYTES);
        self
    }

    /// Who authenticated, where the request is made on another's behalf, and the verb of a constrained way to do so.
    #[must_use]
    pub fn impersonated_by(mut self, authenticated: UserInfo, constraint: Option<&str>) -> Self {
        let constrained = |verb: &str| AuthenticationMetadata { impersonation_constraint: verb.to_owned() };
        self.authentication_metadata = constraint.map(constrained);
        self.impersonated_user = Some(std::mem::replace(&mut self.user, authenticated));
        self
    }

    /// A further annotation, cut to size. Those beyond [`MAX_ANNOTATIONS`] are left out, and so is what has a key that is
    /// there: the first ones, which say what was decided, stay, whatever a webhook or a policy tells later.
    #[must_use]
    pub fn annotated(mut self, key: &str, value: &str) -> Self {
        let key = cut(key, MAX_KEY_BYTES);
        if self.annotations.len() < MAX_ANNOTATIONS {
            self.annotations.entry(key).or_insert_with(|| cut(value, MAX_TEXT_BYTES));
        }
        self
    }

    /// What is left of an event that no line holds: who, what and how it ended, without what can be as long as the client
    /// or its identity provider likes.
    #[must_use]
    pub(crate) fn shortened(&self, bytes: usize) -> Self {
        let short = |text: &str| cut(text, SHORT_TEXT_BYTES);
        let mut event = self.clone();
        event.request_uri = cut(&self.request_uri, MAX_TEXT_BYTES);
        event.verb = short(&self.verb);
        event.user = Arc::new(shortened_user(&self.user));
        event.impersonated_user = self.impersonated_user.as_ref().map(|user| Arc::new(shortened_user(user)));
        event.source_ips.truncate(1);
        event.user_agent = short(&self.user_agent);
        event.object_ref = self.object_ref.as_ref().map(|object| ObjectReference {
            resource: short(&object.resource),
            namespace: short(&object.namespace),
            name: cut(&object.name, MAX_KEY_BYTES),
            uid: short(&object.uid),
            api_group: short(&object.api_group),
            api_version: short(&object.api_version),
            subresource: short(&object.subresource),
        });
        let kept = |key: &str| key.starts_with("authorization.k8s.io/");
        event.annotations.retain(|key, _| kept(key));
        event.annotations.insert(
            SHORTENED.to_owned(),
            format!("the record had {bytes} bytes; annotations were left out, groups and long texts were cut"),
        );
        event
    }

    /// The same request, ended with this HTTP status and Kubernetes reason (empty for a success).
    #[must_use]
    pub fn completed(mut self, code: u16, reason: &str, now: Timestamp) -> Self {
        self.stage = Stage::ResponseComplete;
        let status = if code < 400 { "" } else { "Failure" };
        self.response_status =
            Some(ResponseStatus { status: status.to_owned(), reason: cut(reason, MAX_TEXT_BYTES), code });
        self.stage_timestamp = now;
        self
    }

    /// The same request, at another stage.
    #[must_use]
    pub fn at(mut self, stage: Stage, now: Timestamp) -> Self {
        self.stage = stage;
        self.stage_timestamp = now;
        self
    }
}

impl ObjectReference {
    /// What `target` names; nothing if it is a path.
    #[must_use]
    pub fn of(target: &Target) -> Option<Self> {
        let Target::Resource(target) = target else { return None };
        Some(Self {
            resource: target.resource.clone(),
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            uid: String::new(),
            api_group: target.group.clone(),
            api_version: target.version.clone(),
            subresource: target.subresource.clone(),
        })
    }
}

fn shortened_user(user: &User) -> User {
    let mut short = user.clone();
    short.name = cut(&user.name, MAX_KEY_BYTES);
    short.uid = user.uid.as_deref().map(|uid| cut(uid, SHORT_TEXT_BYTES));
    short.groups = user.groups.iter().take(SHORT_GROUPS).map(|group| cut(group, SHORT_TEXT_BYTES)).collect();
    short.extra.clear();
    short
}

fn micros<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&clock::rfc3339_micros(*time))
}

/// The longest beginning of `text` of at most `limit` bytes.
fn cut(text: &str, limit: usize) -> String {
    let end = (0..=limit.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
    text.get(..end).unwrap_or_default().to_owned()
}
