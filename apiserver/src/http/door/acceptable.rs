//! In which form an answer is given, and what a client is told that takes none.

use martello_api::{attributes::ResourceTarget, schema::has_protobuf, status::ApiError};

use crate::{
    http::negotiate::{Accepted, NotAcceptable, accept, accept_unrouted, accept_without_tables},
    registry::kind::Kind,
};

pub(super) fn accepted(header: &str, verb: &str, target: &ResourceTarget, kind: &Kind) -> Result<Accepted, ApiError> {
    let (subresource, protobuf) = (target.subresource.as_str(), has_protobuf(&kind.resource.gvk));
    if matches!(subresource, "log" | "exec" | "attach" | "portforward" | "proxy") {
        return Ok(accept(header, false).unwrap_or_default());
    }
    // Reviews and requests are answered, and not kept.
    if kind.is_custom() {
        // Upstream names what it serves elsewhere, too.
        return accept_unrouted(header).map_err(|why| not_acceptable(why, verb, true));
    }
    let is_kept = kind.offers("get") && !matches!(subresource, "binding" | "eviction" | "token");
    let picked = if is_kept { accept(header, protobuf) } else { accept_without_tables(header, protobuf) };
    picked.map_err(|why| not_acceptable(why, verb, protobuf))
}

/// What a client is told that accepts nothing of what there is.
pub(in crate::http) fn not_acceptable(why: NotAcceptable, verb: &str, protobuf: bool) -> ApiError {
    let also = if protobuf { ", application/vnd.kubernetes.protobuf" } else { "" };
    let served = format!("application/json, application/yaml{also}");
    match why {
        NotAcceptable::Media => {
            let streams = match (matches!(verb, "list" | "watch"), protobuf) {
                (false, _) => "",
                (true, false) => ", application/json;stream=watch",
                (true, true) => ", application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch",
            };
            let message = format!("406: Not Acceptable\n\nAvailable representations: {served}{streams}");
            let mut error = ApiError::new(406, "NotAcceptable", message);
            error.details = Some(Box::default());
            error
        }
        NotAcceptable::Form => {
            let message = format!("only the following media types are accepted: {served}");
            ApiError::new(406, "NotAcceptable", message)
        }
    }
}
