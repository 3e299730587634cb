//! A node for one scenario, with a busybox image.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use martello_node::network::NetworkConfig;
use martello_node::runtime::{
    ContainerSpec, ContainerState, ContainerStatus, ContainerUser, DnsConfig, ExecSpec, Exit, LocalRuntime,
    MemoryVolume, PodNetwork, PodSandboxSpec, PrepareConfig, Resources, Rootfs, Runtime, Seccomp,
};
use martello_scanner::layers::Compression;
use martello_scanner::{Digest, LayerRef};
use tokio::io::AsyncReadExt;

pub(crate) struct Node {
    pub(crate) runtime: LocalRuntime,
    pub(crate) state_dir: PathBuf,
    /// Where the API server would listen.
    pub(crate) api: std::net::TcpListener,
    layers: Vec<LayerRef>,
}

/// Prepares as root, gives root up, and runs `scenario`.
pub(crate) fn with_node(state_dir: &Path, scenario: impl AsyncFnOnce(Node)) {
    let layers = busybox(state_dir);
    // A copy where the ids of pods may read it: the build's own directory may be closed to others.
    let executable = state_dir.join("helper");
    if !executable.exists() {
        std::fs::copy(std::env::current_exe().unwrap(), &executable).unwrap();
    }
    let config = PrepareConfig { state_dir: state_dir.join("state"), user: "martello".to_owned(), executable };
    std::fs::create_dir_all(state_dir).unwrap();
    let prepared = martello_node::runtime::prepare(&config).unwrap_or_else(|error| panic!("{error:?}"));
    assert!(!nix::unistd::Uid::effective().is_root());
    let executor = tokio::runtime::Runtime::new().unwrap();
    executor.block_on(async {
        let api = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = api.local_addr().unwrap().port();
        let network = NetworkConfig {
            pod_cidr: "10.244.7.0/24".parse().unwrap(),
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            dns_ip: "10.96.0.10".parse().unwrap(),
            api_service: ("10.96.0.1".parse().unwrap(), 443),
            api_server: std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, port),
            upstream_dns: Vec::new(),
        };
        let runtime = LocalRuntime::start(prepared, network).unwrap_or_else(|error| panic!("{error:?}"));
        scenario(Node { runtime, state_dir: config.state_dir.clone(), api, layers }).await;
    });
}

/// A layer with busybox under many names.
fn busybox(state_dir: &Path) -> Vec<LayerRef> {
    let blob = state_dir.join("busybox.tar");
    std::fs::create_dir_all(state_dir).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, mode: u32, (uid, gid): (u64, u64), data: &[u8], link: &str| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_size(data.len() as u64);
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        header.set_path(path).unwrap();
        header.set_cksum();
        tar.append(&header, data).unwrap();
    };
    let directory = tar::EntryType::Directory;
    for (path, mode) in [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777), ("proc/", 0o755), ("home/", 0o755)] {
        add(path, directory, mode, (0, 0), &[], "");
    }
    add("home/web/", directory, 0o750, (33, 33), &[], "");
    let program = std::fs::read("/bin/busybox").unwrap();
    add("bin/busybox", tar::EntryType::Regular, 0o755, (0, 0), &program, "");
    let names = [
        "sh", "cat", "id", "sleep", "ls", "echo", "unshare", "mount", "nslookup", "nc", "wget", "ping", "stat", "tail",
        "head", "grep", "hostname", "mknod", "chown", "ip", "true", "date", "tty", "stty", "mkdir", "touch", "chmod",
        "ln", "mv", "rm", "test",
    ];
    for name in names {
        add(&format!("bin/{name}"), tar::EntryType::Symlink, 0o777, (0, 0), &[], "busybox");
    }
    let passwd = b"root:x:0:0:root:/:/bin/sh\nweb:x:33:33::/home/web:/bin/sh\n";
    add("etc/passwd", tar::EntryType::Regular, 0o644, (0, 0), passwd, "");
    add("etc/group", tar::EntryType::Regular, 0o644, (0, 0), b"root:x:0:\nweb:x:33:\n", "");
    let bytes = tar.into_inner().unwrap();
    std::fs::write(&blob, &bytes).unwrap();
    std::fs::set_permissions(state_dir, std::fs::Permissions::from_mode(0o711)).unwrap();
    let digest = Digest::of(&bytes);
    vec![LayerRef {
        digest,
        size_bytes: bytes.len() as u64,
        diff_id: digest,
        chain_id: digest,
        compression: Compression::None,
        blob,
    }]
}

impl Node {
    /// Makes a pod.
    pub(crate) async fn pod(&self, uid: &str) -> martello_node::runtime::Sandbox {
        self.pod_with(uid, Vec::new()).await
    }

    /// Makes a pod with volumes in memory.
    pub(crate) async fn pod_with(
        &self,
        uid: &str,
        memory_volumes: Vec<MemoryVolume>,
    ) -> martello_node::runtime::Sandbox {
        let spec = PodSandboxSpec {
            uid: uid.to_owned(),
            namespace: "default".to_owned(),
            name: uid.to_owned(),
            hostname: uid.to_owned(),
            dns: DnsConfig {
                nameservers: vec!["10.96.0.10".to_owned()],
                searches: vec!["default.svc.cluster.local".to_owned(), "svc.cluster.local".to_owned()],
                options: vec!["ndots:5".to_owned()],
            },
            host_aliases: Vec::new(),
            sysctls: std::collections::BTreeMap::new(),
            share_process_namespace: false,
            network: PodNetwork::Pod,
            memory_volumes,
        };
        self.runtime.create_pod(spec).await.unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// A container that runs `script` in a shell.
    pub(crate) async fn spec(&self, pod: &str, id: &str, script: &str) -> ContainerSpec {
        let layers = self.runtime.unpack_image(pod, &self.layers).await.unwrap_or_else(|error| panic!("{error:?}"));
        ContainerSpec {
            id: id.to_owned(),
            name: id.to_owned(),
            attempt: 0,
            rootfs: Rootfs { layers },
            args: vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()],
            env: vec![("GREETING".to_owned(), "hello".to_owned())],
            cwd: "/".into(),
            user: ContainerUser::default(),
            mounts: Vec::new(),
            resources: Resources::default(),
            capabilities_add: Vec::new(),
            capabilities_drop: Vec::new(),
            read_only_root: false,
            allow_privilege_escalation: false,
            terminal: false,
            stdin: false,
            stdin_once: false,
            log_path: format!("{id}/0.log").into(),
            stop_signal: 15,
            seccomp: Seccomp::RuntimeDefault,
            oom_score_adj: 0,
            termination_message_path: Some("/dev/termination-log".into()),
        }
    }

    /// Starts a container that runs `script`.
    pub(crate) async fn start(&self, pod: &str, id: &str, script: &str) -> ContainerStatus {
        let spec = self.spec(pod, id, script).await;
        self.start_spec(pod, spec).await
    }

    pub(crate) async fn start_spec(&self, pod: &str, spec: ContainerSpec) -> ContainerStatus {
        self.runtime.start_container(pod, spec).await.unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// Waits for the end of a container.
    pub(crate) async fn ended(&self, pod: &str, id: &str) -> (Exit, String) {
        let mut events = self.runtime.events();
        loop {
            let all = self.runtime.containers(pod).await.unwrap();
            let found = all.into_iter().find(|status| status.id == id).unwrap();
            if let ContainerState::Exited { exit, message, .. } = found.state {
                return (exit, message);
            }
            tokio::time::timeout(Duration::from_secs(30), events.recv()).await.expect("an event").unwrap();
        }
    }

    /// Runs a shell script in a container; its code and output.
    pub(crate) async fn sh(&self, pod: &str, id: &str, script: &str) -> (i32, String) {
        let args = vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()];
        let spec = ExecSpec { args, terminal: false, stdin: false };
        let session = self.runtime.exec(pod, id, spec).await.unwrap_or_else(|error| panic!("{error:?}"));
        let output = read(session.stdout.unwrap()).await + &read(session.stderr.unwrap()).await;
        let exit = session.exit.await.unwrap();
        (exit.code, output)
    }

    /// Waits until a container of the pod `pod-a` has written a word.
    pub(crate) async fn says(&self, id: &str, word: &str) {
        for _ in 0..500 {
            if self.log("pod-a", id).contains(word) {
                return;
            }
            // A log file gives no event.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{id} never said {word}");
    }

    pub(crate) fn log(&self, pod: &str, id: &str) -> String {
        let path = self.state_dir.join("pods").join(pod).join("shim/logs").join(id).join("0.log");
        std::fs::read_to_string(path).unwrap()
    }
}

/// Everything from a pipe.
pub(crate) async fn read(fd: std::os::fd::OwnedFd) -> String {
    let mut file = tokio::fs::File::from_std(std::fs::File::from(fd));
    let mut text = Vec::new();
    file.read_to_end(&mut text).await.ok();
    String::from_utf8_lossy(&text).into_owned()
}

pub(crate) fn pid(status: &ContainerStatus) -> i32 {
    match status.state {
        ContainerState::Running { pid, .. } => pid,
        ContainerState::Exited { .. } => panic!("it has ended: {status:?}"),
    }
}
