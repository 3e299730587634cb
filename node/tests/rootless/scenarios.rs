//! What must hold of real pods.

use std::path::Path;
use std::time::Duration;

use martello_node::network::{DnsTable, Protocol, ServicePort, ServiceTable};
use martello_node::runtime::{
    ContainerState, ExecSpec, MemoryVolume, Mount, Part, Resources, Runtime, RuntimeError, Source, SubPath,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::node::{Node, pid, read, with_node};

/// Names and counts of phases.
pub(crate) const ALL: &[(&str, u32)] = &[
    ("a_container_is_nobody_on_the_node", 1),
    ("an_exec_is_confined_as_its_container", 1),
    ("logs_and_exit_codes_are_kept", 1),
    ("a_deaf_container_is_killed_after_its_grace", 1),
    ("limits_hold", 1),
    ("pods_outlive_the_agent", 2),
    ("pods_talk_and_services_answer", 1),
    ("files_belong_to_the_pod", 1),
    ("parts_of_volumes_stay_inside", 1),
    ("parts_of_volumes_outlive_the_agent", 2),
    ("terminals_work", 1),
    ("input_for_one_caller_ends_with_it", 1),
    ("what_cannot_start_leaves_nothing", 1),
];

pub(crate) fn run(name: &str, state_dir: &Path, phase: Option<&str>) {
    let last = phase != Some("0");
    match name {
        "a_container_is_nobody_on_the_node" => with_node(state_dir, nobody),
        "an_exec_is_confined_as_its_container" => with_node(state_dir, exec),
        "logs_and_exit_codes_are_kept" => with_node(state_dir, logs),
        "a_deaf_container_is_killed_after_its_grace" => with_node(state_dir, deaf),
        "limits_hold" => with_node(state_dir, limits),
        "pods_outlive_the_agent" if !last => with_node(state_dir, before_the_kill),
        "pods_outlive_the_agent" => with_node(state_dir, after_the_kill),
        "pods_talk_and_services_answer" => with_node(state_dir, network),
        "files_belong_to_the_pod" => with_node(state_dir, files),
        "parts_of_volumes_stay_inside" => with_node(state_dir, parts),
        "parts_of_volumes_outlive_the_agent" if !last => with_node(state_dir, parts_before_the_kill),
        "parts_of_volumes_outlive_the_agent" => with_node(state_dir, parts_after_the_kill),
        "terminals_work" => with_node(state_dir, terminals),
        "input_for_one_caller_ends_with_it" => with_node(state_dir, input_once),
        "what_cannot_start_leaves_nothing" => with_node(state_dir, failures),
        other => panic!("no scenario {other}"),
    }
}

fn field(pid: i32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap().trim().to_owned()
}

/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE.
const DEFAULT_CAPABILITIES: &str = "00000000000004fb";

async fn nobody(node: Node) {
    node.pod("pod-a").await;
    node.pod("pod-b").await;
    let one = pid(&node.start("pod-a", "main", "sleep 1000").await);
    let two = pid(&node.start("pod-b", "main", "sleep 1000").await);
    let map = |pid: i32| -> Vec<u32> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
        text.split_whitespace().map(|number| number.parse().unwrap()).collect()
    };
    let (first, second) = (map(one), map(two));
    assert_eq!((first[0], first[2]), (0, 65_536));
    assert!(first[1].abs_diff(second[1]) >= 65_536, "{first:?} {second:?}");
    for pid in [one, two] {
        assert!(field(pid, "Uid").split_whitespace().all(|uid| uid.parse::<u32>().unwrap() >= 65_536));
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(field(pid, set), DEFAULT_CAPABILITIES, "{set}");
        }
        assert_eq!(field(pid, "CapInh"), "0000000000000000");
        assert_eq!((field(pid, "Seccomp").as_str(), field(pid, "NoNewPrivs").as_str()), ("2", "1"));
    }
    let namespace = |pid: i32, kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    for kind in ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        assert_ne!(namespace(one, kind), namespace(two, kind), "{kind}");
        assert_ne!(namespace(one, kind), std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap(), "{kind}");
    }
    let side = pid(&node.start("pod-a", "side", "sleep 1000").await);
    assert_eq!(namespace(one, "net"), namespace(side, "net"));
    assert_ne!(namespace(one, "pid"), namespace(side, "pid"));
    for (set, meaning) in [("SigBlk", "blocked"), ("SigIgn", "ignored")] {
        // Bits 31 and 32 are signals that the C library keeps for itself; bit 2 is the shell's own doing.
        let mask = u64::from_str_radix(&field(one, set), 16).unwrap() & !0x1_8000_0004;
        assert_eq!(mask, 0, "no signal is {meaning}");
    }
}

async fn exec(node: Node) {
    node.pod("pod-a").await;
    node.start("pod-a", "main", "sleep 1000").await;
    let (code, text) = node.sh("pod-a", "main", "cat /proc/self/status; id -u; hostname; echo $GREETING").await;
    assert_eq!(code, 0, "{text}");
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(line("CapEff:"), DEFAULT_CAPABILITIES);
    assert_eq!(line("CapBnd:"), DEFAULT_CAPABILITIES);
    assert_eq!((line("Seccomp:").as_str(), line("NoNewPrivs:").as_str()), ("2", "1"));
    assert!(text.ends_with("0\npod-a\nhello\n"), "{text}");
    for forbidden in [
        "unshare -U true",
        "unshare -m true",
        "mount -t tmpfs none /tmp",
        "mknod /tmp/disk b 254 0",
        "echo 1 > /proc/sys/kernel/hostname",
        "echo x > /proc/sysrq-trigger",
        "cat /proc/kcore",
        "ls /sys/firmware/*",
        "hostname other",
    ] {
        let (code, text) = node.sh("pod-a", "main", forbidden).await;
        assert_ne!(code, 0, "{forbidden}: {text}");
    }
    let (code, text) = node.sh("pod-a", "main", "exit 7").await;
    assert_eq!(code, 7, "{text}");
    let missing = ExecSpec { args: vec!["/no/such".to_owned()], terminal: false, stdin: false };
    assert!(node.runtime.exec("pod-a", "main", missing).await.is_err());

    let args = vec!["/bin/cat".to_owned()];
    let session = node.runtime.exec("pod-a", "main", ExecSpec { args, terminal: false, stdin: true }).await.unwrap();
    let mut stdin = tokio::fs::File::from_std(std::fs::File::from(session.stdin.unwrap()));
    stdin.write_all(b"over and back").await.unwrap();
    stdin.flush().await.unwrap();
    drop(stdin);
    assert_eq!(read(session.stdout.unwrap()).await, "over and back");
    assert_eq!(session.exit.await.unwrap().code, 0);
}

async fn input_once(node: Node) {
    node.pod("pod-a").await;
    for (id, stdin_once) in [("once", true), ("open", false)] {
        let mut spec = node.spec("pod-a", id, "cat; echo over").await;
        (spec.stdin, spec.stdin_once) = (true, stdin_once);
        node.start_spec("pod-a", spec).await;
        // Who only listens leaves the input to others.
        let listener = node.runtime.attach("pod-a", id, false).await.unwrap();
        assert!(listener.stdin.is_none());
        drop(listener);
        let caller = node.runtime.attach("pod-a", id, true).await.unwrap();
        let mut stdin = tokio::fs::File::from_std(std::fs::File::from(caller.stdin.unwrap()));
        stdin.write_all(b"said\n").await.unwrap();
        stdin.flush().await.unwrap();
        drop(stdin);
        node.says(id, "said").await;
    }
    let (exit, _) = node.ended("pod-a", "once").await;
    assert_eq!(exit.code, 0);
    assert!(node.log("pod-a", "once").contains("over"));
    let again = node.runtime.attach("pod-a", "open", true).await.unwrap();
    let mut stdin = tokio::fs::File::from_std(std::fs::File::from(again.stdin.unwrap()));
    stdin.write_all(b"more\n").await.unwrap();
    stdin.flush().await.unwrap();
    node.says("open", "more").await;
}

async fn logs(node: Node) {
    node.pod("pod-a").await;
    let script = "echo out; echo err >&2; echo why > /dev/termination-log; printf rest; exit 3";
    node.start("pod-a", "main", script).await;
    let (exit, message) = node.ended("pod-a", "main").await;
    assert_eq!((exit.code, exit.signal, message.as_str()), (3, None, "why\n"));
    let log = node.log("pod-a", "main");
    assert!(
        log.contains(" stdout F out\n") && log.contains(" stderr F err\n") && log.contains(" stdout F rest\n"),
        "{log}"
    );
    node.runtime.remove_container("pod-a", "main").await.unwrap();
    assert!(node.runtime.containers("pod-a").await.unwrap().is_empty());
    assert!(node.log("pod-a", "main").contains("out"));
    node.runtime.remove_pod("pod-a").await.unwrap();
    assert!(!node.state_dir.join("pods/pod-a").exists());
    assert!(node.runtime.pods().is_empty());
}

async fn deaf(node: Node) {
    node.pod("pod-a").await;
    node.start("pod-a", "deaf", "trap '' TERM; echo ready; while true; do sleep 1; done").await;
    node.start("pod-a", "polite", "trap 'exit 0' TERM; echo ready; while true; do sleep 0.1; done").await;
    for id in ["deaf", "polite"] {
        node.says(id, "ready").await;
    }
    let began = std::time::Instant::now();
    let (deaf, polite) = tokio::join!(
        node.runtime.stop_container("pod-a", "deaf", Duration::from_secs(1)),
        node.runtime.stop_container("pod-a", "polite", Duration::from_secs(20)),
    );
    assert!(began.elapsed() < Duration::from_secs(15));
    let code = |status: martello_node::runtime::ContainerStatus| match status.state {
        ContainerState::Exited { exit, .. } => exit.code,
        ContainerState::Running { .. } => panic!("still running"),
    };
    assert_eq!((code(deaf.unwrap()), code(polite.unwrap())), (137, 0));
    // A real-time signal, as service managers in containers want it.
    let script = "trap 'exit 5' TERM; trap 'exit 6' 37; echo ready; while true; do sleep 0.1; done";
    let mut spec = node.spec("pod-a", "special", script).await;
    spec.stop_signal = 37;
    node.start_spec("pod-a", spec).await;
    node.says("special", "ready").await;
    let special = node.runtime.stop_container("pod-a", "special", Duration::from_secs(20)).await;
    assert_eq!(code(special.unwrap()), 6);
}

async fn limits(node: Node) {
    if let Err(reason) = node.runtime.info().limits {
        println!("skipped: {reason}");
        return;
    }
    node.pod("pod-a").await;
    let resources = Resources {
        cpu_limit_millis: Some(500),
        cpu_request_millis: Some(100),
        memory_limit_bytes: Some(32 << 20),
        pids_limit: Some(20),
    };
    let hungry = "head -c 300m /dev/zero | tail";
    let mut spec = node.spec("pod-a", "hungry", &format!("{hungry}; exit $?")).await;
    spec.resources = resources.clone();
    node.start_spec("pod-a", spec).await;
    let (exit, _) = node.ended("pod-a", "hungry").await;
    assert!(exit.oom_killed && exit.code == 137, "{exit:?}");

    // The shell ends at the first fork that fails: it waits until it has been looked at.
    let script = "until [ -e /tmp/go ]; do sleep 0.1; done; \
        for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do sleep 1000 & done; echo survived";
    let mut spec = node.spec("pod-a", "forky", script).await;
    spec.resources = resources;
    let forky = pid(&node.start_spec("pod-a", spec).await);
    let groups = std::fs::read_to_string(format!("/proc/{forky}/cgroup")).unwrap();
    assert!(groups.lines().filter(|line| line.contains("/podpod-a/forky")).count() >= 3, "{groups}");
    let usage = node.runtime.usage("pod-a").await.unwrap();
    assert!(usage.iter().any(|(id, usage)| id == "forky" && usage.memory_bytes > 0), "{usage:?}");
    assert_eq!(node.sh("pod-a", "forky", "touch /tmp/go").await.0, 0);
    let (exit, _) = node.ended("pod-a", "forky").await;
    assert!(exit.code != 0 && !node.log("pod-a", "forky").contains("survived"), "{exit:?}");
}

async fn before_the_kill(node: Node) {
    node.pod("pod-a").await;
    node.start("pod-a", "main", "i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done").await;
    node.start("pod-a", "once", "sleep 0.5; exit 9").await;
    let main = pid(&node.runtime.containers("pod-a").await.unwrap()[0]);
    std::fs::write(node.state_dir.join("main.pid"), main.to_string()).unwrap();
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
}

async fn after_the_kill(node: Node) {
    let main: i32 = std::fs::read_to_string(node.state_dir.join("main.pid")).unwrap().parse().unwrap();
    assert_eq!(node.runtime.pods().len(), 1);
    let (exit, _) = node.ended("pod-a", "once").await;
    assert_eq!(exit.code, 9);
    let all = node.runtime.containers("pod-a").await.unwrap();
    assert_eq!(pid(&all[0]), main);
    let (code, text) = node.sh("pod-a", "main", "echo still here").await;
    assert_eq!((code, text.as_str()), (0, "still here\n"));
    node.pod("pod-b").await;
    assert_ne!(node.runtime.pods()[0].ip, node.runtime.pods()[1].ip);
    let log = node.log("pod-a", "main");
    let numbers: Vec<u32> = log.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(numbers.iter().zip(1..).all(|(number, expected)| *number == expected));
    let status = node.runtime.stop_container("pod-a", "main", Duration::ZERO).await.unwrap();
    assert!(matches!(status.state, ContainerState::Exited { .. }));
}

async fn network(node: Node) {
    let server = node.pod("server").await.ip.unwrap();
    let client = node.pod("client").await.ip.unwrap();
    node.start("server", "main", "while true; do echo from $(hostname) | nc -l -p 3000; done").await;
    node.start("client", "main", "sleep 1000").await;
    let ask = |target: &str| {
        format!("for i in 1 2 3 4 5 6 7 8 9 10; do nc -w 2 {target} </dev/null && exit 0; sleep 0.1; done; exit 1")
    };
    let (code, text) = node.sh("client", "main", &ask(&format!("{server} 3000"))).await;
    assert_eq!((code, text.as_str()), (0, "from server\n"), "pod to pod");

    let cluster_ip = "10.96.5.5".parse().unwrap();
    let port = |endpoints, port| ServicePort {
        cluster_ip,
        protocol: Protocol::Tcp,
        port,
        endpoints,
        client_ip_affinity: false,
    };
    let services = ServiceTable { ports: vec![port(vec![(server, 3000)], 80), port(Vec::new(), 81)] };
    node.runtime.apply_services(services).await.unwrap();
    let names = DnsTable {
        cluster_domain: "cluster.local".to_owned(),
        addresses: [("web.default.svc".to_owned(), vec![cluster_ip])].into(),
        ..DnsTable::default()
    };
    node.runtime.apply_names(names).await.unwrap();
    let (code, text) = node.sh("client", "main", &ask("10.96.5.5 80")).await;
    assert_eq!((code, text.as_str()), (0, "from server\n"), "pod to service");
    let (code, text) = node.sh("server", "main", &ask("10.96.5.5 80")).await;
    assert_eq!((code, text.as_str()), (0, "from server\n"), "pod to itself by its service");
    let (code, text) = node.sh("client", "main", "nslookup web.default.svc.cluster.local").await;
    assert!(code == 0 && text.contains("10.96.5.5"), "{text}");
    let (code, text) = node.sh("client", "main", &ask("web 80")).await;
    assert_eq!((code, text.as_str()), (0, "from server\n"), "pod to service by name");
    let began = std::time::Instant::now();
    let (code, _) = node.sh("client", "main", "nc -w 5 10.96.5.5 81 </dev/null").await;
    assert!(code != 0 && began.elapsed() < Duration::from_secs(3), "a service without endpoints refuses");
    let (code, _) = node.sh("client", "main", "nc -w 5 10.96.77.77 80 </dev/null").await;
    assert!(code != 0 && began.elapsed() < Duration::from_secs(6), "an address of no service refuses");

    let mut stream = node.runtime.dial(server, 3000).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "from server\n", "the node to a pod");
    drop(stream);
    let mut text = String::new();
    for _ in 0..20 {
        match node.runtime.dial_loopback("server", 3000).await {
            // The server takes one connection after the other, and drops who waits while it starts again.
            Ok(mut stream) => drop(stream.read_to_string(&mut text).await),
            Err(error) => println!("not yet: {error:?}"),
        }
        if !text.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(text, "from server\n", "the node to a pod's loopback");

    if let Err(reason) = node.runtime.uplink() {
        println!("no uplink: {reason}");
        return;
    }
    let port = node.api.local_addr().unwrap().port();
    node.api.set_nonblocking(true).unwrap();
    let api = tokio::net::TcpListener::from_std(node.api.try_clone().unwrap()).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = api.accept().await {
            assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nfrom the API server\n").await.unwrap();
        }
    });
    let (code, text) = node.sh("client", "main", "wget -q -O - http://10.96.0.1:443/").await;
    assert_eq!((code, text.as_str()), (0, "from the API server\n"), "pod to API server");
    let (code, _) = node.sh("client", "main", &format!("nc -w 2 192.0.0.1 {port} </dev/null")).await;
    assert_ne!(code, 0, "the node's loopback is closed but for the API server");
    let (code, _) = node.sh("client", "main", &format!("nc -w 2 10.244.7.1 {port} </dev/null")).await;
    assert_ne!(code, 0, "the gateway serves nothing");

    node.runtime.remove_pod("client").await.unwrap();
    assert_ne!(node.pod("next").await.ip.unwrap(), client, "addresses rest before they are used again");
}

async fn files(node: Node) {
    let memory = |name: &str, size_bytes, gid| MemoryVolume { name: name.to_owned(), size_bytes, gid };
    node.pod_with("pod-a", vec![memory("cache", 1 << 20, None), memory("shared", 1 << 20, Some(77))]).await;
    let info = node.runtime.info();
    for directory in [&info.volumes_dir, &info.volatile_dir] {
        let volume = directory.join("pod-a/data");
        std::fs::create_dir_all(volume.join("deep")).unwrap();
        std::fs::write(volume.join("deep/secret"), "s3cret").unwrap();
        std::fs::set_permissions(volume.join("deep/secret"), std::os::unix::fs::PermissionsExt::from_mode(0o400))
            .unwrap();
        node.runtime.own("pod-a", &volume, 33, 33).await.unwrap();
    }
    let mut spec = node.spec("pod-a", "main", "sleep 1000").await;
    let data = |directory: &Path| Source::Path(directory.join("pod-a/data"));
    spec.mounts = vec![
        mount(data(&info.volumes_dir), "/data/volume", None),
        Mount { read_only: true, ..mount(data(&info.volatile_dir), "/run/secret", None) },
        mount(Source::Memory("cache".to_owned()), "/cache", None),
        mount(Source::Memory("shared".to_owned()), "/shared", None),
    ];
    spec.user.image_user = "web".to_owned();
    spec.cwd = "/made/for/it".into();
    let status = node.start_spec("pod-a", spec).await;
    assert!(matches!(status.state, ContainerState::Running { uid: 33, .. }));
    let script =
        "id -u; id -g; cat /run/secret/deep/secret; echo; stat -c '%u %a' /data/volume /home/web /; pwd; echo $HOME";
    let (code, text) = node.sh("pod-a", "main", script).await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(text, "33\n33\ns3cret\n33 755\n33 750\n0 755\n/made/for/it\n/home/web\n");
    for (script, works) in [
        ("echo x > /data/volume/new", true),
        ("echo x > /cache/new", true),
        ("echo x > /run/secret/new", false),
        ("echo x > /etc/passwd", false),
        ("head -c 2m /dev/zero > /cache/big", false),
        ("mkdir /shared/new && test $(stat -c %g%a /shared/new) = 772755", true),
        ("echo x > /home/web/new", true),
    ] {
        let (code, text) = node.sh("pod-a", "main", script).await;
        assert_eq!(code == 0, works, "{script}: {text}");
    }
    let mut spec = node.spec("pod-a", "fixed", "echo x > /new").await;
    spec.read_only_root = true;
    node.start_spec("pod-a", spec).await;
    assert_ne!(node.ended("pod-a", "fixed").await.0.code, 0);
    // Nothing of a container's environment reaches the disk.
    let mut spec = node.spec("pod-a", "quiet", "sleep 1000").await;
    spec.env.push(("DB_PASSWORD".to_owned(), "hidden-from-disk".to_owned()));
    node.start_spec("pod-a", spec).await;
    let found =
        std::process::Command::new("grep").args(["-rl", "hidden-from-disk"]).arg(&node.state_dir).output().unwrap();
    assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
}

fn mount(source: Source, target: &str, part: Option<&str>) -> Mount {
    let sub_path = part.map(|part| SubPath { path: part.into(), make: true });
    Mount { name: "data".to_owned(), source, sub_path, target: target.into(), read_only: false }
}

fn shim_of(container: &martello_node::runtime::ContainerStatus) -> String {
    field(pid(container), "PPid")
}

/// The mounts that the shim of a pod has below its own directory, by path in `run`.
fn parts_of(container: &martello_node::runtime::ContainerStatus) -> Vec<String> {
    let shim = shim_of(container);
    let mounts = std::fs::read_to_string(format!("/proc/{shim}/mountinfo")).unwrap();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)?.split_once("/shim/run/parts/"));
    points.map(|(_, part)| part.to_owned()).collect()
}

async fn parts(node: Node) {
    node.pod_with("pod-a", vec![MemoryVolume { name: "fast".to_owned(), size_bytes: 1 << 20, gid: None }]).await;
    let info = node.runtime.info();
    let volume = info.volumes_dir.join("pod-a/data");
    std::fs::create_dir(&volume).unwrap();
    std::fs::set_permissions(&volume, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    node.runtime.own("pod-a", &volume, 0, 0).await.unwrap();
    let data = || Source::Path(volume.clone());
    let mut spec = node.spec("pod-a", "writer", "sleep 1000").await;
    spec.mounts = vec![mount(data(), "/all", None), mount(Source::Memory("fast".to_owned()), "/fast", None)];
    node.start_spec("pod-a", spec).await;

    // What is made may be written to by everybody, as the volume may.
    let mut spec = node.spec("pod-a", "reader-0", "sleep 1000").await;
    spec.user.image_user = "web".to_owned();
    let make = |number: usize, part: &str| mount(data(), &format!("/part{number}"), Some(part));
    spec.mounts =
        vec![make(0, "new/deep"), make(1, "other"), mount(Source::Memory("fast".to_owned()), "/f", Some("x"))];
    spec.mounts[1].read_only = true;
    let reader = node.start_spec("pod-a", spec).await;
    let script = "echo x > /part0/file && echo y > /f/file; stat -c '%u %a' /part0; touch /part1/no || echo read-only";
    let (_, text) = node.sh("pod-a", "reader-0", script).await;
    assert_eq!(text.replace("touch: /part1/no: Read-only file system\n", ""), "0 777\nread-only\n");
    let (_, text) = node.sh("pod-a", "writer", "cat /all/new/deep/file /fast/x/file").await;
    assert_eq!(text, "x\ny\n");
    assert_eq!(parts_of(&reader), ["reader-0/0", "reader-0/1", "reader-0/2"]);

    // Files, and links that stay inside; a missing part of files that come from objects is an empty directory.
    let (_, text) = node
        .sh(
            "pod-a",
            "writer",
            "cd /all; ln -s new link; ln -s link/deep/file file; ln -s /etc out; \
        ln -s ../../../../../../../../etc up; ln -s no dangling; echo $?",
        )
        .await;
    assert_eq!(text, "0\n");
    let mut spec = node.spec("pod-a", "reader-1", "sleep 1000").await;
    spec.mounts = vec![make(0, "file"), make(1, "link/deep")];
    spec.mounts.push(Mount { sub_path: Some(SubPath { path: "gone".into(), make: false }), ..make(2, "") });
    node.runtime.stop_container("pod-a", "reader-0", Duration::ZERO).await.unwrap();
    node.runtime.remove_container("pod-a", "reader-0").await.unwrap();
    let reader = node.start_spec("pod-a", spec).await;
    let (_, text) = node.sh("pod-a", "reader-1", "cat /part0 /part1/file; ls -a /part2").await;
    assert_eq!(text, "x\nx\n.\n..\n");
    assert_eq!(parts_of(&reader), ["reader-1/0", "reader-1/1"], "the old container's mounts are gone");
    // What is mounted stays what it was, whatever becomes of the path.
    node.sh("pod-a", "writer", "cd /all; rm link; ln -s /etc link; echo z > new/deep/file").await;
    let (_, text) = node.sh("pod-a", "reader-1", "cat /part0 /part1/file").await;
    assert_eq!(text, "z\nz\n");

    for (number, part) in ["out", "out/passwd", "up", "up/passwd", "dangling/x", "file/x"].iter().enumerate() {
        let mut spec = node.spec("pod-a", &format!("bad-{number}"), "cat /part0/passwd /part0").await;
        spec.mounts = vec![make(1, "other"), make(0, part)];
        let error = node.runtime.start_container("pod-a", spec).await.unwrap_err();
        let doing = if number < 4 { "prepare subPath" } else { "create subPath directory" };
        let id = format!("bad-{number}");
        let doing = if *part == "file/x" { "prepare subPath" } else { doing };
        let expected = format!("failed to {doing} for volumeMount \"data\" of container \"{id}\"");
        assert!(matches!(error, RuntimeError::Unprepared { .. }), "{part}: {error:?}");
        assert_eq!(error.to_string(), expected, "{part}");
    }
    assert_eq!(parts_of(&reader), ["reader-1/0", "reader-1/1"], "what cannot start leaves nothing");
    node.sh(
        "pod-a",
        "writer",
        "mkdir -p /all/closed/in && head -c 3m /dev/zero > /all/closed/in/file; \
        head -c 2m /dev/zero > /big; chmod 0 /all/closed; chown -R 33 /all/closed",
    )
    .await;
    let mut sizes = Vec::new();
    for part in [Part::Volume("data"), Part::Layer("writer"), Part::Logs("writer"), Part::Volume("none")] {
        sizes.push(node.runtime.measure("pod-a", part).await.unwrap() >> 20);
    }
    assert_eq!(sizes, [3, 2, 0, 0], "whoever owns what is measured");
    assert!(node.runtime.measure("pod-a", Part::Logs("../..")).await.is_err());
    race(&node, &volume).await;
    let host = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!host.contains("/shim/run"), "nothing is mounted on the node");
    assert_eq!(std::fs::read(volume.join("new/deep/file")).unwrap(), b"z\n", "a volume outlives what showed it");
    // A pod that has ended keeps its logs, and neither disk nor memory.
    assert!(node.runtime.remove_volumes("pod-a").await.is_err(), "while something runs, its volumes stay");
    assert!(volume.exists());
    let shim = shim_of(&reader);
    for id in ["reader-1", "writer", "swapper"] {
        node.runtime.stop_container("pod-a", id, Duration::ZERO).await.unwrap();
    }
    let mounted = || std::fs::read_to_string(format!("/proc/{shim}/mountinfo")).unwrap();
    assert!(mounted().contains("/shim/run/memory/fast"));
    node.runtime.remove_volumes("pod-a").await.unwrap();
    assert!(!mounted().contains("/shim/run/memory") && !mounted().contains("/shim/run/parts"));
    node.runtime.remove_pod("pod-a").await.unwrap();
}

/// A container swaps a directory for a link that leads out, all the time, while another mounts it.
async fn race(node: &Node, volume: &Path) {
    let swap = "cd /all; mkdir swap; echo inside > swap/hostname; ln -s /etc away; while true; do \
        mv swap aside; mv away swap; mv swap away; mv aside swap; done";
    let mut spec = node.spec("pod-a", "swapper", swap).await;
    spec.mounts = vec![mount(Source::Path(volume.to_owned()), "/all", None)];
    node.start_spec("pod-a", spec).await;
    let (mut mounted, mut refused) = (0, 0);
    // Until both have been met: the machine may be busy with something else.
    for number in 0..600 {
        if number >= 60 && mounted > 0 && refused > 0 {
            break;
        }
        let id = format!("racer-{number}");
        let mut spec = node.spec("pod-a", &id, "cat /part/hostname").await;
        let part = SubPath { path: "swap".into(), make: false };
        spec.mounts = vec![Mount { sub_path: Some(part), ..mount(Source::Path(volume.to_owned()), "/part", None) }];
        match node.runtime.start_container("pod-a", spec).await {
            Ok(_) => {
                node.ended("pod-a", &id).await;
                let said = node.log("pod-a", &id);
                assert!(said.contains(" inside\n") || said.contains("No such file"), "{said}");
                mounted += 1;
                node.runtime.remove_container("pod-a", &id).await.unwrap();
            }
            Err(error) => {
                assert!(matches!(error, RuntimeError::Unprepared { .. }), "{error:?}");
                refused += 1;
            }
        }
    }
    println!("of what was swapped, {mounted} mounts were inside and {refused} were refused");
    assert!(mounted > 0 && refused > 0, "{mounted} {refused}");
}

async fn parts_before_the_kill(node: Node) {
    node.pod("pod-a").await;
    let volume = node.runtime.info().volumes_dir.join("pod-a/data");
    std::fs::create_dir(&volume).unwrap();
    node.runtime.own("pod-a", &volume, 0, 0).await.unwrap();
    let mut spec = node.spec("pod-a", "main-0", "echo kept > /part/file; sleep 1000").await;
    spec.mounts = vec![mount(Source::Path(volume), "/part", Some("deep/er"))];
    node.start_spec("pod-a", spec).await;
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
}

async fn parts_after_the_kill(node: Node) {
    let running = node.runtime.containers("pod-a").await.unwrap();
    assert_eq!(parts_of(&running[0]), ["main-0/0"]);
    node.runtime.stop_container("pod-a", "main-0", Duration::ZERO).await.unwrap();
    node.runtime.remove_container("pod-a", "main-0").await.unwrap();
    let volume = node.runtime.info().volumes_dir.join("pod-a/data");
    let mut spec = node.spec("pod-a", "main-1", "cat /part/file; sleep 1000").await;
    spec.mounts = vec![mount(Source::Path(volume), "/part", Some("deep/er"))];
    let again = node.start_spec("pod-a", spec).await;
    assert_eq!(parts_of(&again), ["main-1/0"]);
    node.says("main-1", "kept").await;
    node.runtime.remove_pod("pod-a").await.unwrap();
    node.runtime.remove_volumes("pod-a").await.unwrap();
    assert!(!node.runtime.info().volumes_dir.join("pod-a").exists());
}

async fn terminals(node: Node) {
    node.pod("pod-a").await;
    let mut spec = node.spec("pod-a", "main", "tty; read line; echo got $line; sleep 1000").await;
    spec.terminal = true;
    spec.stdin = true;
    node.start_spec("pod-a", spec).await;
    let args = vec!["/bin/sh".to_owned(), "-c".to_owned(), "tty; stty size; cat /proc/self/status".to_owned()];
    let session = node.runtime.exec("pod-a", "main", ExecSpec { args, terminal: true, stdin: true }).await.unwrap();
    let text = read(session.stdout.unwrap()).await;
    assert!(
        text.contains("/dev/pts/") && text.contains("Seccomp:\t2") && text.contains(DEFAULT_CAPABILITIES),
        "{text}"
    );
    assert_eq!(session.exit.await.unwrap().code, 0);

    let attached = node.runtime.attach("pod-a", "main", true).await.unwrap();
    let mut stdin = tokio::fs::File::from_std(std::fs::File::from(attached.stdin.unwrap()));
    stdin.write_all(b"words\n").await.unwrap();
    stdin.flush().await.unwrap();
    let mut stdout = tokio::fs::File::from_std(std::fs::File::from(attached.stdout.unwrap()));
    let mut seen = String::new();
    while !seen.contains("got words") {
        let mut buffer = [0; 1024];
        let count = stdout.read(&mut buffer).await.unwrap();
        assert_ne!(count, 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    node.runtime.stop_container("pod-a", "main", Duration::ZERO).await.unwrap();
    assert_eq!(attached.exit.await.unwrap().code, 137);
}

async fn failures(node: Node) {
    node.pod("pod-a").await;
    let mut spec = node.spec("pod-a", "missing", "true").await;
    spec.args = vec!["/no/such/program".to_owned()];
    let error = node.runtime.start_container("pod-a", spec).await.unwrap_err().to_string();
    assert!(error.contains("/no/such/program"), "{error}");
    let mut spec = node.spec("pod-a", "missing", "true").await;
    spec.user.image_user = "stranger".to_owned();
    let error = node.runtime.start_container("pod-a", spec).await.unwrap_err().to_string();
    assert!(error.contains("stranger"), "{error}");
    let mut spec = node.spec("pod-a", "root", "true").await;
    spec.user.must_not_be_root = true;
    assert!(node.runtime.start_container("pod-a", spec).await.is_err());
    let mut spec = node.spec("pod-a", "caps", "true").await;
    spec.capabilities_add = vec!["ALL".to_owned()];
    assert!(node.runtime.start_container("pod-a", spec).await.is_err());
    assert!(node.runtime.containers("pod-a").await.unwrap().is_empty());
    node.start("pod-a", "missing", "exit 0").await;
    assert_eq!(node.ended("pod-a", "missing").await.0.code, 0);
}
