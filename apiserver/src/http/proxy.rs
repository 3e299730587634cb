//! Passing a call on to the agent of a node: an answer that streams, or a connection that both ends take over.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use martello_api::status::{ApiError, Details};

use super::{failed, outbound, reply::Reply, websocket};
use crate::{
    registry::{call::Call, core::node_proxy::NodeAddress},
    server::Core,
};

/// Most bytes of an agent's failure that are read.
const MAX_FAILURE_BYTES: usize = 64 * 1024;
/// Headers of an upgrade that go to the agent.
const PASSED: [&str; 9] = [
    "upgrade",
    "connection",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "x-stream-protocol-version",
    "origin",
    "user-agent",
];

type Sender = http1::SendRequest<Empty<Bytes>>;

async fn connect(core: &Arc<Core>, node: &NodeAddress) -> Result<Sender, ApiError> {
    let failed = |error: &dyn std::fmt::Display| {
        ApiError::internal(format!(
            "error dialing backend: node {:?} at {}:{}: {error}",
            node.name, node.host, node.port
        ))
    };
    let io = core.nodes.dial(&node.name, &node.host, node.port).await.map_err(|error| failed(&error))?;
    let (sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(|error| failed(&error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a node ended");
        }
    });
    Ok(sender)
}

async fn send(
    core: &Arc<Core>,
    node: &NodeAddress,
    method: &http::Method,
    path: &str,
    headers: HeaderMap,
) -> Result<Response<Incoming>, ApiError> {
    let mut sender = connect(core, node).await?;
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .body(Empty::new())
        .map_err(|error| ApiError::internal(format!("asking node {:?}: {error}", node.name)))?;
    *request.headers_mut() = headers;
    if let Ok(host) = HeaderValue::from_str(&format!("{}:{}", node.host, node.port)) {
        request.headers_mut().insert(header::HOST, host);
    }
    sender
        .send_request(request)
        .await
        .map_err(|error| ApiError::internal(format!("error dialing backend: node {:?}: {error}", node.name)))
}

/// Asks the agent, and passes its answer on as it comes.
pub async fn stream(core: &Arc<Core>, node: &NodeAddress, path: &str, call: &Call) -> Result<Reply, ApiError> {
    let answer = send(core, node, &http::Method::GET, path, HeaderMap::new()).await?;
    if !answer.status().is_success() {
        let (code, said) = said(answer).await;
        return Err(refused(code, &said, &format!("pods/{}", call.target.subresource), call.name()));
    }
    let content_type =
        answer.headers().get(header::CONTENT_TYPE).cloned().unwrap_or(HeaderValue::from_static("text/plain"));
    Ok(super::reply::reply(200, content_type, outbound::frames(answer.into_body())))
}

/// What the agent says is wrong.
async fn said(answer: Response<Incoming>) -> (u16, String) {
    let code = answer.status().as_u16();
    let body = http_body_util::Limited::new(answer.into_body(), MAX_FAILURE_BYTES).collect().await;
    let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()).unwrap_or_default();
    let parsed: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let said = parsed.as_ref().and_then(|status| status.get("message")).and_then(serde_json::Value::as_str);
    (code, said.map_or(text.clone(), str::to_owned))
}

/// A failure of the agent on the way to a stream of text, in upstream's words: those of the agent show where it failed or
/// did not understand, all others are told by their code alone.
fn refused(code: u16, said: &str, resource: &str, name: &str) -> ApiError {
    let (reason, message) = match code {
        500 => return ApiError::internal(said),
        400 => return ApiError::bad_request(said),
        code => failed::generic(code, said),
    };
    // Upstream leaves the verb out, and not the space behind it.
    let mut error = ApiError::new(code, reason, format!("{message} ( {resource} {name})"));
    let details = Details { name: name.to_owned(), kind: resource.to_owned(), ..Details::default() };
    error.details = Some(Box::new(details));
    error
}

/// Lets the agent take over the connection: WebSocket and SPDY bytes pass unread.
pub async fn tunnel(core: &Arc<Core>, node: &NodeAddress, path: &str, call: Call) -> Result<Reply, ApiError> {
    let client = call.upgrade.lock().take();
    let (Some(client), true) = (client, outbound::upgrades(&call.headers)) else {
        return Err(ApiError::bad_request("Upgrade request required"));
    };
    let (passed, mut headers) = (outbound::passed_on(&call.headers), HeaderMap::new());
    for name in PASSED {
        for value in passed.get_all(name) {
            headers.append(HeaderName::from_static(name), value.clone());
        }
    }
    // Upstream speaks this protocol of commands itself, and has switched before it asks the agent.
    let is_command = ["/exec/", "/attach/"].iter().any(|of| path.starts_with(of));
    let has_switched = is_command && websocket::ends_streams(&call.headers);
    let answer = match send(core, node, &call.method, path, headers).await {
        Err(error) if has_switched => return websocket::tell_failure(core, &call.headers, client, &error),
        sent => sent?,
    };
    let status = answer.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(outbound::switch(core, answer, client));
    }
    if has_switched {
        let (_, said) = said(answer).await;
        let error = ApiError::internal(format!("unable to upgrade connection: {said}"));
        return websocket::tell_failure(core, &call.headers, client, &error);
    }
    if status.as_u16() < 400 {
        return Err(ApiError::internal(format!("invalid upgrade response: status code {}", status.as_u16())));
    }
    Ok(outbound::pass_back(core, answer, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_refuses_is_told_as_upstream_tells_it() {
        let told = |code: u16| refused(code, "no such pod", "pods/log", "web");
        let missing = told(404);
        let words = "the server could not find the requested resource ( pods/log web)";
        assert_eq!((missing.code, missing.reason.as_str(), missing.message.as_str()), (404, "NotFound", words));
        let details = missing.details.unwrap();
        assert_eq!((details.name.as_str(), details.kind.as_str()), ("web", "pods/log"));
        assert_eq!((told(400).message.as_str(), told(400).details), ("no such pod", None));
        assert_eq!(told(500).message, "Internal error occurred: no such pod");
        let words =
            "an error on the server (\"no such pod\") has prevented the request from succeeding ( pods/log web)";
        assert_eq!(told(502).message, words);
    }
}
