//! From one version of a definition to another: by its name alone, or by asking a webhook.

use std::time::Duration;

use martello_api::{schema::parse_json, status::ApiError};
use serde_json::{Value, json};

use super::definition::{Definition, Version};
use crate::{registry::object, server::Core};

/// How long a webhook may take, as upstream's.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Versions of reviews that this server speaks, the best first.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

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
    let version = spoken.iter().filter_map(Value::as_str).find(|version| REVIEWS.contains(version));
    let version = format!("apiextensions.k8s.io/{}", version.unwrap_or("v1"));
    let uid = uuid::Uuid::new_v4().to_string();
    let review = json!({
        "kind": "ConversionReview",
        "apiVersion": version,
        "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": objects},
    });
    let Some(caller) = &definition.webhook else { return Err(failed("failed: no webhook is configured")) };
    let answer = caller.call(core, &review, TIMEOUT).await.map_err(|why| failed(&format!("failed: {why}")))?;
    let answer = parse_json(&answer)
        .map_err(|why| failed(&format!("failed: couldn't get version/kind; json parse error: {why}")))?;
    let converted = answered(&answer.into_value(), &version, &uid).map_err(|why| failed(&format!("failed: {why}")))?;
    if converted.len() != objects.len() {
        return Err(failed(&format!("returned {} objects, expected {}", converted.len(), objects.len())));
    }
    let pairs = objects.iter().zip(converted);
    pairs
        .map(|(old, new)| {
            let checked = checked(old, new, wanted, objects.len() > 1);
            checked.map_err(|why| failed(&why))
        })
        .collect()
}

/// What a review answers.
fn answered(review: &Value, version: &str, uid: &str) -> Result<Vec<Value>, String> {
    let shown = |version: &str, kind: &str| format!("{version}, Kind={kind}");
    let (own_version, own_kind) = (object::text(review, &["apiVersion"]), object::text(review, &["kind"]));
    if own_version != version || own_kind != "ConversionReview" {
        let (wanted, got) = (shown(version, "ConversionReview"), shown(own_version, own_kind));
        return Err(format!("expected webhook response of {wanted}, got {got}"));
    }
    let response = review.get("response").filter(|response| !response.is_null()).ok_or("no response provided")?;
    let own = object::text(response, &["uid"]);
    if own != uid {
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
fn checked(old: &Value, mut new: Value, wanted: &str, in_list: bool) -> Result<Value, String> {
    let place = if in_list { " at index 0" } else { "" };
    let version = object::text(&new, &["apiVersion"]);
    if version != wanted {
        return Err(format!(
            "returned invalid converted object{place}: invalid groupVersion (expected {wanted}, received {version})"
        ));
    }
    let same: [(&str, &[&str]); 4] = [
        ("kind", &["kind"]),
        ("name", &["metadata", "name"]),
        ("namespace", &["metadata", "namespace"]),
        ("UID", &["metadata", "uid"]),
    ];
    for (what, path) in same {
        let (before, after) = (object::text(old, path), object::text(&new, path));
        if before != after {
            return Err(format!(
                "returned invalid converted object{place}: must have the same {what}: {before} != {after}"
            ));
        }
    }
    let mut metadata = old.get("metadata").cloned().unwrap_or_else(|| json!({}));
    for key in ["labels", "annotations"] {
        match object::at(&new, &["metadata", key]) {
            Some(given) => object::set(&mut metadata, &[], key, given.clone()),
            None => {
                object::remove(&mut metadata, &[], key);
            }
        }
    }
    object::set(&mut new, &[], "metadata", metadata);
    Ok(new)
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
    fn a_converted_object_keeps_its_metadata_but_labels_and_annotations() {
        let old = json!({"apiVersion": "g/v1", "kind": "W", "metadata": {"name": "a", "uid": "u", "generation": 1, "labels": {"l": "1"}}});
        let new = json!({"apiVersion": "g/v2", "kind": "W", "metadata": {"name": "a", "uid": "u", "generation": 9, "annotations": {"n": "2"}}, "spec": {}});
        assert_eq!(
            checked(&old, new.clone(), "g/v2", false).unwrap()["metadata"],
            json!({"name": "a", "uid": "u", "generation": 1, "annotations": {"n": "2"}})
        );
        let mut other = new;
        other["metadata"]["name"] = json!("b");
        assert!(checked(&old, other, "g/v2", false).unwrap_err().ends_with("must have the same name: a != b"));
    }
}
