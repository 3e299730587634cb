//! What a container may not do, and how much of everything it gets.

use martello_node::runtime::{ExecSpec, Resources, Runtime};
use tokio::io::AsyncWriteExt;

use crate::node::{Node, pid, read};

/// A field of what the kernel says of a process.
pub(crate) fn field(pid: i32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap().trim().to_owned()
}

/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE.
pub(crate) const DEFAULT_CAPABILITIES: &str = "00000000000004fb";

pub(crate) async fn nobody(node: Node) {
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

pub(crate) async fn exec(node: Node) {
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

pub(crate) async fn limits(node: Node) {
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
