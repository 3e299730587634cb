//! Looks once whether something in a pod answers: what probes and hooks are made of.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::{
    api::core::v1::{Container, ExecAction, GRPCAction, HTTPGetAction, TCPSocketAction},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use crate::{
    runtime::{ExecSpec, Runtime, RuntimeError},
    server::fd::Output,
};

/// No more of an answer is read, as upstream's limit.
const LONGEST_ANSWER: usize = 10 << 10;

/// What is looked at, and where it is.
pub struct Place<'a> {
    /// Reaches into pods.
    pub runtime: &'a dyn Runtime,
    /// The pod.
    pub pod_uid: &'a str,
    /// The run of the container.
    pub container_id: &'a str,
    /// The container.
    pub container: &'a Container,
    /// The pod's address.
    pub ip: Option<Ipv4Addr>,
}

/// One way to look.
#[derive(Clone, Debug)]
pub enum Check {
    /// Run a program in the container.
    Exec(ExecAction),
    /// Ask by HTTP.
    Http(HTTPGetAction),
    /// Connect.
    Tcp(TCPSocketAction),
    /// Ask the gRPC health service.
    Grpc(GRPCAction),
}

impl Check {
    /// Looks; an error is why the answer doesn't count as a good one.
    ///
    /// # Errors
    /// What didn't go well, as events show it.
    pub async fn look(&self, place: &Place<'_>, timeout: Duration) -> Result<(), String> {
        let look = async {
            match self {
                Self::Exec(action) => exec(place, action).await,
                Self::Http(action) => http(place, action).await,
                Self::Tcp(action) => {
                    let (ip, port) = address(place, action.host.as_deref(), &action.port)?;
                    place.runtime.dial(ip, port).await.map(drop).map_err(|error| dial_failed(ip, port, &error))
                }
                Self::Grpc(action) => grpc(place, action).await,
            }
        };
        match tokio::time::timeout(timeout, look).await {
            Ok(result) => result,
            Err(_) => Err(self.timed_out(place, timeout)),
        }
    }

    fn timed_out(&self, place: &Place<'_>, timeout: Duration) -> String {
        match self {
            Self::Exec(action) => {
                let command = action.command.as_deref().unwrap_or_default().join(" ");
                format!("command timed out: {command:?} timed out after {}s", timeout.as_secs())
            }
            Self::Http(action) => format!(
                "Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                url(place, action).unwrap_or_default()
            ),
            Self::Tcp(action) => {
                let at = address(place, action.host.as_deref(), &action.port);
                at.map_or_else(|error| error, |(ip, port)| format!("dial tcp {ip}:{port}: i/o timeout"))
            }
            Self::Grpc(_) => format!("timeout: health rpc did not complete within {}s", timeout.as_secs()),
        }
    }
}

async fn exec(place: &Place<'_>, action: &ExecAction) -> Result<(), String> {
    let args = action.command.clone().unwrap_or_default();
    let spec = ExecSpec { args, terminal: false, stdin: false };
    let session = place.runtime.exec(place.pod_uid, place.container_id, spec).await.map_err(|error| full(&error))?;
    let output = collect(session.stdout.into_iter().chain(session.stderr).collect());
    let (output, exit) = tokio::join!(output, session.exit);
    let exit = exit.map_err(|error| full(&error))?;
    if exit.code == 0 { Ok(()) } else { Err(output.trim_end().to_owned()) }
}

async fn collect(outputs: Vec<std::os::fd::OwnedFd>) -> String {
    let reads = outputs.into_iter().map(|fd| async move {
        let mut bytes = Vec::new();
        if let Ok(pipe) = Output::new(fd) {
            let mut limited = pipe.take(LONGEST_ANSWER as u64);
            // What was read before an error is what there is to show.
            limited.read_to_end(&mut bytes).await.ok();
            tokio::io::copy(&mut limited.into_inner(), &mut tokio::io::sink()).await.ok();
        }
        String::from_utf8_lossy(&bytes).into_owned()
    });
    futures::future::join_all(reads).await.concat()
}

async fn http(place: &Place<'_>, action: &HTTPGetAction) -> Result<(), String> {
    let (ip, port) = address(place, action.host.as_deref(), &action.port)?;
    let shown = url(place, action)?;
    let failed = |why: String| format!("Get {shown:?}: {why}");
    let stream = place.runtime.dial(ip, port).await.map_err(|error| failed(dial_failed(ip, port, &error)))?;
    let request = http_request(action, ip, port).map_err(|error| failed(error.to_string()))?;
    let status = if action.scheme.as_deref() == Some("HTTPS") {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(unverified::config()));
        let name = rustls::pki_types::ServerName::IpAddress(std::net::IpAddr::from(ip).into());
        let stream = connector.connect(name, stream).await.map_err(|error| failed(error.to_string()))?;
        http_status(stream, request).await
    } else {
        http_status(stream, request).await
    };
    let status = status.map_err(|error| failed(error.to_string()))?;
    if (200..400).contains(&status) { Ok(()) } else { Err(format!("HTTP probe failed with statuscode: {status}")) }
}

fn http_request(action: &HTTPGetAction, ip: Ipv4Addr, port: u16) -> Result<Request<Empty<Bytes>>, http::Error> {
    let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut request = Request::get(path);
    let own = action.http_headers.iter().flatten();
    let has = |name: &str| own.clone().any(|header| header.name.eq_ignore_ascii_case(name));
    if !has("host") {
        request = request.header(header::HOST, format!("{ip}:{port}"));
    }
    if !has("user-agent") {
        request = request.header(header::USER_AGENT, "kube-probe/1.36");
    }
    if !has("accept") {
        request = request.header(header::ACCEPT, "*/*");
    }
    request = request.header(header::CONNECTION, "close");
    // An empty value takes the header away, as upstream has it.
    for header in own.clone().filter(|header| !header.value.is_empty()) {
        request = request.header(&header.name, &header.value);
    }
    request.body(Empty::new())
}

async fn http_status(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<u16, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
        Ok(answer.status().as_u16())
    };
    tokio::pin!(exchange);
    tokio::select! {
        result = &mut exchange => result,
        closed = connection => { closed?; exchange.await }
    }
}

fn url(place: &Place<'_>, action: &HTTPGetAction) -> Result<String, String> {
    let (ip, port) = address(place, action.host.as_deref(), &action.port)?;
    let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
    Ok(format!("{scheme}://{ip}:{port}/{}", action.path.as_deref().unwrap_or("/").trim_start_matches('/')))
}

/// Asks `grpc.health.v1.Health/Check` (one field each way, written by hand).
async fn grpc(place: &Place<'_>, action: &GRPCAction) -> Result<(), String> {
    let ip = place.ip.ok_or("the pod has no address")?;
    let port = u16::try_from(action.port).map_err(|_| format!("invalid port number: {}", action.port))?;
    let stream = place.runtime.dial(ip, port).await.map_err(|error| dial_failed(ip, port, &error))?;
    let service = action.service.as_deref().unwrap_or_default();
    let failed = |why: String| format!("error: this server does not answer the health service: {why}");
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| failed(error.to_string()))?;
    let request = Request::post(format!("http://{ip}:{port}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::USER_AGENT, "kube-probe/1.36")
        .header(header::TE, "trailers")
        .body(Full::new(health_request(service)))
        .map_err(|error| failed(error.to_string()))?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let mut code = answer.headers().get("grpc-status").cloned();
        let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
        let body = body.map_err(|error| error.to_string())?;
        code = code.or_else(|| body.trailers()?.get("grpc-status").cloned());
        Ok::<_, String>((code, body.to_bytes()))
    };
    let connection = async {
        // Its end is told by the exchange, too.
        connection.await.ok();
        futures::future::pending::<()>().await;
    };
    let (code, body) = tokio::select! {
        result = exchange => result.map_err(failed)?,
        () = connection => return Err(failed("the connection ended".to_owned())),
    };
    let code = code.as_ref().and_then(|code| code.to_str().ok()).unwrap_or("0");
    if code != "0" {
        return Err(failed(format!("rpc error: code = {code}")));
    }
    match health_status(&body) {
        Some(1) => Ok(()),
        other => Err(format!("service unhealthy (responded with {:?})", health_name(other))),
    }
}

fn health_request(service: &str) -> Bytes {
    let name: Vec<u8> = service.bytes().take(usize::from(u16::MAX)).collect();
    let mut message = BytesMut::new();
    if !name.is_empty() {
        message.put_u8(0x0a);
        let mut length = name.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(&name);
    }
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(0));
    framed.put_slice(&message);
    framed.freeze()
}

/// The status in an answer: field 1 of an uncompressed message; nothing there means 0.
fn health_status(framed: &[u8]) -> Option<u8> {
    match framed {
        [0, _, _, _, _] => Some(0),
        [0, _, _, _, _, 0x08, status, ..] => Some(*status),
        _ => None,
    }
}

fn health_name(status: Option<u8>) -> &'static str {
    match status {
        Some(0) | None => "UNKNOWN",
        Some(1) => "SERVING",
        Some(2) => "NOT_SERVING",
        Some(_) => "SERVICE_UNKNOWN",
    }
}

fn address(place: &Place<'_>, host: Option<&str>, port: &IntOrString) -> Result<(Ipv4Addr, u16), String> {
    let ip = match host.filter(|host| !host.is_empty()) {
        Some(host) => host.parse().map_err(|_| format!("host {host:?} is not an IPv4 address"))?,
        None => place.ip.ok_or("the pod has no address")?,
    };
    Ok((ip, port_number(port, place.container)?))
}

/// The number of a port that may be named.
///
/// # Errors
/// If the container names no such port.
pub fn port_number(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            match named {
                Some(port) => port.container_port,
                None => name.parse().map_err(|_| format!("couldn't find port: {name:?} in container"))?,
            }
        }
    };
    u16::try_from(number).ok().filter(|port| *port > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

fn dial_failed(ip: Ipv4Addr, port: u16, error: &RuntimeError) -> String {
    let why = match error {
        RuntimeError::Io { source, .. } => match source.kind() {
            std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
            _ => source.to_string(),
        },
        other => full(other),
    };
    format!("dial tcp {ip}:{port}: {why}")
}

/// An error with its causes.
#[must_use]
pub fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Probes accept any certificate, as upstream documents: they ask whether a pod answers, not who it is.
mod unverified {
    use rustls::{
        ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::CryptoProvider,
        pki_types::{CertificateDer, ServerName, UnixTime},
    };
    use std::sync::Arc;

    #[derive(Debug)]
    struct Anyone(Arc<CryptoProvider>);

    pub(super) fn config() -> ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = match builder.with_safe_default_protocol_versions() {
            Ok(builder) => builder,
            // The versions are those of the provider itself.
            Err(_) => ClientConfig::builder(),
        };
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))).with_no_client_auth()
    }

    impl ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_messages_are_framed_as_grpc_does() {
        assert_eq!(health_request("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(health_request("ab").as_ref(), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(health_status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(health_status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(health_status(&[1, 0]), None);
    }

    #[test]
    fn ports_are_found_by_name() {
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "a", "ports": [{"name": "http", "containerPort": 3000}]}))
        .unwrap();
        assert_eq!(port_number(&IntOrString::String("http".into()), &container), Ok(3000));
        assert_eq!(port_number(&IntOrString::String("81".into()), &container), Ok(81));
        assert!(port_number(&IntOrString::String("no".into()), &container).is_err());
        assert!(port_number(&IntOrString::Int(0), &container).is_err());
    }
}
