//! From one version of a definition to another: by its name alone, or by asking a webhook.

use std::time::Duration;

use martello_api::{go, status::ApiError};
use serde_json::{Value, json};

use super::definition::{Definition, Version};
use crate::{
    http::reviewed::CONVERSION,
    registry::{object, validation::metadata},
    server::Core,
};

/// How long a webhook may take, as upstream's.
const TIMEOUT: Duration = Duration::from_secs(30);
const OLD_REVIEW: &str = "apiextensions.k8s.io/v1beta1";
/// The objects as version `to`.
pub async fn convert(
    core: &Core,
    definition: &Definition,
    mut objects: Vec<Value>,
    to: &Version,
) -> Result<Vec<Value>, ApiError> {
    let wanted = format!("{}/{}", definition.group, to.name);
    let is_foreign = |object: &Value| object::text(object, &["apiVersion"]) != wanted;
    if !objects.iter().any(is_foreign) {
        return Ok(objects);
    }
    if object::text(&definition.conversion, &["strategy"]) != "Webhook" {
        for object in &mut objects {
            object::set(object, &[], "apiVersion", wanted.as_str());
        }
        return Ok(objects);
    }
    let foreign: Vec<&Value> = objects.iter().filter(|object| is_foreign(object)).collect();
    let mut converted = ask(core, definition, &foreign, &wanted).await?.into_iter();
    for object in &mut objects {
        if is_foreign(object)
            && let Some(converted) = converted.next()
        {
            *object = converted;
        }
    }
    Ok(objects)
}

async fn ask(core: &Core, definition: &Definition, objects: &[&Value], wanted: &str) -> Result<Vec<Value>, ApiError> {
    let from = objects.first().map_or("", |object| object::text(object, &["apiVersion"]));
    let about = format!("conversion webhook for {from}, Kind={}", definition.names.kind);
    let failed = |why: &str| ApiError::new(500, "", format!("{about} {why}"));
    let webhook = definition.conversion.get("webhook").unwrap_or(&Value::Null);
    let spoken = object::list(webhook, &["conversionReviewVersions"]);
    let version = spoken.iter().filter_map(Value::as_str).find(|version| CONVERSION.versions.contains(version));
    let version = format!("{}/{}", CONVERSION.group, version.unwrap_or("v1"));
    let uid = uuid::Uuid::new_v4().to_string();
    let review = json!({
        "kind": CONVERSION.kind,
        "apiVersion": version,
        "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": objects},
    });
    let Some(caller) = &definition.webhook else { return Err(failed("failed: no webhook is configured")) };
    let answer = caller.call(core, &review, TIMEOUT).await.and_then(|answer| answer.read(&CONVERSION, &version));
    let answer = answer.map_err(|why| failed(&format!("failed: {why}")))?;
    let converted = answered(&answer, &version, &uid).map_err(|why| failed(&format!("failed: {why}")))?;
    if converted.len() != objects.len() {
        return Err(failed(&format!("returned {} objects, expected {}", converted.len(), objects.len())));
    }
    let pairs = objects.iter().zip(converted).enumerate();
    pairs
        .map(|(at, (old, new))| {
            let index = (objects.len() > 1).then_some(at);
            checked(old, new, wanted).map_err(|why| match why {
                Wrong::Unreadable(why) if index.is_none() => ApiError::new(500, "", why),
                why => failed(&why.told(index)),
            })
        })
        .collect()
}

/// What is wrong with a converted object.
#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    /// It is no object.
    Unreadable(String),
    /// It is of another type than was asked for.
    Type(String),
    /// It is another object.
    Identity(String),
    /// What may be said about it is malformed.
    Metadata(String),
}

impl Wrong {
    /// In upstream's words, which are others for the objects of a list.
    fn told(&self, index: Option<usize>) -> String {
        match (self, index) {
            (Self::Metadata(why), Some(at)) => format!("returned invalid metadata in object at index {at}: {why}"),
            (Self::Metadata(why), None) => format!("returned invalid metadata: {why}"),
            (Self::Unreadable(why) | Self::Type(why) | Self::Identity(why), Some(at)) => {
                format!("returned invalid converted object at index {at}: {why}")
            }
            (Self::Identity(why), None) => format!("returned invalid object: {why}"),
            (Self::Unreadable(why) | Self::Type(why), None) => format!("returned invalid object at index 0: {why}"),
        }
    }
}

/// What a review answers.
fn answered(review: &Value, version: &str, uid: &str) -> Result<Vec<Value>, String> {
    let (own_version, own_kind) = (object::text(review, &["apiVersion"]), object::text(review, &["kind"]));
    // Reviews of the older version were never held against what was asked.
    let is_exact = version != OLD_REVIEW;
    if is_exact && (own_version != version || own_kind != CONVERSION.kind) {
        // Go writes the group and the version of what is of no group with a slash, too.
        let (group, short) = own_version.split_once('/').unwrap_or(("", own_version));
        return Err(format!(
            "expected webhook response of {version}, Kind={}, got {group}/{short}, Kind={own_kind}",
            CONVERSION.kind
        ));
    }
    let response = review.get("response").filter(|response| !response.is_null()).ok_or("no response provided")?;
    let own = object::text(response, &["uid"]);
    if is_exact && own != uid {
        return Err(format!("expected response.uid={uid:?}, got {own:?}"));
    }
    let (status, message) =
        (object::text(response, &["result", "status"]), object::text(response, &["result", "message"]));
    match (status, message) {
        ("Success", _) => Ok(object::list(response, &["convertedObjects"]).to_vec()),
        (_, "") => Err(format!("response.result.status was '{status}', not 'Success'")),
        (_, message) => Err(message.to_owned()),
    }
}

/// A converted object is still the same object: of its metadata, labels and annotations alone may differ.
fn checked(old: &Value, mut new: Value, wanted: &str) -> Result<Value, Wrong> {
    match &new {
        Value::Object(_) if object::text(&new, &["kind"]).is_empty() => {
            return Err(Wrong::Unreadable(format!("Object 'Kind' is missing in '{new}'")));
        }
        Value::Object(_) => {}
        Value::Null => return Err(Wrong::Unreadable("unexpected end of JSON input".to_owned())),
        other => {
            let why = go::not_of_type(go::json_kind(other), "map[string]interface {}");
            return Err(Wrong::Unreadable(why));
        }
    }
    let version = object::text(&new, &["apiVersion"]);
    if version != wanted {
        return Err(Wrong::Type(format!("invalid groupVersion (expected {wanted}, received {version})")));
    }
    let (kind, own_kind) = (object::text(old, &["kind"]), object::text(&new, &["kind"]));
    if kind != own_kind {
        return Err(Wrong::Type(format!("invalid kind (expected {kind}, received {own_kind})")));
    }
    for (what, key) in [("name", "name"), ("namespace", "namespace"), ("UID", "uid")] {
        let (before, after) = (object::text(old, &["metadata", key]), object::text(&new, &["metadata", key]));
        if before != after {
            return Err(Wrong::Identity(format!("must have the same {what}: {before} != {after}")));
        }
    }
    let mut metadata = old.get("metadata").cloned().unwrap_or_else(|| json!({}));
    for key in ["labels", "annotations"] {
        match object::at(&new, &["metadata", key]).filter(|given| !given.is_null()) {
            Some(given) => {
                words(key, given, metadata.get(key)).map_err(Wrong::Metadata)?;
                object::set(&mut metadata, &[], key, given.clone());
            }
            None => {
                object::remove(&mut metadata, &[], key);
            }
        }
    }
    object::set(&mut new, &[], "metadata", metadata);
    Ok(new)
}

/// Whether labels or annotations that came back are such; what did not change is taken.
fn words(key: &str, given: &Value, before: Option<&Value>) -> Result<(), String> {
    let Some(map) = given.as_object() else {
        return Err(format!("invalid metadata.{key} of type {} in converted object", go::type_name(given)));
    };
    if let Some((name, value)) = map.iter().find(|(_, value)| !value.is_string()) {
        let found = go::type_name(value);
        return Err(format!("metadata.{key}[{name}] must be a string, but is {found} in converted object"));
    }
    if before == Some(given) {
        return Ok(());
    }
    let mut causes = Vec::new();
    if key == "labels" {
        metadata::labels(Some(given), "metadata.labels", &mut causes);
    } else {
        metadata::annotations(Some(given), "metadata.annotation", &mut causes);
    }
    let mut told: Vec<String> = Vec::new();
    for cause in causes {
        let fault = format!("{}: {}", cause.field, cause.message);
        if !told.contains(&fault) {
            told.push(fault);
        }
    }
    match told.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        several => Err(format!("[{}]", several.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_checked_before_it_is_believed() {
        let review = |response: Value| json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response});
        let read = |response: Value| answered(&review(response), "apiextensions.k8s.io/v1", "u");
        assert_eq!(read(json!({"uid": "x"})), Err("expected response.uid=\"u\", got \"x\"".to_owned()));
        assert_eq!(read(json!({"uid": "u", "result": {"status": "Failure", "message": "no"}})), Err("no".to_owned()));
        assert_eq!(
            read(json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [1]})),
            Ok(vec![json!(1)])
        );
        assert_eq!(read(Value::Null), Err("no response provided".to_owned()));
    }

    #[test]
    fn a_review_of_the_older_version_is_taken_as_it_is() {
        let old = json!({"response": {"uid": "other", "result": {"status": "Success"}, "convertedObjects": []}});
        assert_eq!(answered(&old, OLD_REVIEW, "u"), Ok(Vec::new()));
        let none = answered(&json!({}), "apiextensions.k8s.io/v1", "u").unwrap_err();
        let words = "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got /, Kind=";
        assert_eq!(none, words);
    }

    #[test]
    fn a_converted_object_keeps_its_metadata_but_labels_and_annotations() {
        let old = json!({"apiVersion": "g/v1", "kind": "W", "metadata": {"name": "a", "uid": "u", "generation": 1, "labels": {"l": "1"}}});
        let new = json!({"apiVersion": "g/v2", "kind": "W", "metadata": {"name": "a", "uid": "u", "generation": 9, "annotations": {"n": "2"}}, "spec": {}});
        assert_eq!(
            checked(&old, new.clone(), "g/v2").unwrap()["metadata"],
            json!({"name": "a", "uid": "u", "generation": 1, "annotations": {"n": "2"}})
        );
        let told = |change: &dyn Fn(&mut Value)| {
            let mut other = new.clone();
            change(&mut other);
            checked(&old, other, "g/v2").unwrap_err().told(None)
        };
        assert_eq!(
            told(&|new| new["metadata"]["name"] = json!("b")),
            "returned invalid object: must have the same name: a != b"
        );
        assert_eq!(
            told(&|new| new["kind"] = json!("Z")),
            "returned invalid object at index 0: invalid kind (expected W, received Z)"
        );
        assert_eq!(
            told(&|new| new["metadata"]["labels"] = json!({"a": 1})),
            "returned invalid metadata: metadata.labels[a] must be a string, but is int64 in converted object"
        );
        let bad = told(&|new| new["metadata"]["labels"] = json!({"a b": "c"}));
        assert!(bad.starts_with("returned invalid metadata: metadata.labels: Invalid value: \"a b\": "), "{bad}");
        assert_eq!(
            checked(&old, json!("x"), "g/v2").unwrap_err(),
            Wrong::Unreadable("json: cannot unmarshal string into Go value of type map[string]interface {}".to_owned())
        );
    }
}
