//! Exec, attach and port-forward: requests whose connection becomes the streams of a process or of ports.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use kube::ResourceExt as _;
use martello_api::query::Query;
use tokio::sync::mpsc;

use super::{
    Body, Refusal, exec, forward,
    routes::{MOST_WAITING, Site},
    spdy::session,
    streams::{Outcome, Streams, Wanted},
    upgrade::{
        SPDY_FORWARD, SPDY_OF_COMMANDS, Upgrade, spawn_upgraded, switch_spdy, switch_stream, switch_websocket,
        upgrade_of,
    },
    websocket,
};
use crate::{
    agent::checks::full,
    runtime::{ExecSession, ExecSpec, Runtime, RuntimeError},
};

/// No port-forward asks for more ports at once: two channels each.
const MOST_PORTS: usize = 100;

impl Site {
    pub(super) async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        uid: Option<&str>,
        container: &str,
        query: &Query,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let pod = self.pod(namespace, pod, uid)?;
        let uid = pod.uid().unwrap_or_default();
        let id = self.running(&uid, container).await?;
        let wanted = wanted(query)?;
        let args: Vec<String> = query.all("command").map(str::to_owned).collect();
        if args.is_empty() {
            return Err(Refusal::bad("you must specify at least 1 command"));
        }
        let runtime = Arc::clone(&self.context.runtime);
        command(request, wanted, async move {
            let spec = ExecSpec { args, terminal: wanted.tty, stdin: wanted.stdin };
            runtime.exec(&uid, &id, spec).await
        })
    }

    pub(super) async fn attach(
        &self,
        namespace: &str,
        pod: &str,
        uid: Option<&str>,
        container: &str,
        query: &Query,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let pod = self.pod(namespace, pod, uid)?;
        let uid = pod.uid().unwrap_or_default();
        let id = self.running(&uid, container).await?;
        let wanted = wanted(query)?;
        let runtime = Arc::clone(&self.context.runtime);
        let stdin = wanted.stdin;
        command(request, wanted, async move { runtime.attach(&uid, &id, stdin).await })
    }

    /// One connection to a port of a pod, as it is: for the API server, which speaks HTTP over it.
    pub(super) async fn stream(
        &self,
        namespace: &str,
        pod: &str,
        port: &str,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let pod = self.pod(namespace, pod, None)?;
        let uid = pod.uid().unwrap_or_default();
        let port: u16 = port.parse().map_err(|_| Refusal::bad(format!("{port:?} is no port")))?;
        let response = switch_stream(request.headers())?;
        let dialed = self.context.runtime.dial_loopback(&uid, port).await;
        let connection = dialed.map_err(|cause| Refusal(StatusCode::BAD_GATEWAY, full(&cause)))?;
        spawn_upgraded(&mut request, move |io| forward::join(io, connection));
        Ok(response)
    }

    pub(super) fn forward(
        &self,
        namespace: &str,
        pod: &str,
        uid: Option<&str>,
        query: &Query,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let pod = self.pod(namespace, pod, uid)?;
        let uid = pod.uid().unwrap_or_default();
        let runtime = Arc::clone(&self.context.runtime);
        let ports: Vec<u16> = query
            .all("port")
            .flat_map(|list| list.split(','))
            .map(|port| port.parse().map_err(|_| Refusal::bad(format!("unable to parse {port:?} as a port"))))
            .collect::<Result<_, _>>()?;
        if ports.len() > MOST_PORTS {
            return Err(Refusal::bad(format!("at most {MOST_PORTS} ports can be forwarded at once")));
        }
        match upgrade_of(request.headers()) {
            Some(Upgrade::Spdy) => {
                let (response, _) = switch_spdy(request.headers(), &[SPDY_FORWARD])?;
                spawn_upgraded(&mut request, move |io| serve_spdy_forward(io, runtime, uid));
                Ok(response)
            }
            Some(Upgrade::WebSocket) => {
                let (response, protocol) = switch_websocket(request.headers(), &websocket::OF_PORTS)?;
                if protocol == websocket::TUNNEL {
                    spawn_upgraded(&mut request, move |io| async move {
                        let (bytes, pump) = websocket::tunnel(io).await;
                        tokio::join!(pump, serve_spdy_forward(bytes, runtime, uid));
                    });
                    return Ok(response);
                }
                if ports.is_empty() {
                    return Err(Refusal::bad("query parameter \"port\" is required"));
                }
                spawn_upgraded(&mut request, move |io| async move {
                    let (forwards, pump) = websocket::ports(io, &ports, protocol).await;
                    let all = forwards.into_iter().map(|(port, data, error)| {
                        forward::one(Arc::clone(&runtime), uid.clone(), Some(port), data, error)
                    });
                    tokio::pin!(pump);
                    tokio::select! {
                        () = &mut pump => {}
                        // What they said last is still to be sent.
                        _ = futures::future::join_all(all) => pump.await,
                    }
                });
                Ok(response)
            }
            None => Err(Refusal::bad("Upgrade request required")),
        }
    }
}

async fn serve_spdy_forward<S>(io: S, runtime: Arc<dyn Runtime>, uid: String)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
{
    let (opened, streams) = mpsc::channel(MOST_WAITING);
    let (served, ()) = tokio::join!(session::serve(io, opened), forward::pairs(runtime, uid, streams));
    if let Err(error) = served {
        tracing::debug!(error = full(&error), "a port-forward ended early");
    }
}

/// Switches protocols, then runs what `start` begins and connects it.
fn command(
    mut request: Request<Incoming>,
    wanted: Wanted,
    start: impl Future<Output = Result<ExecSession, RuntimeError>> + Send + 'static,
) -> Result<Response<Body>, Refusal> {
    match upgrade_of(request.headers()) {
        Some(Upgrade::Spdy) => {
            let (response, protocol) = switch_spdy(request.headers(), &SPDY_OF_COMMANDS)?;
            spawn_upgraded(&mut request, move |io| async move {
                let (opened, streams) = mpsc::channel(MOST_WAITING);
                let run = async {
                    match exec::gather(wanted, protocol, streams).await {
                        Ok(streams) => run_command(start, streams).await,
                        Err(why) => tracing::debug!(why, "a remote command's streams were not opened"),
                    }
                };
                let (served, ()) = tokio::join!(session::serve(io, opened), run);
                if let Err(error) = served {
                    tracing::debug!(error = full(&error), "a remote command's connection ended early");
                }
            });
            Ok(response)
        }
        Some(Upgrade::WebSocket) => {
            let (response, protocol) = switch_websocket(request.headers(), &websocket::OF_COMMANDS)?;
            spawn_upgraded(&mut request, move |io| async move {
                let (streams, pump) = websocket::command(io, wanted, protocol).await;
                tokio::join!(pump, run_command(start, streams));
            });
            Ok(response)
        }
        None => Err(Refusal::bad("Upgrade request required")),
    }
}

async fn run_command(start: impl Future<Output = Result<ExecSession, RuntimeError>>, streams: Streams) {
    match start.await {
        Ok(session) => exec::connect(session, streams).await,
        Err(error) => streams.finish(&Outcome::Failed(full(&error))).await,
    }
}

/// Which streams a query asks for. As upstream's kubelet, a node knows one spelling of each: the API server writes it, and what
/// is spelled otherwise is not asked for.
fn wanted(query: &Query) -> Result<Wanted, Refusal> {
    let wanted = Wanted {
        stdin: query.get("input") == "1",
        stdout: query.get("output") == "1",
        stderr: query.get("error") == "1",
        tty: query.get("tty") == "1",
    };
    if !wanted.stdin && !wanted.stdout && !wanted.stderr {
        return Err(Refusal::bad("you must specify at least 1 of stdin, stdout, stderr"));
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_asks_for_a_stream() {
        let all = wanted(&Query::parse("input=1&output=1&error=1&tty=1")).ok().unwrap();
        assert!(all.stdin && all.stdout && all.stderr && all.tty);
        let one = wanted(&Query::parse("stdin=1&output=1&error=true&tty=T")).ok().unwrap();
        assert!(!one.stdin && one.stdout && !one.stderr && !one.tty);
        assert!(wanted(&Query::parse("stdout=1")).is_err());
    }
}
