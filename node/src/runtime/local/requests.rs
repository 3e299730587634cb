//! What the agent asks of the runtime, passed on to shims and keeper.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use martello_scanner::LayerRef;
use tokio::sync::broadcast;

use super::streams::{Streams, session, tcp};
use super::{LocalRuntime, plain_name, plain_uid};
use crate::keeper::protocol::{Request as Ask, UnpackInit};
use crate::runtime::link::{blocking, unexpected};
use crate::runtime::shim::protocol::{Request, Response};
use crate::runtime::{
    Answer, ContainerSpec, ContainerStatus, ExecSession, ExecSpec, Part, PodSandboxSpec, Runtime, RuntimeError,
    RuntimeEvent, RuntimeInfo, Sandbox, Usage,
};
use crate::wire;

impl Runtime for LocalRuntime {
    fn create_pod(&self, spec: PodSandboxSpec) -> Answer<'_, Sandbox> {
        async move {
            let attempt = format!("make pod {}/{}", spec.namespace, spec.name);
            if !plain_uid(&spec.uid) {
                return Err(RuntimeError::Refused { attempt, message: "its UID is no UID".to_owned() });
            }
            let uid = spec.uid.clone();
            let inner = Arc::clone(&self.inner);
            let record = blocking(attempt, move || {
                let mut record = inner.reserve(&spec)?;
                let result = inner.make_pod(spec, &record).and_then(|shim| {
                    record.shim = Some(shim);
                    inner.save(&record)
                });
                match result {
                    Ok(()) => {
                        inner.pods.lock().by_uid.insert(record.sandbox.uid.clone(), record.clone());
                        Ok(record)
                    }
                    Err(error) => {
                        inner.end_pod(&record.sandbox.uid, &record);
                        inner.pods.lock().by_uid.remove(&record.sandbox.uid);
                        Err(error)
                    }
                }
            })
            .await?;
            tokio::spawn(self.clone().listen(uid));
            Ok(record.sandbox)
        }
        .boxed()
    }

    fn pods(&self) -> Vec<Sandbox> {
        let pods = self.inner.pods.lock();
        pods.by_uid.values().filter(|record| record.shim.is_some()).map(|record| record.sandbox.clone()).collect()
    }

    fn start_container<'a>(&'a self, pod_uid: &'a str, spec: ContainerSpec) -> Answer<'a, ContainerStatus> {
        async move {
            let attempt = format!("start container {}", spec.name);
            match self.request(pod_uid, Request::Start(Box::new(spec)), attempt.clone()).await? {
                Response::Container(status) => Ok(self.inner.placed(pod_uid, status)),
                other => Err(unexpected(&attempt, other)),
            }
        }
        .boxed()
    }

    fn stop_container<'a>(&'a self, pod_uid: &'a str, id: &'a str, grace: Duration) -> Answer<'a, ContainerStatus> {
        async move {
            let attempt = format!("stop container {id}");
            let grace_millis = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
            let request = Request::Stop { id: id.to_owned(), grace_millis };
            let mut stream = self.inner.known(pod_uid)?.begin(request, attempt.clone()).await?;
            match wire::receive_async(&mut stream).await {
                Ok(Some(Response::Container(status))) => Ok(self.inner.placed(pod_uid, status)),
                Ok(Some(other)) => Err(unexpected(&attempt, other)),
                Ok(None) => Err(RuntimeError::Refused { attempt, message: "the pod's shim ended".to_owned() }),
                Err(source) => Err(RuntimeError::Io { attempt, source }),
            }
        }
        .boxed()
    }

    fn remove_container<'a>(&'a self, pod_uid: &'a str, id: &'a str) -> Answer<'a, ()> {
        let request = Request::Remove { id: id.to_owned() };
        async move { self.request(pod_uid, request, format!("remove container {id}")).await.map(drop) }.boxed()
    }

    fn remove_pod<'a>(&'a self, pod_uid: &'a str) -> Answer<'a, ()> {
        async move {
            // Forgotten first: from now on its end is no loss. Its range and address stay taken until it has gone.
            let record = {
                let mut pods = self.inner.pods.lock();
                let Some(record) = pods.by_uid.get_mut(pod_uid) else { return Ok(()) };
                let whole = record.clone();
                record.shim = None;
                whole
            };
            let (inner, uid) = (Arc::clone(&self.inner), pod_uid.to_owned());
            blocking(format!("remove pod {pod_uid}"), move || {
                inner.end_pod(&uid, &record);
                inner.pods.lock().by_uid.remove(&uid);
                Ok(())
            })
            .await
        }
        .boxed()
    }

    fn remove_volumes<'a>(&'a self, pod_uid: &'a str) -> Answer<'a, ()> {
        async move {
            if !plain_uid(pod_uid) {
                return Err(RuntimeError::NoPod { uid: pod_uid.to_owned() });
            }
            // With its shim, those in memory have gone; while something runs, a shim refuses.
            match self.request(pod_uid, Request::EmptyVolumes, "let go of the pod's volumes".to_owned()).await {
                Ok(_) | Err(RuntimeError::NoPod { .. }) => {}
                Err(error) => return Err(error),
            }
            for path in self.inner.volumes_of(pod_uid) {
                self.ask_keeper(Ask::RemoveTree { path }, "delete the pod's volumes").await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn measure<'a>(&'a self, pod_uid: &'a str, part: Part<'a>) -> Answer<'a, u64> {
        async move {
            self.inner.known(pod_uid)?;
            let (Part::Volume(name) | Part::Layer(name) | Part::Logs(name)) = part;
            let attempt = format!("measure {name}");
            if !plain_name(name) {
                return Err(RuntimeError::Refused { attempt, message: "that is no name".to_owned() });
            }
            let shim = self.inner.directory(pod_uid).join("shim");
            let path = match part {
                Part::Volume(name) => self.inner.volumes_dir().join(pod_uid).join(name),
                Part::Layer(id) => shim.join("containers").join(id).join("upper"),
                Part::Logs(name) => shim.join("logs").join(name),
            };
            let keeper = self.inner.keeper.clone();
            blocking(attempt, move || keeper.measure(path)).await
        }
        .boxed()
    }

    fn containers<'a>(&'a self, pod_uid: &'a str) -> Answer<'a, Vec<ContainerStatus>> {
        async move {
            let attempt = "list containers".to_owned();
            match self.request(pod_uid, Request::List, attempt.clone()).await? {
                Response::Containers(list) => {
                    Ok(list.into_iter().map(|status| self.inner.placed(pod_uid, status)).collect())
                }
                other => Err(unexpected(&attempt, other)),
            }
        }
        .boxed()
    }

    fn exec<'a>(&'a self, pod_uid: &'a str, id: &'a str, spec: ExecSpec) -> Answer<'a, ExecSession> {
        async move {
            let link = self.inner.known(pod_uid)?;
            let attempt = format!("run a process in container {id}");
            let request = Request::Exec { id: id.to_owned(), spec: spec.clone() };
            let doing = attempt.clone();
            let opened = blocking(attempt.clone(), move || {
                if spec.terminal {
                    let (response, fds, stream) = link.ask(&request, Vec::new())?;
                    return Ok((response, Streams::terminal(fds, spec.stdin)?, stream));
                }
                let (streams, theirs) = Streams::pipes(spec.stdin)?;
                let (response, _, stream) = link.ask(&request, theirs)?;
                Ok((response, streams, stream))
            });
            let (response, streams, stream) = opened.await?;
            session(&doing, response, streams, stream)
        }
        .boxed()
    }

    fn attach<'a>(&'a self, pod_uid: &'a str, id: &'a str, stdin: bool) -> Answer<'a, ExecSession> {
        async move {
            let link = self.inner.known(pod_uid)?;
            let attempt = format!("attach to container {id}");
            let request = Request::Attach { id: id.to_owned(), stdin };
            let opened = blocking(attempt.clone(), move || {
                let (mut streams, mut theirs) = Streams::pipes(false)?;
                theirs.remove(0);
                let (response, fds, stream) = link.ask(&request, theirs)?;
                streams.stdin = fds.into_iter().next();
                Ok((response, streams, stream))
            });
            let (response, streams, stream) = opened.await?;
            session(&attempt, response, streams, stream)
        }
        .boxed()
    }

    fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.inner.events.subscribe()
    }

    fn dial(&self, ip: Ipv4Addr, port: u16) -> Answer<'_, tokio::net::TcpStream> {
        async move {
            let fds = self.ask_keeper(Ask::Dial { ip, port }, "connect to a pod").await?;
            tcp(fds, format!("connect to {ip}:{port}"))
        }
        .boxed()
    }

    fn dial_loopback<'a>(&'a self, pod_uid: &'a str, port: u16) -> Answer<'a, tokio::net::TcpStream> {
        async move {
            let link = self.inner.known(pod_uid)?;
            let attempt = format!("connect to port {port} of the pod");
            let (response, fds, _) =
                blocking(attempt.clone(), move || link.ask(&Request::Dial { port }, Vec::new())).await?;
            match response {
                Response::Done => tcp(fds, attempt),
                other => Err(unexpected(&attempt, other)),
            }
        }
        .boxed()
    }

    fn own<'a>(&'a self, pod_uid: &'a str, path: &'a Path, uid: u32, gid: u32) -> Answer<'a, ()> {
        async move {
            let slot = self.inner.slot(pod_uid)?;
            let (first, ids) = (self.inner.layout.first(slot), self.inner.layout.ids());
            if uid >= ids || gid >= ids {
                let attempt = format!("give {} away", path.display());
                let message = format!("a pod has the ids 0 to {}, not {uid}:{gid}", ids - 1);
                return Err(RuntimeError::Refused { attempt, message });
            }
            let request = Ask::Own { path: path.to_owned(), uid: first + uid, gid: first + gid };
            self.ask_keeper(request, "give files to the pod").await.map(drop)
        }
        .boxed()
    }

    fn unpack_image<'a>(&'a self, pod_uid: &'a str, layers: &'a [LayerRef]) -> Answer<'a, Vec<String>> {
        async move {
            let slot = self.inner.layer_slot(self.inner.slot(pod_uid)?);
            let into = self.inner.layers_dir(slot);
            let names: Vec<String> = layers.iter().map(|layer| layer.chain_id.hex()).collect();
            if names.iter().all(|name| into.join(name).is_dir()) {
                return Ok(names);
            }
            let (first_id, ids) = (self.inner.layout.first(slot), self.inner.layout.ids());
            let init = UnpackInit { into, layers: layers.to_vec(), first_id, ids };
            let keeper = self.inner.keeper.clone();
            blocking("unpack the image".to_owned(), move || keeper.unpack(&init)).await?;
            Ok(names)
        }
        .boxed()
    }

    fn layers(&self) -> Answer<'_, Vec<String>> {
        let root = self.inner.state_dir.join("layers");
        let list = move || {
            let mut names = BTreeSet::new();
            for slot in std::fs::read_dir(root)? {
                for layer in std::fs::read_dir(slot?.path())? {
                    let name = layer?.file_name().to_string_lossy().into_owned();
                    if !name.starts_with('.') {
                        names.insert(name);
                    }
                }
            }
            Ok(names.into_iter().collect())
        };
        blocking("list the unpacked layers".to_owned(), list).boxed()
    }

    fn remove_layer<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        let (root, keeper, name) = (self.inner.state_dir.join("layers"), self.inner.keeper.clone(), name.to_owned());
        let remove = move || {
            if !plain_uid(&name) {
                return Err(io::Error::other("that is no layer's name"));
            }
            for slot in std::fs::read_dir(root)? {
                let path = slot?.path().join(&name);
                keeper.ask(&Ask::RemoveTree { path }, "delete a layer")?;
            }
            Ok(())
        };
        blocking("delete a layer".to_owned(), remove).boxed()
    }

    fn usage<'a>(&'a self, pod_uid: &'a str) -> Answer<'a, Vec<(String, Usage)>> {
        async move {
            let attempt = "measure the pod".to_owned();
            match self.request(pod_uid, Request::Usage, attempt.clone()).await? {
                Response::Usage(usage) => Ok(usage),
                other => Err(unexpected(&attempt, other)),
            }
        }
        .boxed()
    }

    fn info(&self) -> RuntimeInfo {
        let own_ids = match self.inner.layout.pod_slots() {
            0 => Err("this machine grants too few subordinate ids: all pods share one range".to_owned()),
            _ => Ok(()),
        };
        RuntimeInfo {
            limits: self.inner.cgroup.clone().map(drop),
            own_ids,
            volatile_dir: self.inner.volatile_dir.clone(),
            volumes_dir: self.inner.volumes_dir(),
        }
    }
}
