//! The agent's HTTPS server, for the API server only: logs, exec, attach, port-forward.

pub mod exec;
pub mod fd;
pub mod forward;
pub mod listener;
pub mod logs;
pub mod routes;
pub mod spdy;
mod streaming;
pub mod streams;
mod upgrade;
pub mod websocket;

pub use listener::{Door, listen};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};

use crate::{agent::checks::full, runtime::RuntimeError};

/// The body of an answer.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// An answer of plain text.
#[must_use]
pub fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let body = Full::new(Bytes::from(text.into())).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
}

/// Why a request isn't served.
pub(crate) struct Refusal(StatusCode, String);

impl Refusal {
    fn bad(why: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, why.into())
    }

    fn missing(what: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, what.into())
    }
}

impl From<RuntimeError> for Refusal {
    fn from(error: RuntimeError) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, full(&error))
    }
}
