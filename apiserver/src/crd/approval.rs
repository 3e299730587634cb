//! Groups that belong to Kubernetes: definitions in them name where they were approved.

use serde_json::Value;

use crate::registry::object;

/// The annotation.
pub const ANNOTATION: &str = "api-approved.kubernetes.io";
const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

/// What a definition says of its approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    /// Nothing.
    Missing,
    /// That there is none, and why.
    Bypassed(String),
    /// Where it is.
    Approved(String),
    /// Neither.
    Invalid,
}

/// Whether a group is one of Kubernetes' own.
#[must_use]
pub fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].iter().any(|own| group == *own || group.ends_with(&format!(".{own}")))
}

impl Approval {
    /// What `crd` says.
    #[must_use]
    pub fn of(crd: &Value) -> Self {
        let text = object::text(crd, &["metadata", "annotations", ANNOTATION]);
        let is_url = || {
            let (scheme, rest) = text.split_once("://")?;
            let host = rest.split(['/', '?', '#']).next()?;
            let plain = !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
            (plain && !host.is_empty() && !rest.contains(' ')).then_some(())
        };
        match text {
            "" => Self::Missing,
            _ if text.starts_with("unapproved") => Self::Bypassed(text.to_owned()),
            _ if is_url().is_some() => Self::Approved(text.to_owned()),
            _ => Self::Invalid,
        }
    }

    /// Whether it is approved.
    #[must_use]
    pub fn is_approved(&self) -> bool {
        matches!(self, Self::Approved(_))
    }

    /// Whether such a definition is refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Missing | Self::Invalid)
    }

    /// Reason of the condition.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "MissingAnnotation",
            Self::Bypassed(_) => "UnapprovedAnnotation",
            Self::Approved(_) => "ApprovedAnnotation",
            Self::Invalid => "InvalidAnnotation",
        }
    }

    /// For people.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Missing => format!("protected groups must have approval annotation {ANNOTATION:?}, {SEE}"),
            Self::Bypassed(why) => format!("not approved: {why:?}"),
            Self::Approved(place) => format!("approved in {place}"),
            Self::Invalid => format!(
                "protected groups must have approval annotation {ANNOTATION:?} with either a URL or a reason starting with \"unapproved\", {SEE}"
            ),
        }
    }
}
