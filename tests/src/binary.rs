//! Where the `secctl` under test is.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

/// Names the binary under test; without it, the one that was built beside the test is taken.
pub const SECCTL_ENV: &str = "MARTELLO_SECCTL";

/// The `secctl` under test.
pub fn secctl() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(SECCTL_ENV) {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe().context("find the running test's own path")?;
    // A test lies in PROFILE/deps, a binary in PROFILE.
    for folder in own.ancestors().skip(1).take(2) {
        let candidate = folder.join("secctl");
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    bail!("no secctl beside {}: run `cargo build --workspace` first, or set {SECCTL_ENV}", own.display())
}

/// The folder of the repository that runs: clones that share a target directory share binaries too, so what was compiled
/// in counts only where nobody tells.
#[must_use]
pub fn repository() -> PathBuf {
    let own = own_crate();
    own.parent().map_or_else(|| own.clone(), PathBuf::from)
}

/// The folder of this crate.
#[must_use]
pub fn own_crate() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}
