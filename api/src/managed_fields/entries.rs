//! The entries of `metadata.managedFields`: read, changed, ordered and written.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::compare::Changes;
use super::set::FieldSet;
use super::versions::{Convert, Differences, Unconverted, reconciled, seen};
use super::{Schema, Writer, element, rfc3339_seconds};
use crate::resource::GroupVersionKind;
use crate::schema::Schemas;

/// Entries of updates that are kept apart; older ones are joined, as upstream does.
const MAX_UPDATE_ENTRIES: usize = 10;
/// Whose entry the joined ones become.
const ANCIENT: &str = "ancient-changes";

/// By what an entry came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// What one manager owns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    pub(super) time: Option<String>,
    pub(super) set: FieldSet,
}

impl Entry {
    /// Appliers are told apart without their version.
    fn is(&self, operation: Operation, manager: &str, api_version: &str, subresource: &str) -> bool {
        self.operation == operation
            && self.manager == manager
            && self.subresource == subresource
            && (operation == Operation::Apply || self.api_version == api_version)
    }

    /// `"kubectl" using apps/v1`, as upstream prints it.
    pub(super) fn display(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }

    /// What upstream tells managers apart by, and sorts them by when it lists conflicts: JSON as Go writes it.
    pub(super) fn identifier(&self) -> String {
        let (operation, version) = match self.operation {
            Operation::Apply => ("Apply", ""),
            Operation::Update => ("Update", self.api_version.as_str()),
        };
        let fields = [
            ("manager", self.manager.as_str()),
            ("operation", operation),
            ("apiVersion", version),
            ("subresource", self.subresource.as_str()),
        ];
        let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
        let fields: Vec<String> = fields.map(|(name, value)| format!("\"{name}\":{}", Value::from(value))).collect();
        let escaped = fields.join(",").replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
        format!("{{{escaped}}}")
    }
}

/// All entries of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Managed {
    entries: Vec<Entry>,
}

/// Whether the kind of `schema` exists in a version; of custom kinds that is not known here.
pub(super) fn has_version(schema: &Schema, api_version: &str) -> bool {
    /// One kind, in two groups.
    const EVENTS: [&str; 2] = ["", "events.k8s.io"];
    let Some(own) = schema.kinds.first() else { return true };
    if schema.kinds.iter().any(|gvk| gvk.api_version() == api_version) {
        return true;
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let other =
        GroupVersionKind { group: group.to_owned().into(), version: version.to_owned().into(), kind: own.kind.clone() };
    let is_kin = *own.group == *group || (EVENTS.contains(&group) && EVENTS.contains(&&*own.group));
    is_kin && Schemas::builtin().get(&other).is_some()
}

/// Whether a client asks to forget all owners: a list of one empty entry.
pub(super) fn is_reset(value: &Value) -> bool {
    matches!(value.as_array().map(Vec::as_slice), Some([Value::Object(entry)]) if entry.values().all(|field| field.as_str().is_none_or(str::is_empty)))
}

impl Managed {
    /// Nothing where any entry is malformed. Of entries of one manager the last counts.
    pub(super) fn decode(value: &Value) -> Option<Self> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut places = HashMap::new();
        for entry in value.as_array()? {
            let told = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
            let text = |name: &str| told(name).to_owned();
            let operation = match told("operation") {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return None,
            };
            let fields = entry.get("fieldsV1")?;
            if text("fieldsType") != "FieldsV1" || text("apiVersion").is_empty() || !element::are_all(fields) {
                return None;
            }
            let set = FieldSet::decode(fields);
            let found = Entry {
                manager: text("manager"),
                operation,
                api_version: text("apiVersion"),
                subresource: text("subresource"),
                time: Some(text("time")).filter(|time| !time.is_empty()),
                set,
            };
            let version = if operation == Operation::Apply { "" } else { told("apiVersion") };
            let place =
                places.entry((operation, told("manager"), version, told("subresource"))).or_insert(entries.len());
            match entries.get_mut(*place) {
                Some(former) => *former = found,
                None => entries.push(found),
            }
        }
        Some(Self { entries })
    }

    /// In upstream's order: appliers first, then by time, by manager, by version, by subresource.
    pub(super) fn encode(mut self) -> Vec<Value> {
        self.entries.retain(|entry| !entry.set.is_empty());
        self.entries.sort_by(|a, b| {
            (a.operation, &a.time, &a.manager, &a.api_version, &a.subresource).cmp(&(
                b.operation,
                &b.time,
                &b.manager,
                &b.api_version,
                &b.subresource,
            ))
        });
        self.entries.into_iter().map(encode_entry).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Brings every set into the form in which the schema of its version owns fields, and drops what was set in versions
    /// that the kind does not have: nobody could tell what of it is still there.
    pub(super) fn reconcile(&mut self, versions: &dyn Convert, live: &Value) -> Result<(), Unconverted> {
        for mut entry in std::mem::take(&mut self.entries) {
            match seen(versions, live, &entry.api_version) {
                Ok(seen) => {
                    entry.set = reconciled(seen.schema, &entry.set);
                    self.entries.push(entry);
                }
                Err(Unconverted::Missing) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn entries_mut(&mut self) -> &mut [Entry] {
        &mut self.entries
    }

    pub(super) fn keep(&mut self, whether: impl FnMut(&Entry) -> bool) {
        self.entries.retain(whether);
    }

    pub(super) fn join(&mut self, other: Self) {
        self.entries.extend(other.entries);
    }

    /// Gives the writer what it changed, and takes that, and what is gone, from the others: from each in its own version.
    pub(super) fn update(
        &mut self,
        changes: Changes,
        mut differences: Differences<'_>,
        writer: &Writer<'_>,
    ) -> Result<(), Unconverted> {
        let own = changes.added.clone().union(changes.modified.clone());
        differences.know(writer.api_version, changes);
        for entry in &mut self.entries {
            let changes = match differences.within(&entry.api_version) {
                Ok(changes) => changes,
                Err(Unconverted::Missing) => {
                    entry.set = FieldSet::default();
                    continue;
                }
                Err(error) => return Err(error),
            };
            entry.set.subtract(&changes.modified);
            entry.set.subtract(&changes.added);
            entry.set.subtract(&changes.removed);
        }
        self.entries.retain(|entry| !entry.set.is_empty());
        if !own.is_empty() {
            let now = rfc3339_seconds(writer.now);
            let entry = self.entry(Operation::Update, writer);
            entry.set = std::mem::take(&mut entry.set).union(own);
            entry.time = Some(now);
        }
        self.cap();
        Ok(())
    }

    /// The writer's entry, made where there is none.
    pub(super) fn entry(&mut self, operation: Operation, writer: &Writer<'_>) -> &mut Entry {
        let (manager, version, subresource) = (writer.manager, writer.api_version, writer.subresource);
        let found = self.entries.iter().position(|entry| entry.is(operation, manager, version, subresource));
        let at = found.unwrap_or(self.entries.len());
        if found.is_none() {
            self.entries.push(Entry {
                manager: manager.to_owned(),
                operation,
                api_version: version.to_owned(),
                subresource: subresource.to_owned(),
                time: None,
                set: FieldSet::default(),
            });
        }
        let fallback = self.entries.len() - 1;
        let at = at.min(fallback);
        #[allow(clippy::indexing_slicing, reason = "an entry was found or pushed just above")]
        &mut self.entries[at]
    }

    /// The writer's entry for apply.
    pub(super) fn applied(&self, writer: &Writer<'_>) -> Option<&Entry> {
        let is_own =
            |entry: &&Entry| entry.is(Operation::Apply, writer.manager, writer.api_version, writer.subresource);
        self.entries.iter().find(is_own)
    }

    /// Entries of others than the applying writer, in the order in which conflicts are told.
    pub(super) fn others_mut(&mut self, writer: &Writer<'_>) -> Vec<&mut Entry> {
        let is_own = |entry: &Entry| entry.is(Operation::Apply, writer.manager, writer.api_version, writer.subresource);
        let mut others: Vec<&mut Entry> = self.entries.iter_mut().filter(|entry| !is_own(entry)).collect();
        others.sort_by_cached_key(|entry| entry.identifier());
        others
    }

    /// Joins the oldest updates, per version, where there are too many.
    fn cap(&mut self) {
        let is_update = |entry: &Entry| entry.operation == Operation::Update;
        let count = self.entries.iter().filter(|entry| is_update(entry)).count();
        if count <= MAX_UPDATE_ENTRIES {
            return;
        }
        self.entries.sort_by(|a, b| (a.operation, &a.time, &a.manager).cmp(&(b.operation, &b.time, &b.manager)));
        let mut surplus = count - MAX_UPDATE_ENTRIES;
        let mut kept: Vec<Entry> = Vec::with_capacity(self.entries.len());
        for mut entry in std::mem::take(&mut self.entries) {
            let ancient = |other: &&mut Entry| other.manager == ANCIENT && other.api_version == entry.api_version;
            if !is_update(&entry) || (surplus == 0 && entry.manager != ANCIENT) {
                kept.push(entry);
                continue;
            }
            match kept.iter_mut().find(ancient) {
                Some(bucket) => {
                    bucket.set = std::mem::take(&mut bucket.set).union(entry.set);
                    bucket.time = entry.time.max(bucket.time.take());
                    surplus = surplus.saturating_sub(1);
                }
                None => {
                    entry.manager = ANCIENT.to_owned();
                    entry.subresource.clear();
                    kept.push(entry);
                }
            }
        }
        self.entries = kept;
    }
}

fn encode_entry(entry: Entry) -> Value {
    let operation = match entry.operation {
        Operation::Apply => "Apply",
        Operation::Update => "Update",
    };
    let mut value = json!({
        "manager": entry.manager,
        "operation": operation,
        "apiVersion": entry.api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": entry.set.encode(),
    });
    if let Value::Object(map) = &mut value {
        if let Some(time) = entry.time {
            map.insert("time".into(), Value::String(time));
        }
        if !entry.subresource.is_empty() {
            map.insert("subresource".into(), Value::String(entry.subresource));
        }
    }
    value
}
