//! Why a body is not an object of its kind, and what strict validation refuses besides.

use std::fmt::Write as _;

use crate::go::quoted;
use crate::resource::GroupVersionKind;
use crate::schema::json::JsonError;
use crate::status::ApiError;

/// Bytes of a body that an error shows.
const SHOWN_BYTES: usize = 30;

/// Something that strict validation refuses and the rest ignores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldIssue {
    /// A field that the schema does not have.
    Unknown(String),
    /// A field that was given twice; the last one counts.
    Duplicate(String),
    /// Keys that were given twice in YAML, one line each.
    Yaml(Vec<String>),
    /// Of an operation of a JSON patch.
    Patch(String),
}

impl std::fmt::Display for FieldIssue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(path) => write!(f, "unknown field {}", quoted(path)),
            Self::Duplicate(path) => write!(f, "duplicate field {}", quoted(path)),
            Self::Patch(issue) => write!(f, "json patch {issue}"),
            Self::Yaml(lines) => {
                f.write_str("yaml: unmarshal errors:")?;
                lines.iter().try_for_each(|line| write!(f, "\n  {line}"))
            }
        }
    }
}

/// Why a body is not an object of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Malformed JSON.
    #[error("couldn't get version/kind; json parse error: {0}")]
    Json(#[from] JsonError),
    /// JSON, but no object.
    #[error(
        "couldn't get version/kind; json parse error: json: cannot unmarshal {0} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
    )]
    NoObject(&'static str),
    /// `kind` or `apiVersion` is no text.
    #[error(
        "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go struct field .{field} of type string"
    )]
    Head {
        /// Which of both.
        field: &'static str,
        /// What it is instead, in Go's words.
        found: &'static str,
    },
    /// An object that does not say of which kind it is; with what was sent.
    #[error("Object 'Kind' is missing in '{0}'")]
    MissingKind(String),
    /// Malformed YAML.
    #[error("{0}")]
    Yaml(String),
    /// A field of the wrong type.
    #[error("{0}")]
    Type(String),
}

impl DecodeError {
    /// The failure as the API answers it to a body that should have held `gvk`.
    #[must_use]
    pub fn to_api_error(&self, gvk: &GroupVersionKind, body: &[u8]) -> ApiError {
        let kind = &gvk.kind;
        match self {
            Self::Type(why) => ApiError::bad_request(format!(
                "{kind} in version {:?} cannot be handled as a {kind}: {why}",
                gvk.version
            )),
            Self::Json(_) | Self::NoObject(_) | Self::Head { .. } | Self::Yaml(_) | Self::MissingKind(_) => {
                unrecognized(gvk, self, body)
            }
        }
    }
}

/// 400 for a body that does not even say what it is.
#[must_use]
pub fn unrecognized(gvk: &GroupVersionKind, why: impl std::fmt::Display, body: &[u8]) -> ApiError {
    ApiError::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): {why} ({})",
        gvk.kind,
        excerpt(body)
    ))
}

/// The beginning of a body: as text where it looks like JSON, else in hexadecimal digits.
pub(in crate::schema) fn excerpt(body: &[u8]) -> String {
    if body.is_empty() {
        return "<empty>".into();
    }
    let shown = body.get(..body.len().min(SHOWN_BYTES)).unwrap_or_default();
    let mut text = if body.first() != Some(&b'{') {
        shown.iter().fold(String::new(), |mut text, byte| {
            let _infallible = write!(text, "{byte:02x}");
            text
        })
    } else {
        String::from_utf8_lossy(shown).into_owned()
    };
    if body.len() > SHOWN_BYTES {
        text.push_str(" ...");
    }
    text
}
