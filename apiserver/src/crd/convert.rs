//! From one version of a definition to another.

use martello_api::status::ApiError;
use serde_json::Value;

use super::definition::{Definition, Version};
use crate::{registry::object, server::Core};

/// The object as version `to`.
pub async fn convert(
    _core: &Core,
    definition: &Definition,
    mut object: Value,
    to: &Version,
) -> Result<Value, ApiError> {
    let wanted = format!("{}/{}", definition.group, to.name);
    if object::text(&object, &["apiVersion"]) == wanted {
        return Ok(object);
    }
    if object::text(&definition.conversion, &["strategy"]) == "Webhook" {
        return Err(ApiError::internal(format!(
            "conversion webhook for {}/{}, Kind={} is not called yet",
            definition.group, to.name, definition.names.kind
        )));
    }
    object::set(&mut object, &[], "apiVersion", wanted);
    Ok(object)
}
