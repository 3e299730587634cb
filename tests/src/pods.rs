//! What tests with real pods need: a machine that can run them, and the images of the examples.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{binary::repository, cluster::Cluster};

/// What a node and the example images need of this machine: a file, and the Debian package that brings it.
const NEEDED: [(&str, &str); 4] = [
    ("/usr/bin/pasta", "passt"),
    ("/usr/sbin/nft", "nftables"),
    ("/usr/bin/newuidmap", "uidmap"),
    ("/bin/busybox", "busybox-static"),
];

/// Why this machine can't run pods for a test; nothing where it can.
#[must_use]
pub fn hindrance() -> Option<String> {
    if !nix::unistd::Uid::effective().is_root() {
        return Some(
            "a node prepares id ranges and control groups as root, and this test does not run as root".to_owned(),
        );
    }
    let missing = NEEDED.iter().find(|(path, _)| !Path::new(path).exists());
    missing.map(|(path, package)| format!("{path} is missing: apt-get install {package}"))
}

/// Builds the example images and imports one of them (`myapp-1.2.0`) into the cluster's node.
pub fn import_example(cluster: &Cluster, image: &str) -> Result<()> {
    let archive = build_examples(cluster.folder())?.join(format!("{image}.tar"));
    let node = cluster.node_dir();
    cluster.secctl(&["image", "import", "--node-dir", &node.to_string_lossy(), &archive.to_string_lossy()])?;
    Ok(())
}

/// Builds the example images below a folder; answers the folder of their archives.
fn build_examples(folder: &Path) -> Result<PathBuf> {
    let script = repository().join("docs/examples/images/build.sh");
    let into = folder.join("images");
    let mut command = Command::new(&script);
    command.arg(&into).stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().with_context(|| format!("run {}", script.display()))?;
    ensure!(status.success(), "{} ended with {status}", script.display());
    Ok(into)
}
