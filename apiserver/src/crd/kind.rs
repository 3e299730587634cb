//! Custom objects as the generic verbs see them: one kind per served version of a definition.

use std::sync::Arc;

use futures::future::BoxFuture;
use martello_api::{
    resource::{Resource, Text},
    schema::{self, Schema},
    status::{ApiError, Cause},
};
use serde_json::Value;

use super::{
    check::check,
    convert,
    definition::{Definition, Version},
    shape,
};
use crate::{
    registry::{
        Kind,
        call::Call,
        kind::{Cell, Change, Checked, Generation, Strategy, Told, plain_field},
        object,
        select::FieldReader,
        validation::metadata,
        verbs::scale::ScalePaths,
    },
    server::Core,
    store::Entry,
};

/// Under what an entry keeps by which schema it was stored. No selector can name it.
const MARK: &str = "schema()";

/// Reasons of faults after which rules are not asked.
const SHAPELESS: [&str; 5] =
    ["FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid"];

/// The objects of one version.
pub struct Objects {
    definition: Arc<Definition>,
    at: usize,
    resource: Resource,
}

/// The kinds that a definition serves.
#[must_use]
pub fn kinds(definition: &Arc<Definition>) -> Vec<Arc<Kind>> {
    let served = definition.versions.iter().enumerate().filter(|(_, version)| version.served);
    served
        .map(|(at, version)| {
            let resource = definition.resource(version);
            Arc::new(Kind::new(Objects { definition: Arc::clone(definition), at, resource }))
        })
        .collect()
}

impl Objects {
    fn version(&self) -> &Version {
        // The place was found when the kind was made; the first stands in so that there is no way to fail.
        static NONE: std::sync::LazyLock<Definition> = std::sync::LazyLock::new(|| {
            Definition::compile(&serde_json::json!({"spec": {"versions": [{"name": "v1"}]}}))
        });
        let found = self.definition.versions.get(self.at);
        #[allow(clippy::indexing_slicing, reason = "the stand-in was compiled from one version")]
        found.unwrap_or_else(|| &NONE.versions[0])
    }

    fn is_storage(&self) -> bool {
        self.version().name == self.definition.storage
    }
}

impl Strategy for Objects {
    fn resource(&self) -> Resource {
        self.resource.clone()
    }

    fn storage(&self) -> Option<Text> {
        Some(self.definition.stored_as().into())
    }

    fn schema(&self) -> Option<&Schema> {
        Some(&self.version().table)
    }

    fn identity(&self) -> &str {
        &self.definition.identity
    }

    fn told(&self) -> Option<Told> {
        let stored = self.definition.version(&self.definition.storage).filter(|version| version.served);
        let offered = |verb: &Text| !self.definition.terminating || !matches!(&**verb, "create" | "patch" | "update");
        Some(Told {
            verbs: self.resource.verbs.iter().filter(|verb| offered(verb)).cloned().collect(),
            stored: stored.map(|version| version.name.clone()),
        })
    }

    fn openapi(&self) -> Option<Arc<Value>> {
        Some(Arc::clone(&self.version().openapi))
    }

    fn list_kind(&self) -> String {
        self.definition.names.list_kind.clone()
    }

    fn has_status(&self) -> bool {
        self.version().has_status
    }

    fn generation(&self) -> Generation {
        Generation::Exact { status: !self.has_status() }
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn prepare_status(&self, object: &mut Value, old: &Value) {
        let own = |key: &str| object::at(object, &["metadata", key]).cloned();
        let kept = ["managedFields", "resourceVersion"].map(|key| (key, own(key)));
        object::copy_key(object, old, "metadata");
        for (key, value) in kept {
            match value {
                Some(value) => object::set(object, &["metadata"], key, value),
                None => {
                    object::remove(object, &["metadata"], key);
                }
            }
        }
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        if shape::is_unwieldy(object, causes) {
            return;
        }
        let version = self.version();
        check(&version.rules, object, None, "", causes);
        shape::scale(version.scale.as_ref(), object, causes);
        shape::embedded(&version.rules, object, causes);
        shape::lists(&version.rules, object, causes);
        self.expressions(object, None, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        if shape::is_unwieldy(object, causes) {
            return;
        }
        let version = self.version();
        check(&version.rules, object, Some(old), "", causes);
        shape::scale(version.scale.as_ref(), object, causes);
        shape::embedded(&version.rules, object, causes);
        self.new_faults_of_lists(object, old, causes);
        self.expressions(object, Some(old), causes);
    }

    fn validate_status(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        if shape::is_unwieldy(object, causes) {
            return;
        }
        let version = self.version();
        if let (Some(rules), Some(status)) = (version.rules.object.fields.get("status"), object.get("status")) {
            check(rules, status, old.get("status"), "status", causes);
        }
        shape::scale_status(version.scale.as_ref(), object, causes);
        self.new_faults_of_lists(object, old, causes);
        self.expressions(object, Some(old), causes);
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut told = match (&self.version().expressions, old) {
            (Some(expressions), Some(_)) => expressions.evaluate(object, old).tolerated,
            _ => Vec::new(),
        };
        told.extend(metadata::finalizer_warnings(object, old));
        told
    }

    fn selects(&self, path: &str) -> bool {
        self.version().selectable.iter().any(|(own, _)| own == path)
    }

    fn unknown_field(&self, path: &str) -> String {
        format!("field label not supported: {path}")
    }

    fn index(&self, stored: &Value) -> Vec<(String, String)> {
        let Some(version) = self.definition.version(&self.definition.storage) else { return Vec::new() };
        let mut fields: Vec<(String, String)> =
            version.selectable.iter().map(|(path, _)| (path.clone(), plain_field(stored, path))).collect();
        fields.push((MARK.to_owned(), version.mark.clone()));
        fields
    }

    fn field_reader(&self) -> Option<FieldReader> {
        let (definition, at) = (Arc::clone(&self.definition), self.at);
        let version = definition.versions.get(at)?;
        if version.selectable.is_empty() {
            return None;
        }
        Some(FieldReader::new(move |entry, path| {
            let storage = definition.version(&definition.storage)?;
            if entry.fields.get(MARK) == Some(storage.mark.as_str()) && entry.fields.get(path).is_some() {
                return None;
            }
            // Stored by another schema, which may not have had this field or its default.
            let mut object: Value = serde_json::from_slice(entry.bytes()).ok()?;
            schema::apply_defaults(&storage.table, &mut object);
            Some(plain_field(&object, path))
        }))
    }

    fn hides_fields(&self, entry: &Entry) -> bool {
        // Who alone knows what becomes of a field is a webhook.
        object::text(&self.definition.conversion, &["strategy"]) == "Webhook"
            && entry.fields.get(MARK) != Some(self.version().mark.as_str())
    }

    fn column_definitions(&self) -> Option<&[Value]> {
        Some(&self.version().columns.told)
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        self.version().columns.row(object)
    }

    fn scale_paths(&self) -> Option<&ScalePaths> {
        self.version().scale.as_ref()
    }

    fn replicas_in(&self, api_version: &str) -> Option<Vec<String>> {
        let version = api_version.strip_prefix(self.definition.group.as_str())?.strip_prefix('/')?;
        let version = self.definition.version(version)?;
        Some(version.scale.as_ref().map(|paths| paths.spec_replicas.clone()).unwrap_or_default())
    }

    fn before_commit<'a>(&'a self, core: &'a Arc<Core>, _call: &'a Call, change: Change<'a>) -> Checked<'a> {
        let refused = change.old.is_none() && self.definition.terminating;
        let refusal = refused.then(|| {
            let why = "create not allowed while custom resource definition is terminating";
            let Definition { group, names, .. } = &*self.definition;
            ApiError::forbidden(group, &names.plural, object::name(change.object), why)
        });
        Box::pin(async move {
            if let Some(refusal) = refusal {
                return Err(refusal);
            }
            if change.dry_run && !self.is_storage() {
                // What would have been stored is what is answered.
                let stored = self.write(core, change.object.clone()).await?;
                *change.object = self.read(core, stored).await?;
            }
            Ok(())
        })
    }

    fn deprecation(&self) -> Option<&str> {
        self.version().deprecation.as_deref()
    }

    fn converts(&self) -> bool {
        !self.is_storage()
    }

    fn shows_as_stored(&self, entry: &Entry) -> bool {
        self.is_storage() && entry.fields.get(MARK) == Some(self.version().mark.as_str())
    }

    fn read<'a>(&'a self, core: &'a Core, stored: Value) -> BoxFuture<'a, Result<Value, ApiError>> {
        Box::pin(async move {
            let mut read = self.read_all(core, vec![stored]).await?;
            read.pop().ok_or_else(|| ApiError::internal("a conversion lost its object"))
        })
    }

    fn read_all<'a>(&'a self, core: &'a Core, mut stored: Vec<Value>) -> BoxFuture<'a, Result<Vec<Value>, ApiError>> {
        Box::pin(async move {
            for object in &mut stored {
                let from = object::text(object, &["apiVersion"]).rsplit('/').next().unwrap_or_default();
                if let Some(from) = self.definition.version(from) {
                    schema::apply_defaults(&from.table, object);
                }
            }
            self.converted(core, stored, self.version()).await
        })
    }

    fn schema_in(&self, api_version: &str) -> Option<&Schema> {
        let (group, version) = api_version.split_once('/')?;
        self.definition.version(version).filter(|_| group == self.definition.group).map(|version| &version.table)
    }

    fn convert<'a>(&'a self, core: &'a Core, object: Value, to: &'a str) -> BoxFuture<'a, Result<Value, ApiError>> {
        Box::pin(async move {
            let to = to.rsplit('/').next().and_then(|to| self.definition.version(to));
            let Some(to) = to else { return Ok(object) };
            // As upstream does, by way of the version that the request is about.
            let mut objects = vec![object];
            for version in [self.version(), to] {
                objects = convert::convert(core, &self.definition, objects, version).await?;
            }
            objects.pop().ok_or_else(|| ApiError::internal("a conversion lost its object"))
        })
    }

    fn write<'a>(&'a self, core: &'a Core, object: Value) -> BoxFuture<'a, Result<Value, ApiError>> {
        Box::pin(async move {
            let Some(storage) = self.definition.version(&self.definition.storage) else { return Ok(object) };
            let mut written = self.converted(core, vec![object], storage).await?;
            written.pop().ok_or_else(|| ApiError::internal("a conversion lost its object"))
        })
    }
}

impl Objects {
    /// Objects as a version, without what that has no place for.
    async fn converted(&self, core: &Core, objects: Vec<Value>, to: &Version) -> Result<Vec<Value>, ApiError> {
        let mut objects = convert::convert(core, &self.definition, objects, to).await?;
        for object in &mut objects {
            schema::prune(&to.table, object);
        }
        Ok(objects)
    }

    /// Rules are asked only about objects whose shape they can rely on.
    fn expressions(&self, object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
        let Some(expressions) = &self.version().expressions else { return };
        if causes.iter().any(|cause| SHAPELESS.contains(&cause.reason.as_str())) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            causes.push(Cause::invalid("<nil>", &Value::Null, why));
            return;
        }
        causes.extend(expressions.evaluate(object, old).causes);
    }

    /// Lists that were wrong before may stay so.
    fn new_faults_of_lists(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let mut before = Vec::new();
        shape::lists(&self.version().rules, old, &mut before);
        if before.is_empty() {
            shape::lists(&self.version().rules, object, causes);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_that_no_selector_may_name_is_told_in_the_words_for_custom_objects() {
        let definition = Arc::new(Definition::compile(&json!({"spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true}],
        }})));
        let resource = definition.resource(definition.versions.first().unwrap());
        let objects = Objects { definition, at: 0, resource };
        assert_eq!(objects.unknown_field("spec.x"), "field label not supported: spec.x");
    }
}
