//! An object in each of the versions in which its fields are owned.

use std::{borrow::Cow, fmt::Debug};

use serde_json::{Map as JsonMap, Value};

use super::check::listed;
use super::compare::{Changes, compare_objects};
use super::entries::has_version;
use super::set::FieldSet;
use super::shape::{Shape, shape};
use super::{Ignored, Kind, Schema};
use crate::schema::Field;

/// The other versions of a kind: field sets are compared in the version in which they were written down.
///
/// Converting may take a webhook, so it isn't done here: where [`Convert::convert`] answers [`Unconverted::Later`], the
/// caller converts what was asked for and calls again with the same arguments.
pub trait Convert: Debug + Sync {
    /// The schema of the kind in a version; nothing where nothing is known of it.
    fn schema(&self, api_version: &str) -> Option<&Schema>;

    /// The object as a version has it.
    ///
    /// # Errors
    /// See [`Unconverted`].
    fn convert(&self, object: &Value, to: &str) -> Result<Value, Unconverted>;
}

/// Why an object is not there in a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unconverted {
    /// The kind does not have the version any more: what was owned in it is forgotten.
    #[error("there is no such version any more")]
    Missing,
    /// Converting has to wait; the same call may be made again afterwards.
    #[error("not converted yet")]
    Later,
    /// It can't be converted, in upstream's words.
    #[error("{0}")]
    Failed(String),
}

/// A kind all of whose versions have the same fields, but for those of the built-in kinds that do not exist.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alike<'s>(pub(super) &'s Schema);

impl Convert for Alike<'_> {
    fn schema(&self, _api_version: &str) -> Option<&Schema> {
        Some(self.0)
    }

    fn convert(&self, object: &Value, to: &str) -> Result<Value, Unconverted> {
        if !has_version(self.0, to) {
            return Err(Unconverted::Missing);
        }
        let mut object = object.clone();
        if let Value::Object(map) = &mut object {
            map.insert("apiVersion".into(), to.into());
        }
        Ok(object)
    }
}

/// An object in one version.
pub(super) struct Seen<'v> {
    pub(super) value: Cow<'v, Value>,
    pub(super) schema: &'v Schema,
}

/// `object` as the version `to` has it.
pub(super) fn seen<'v>(versions: &'v dyn Convert, object: &'v Value, to: &str) -> Result<Seen<'v>, Unconverted> {
    let is_it = object.get("apiVersion").and_then(Value::as_str) == Some(to);
    let value = if is_it { Cow::Borrowed(object) } else { Cow::Owned(versions.convert(object, to)?) };
    let schema = versions.schema(to).ok_or(Unconverted::Missing)?;
    if let Cow::Owned(value) = &value
        && let Some(why) = listed(schema, value)
    {
        return Err(Unconverted::Failed(why));
    }
    Ok(Seen { value, schema })
}

/// The differences of two objects, in each version that is asked for.
pub(super) struct Differences<'v> {
    versions: &'v dyn Convert,
    old: &'v Value,
    new: &'v Value,
    ignored: Ignored<'v>,
    known: Vec<(String, Changes)>,
}

impl<'v> Differences<'v> {
    /// Of two objects, but for what the endpoint ignores, which it does in every version.
    pub(super) fn new(versions: &'v dyn Convert, (old, new): (&'v Value, &'v Value), ignored: Ignored<'v>) -> Self {
        Self { versions, old, new, ignored, known: Vec::new() }
    }

    /// Those in a version, which were found before.
    pub(super) fn know(&mut self, version: &str, changes: Changes) {
        self.known.push((version.to_owned(), changes));
    }

    /// Those in a version.
    pub(super) fn within(&mut self, version: &str) -> Result<&Changes, Unconverted> {
        let found = self.known.iter().position(|(known, _)| known == version);
        let at = match found {
            Some(at) => at,
            None => {
                let prefixed = |which: &'static str| {
                    move |error: Unconverted| match error {
                        Unconverted::Failed(why) => {
                            Unconverted::Failed(format!("failed to convert {which} object: {why}"))
                        }
                        other => other,
                    }
                };
                let old = seen(self.versions, self.old, version).map_err(prefixed("old"))?;
                let new = seen(self.versions, self.new, version).map_err(prefixed("new"))?;
                let mut changes = compare_objects(old.schema, &old.value, &new.value);
                changes.exclude(self.ignored);
                self.known.push((version.to_owned(), changes));
                self.known.len() - 1
            }
        };
        self.known.get(at).map(|(_, changes)| changes).ok_or(Unconverted::Missing)
    }
}

/// `set` as the schema owns by now what it holds: what has become one value is owned as one.
pub(super) fn reconciled(schema: &Schema, set: &FieldSet) -> FieldSet {
    below(Shape::Struct(schema), set)
}

fn below(here: Shape<'_>, set: &FieldSet) -> FieldSet {
    let mut found = FieldSet::default();
    found.set_member(set.is_member());
    for (element, child) in set.children() {
        let (kind, field) = here.element(element);
        found.attach(element, value(kind, field, child));
    }
    found
}

fn value(kind: &Kind, field: Option<&Field>, set: &FieldSet) -> FieldSet {
    if set.children().next().is_none() {
        return set.clone();
    }
    let marker = Value::Object(JsonMap::new());
    let own = shape(kind, field, [Some(&marker), None]);
    match (own, kind) {
        (Shape::Leaf, Kind::Message(_) | Kind::Map(_) | Kind::List(_)) => FieldSet::leaf(),
        (Shape::Leaf, _) => set.clone(),
        (own, _) => below(own, set),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use jiff::Timestamp;
    use serde_json::json;

    use super::super::{ApplyError, Ignored, Writer, apply, track_update};
    use super::*;
    use crate::schema::Schemas;

    /// A kind whose field `data` is called `binaryData` in version 2. Version 3 fails, and 4 is gone.
    #[derive(Debug, Default)]
    struct Renaming {
        /// What waits to be converted, where converting takes a while.
        slow: Option<Mutex<Vec<(Value, String)>>>,
    }

    fn schema() -> &'static Schema {
        Schemas::builtin().named("io.k8s.api.core.v1.ConfigMap").unwrap()
    }

    impl Convert for Renaming {
        fn schema(&self, _api_version: &str) -> Option<&Schema> {
            Some(schema())
        }

        fn convert(&self, object: &Value, to: &str) -> Result<Value, Unconverted> {
            if let Some(slow) = &self.slow {
                let mut known = slow.lock().unwrap();
                let asked = (object.clone(), to.to_owned());
                if !known.contains(&asked) {
                    known.push(asked);
                    return Err(Unconverted::Later);
                }
            }
            let (old, new) = match to {
                "e/v1" => ("binaryData", "data"),
                "e/v2" => ("data", "binaryData"),
                "e/v3" => return Err(Unconverted::Failed("the webhook is out".into())),
                _ => return Err(Unconverted::Missing),
            };
            let mut object = object.clone();
            let map = object.as_object_mut().unwrap();
            if let Some(value) = map.remove(old) {
                map.insert(new.into(), value);
            }
            map.insert("apiVersion".into(), to.into());
            Ok(object)
        }
    }

    fn writer<'a>(manager: &'a str, api_version: &'a str, versions: &'a Renaming) -> Writer<'a> {
        let (reset_fields, now, versions) = (Ignored::NOTHING, Timestamp::UNIX_EPOCH, Some(versions as &dyn Convert));
        Writer { manager, api_version, subresource: "", reset_fields, now, versions }
    }

    fn object(version: &str, field: &str, data: Value) -> Value {
        json!({"apiVersion": version, "kind": "W", "metadata": {"name": "a"}, field: data})
    }

    /// What `one` applied as version 1, with a uid.
    fn live() -> Value {
        let config = object("e/v1", "data", json!({"k": "MQ==", "l": "MQ=="}));
        let mut live =
            apply(schema(), None, &config, &writer("one", "e/v1", &Renaming::default()), false).unwrap().value;
        live["metadata"]["uid"] = json!("u");
        live
    }

    /// The object as version 2 shows it, with its owners.
    fn shown() -> Value {
        Renaming::default().convert(&live(), "e/v2").unwrap()
    }

    fn owners(object: &Value) -> Vec<(&str, &str, Value)> {
        let entries = object["metadata"]["managedFields"].as_array().unwrap();
        entries
            .iter()
            .map(|entry| {
                let named = |key: &str| entry[key].as_str().unwrap();
                (named("manager"), named("apiVersion"), entry["fieldsV1"].clone())
            })
            .collect()
    }

    #[test]
    fn a_conflict_is_found_and_told_in_the_version_of_the_owner() {
        let versions = Renaming::default();
        let config = object("e/v2", "binaryData", json!({"k": "Mg=="}));
        let refused = apply(schema(), Some(&shown()), &config, &writer("two", "e/v2", &versions), false).unwrap_err();
        assert_eq!(refused.to_string(), "Apply failed with 1 conflict: conflict with \"one\": .data.k");
        let forced = apply(schema(), Some(&shown()), &config, &writer("two", "e/v2", &versions), true).unwrap().value;
        assert_eq!(
            owners(&forced),
            [("one", "e/v1", json!({"f:data": {"f:l": {}}})), ("two", "e/v2", json!({"f:binaryData": {"f:k": {}}})),]
        );
    }

    #[test]
    fn what_is_no_longer_applied_goes_although_it_was_applied_in_another_version() {
        let versions = Renaming::default();
        let config = object("e/v2", "binaryData", json!({"k": "MQ=="}));
        let applied = apply(schema(), Some(&shown()), &config, &writer("one", "e/v2", &versions), false).unwrap().value;
        assert_eq!(applied["binaryData"], json!({"k": "MQ=="}));
        assert_eq!(owners(&applied), [("one", "e/v2", json!({"f:binaryData": {"f:k": {}}}))]);
    }

    #[test]
    fn an_update_takes_from_owners_in_other_versions_what_it_changes() {
        let versions = Renaming::default();
        let (live, mut new) = (shown(), shown());
        new["binaryData"] = json!({"k": "Mg=="});
        track_update(schema(), Some(&live), &mut new, &writer("two", "e/v2", &versions)).unwrap();
        assert_eq!(owners(&new), [("two", "e/v2", json!({"f:binaryData": {"f:k": {}}}))]);
    }

    #[test]
    fn what_has_to_wait_changes_nothing_and_goes_on_later() {
        let slow = Renaming { slow: Some(Mutex::default()) };
        let (live, mut new) = (shown(), shown());
        new["binaryData"] = json!({"k": "Mg==", "l": "MQ=="});
        let before = new.clone();
        let mut rounds = 0;
        while let Err(error) = track_update(schema(), Some(&live), &mut new, &writer("two", "e/v2", &slow)) {
            assert_eq!((error, &new), (Unconverted::Later, &before));
            rounds += 1;
        }
        assert_eq!(rounds, 2, "the live object and the new one");
        let mut at_once = before;
        track_update(schema(), Some(&live), &mut at_once, &writer("two", "e/v2", &Renaming::default())).unwrap();
        assert_eq!(new, at_once);
    }

    #[test]
    fn a_version_that_is_gone_is_forgotten_and_one_that_fails_stops_an_apply() {
        let versions = Renaming::default();
        let mut live = live();
        let config = object("e/v1", "data", json!({"k": "Mg=="}));
        live["metadata"]["managedFields"][0]["apiVersion"] = json!("e/v4");
        let applied = apply(schema(), Some(&live), &config, &writer("two", "e/v1", &versions), false).unwrap().value;
        assert_eq!(owners(&applied), [("two", "e/v1", json!({"f:data": {"f:k": {}}}))]);

        live["metadata"]["managedFields"][0]["apiVersion"] = json!("e/v3");
        let failed = apply(schema(), Some(&live), &config, &writer("two", "e/v1", &versions), true).unwrap_err();
        assert_eq!(failed, ApplyError::Unconverted(Unconverted::Failed("the webhook is out".into())));
        let mut new = live.clone();
        new["data"]["k"] = json!("Mw==");
        assert!(track_update(schema(), Some(&live), &mut new, &writer("two", "e/v1", &versions)).is_err());
        assert_eq!(new["metadata"].get("managedFields"), None, "nothing is kept that may be wrong");
    }

    #[test]
    fn what_has_become_one_value_is_owned_as_one() {
        let pod = Schemas::builtin().named("io.k8s.api.core.v1.Pod").unwrap();
        let set = json!({"f:spec": {"f:nodeSelector": {"f:a": {}}, "f:containers": {"k:{\"name\":\"c\"}": {
            "f:command": {"v:\"x\"": {}}, "f:image": {}}}}});
        let owned = json!({"f:spec": {"f:nodeSelector": {}, "f:containers": {"k:{\"name\":\"c\"}": {
            "f:command": {}, "f:image": {}}}}});
        assert_eq!(reconciled(pod, &FieldSet::decode(&set)).encode(), owned);
    }
}
