//! How containers begin and end, with the agent and without it.

use std::time::Duration;

use martello_node::runtime::{ContainerState, Runtime};

use crate::node::{Node, pid};

pub(crate) async fn deaf(node: Node) {
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

pub(crate) async fn before_the_kill(node: Node) {
    node.pod("pod-a").await;
    node.start("pod-a", "main", "i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done").await;
    node.start("pod-a", "once", "sleep 0.5; exit 9").await;
    let main = pid(&node.runtime.containers("pod-a").await.unwrap()[0]);
    std::fs::write(node.state_dir.join("main.pid"), main.to_string()).unwrap();
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
}

pub(crate) async fn after_the_kill(node: Node) {
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

pub(crate) async fn failures(node: Node) {
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
