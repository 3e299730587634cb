//! What an object says of itself: whether `kind` and `apiVersion` are those that the path is about.

use martello_api::{
    go, patch,
    resource::GroupVersionKind,
    schema::{self, DecodeError, FieldIssue, Schemas},
    status::{ApiError, Cause},
};
use serde_json::Value;

use super::former;
use crate::registry::{call::Call, kind::Kind, object, options::FieldValidation};

/// Kind and version may be left out; if they are given they are those of the resource.
pub(super) fn check_kind(gvk: &GroupVersionKind, kind: &str, version: &str, body: &[u8]) -> Result<(), ApiError> {
    match Mismatch::find(gvk, kind, version) {
        None => Ok(()),
        Some(Mismatch::Malformed(why)) => Err(schema::unrecognized(gvk, why, body)),
        Some(Mismatch::Version(why)) => Err(ApiError::bad_request(why)),
        Some(Mismatch::Kind(why)) => {
            let kind = if kind.is_empty() { &*gvk.kind } else { kind };
            let short = version.rsplit('/').next().filter(|short| !short.is_empty()).unwrap_or(&*gvk.version);
            Err(ApiError::bad_request(format!(
                "{kind} in version {short:?} cannot be handled as a {}: {why}",
                gvk.kind
            )))
        }
    }
}

/// Why an object is not of the kind that a path is about, in upstream's words.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// Its version is none.
    Malformed(String),
    /// It is of another version of the kind.
    Version(String),
    /// It is of another kind, or of none that is known.
    Kind(String),
}

impl Mismatch {
    /// What is left out is as `wanted` has it.
    pub(super) fn find(wanted: &GroupVersionKind, kind: &str, version: &str) -> Option<Self> {
        let own = wanted.api_version();
        let kind = if kind.is_empty() { &*wanted.kind } else { kind };
        let version = if version.is_empty() { &*own } else { version };
        if kind == wanted.kind && version == own || former::stands_for(wanted, kind, version) {
            return None;
        }
        let mut parts = version.split('/');
        let (group, short) = match (parts.next(), parts.next(), parts.next()) {
            (Some(group), Some(short), None) => (group, short),
            (Some(short), None, _) => ("", short),
            _ => return Some(Self::Malformed(format!("unexpected GroupVersion string: {version}"))),
        };
        let given = GroupVersionKind {
            group: group.to_owned().into(),
            version: short.to_owned().into(),
            kind: kind.to_owned().into(),
        };
        let is_known = |gvk: &GroupVersionKind| Schemas::builtin().get(gvk).is_some();
        if !is_known(wanted) || !(is_known(&given) || former::knows(&given)) {
            return Some(Self::Kind(format!(
                "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
            )));
        }
        let to = internal_package(&wanted.group);
        let from = former::new_home(&given).unwrap_or_else(|| internal_package(group));
        if kind == wanted.kind && from == to {
            return Some(Self::Version(format!(
                "the API version in the data ({version}) does not match the expected API version ({own})"
            )));
        }
        Some(Self::Kind(format!("converting ({short}.{kind}) to ({to}.{}): unknown conversion", wanted.kind)))
    }
}

/// Where upstream keeps the form of a group's kinds that has no version, which its messages name.
#[must_use]
pub fn internal_package(group: &str) -> &str {
    match group {
        "" | "events.k8s.io" => "core",
        "internal.apiserver.k8s.io" => "apiserverinternal",
        group => group.split('.').next().unwrap_or_default(),
    }
}

/// An object of a custom kind says of itself what it is; without a schema for what it says, nothing of it is known.
pub(super) fn check_custom(
    kind: &Kind,
    call: &Call,
    value: &Value,
    strictness: FieldValidation,
) -> Result<(), ApiError> {
    let gvk = &kind.resource.gvk;
    let (own, version, wanted) =
        (object::text(value, &["kind"]), object::text(value, &["apiVersion"]), gvk.api_version());
    if let Some(why) = malformed_version(version) {
        return Err(schema::unrecognized(gvk, why, &call.body));
    }
    if own.is_empty() {
        let why = DecodeError::MissingKind(String::from_utf8_lossy(&call.body).into_owned());
        if strictness != FieldValidation::Ignore {
            return Err(why.to_api_error(gvk, &call.body));
        }
        // Whoever does not look at fields goes another way, on which the kind of the path stands in.
        let why = match shown_as_json(call) {
            Some(json) => DecodeError::MissingKind(json),
            None => why,
        };
        let (kind, version) = (&gvk.kind, &gvk.version);
        return Err(ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
        )));
    }
    if version != wanted {
        let unknown = value.as_object().into_iter().flatten().map(|(name, _)| name);
        for name in unknown.filter(|name| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata")) {
            if strictness == FieldValidation::Warn {
                call.warn(FieldIssue::Unknown(name.clone()).to_string());
            }
        }
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({wanted})"
        )));
    }
    Ok(())
}

/// A body of YAML as the JSON that upstream makes of it first, with its keys in order; none of any other body.
fn shown_as_json(call: &Call) -> Option<String> {
    let is_yaml = call.content_type.eq_ignore_ascii_case(super::YAML);
    let mut value = is_yaml.then(|| schema::parse_yaml(&call.body).ok())??.value.into_value();
    value.sort_all_objects();
    Some(go::json(&value))
}

/// What is wrong with an `apiVersion` that is none.
fn malformed_version(version: &str) -> Option<String> {
    (version.matches('/').count() > 1).then(|| format!("unexpected GroupVersion string: {version}"))
}

/// The group in an `apiVersion`.
fn group_of(version: &str) -> &str {
    version.split_once('/').map_or("", |(group, _)| group)
}

/// What a patch makes of an object without a schema says of itself what it is; `shown` is its JSON.
pub(super) fn check_named(value: &Value, shown: impl FnOnce() -> String) -> Result<(), ApiError> {
    let (own, version) = (object::text(value, &["kind"]), object::text(value, &["apiVersion"]));
    for field in ["apiVersion", "kind"] {
        let found = value.get(field).filter(|found| !matches!(found, Value::String(_) | Value::Null));
        if let Some(found) = found {
            let why = DecodeError::Head { field, found: go::json_kind(found) };
            return Err(patch::invalid_patch(&shown(), &why.to_string()));
        }
    }
    if let Some(why) = malformed_version(version) {
        return Err(patch::invalid_patch(&shown(), &why));
    }
    if own.is_empty() {
        let shown = shown();
        let why = DecodeError::MissingKind(shown.clone()).to_string();
        return Err(patch::invalid_patch(&shown, &why));
    }
    if version.is_empty() {
        return Err(ApiError::internal("Object 'apiVersion' is missing in 'object has no apiVersion field'"));
    }
    Ok(())
}

/// Whether a custom object is of its kind and version. Of another version than its own, it is told by the group that it claims.
pub fn check_custom_type(kind: &Kind, value: &Value) -> Result<(), ApiError> {
    if !kind.is_custom() {
        return Ok(());
    }
    let gvk = &kind.resource.gvk;
    let mut causes = Vec::new();
    for (key, wanted) in [("kind", gvk.kind.to_string()), ("apiVersion", gvk.api_version())] {
        let own = object::text(value, &[key]);
        if own != wanted {
            causes.push(Cause::invalid(key, &own.into(), &format!("must be {wanted}")));
        }
    }
    if causes.is_empty() {
        return Ok(());
    }
    let group = group_of(object::text(value, &["apiVersion"]));
    Err(ApiError::invalid(group, object::text(value, &["kind"]), object::name(value), causes))
}

/// Whether an object still is of a kind that is known.
pub(super) fn still_is(kind: &Kind, value: &Value) -> Result<(), String> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    match Mismatch::find(&kind.resource.gvk, text("kind"), text("apiVersion")) {
        Some(Mismatch::Malformed(why) | Mismatch::Kind(why)) if !kind.is_custom() => Err(why),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_patch_makes_still_says_what_it_is() {
        let told = |value: Value| check_named(&value, || "{}".to_owned()).map_err(|error| (error.code, error.message));
        let named = serde_json::json!({"apiVersion": "example.com/v1", "kind": "Widget"});
        assert_eq!(told(named.clone()), Ok(()));
        let (mut nameless, mut unversioned, mut odd) = (named.clone(), named.clone(), named);
        nameless["kind"] = Value::Null;
        unversioned["apiVersion"] = Value::Null;
        odd["apiVersion"] = "a/b/c".into();
        let invalid = |why: &str| Err((422, format!(" \"\" is invalid: patch: Invalid value: \"{{}}\": {why}")));
        assert_eq!(told(nameless), invalid("Object 'Kind' is missing in '{}'"));
        assert_eq!(told(odd), invalid("unexpected GroupVersion string: a/b/c"));
        assert_eq!(told(unversioned).unwrap_err().0, 500);
        assert_eq!((group_of("example.com/v1"), group_of("v1")), ("example.com", ""));
    }

    #[test]
    fn what_is_of_another_kind_is_refused_in_upstreams_words() {
        let config_map = GroupVersionKind::new("", "v1", "ConfigMap");
        let found = |kind: &str, version: &str| Mismatch::find(&config_map, kind, version);
        for (kind, version) in [("", ""), ("ConfigMap", ""), ("", "v1"), ("ConfigMap", "v1")] {
            assert_eq!(found(kind, version), None);
        }
        let converting = "converting (v1.Deployment) to (core.ConfigMap): unknown conversion";
        assert_eq!(found("Deployment", "apps/v1"), Some(Mismatch::Kind(converting.into())));
        let Some(Mismatch::Kind(why)) = found("Frob", "") else { panic!("a mismatch") };
        assert!(why.starts_with("no kind \"Frob\" is registered for version \"v1\""), "{why}");
        assert_eq!(
            found("ConfigMap", "a/b/c"),
            Some(Mismatch::Malformed("unexpected GroupVersion string: a/b/c".into()))
        );
        let converting = "converting (v1.List) to (core.ConfigMap): unknown conversion";
        assert_eq!(found("List", "v1"), Some(Mismatch::Kind(converting.into())));
        let deployment = GroupVersionKind::new("apps", "v1", "Deployment");
        for version in ["apps/v1beta1", "extensions/v1beta1"] {
            let why =
                format!("the API version in the data ({version}) does not match the expected API version (apps/v1)");
            assert_eq!(Mismatch::find(&deployment, "Deployment", version), Some(Mismatch::Version(why)));
        }
        let Some(Mismatch::Kind(why)) = Mismatch::find(&deployment, "Deployment", "apps/v9") else {
            panic!("a mismatch")
        };
        assert!(why.starts_with("no kind \"Deployment\" is registered for version \"apps/v9\""), "{why}");
        let eviction = GroupVersionKind::new("policy", "v1", "Eviction");
        assert_eq!(Mismatch::find(&eviction, "Eviction", "policy/v1beta1"), None);
        let event = GroupVersionKind::new("", "v1", "Event");
        assert_eq!(
            Mismatch::find(&event, "Event", "events.k8s.io/v1"),
            Some(Mismatch::Version(
                "the API version in the data (events.k8s.io/v1) does not match the expected API version (v1)".into()
            ))
        );
    }
}
