//! What a container says and hears: logs, input, terminals.

use std::time::Duration;

use martello_node::runtime::{ExecSpec, Runtime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::confinement::DEFAULT_CAPABILITIES;
use crate::node::{Node, read};

pub(crate) async fn input_once(node: Node) {
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

pub(crate) async fn logs(node: Node) {
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

pub(crate) async fn terminals(node: Node) {
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
