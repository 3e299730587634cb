//! Options of the verbs, read from query and body, and refused as upstream refuses them.

mod continued;
mod delete;
mod list;
mod write;

pub use continued::Continue;
pub use delete::{DeleteOptions, Propagation, UNSAFE_DELETE};
pub use list::{Asked, ListOptions, Match, parse_revision};
pub use write::{FieldValidation, MAX_MANAGER_BYTES, WriteOptions, check_manager, is_printable};

use martello_api::{
    go,
    status::{ApiError, Cause},
};
use serde_json::json;

use crate::http::query::Query;

const META: &str = "meta.k8s.io";

fn invalid(kind: &str, causes: Vec<Cause>) -> ApiError {
    ApiError::invalid(META, kind, "", causes)
}

/// `dryRun`: nothing, or `All`.
fn check_dry_run(values: &[&str], causes: &mut Vec<Cause>) -> bool {
    if values.iter().any(|value| *value != "All") {
        causes.push(Cause::not_supported("dryRun", &json!(values), &["All"]));
    }
    !values.is_empty()
}

/// What Go says of a text that is no number of so many bits.
pub(super) fn number_fault(text: &str) -> &'static str {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole && !text.starts_with('-') { "value out of range" } else { "invalid syntax" }
}

/// A whole number of the query; none where it is not given.
pub(super) fn number(query: &Query, name: &str) -> Result<Option<i64>, ApiError> {
    if !query.has(name) {
        return Ok(None);
    }
    let text = query.get(name);
    text.parse().map(Some).map_err(|_| {
        ApiError::bad_request(format!(
            "strconv.ParseInt: parsing {}: {}",
            go::quoted(text),
            number_fault(text.trim_start_matches('-'))
        ))
    })
}

#[cfg(test)]
mod tests {
    use martello_api::status::ApiError;

    pub(super) fn message<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
        result.unwrap_err().message
    }

    pub(super) fn causes<T: std::fmt::Debug>(result: Result<T, ApiError>) -> Vec<String> {
        result.unwrap_err().details.unwrap().causes.into_iter().map(|cause| cause.message).collect()
    }
}
