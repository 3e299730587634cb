//! Files of pods: volumes, parts of volumes, and what is in memory.

use std::path::Path;
use std::time::Duration;

use martello_node::runtime::{
    ContainerState, ContainerStatus, MemoryVolume, Mount, Part, Runtime, RuntimeError, Source, SubPath,
};

use crate::confinement::field;
use crate::node::{Node, pid};

pub(crate) async fn files(node: Node) {
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

fn shim_of(container: &ContainerStatus) -> String {
    field(pid(container), "PPid")
}

/// The mounts that the shim of a pod has below its own directory, by path in `run`.
fn parts_of(container: &ContainerStatus) -> Vec<String> {
    let shim = shim_of(container);
    let mounts = std::fs::read_to_string(format!("/proc/{shim}/mountinfo")).unwrap();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)?.split_once("/shim/run/parts/"));
    points.map(|(_, part)| part.to_owned()).collect()
}

pub(crate) async fn parts(node: Node) {
    node.pod_with("pod-a", vec![MemoryVolume { name: "fast".to_owned(), size_bytes: 1 << 20, gid: None }]).await;
    let info = node.runtime.info();
    let volume = info.volumes_dir.join("pod-a/data");
    std::fs::create_dir(&volume).unwrap();
    std::fs::set_permissions(&volume, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    node.runtime.own("pod-a", &volume, 0, 0).await.unwrap();
    let mut spec = node.spec("pod-a", "writer", "sleep 1000").await;
    spec.mounts = vec![
        mount(Source::Path(volume.clone()), "/all", None),
        mount(Source::Memory("fast".to_owned()), "/fast", None),
    ];
    node.start_spec("pod-a", spec).await;
    shared(&node, &volume).await;
    let reader = links(&node, &volume).await;
    refused(&node, &volume).await;
    assert_eq!(parts_of(&reader), ["reader-1/0", "reader-1/1"], "what cannot start leaves nothing");
    measured(&node).await;
    race(&node, &volume).await;
    let host = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!host.contains("/shim/run"), "nothing is mounted on the node");
    assert_eq!(std::fs::read(volume.join("new/deep/file")).unwrap(), b"z\n", "a volume outlives what showed it");
    ended(&node, &volume, &reader).await;
}

/// A part of `volume`, made where it is missing.
fn part(volume: &Path, number: usize, path: &str) -> Mount {
    mount(Source::Path(volume.to_owned()), &format!("/part{number}"), Some(path))
}

/// A part that is made for one container is there for others.
async fn shared(node: &Node, volume: &Path) {
    // What is made may be written to by everybody, as the volume may.
    let mut spec = node.spec("pod-a", "reader-0", "sleep 1000").await;
    spec.user.image_user = "web".to_owned();
    spec.mounts = vec![
        part(volume, 0, "new/deep"),
        part(volume, 1, "other"),
        mount(Source::Memory("fast".to_owned()), "/f", Some("x")),
    ];
    spec.mounts[1].read_only = true;
    let reader = node.start_spec("pod-a", spec).await;
    let script = "echo x > /part0/file && echo y > /f/file; stat -c '%u %a' /part0; touch /part1/no || echo read-only";
    let (_, text) = node.sh("pod-a", "reader-0", script).await;
    assert_eq!(text.replace("touch: /part1/no: Read-only file system\n", ""), "0 777\nread-only\n");
    let (_, text) = node.sh("pod-a", "writer", "cat /all/new/deep/file /fast/x/file").await;
    assert_eq!(text, "x\ny\n");
    assert_eq!(parts_of(&reader), ["reader-0/0", "reader-0/1", "reader-0/2"]);
}

/// Links are followed within the volume, once; answers the container that shows them.
async fn links(node: &Node, volume: &Path) -> ContainerStatus {
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
    spec.mounts = vec![part(volume, 0, "file"), part(volume, 1, "link/deep")];
    spec.mounts.push(Mount { sub_path: Some(SubPath { path: "gone".into(), make: false }), ..part(volume, 2, "") });
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
    reader
}

/// What leads out of the volume, or is no directory, is not mounted.
async fn refused(node: &Node, volume: &Path) {
    for (number, path) in ["out", "out/passwd", "up", "up/passwd", "dangling/x", "file/x"].iter().enumerate() {
        let mut spec = node.spec("pod-a", &format!("bad-{number}"), "cat /part0/passwd /part0").await;
        spec.mounts = vec![part(volume, 1, "other"), part(volume, 0, path)];
        let error = node.runtime.start_container("pod-a", spec).await.unwrap_err();
        let doing = if number < 4 { "prepare subPath" } else { "create subPath directory" };
        let id = format!("bad-{number}");
        let doing = if *path == "file/x" { "prepare subPath" } else { doing };
        let expected = format!("failed to {doing} for volumeMount \"data\" of container \"{id}\"");
        assert!(matches!(error, RuntimeError::Unprepared { .. }), "{path}: {error:?}");
        assert_eq!(error.to_string(), expected, "{path}");
    }
}

/// What volumes, layers and logs take.
async fn measured(node: &Node) {
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
}

/// What becomes of the volumes of a pod whose containers have ended.
async fn ended(node: &Node, volume: &Path, reader: &ContainerStatus) {
    // It keeps its logs, and neither disk nor memory.
    assert!(node.runtime.remove_volumes("pod-a").await.is_err(), "while something runs, its volumes stay");
    assert!(volume.exists());
    let shim = shim_of(reader);
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

pub(crate) async fn parts_before_the_kill(node: Node) {
    node.pod("pod-a").await;
    let volume = node.runtime.info().volumes_dir.join("pod-a/data");
    std::fs::create_dir(&volume).unwrap();
    node.runtime.own("pod-a", &volume, 0, 0).await.unwrap();
    let mut spec = node.spec("pod-a", "main-0", "echo kept > /part/file; sleep 1000").await;
    spec.mounts = vec![mount(Source::Path(volume), "/part", Some("deep/er"))];
    node.start_spec("pod-a", spec).await;
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
}

pub(crate) async fn parts_after_the_kill(node: Node) {
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
