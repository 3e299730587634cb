//! The rules of a kind: what it says of itself, and what the verbs ask of it on the way.

use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;
use martello_api::{
    resource::{GroupVersionKind, Resource, Text},
    schema::Schema,
    status::{ApiError, Cause},
};
use serde_json::Value;

use super::{AGE_DESCRIPTION, Begun, Cell, Change, Column, Kind, NameRule};
use crate::{
    http::reply::Reply,
    registry::{call::Call, object, select::FieldReader, verbs::scale::ScalePaths},
    server::Core,
    store::Entry,
};

/// When `metadata.generation` grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// Never, and what a client writes stays, as upstream's oldest kinds do.
    Untouched,
    /// When anything outside `metadata` and `status` changes.
    Spec,
    /// When anything outside `metadata` changes; `status` too where the flag says so. Null is not taken for absence.
    Exact {
        /// Whether the status counts.
        status: bool,
    },
}

/// What a delete answers with when the object is gone at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// A `Status` of success.
    Status,
    /// The object as it last was.
    Object,
}

/// What discovery tells of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What can be done with its objects.
    pub verbs: Vec<Text>,
    /// The version that its objects are stored in, where that is served.
    pub stored: Option<String>,
}

/// Whether a write goes on.
pub type Checked<'a> = BoxFuture<'a, Result<(), ApiError>>;

/// What is wrong with an object, as far as could be looked.
pub type Judged<'a> = BoxFuture<'a, Result<Vec<Cause>, ApiError>>;

/// What a subresource answers.
pub type Served<'a> = BoxFuture<'a, Result<Reply, ApiError>>;

/// The rules of a kind. Everything has the default that most kinds share.
pub trait Strategy: Send + Sync + 'static {
    /// Its names, verbs and subresources.
    fn resource(&self) -> Resource;

    /// Under what its objects are stored.
    fn storage(&self) -> Option<Text> {
        None
    }

    /// The schema of a custom kind; those of built-in kinds are found by their names.
    fn schema(&self) -> Option<&Schema> {
        None
    }

    /// How discovery tells of it, where that differs from how it is served.
    fn told(&self) -> Option<Told> {
        None
    }

    /// What changes whenever a custom kind is served otherwise: under the same names, by another schema.
    fn identity(&self) -> &str {
        ""
    }

    /// The schema of a custom kind as it was given, for OpenAPI.
    fn openapi(&self) -> Option<Arc<Value>> {
        None
    }

    /// The kind of its lists.
    fn list_kind(&self) -> String {
        format!("{}List", self.resource().gvk.kind)
    }

    /// The group that messages about invalid objects name.
    fn group_in_messages(&self) -> Option<&'static str> {
        None
    }

    /// Whether its objects are envelope-encrypted before they are stored.
    fn sealed(&self) -> bool {
        false
    }

    /// How its objects are named.
    fn name_rule(&self) -> NameRule {
        NameRule::Subdomain
    }

    /// Defaults beyond those that the schema states.
    fn default(&self, _object: &mut Value) {}

    /// What the server alone decides about a new object.
    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        if self.has_status() {
            object::remove(object, &[], "status");
        }
    }

    /// What the server alone decides about a changed object; the status has been restored.
    fn prepare_update(&self, _object: &mut Value, _old: &Value, _now: Timestamp) {}

    /// What the server alone decides about a changed status; the spec has been restored, and it is written down whose
    /// fields were set.
    fn prepare_status(&self, _object: &mut Value, _old: &Value) {}

    /// Whether a write of its status leaves its metadata as they are.
    fn status_keeps_metadata(&self) -> bool {
        false
    }

    /// Whether a write of the object leaves its status as it is.
    fn keeps_status(&self) -> bool {
        self.has_status()
    }

    /// What is wrong with a new object, metadata apart.
    fn validate(&self, _object: &Value, _causes: &mut Vec<Cause>) {}

    /// What is wrong with a new object only, metadata apart. [`Strategy::validate`] is called besides.
    fn validate_create(&self, _object: &Value, _causes: &mut Vec<Cause>) {}

    /// What is wrong with a changed object, metadata apart. [`Strategy::validate`] is called besides.
    fn validate_update(&self, _object: &Value, _old: &Value, _causes: &mut Vec<Cause>) {}

    /// What is wrong with a changed status.
    fn validate_status(&self, _object: &Value, _old: &Value, _causes: &mut Vec<Cause>) {}

    /// Subresources that change a part of the object by rules of the kind's own (approval of certificate requests).
    fn aspects(&self) -> &'static [&'static str] {
        &[]
    }

    /// Restores what such a subresource may not change.
    fn shape_aspect(&self, _name: &str, _object: &mut Value, _old: &Value) {}

    /// What is wrong with an object that such a subresource changed.
    fn validate_aspect(&self, _name: &str, _object: &Value, _old: &Value, _causes: &mut Vec<Cause>) {}

    /// Fields that a write through the object itself (no name) or a subresource does not change, and so does not own; none
    /// for what most kinds have.
    fn reset_fields(&self, _subresource: &str) -> Option<&'static [&'static [&'static str]]> {
        None
    }

    /// The only fields that a write through this subresource can change and own, where it is told so; `*` is any element.
    fn written_fields(&self, _subresource: &str) -> Option<&'static [&'static [&'static str]]> {
        None
    }

    /// What a client is told of what is about to be settled for it, before anything is checked.
    fn early_warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// What a client is told that changed the status.
    fn status_warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// What a client is told besides.
    fn warnings(&self, _object: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// Whether it has a status that only the status subresource changes.
    fn has_status(&self) -> bool {
        self.resource().subresources.iter().any(|subresource| subresource.name == "status")
    }

    /// When its generation grows.
    fn generation(&self) -> Generation {
        Generation::Untouched
    }

    /// Whether a put to a missing name creates.
    fn creates_on_update(&self) -> bool {
        false
    }

    /// Whether a put may come without a resourceVersion.
    fn allows_unconditional_update(&self) -> bool {
        true
    }

    /// What a delete answers with.
    fn deleted(&self) -> Deleted {
        Deleted::Status
    }

    /// Seconds that a delete leaves the object to end, given what was asked for; none deletes at once.
    fn grace(&self, _object: &Value, _asked: Option<i64>) -> Option<i64> {
        None
    }

    /// Whether a delete that does not say what becomes of dependents leaves them (of upstream's oldest kinds).
    fn orphans_by_default(&self) -> bool {
        false
    }

    /// What a client is told that deletes without saying what becomes of dependents.
    fn delete_warning(&self) -> Option<&'static str> {
        None
    }

    /// Finalizers that are kept outside `metadata` and hold a deleted object back (of Namespaces).
    fn holds_back(&self, _object: &Value) -> bool {
        false
    }

    /// Whether a delete says what becomes of dependents (not of Events).
    fn collects_garbage(&self) -> bool {
        true
    }

    /// What a delete changes besides (of Namespaces: the phase).
    fn mark_deleted(&self, _object: &mut Value) {}

    /// Field selectors beside `metadata.name` and `metadata.namespace`.
    fn selectable(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether a field selector may name `path`.
    fn selects(&self, path: &str) -> bool {
        self.selectable().contains(&path)
    }

    /// What is kept beside a stored object, so that selectors need not read it.
    fn index(&self, stored: &Value) -> Vec<(String, String)> {
        self.indexed().iter().map(|path| ((*path).to_owned(), self.field(stored, path))).collect()
    }

    /// What a client is told who selects by another field.
    fn unknown_field(&self, path: &str) -> String {
        if self.selectable().is_empty() {
            format!("{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        } else {
            format!("field label not supported: {path}")
        }
    }

    /// What reads fields of entries whose index may lack them.
    fn field_reader(&self) -> Option<FieldReader> {
        None
    }

    /// Whether the fields of an entry can't be read from what is stored: what this kind shows of it has other ones.
    fn hides_fields(&self, _entry: &Entry) -> bool {
        false
    }

    /// What a field selector sees.
    fn field(&self, object: &Value, path: &str) -> String {
        plain_field(object, path)
    }

    /// Columns of a Table.
    fn columns(&self) -> &'static [Column] {
        const NAME_AND_AGE: [Column; 2] = [
            Column::name(),
            Column { name: "Created At", kind: "date", format: "", description: AGE_DESCRIPTION, priority: 0 },
        ];
        &NAME_AND_AGE
    }

    /// Columns of a Table as they are told, where they are known only at run time.
    fn column_definitions(&self) -> Option<&[Value]> {
        None
    }

    /// The kind whose fields the columns show, where it is another.
    fn described_as(&self) -> Option<GroupVersionKind> {
        None
    }

    /// Cells of a row, by column. A row is kept beside its object: it follows from the object alone.
    fn row(&self, object: &Value) -> Vec<Cell> {
        vec![object::name(object).into(), object::text(object, &["metadata", "creationTimestamp"]).into()]
    }

    /// By what rows of a list are ordered before their names, where anything comes before these.
    fn row_rank(&self) -> Option<fn(&Value) -> i64> {
        None
    }

    /// What a row says of its object besides: that it has come to its end.
    fn row_condition(&self, _object: &Value) -> Option<Value> {
        None
    }

    /// Before a new or changed object is checked; gives it what is given once, or refuses. What was given is taken back where
    /// the object is not stored after all.
    fn begin(&self, _core: &Arc<Core>, _change: Change<'_>) -> Result<Begun, ApiError> {
        Ok(Begun::default())
    }

    /// Once it is known what is to be written, and before that is named and checked: refuses what its writer may not write.
    fn guard<'a>(
        &'a self,
        _core: &'a Arc<Core>,
        _call: &'a Call,
        _object: &'a Value,
        _old: Option<&'a Value>,
    ) -> Checked<'a> {
        Box::pin(async { Ok(()) })
    }

    /// What is wrong with a new or changed object that other objects or rights tell: told before its own faults.
    fn judged<'a>(
        &'a self,
        _core: &'a Arc<Core>,
        _call: &'a Call,
        _object: &'a Value,
        _old: Option<&'a Value>,
    ) -> Judged<'a> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Before a change is stored; may fill in or refuse.
    fn before_commit<'a>(&'a self, _core: &'a Arc<Core>, _call: &'a Call, _change: Change<'a>) -> Checked<'a> {
        Box::pin(async { Ok(()) })
    }

    /// Writes down that a delete has begun, for kinds that do so in their own way and end later by themselves; answers
    /// whether it did.
    fn begin_delete(&self, _object: &mut Value, _now: Timestamp) -> bool {
        false
    }

    /// Why a verb that is offered can't be used now.
    fn refuses(&self, _verb: &str) -> Option<ApiError> {
        None
    }

    /// What clients of a deprecated version are told, on every call.
    fn deprecation(&self) -> Option<&str> {
        None
    }

    /// Before a delete is stored; may refuse.
    fn before_delete(&self, _call: &Call, _object: &Value) -> Result<(), ApiError> {
        Ok(())
    }

    /// After an object came, changed or went, at this revision. Of two commits the later may be told first.
    fn after_commit(&self, _core: &Arc<Core>, _object: Option<&Value>, _old: Option<&Value>, _revision: u64) {}

    /// Refuses a question of such a kind that can't be answered, before those that users configured judge it.
    fn check_question(&self, _call: &Call, _object: &Value) -> Result<(), ApiError> {
        Ok(())
    }

    /// A kind that answers without being stored (reviews): what a create answers.
    fn answer<'a>(
        &'a self,
        _core: &'a Arc<Core>,
        _call: &'a Call,
        _object: Value,
    ) -> Option<BoxFuture<'a, Result<Value, ApiError>>> {
        None
    }

    /// Where its scale is, where that is not in `replicas` of spec and status.
    fn scale_paths(&self) -> Option<&ScalePaths> {
        None
    }

    /// Where the number of replicas is in a version of a custom kind: an empty path where that has no scale, nothing where there
    /// is no such version.
    fn replicas_in(&self, _api_version: &str) -> Option<Vec<String>> {
        None
    }

    /// All objects of a kind that is not stored and can be read all the same.
    fn computed(&self, _core: &Arc<Core>) -> Option<Vec<Value>> {
        None
    }

    /// A subresource with rules of its own.
    fn subresource(&self, _name: &str) -> Option<&'static dyn Connect> {
        None
    }

    /// The form in which another view of the same storage keeps it (events): to what is stored.
    fn to_stored(&self, _object: &mut Value) {}

    /// And back.
    fn show_stored(&self, _object: &mut Value) {}

    /// Under which path a field of this view is kept in the stored form.
    fn stored_field(&self, path: &str) -> Option<&'static str> {
        let _ = path;
        None
    }

    /// The fields of the stored form that selectors of any view may name.
    fn indexed(&self) -> &'static [&'static str] {
        self.selectable()
    }

    /// Whether the stored form differs from this view.
    fn converts(&self) -> bool {
        false
    }

    /// Whether this view shows an entry as it is stored, to the byte.
    fn shows_as_stored(&self, _entry: &Entry) -> bool {
        !self.converts()
    }

    /// What this view shows of what is stored.
    fn read<'a>(&'a self, _core: &'a Core, mut stored: Value) -> BoxFuture<'a, Result<Value, ApiError>> {
        self.show_stored(&mut stored);
        Box::pin(async { Ok(stored) })
    }

    /// What this view shows of several stored objects, at once where that is cheaper.
    fn read_all<'a>(&'a self, core: &'a Core, stored: Vec<Value>) -> BoxFuture<'a, Result<Vec<Value>, ApiError>> {
        Box::pin(async move {
            let mut read = Vec::with_capacity(stored.len());
            for stored in stored {
                read.push(self.read(core, stored).await?);
            }
            Ok(read)
        })
    }

    /// The schema of another version of a kind that came at run time.
    fn schema_in(&self, _api_version: &str) -> Option<&Schema> {
        None
    }

    /// An object of a kind that came at run time as another of its versions has it.
    fn convert<'a>(&'a self, _core: &'a Core, object: Value, _to: &'a str) -> BoxFuture<'a, Result<Value, ApiError>> {
        Box::pin(async { Ok(object) })
    }

    /// What is to be stored of an object.
    fn write<'a>(&'a self, _core: &'a Core, mut object: Value) -> BoxFuture<'a, Result<Value, ApiError>> {
        self.to_stored(&mut object);
        Box::pin(async { Ok(object) })
    }
}

/// A subresource with rules of its own.
pub trait Connect: Send + Sync {
    /// Serves a call on it.
    fn serve<'a>(&'a self, core: &'a Arc<Core>, kind: &'a Arc<Kind>, call: Call) -> Served<'a>;
}

/// The value at a dotted path as text, as field selectors compare it.
#[must_use]
pub fn plain_field(object: &Value, path: &str) -> String {
    let found = path.split('.').try_fold(object, |value, key| value.get(key));
    match found {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(truth)) => truth.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}
