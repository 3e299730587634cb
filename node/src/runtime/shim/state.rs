//! What a shim leaves on disk, so that exit statuses outlive it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Attempt, ShimError};
use crate::runtime::spec::ContainerStatus;

/// Name of the file in the shim's directory.
pub(crate) const FILE: &str = "state.json";

/// The file's content.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// Every container that was not removed.
    pub(crate) containers: Vec<ContainerStatus>,
}

/// Replaces the file in `directory`.
pub(super) fn save(directory: &Path, state: &State) -> Result<(), ShimError> {
    let path = directory.join(FILE);
    let new = directory.join("state.new");
    let bytes = serde_json::to_vec(state).map_err(std::io::Error::from).attempt("encode the state")?;
    std::fs::write(&new, bytes).attempt(format!("write {}", new.display()))?;
    std::fs::rename(&new, &path).attempt(format!("replace {}", path.display()))
}
