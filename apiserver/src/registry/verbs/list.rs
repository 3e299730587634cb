//! Lists: the bytes of the objects, joined.

use std::sync::Arc;

use bytes::Bytes;
use martello_api::{schema::ProtobufList, status::ApiError};
use serde_json::{Value, json};

use super::{
    answer,
    chosen::chosen,
    list_for_people::{self, Style},
};
use crate::{
    http::{
        body::{BoxError, ReplyBody},
        joined::{Joined, Part},
        negotiate::{Encoding, Form},
        reply::{self, Reply},
    },
    registry::{
        call::Call,
        kind::Kind,
        options::{Continue, ListOptions, Match},
        select::Selection,
        storage::{parse, store_failure, with_revision},
        table,
    },
    server::Core,
    store::{Entry, ListAt, Page, StoreError},
};

/// How many objects of the store are looked at in one go when few are selected of many.
const SCAN_PAGE: usize = 2_000;

/// A page of selected objects.
pub struct Selected {
    /// The revision of the state.
    pub revision: u64,
    /// The objects.
    pub items: Vec<Arc<Entry>>,
    /// Where to go on.
    pub next: Option<Continue>,
    /// How many more there are; none where a selector makes that unknown.
    pub remaining: Option<usize>,
}

/// Serves a list.
pub async fn list(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call) -> Result<Reply, ApiError> {
    let (options, selection) = Selection::listed(kind, &call.query, false)?;
    let selection = selection.named(call.name())?;
    let selected = select(core, kind, call.namespace(), &selection, &options).await?;
    render(core, kind, call, selected).await
}

/// Finds what is selected.
pub async fn select(
    core: &Arc<Core>,
    kind: &Kind,
    namespace: &str,
    selection: &Selection,
    options: &ListOptions,
) -> Result<Selected, ApiError> {
    let namespace = match selection.namespace() {
        Some(own) if namespace.is_empty() && kind.resource.namespaced => own,
        _ => namespace,
    };
    let scope = match selection.name() {
        Some(name) if !name.is_empty() && (!namespace.is_empty() || !kind.resource.namespaced) => {
            crate::store::Scope::object(&kind.key(namespace, name))
        }
        _ => kind.scope(namespace),
    };
    let mut at = match (&options.from, options.version) {
        (Some(from), _) => from.revision().map_or(ListAt::Latest, ListAt::Exact),
        (None, Match::Newest | Match::Any) => ListAt::Latest,
        (None, Match::Exact(revision)) => ListAt::Exact(revision),
        (None, Match::NotOlderThan(revision)) => ListAt::NotOlderThan(revision),
    };
    // Tokens name places as upstream's do, below the namespace that is listed: those of its cache, which Events lack, with
    // a slash before.
    let root = if kind.name() == "Event" { "" } else { "/" };
    let within =
        if kind.resource.namespaced && !namespace.is_empty() { format!("{namespace}/") } else { String::new() };
    let token = |revision: u64, last: &str| {
        Continue::new(revision, &format!("{root}{}", last.strip_prefix(&within).unwrap_or(last)))
    };
    let mut after: Option<Arc<str>> = options.from.as_ref().map(|from| Arc::from(format!("{within}{}", from.after())));
    let mut found = Selected { revision: 0, items: Vec::new(), next: None, remaining: None };
    loop {
        let limit = page_limit(selection, options.limit);
        let page = Page { limit, after: after.clone() };
        let listed = core.store.list(&scope, at, page).await.map_err(|error| list_failure(&error, options))?;
        found.revision = listed.revision;
        let last = listed.items.last().map(|entry| Arc::clone(entry.key.path()));
        let is_chosen = chosen(core, kind, selection, &listed.items).await?;
        for (entry, is_chosen) in listed.items.into_iter().zip(is_chosen) {
            // A full page goes on where there is anything behind it, selected or not.
            if is_full(&found, options) {
                found.next = found.items.last().map(|last| token(found.revision, last.key.path()));
                return Ok(found);
            }
            if is_chosen {
                found.items.push(entry);
            }
        }
        if listed.remaining == 0 {
            return Ok(found);
        }
        if is_full(&found, options) && !selection.is_everything() {
            found.next = found.items.last().map(|last| token(found.revision, last.key.path()));
            return Ok(found);
        }
        if options.limit > 0 && selection.is_everything() {
            found.remaining = Some(listed.remaining);
            found.next = last.map(|last| token(found.revision, &last));
            return Ok(found);
        }
        at = ListAt::Exact(found.revision);
        after = last;
    }
}

fn is_full(found: &Selected, options: &ListOptions) -> bool {
    options.limit > 0 && found.items.len() == options.limit
}

fn page_limit(selection: &Selection, limit: usize) -> Option<usize> {
    match (limit, selection.is_everything()) {
        (0, _) => None,
        (limit, true) => Some(limit),
        (limit, false) => Some(SCAN_PAGE.max(limit)),
    }
}

fn list_failure(error: &StoreError, options: &ListOptions) -> ApiError {
    match (error, &options.from) {
        (StoreError::Compacted { .. }, Some(from)) => {
            let mut expired = ApiError::expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
            );
            expired.resume = Some(from.in_newest().encode());
            expired
        }
        (StoreError::Compacted { .. }, None) => {
            ApiError::expired("The resourceVersion for the provided list is too old.")
        }
        (other, _) => store_failure(other),
    }
}

/// `metadata` of a list.
#[must_use]
pub fn list_metadata(kind: &Kind, selected: &Selected) -> Value {
    let mut metadata = table_metadata(selected);
    if let (None, true, Some(map)) = (&selected.next, kind.is_custom(), metadata.as_object_mut()) {
        // Lists without a type of their own tell an empty token.
        map.insert("continue".into(), "".into());
    }
    metadata
}

fn table_metadata(selected: &Selected) -> Value {
    let mut metadata = json!({"resourceVersion": selected.revision.to_string()});
    if let (Some(next), Some(map)) = (&selected.next, metadata.as_object_mut()) {
        map.insert("continue".into(), next.encode().into());
        if let Some(remaining) = selected.remaining {
            map.insert("remainingItemCount".into(), remaining.into());
        }
    }
    metadata
}

/// Answers with what was selected. What needs no opening and no converting is joined while it is sent.
pub async fn render(
    core: &Arc<Core>,
    kind: &Arc<Kind>,
    call: &Call,
    mut selected: Selected,
) -> Result<Reply, ApiError> {
    if let (Form::Table(_), Some(rank)) = (&call.accepted.form, kind.row_rank()) {
        rank_rows(&mut selected.items, rank);
    }
    let plain = call.accepted.encoding == Encoding::Json && !call.pretty();
    let ready = || selected.items.iter().all(|entry| !entry.is_sealed() && kind.shows_as_stored(entry));
    match &call.accepted.form {
        Form::Objects if plain && ready() => return answer::joined(objects(kind, selected)),
        Form::Objects if plain => return answer::joined(made_objects(core, kind, selected).await?),
        Form::MetadataList(version) if plain && ready() => return answer::joined(metadata(version, selected)),
        Form::Table(version) if plain && ready() => {
            let shape = table::Shape::of(call, version)?;
            return answer::joined(rows(shape, Arc::clone(kind), selected));
        }
        Form::Objects => {
            if let Some(style) = Style::of(call) {
                return for_people(core, kind, style, selected).await;
            }
        }
        _ => {}
    }
    let in_protobuf = call.accepted.encoding == Encoding::Protobuf && call.accepted.form == Form::Objects;
    if let Some(list) = in_protobuf.then(|| ProtobufList::new(&kind.resource.gvk, table_metadata(&selected))).flatten()
    {
        return protobuf(core, kind, &selected, list).await;
    }
    let values = core.values(kind, &selected.items).await?;
    answer::told(call, 200, shaped(kind, call, &selected, values)?)
}

/// Orders what comes by name by its rank.
fn rank_rows(items: &mut [Arc<Entry>], rank: fn(&Value) -> i64) {
    // What can't be read comes last: whoever opens it tells why.
    items.sort_by_cached_key(|entry| parse(entry.bytes()).map_or(i64::MAX, |value| rank(&value)));
}

/// A list in the form that the client asked for.
pub fn shaped(kind: &Kind, call: &Call, selected: &Selected, values: Vec<Value>) -> Result<Vec<u8>, ApiError> {
    let list = match &call.accepted.form {
        Form::Objects => {
            let items: Vec<Value> =
                if kind.is_custom() { values } else { values.into_iter().map(without_kind).collect() };
            json!({
                "kind": kind.list_kind(),
                "apiVersion": kind.resource.gvk.api_version(),
                "metadata": list_metadata(kind, selected),
                "items": items,
            })
        }
        Form::Table(version) => return table::of_list(kind, call, version, &table_metadata(selected), &values),
        Form::MetadataList(version) => {
            let items: Vec<Value> = values.iter().map(|value| answer::metadata_only(version, value)).collect();
            json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": table_metadata(selected),
                "items": items,
            })
        }
        Form::Metadata(_) => {
            let why = "you requested PartialObjectMetadata, but the requested object is a list";
            let list = if kind.is_custom() {
                "*unstructured.UnstructuredList".to_owned()
            } else {
                format!("{}List", kind.go_type())
            };
            return Err(answer::not_acceptable(&format!("{why} ({list})")));
        }
    };
    Ok(list.to_string().into_bytes())
}

/// The objects as they are stored. Those of custom kinds say what they are in lists, too.
fn objects(
    kind: &Arc<Kind>,
    selected: Selected,
) -> Joined<Arc<Entry>, impl FnMut(&Arc<Entry>, &mut Vec<u8>) -> Part + use<>> {
    let head = list_head(kind, &selected);
    let kind = Arc::clone(kind);
    Joined::new(head, selected.items, b"", move |entry, out| {
        out.push(b'{');
        Ok(behind_head(&kind, entry.bytes()))
    })
}

/// The objects, opened and converted.
async fn made_objects(
    core: &Arc<Core>,
    kind: &Arc<Kind>,
    selected: Selected,
) -> Result<Joined<Bytes, impl FnMut(&Bytes, &mut Vec<u8>) -> Part + use<>>, ApiError> {
    let head = list_head(kind, &selected);
    let objects = opened(core, kind, &selected.items).await?;
    let kind = Arc::clone(kind);
    Ok(Joined::new(head, objects, b"", move |bytes, out| {
        out.push(b'{');
        Ok(behind_head(&kind, bytes))
    }))
}

/// The JSON of objects, opened and converted where they have to be.
async fn opened(core: &Core, kind: &Kind, items: &[Arc<Entry>]) -> Result<Vec<Bytes>, ApiError> {
    if kind.is_custom() && kind.converts() {
        let values = core.values(kind, items).await?;
        let revisions = items.iter().map(|entry| entry.revision);
        return Ok(values.iter().zip(revisions).map(|(value, at)| with_revision(&kind.encode(value), at)).collect());
    }
    let mut objects = Vec::with_capacity(items.len());
    for entry in items {
        objects.push(core.json(kind, entry).await?);
    }
    Ok(objects)
}

/// The objects in a form for people.
async fn for_people(core: &Core, kind: &Kind, style: Style, selected: Selected) -> Result<Reply, ApiError> {
    let list = json!({
        "kind": kind.list_kind(),
        "apiVersion": kind.resource.gvk.api_version(),
        "metadata": list_metadata(kind, &selected),
        "items": [],
    });
    let objects = opened(core, kind, &selected.items).await?;
    let failed = |error: BoxError| ApiError::internal(format!("encoding a list: {error}"));
    let frames = list_for_people::frames(style, &list, objects, kind.is_custom()).map_err(failed)?;
    let body = ReplyBody::made(frames).map_err(failed)?;
    Ok(match style {
        Style::Yaml => reply::yaml_body(200, body),
        Style::Lines => reply::json_body(200, body),
    })
}

fn list_head(kind: &Kind, selected: &Selected) -> Vec<u8> {
    let (list_kind, version) = (kind.list_kind(), kind.resource.gvk.api_version());
    let metadata = list_metadata(kind, selected);
    format!("{{\"kind\":\"{list_kind}\",\"apiVersion\":{version:?},\"metadata\":{metadata},\"items\":[").into_bytes()
}

/// An object in a list, behind its brace.
fn behind_head(kind: &Kind, bytes: &Bytes) -> Bytes {
    match bytes.strip_prefix(kind.head().as_bytes()) {
        Some(rest) if !kind.is_custom() => bytes.slice(bytes.len() - rest.len()..),
        _ => bytes.slice(1.min(bytes.len())..),
    }
}

/// `PartialObjectMetadataList`, of the metadata as they are encoded already.
fn metadata(
    version: &str,
    selected: Selected,
) -> Joined<Arc<Entry>, impl FnMut(&Arc<Entry>, &mut Vec<u8>) -> Part + use<>> {
    let head = format!(
        "{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/{version}\",\"metadata\":{},\"items\":[",
        table_metadata(&selected),
    );
    let version = version.to_owned();
    Joined::new(head.into_bytes(), selected.items, b"}", move |entry, out| {
        answer::begin_metadata_only(&version, out);
        Ok(entry.metadata().unwrap_or_else(|| Bytes::from_static(b"{}")))
    })
}

/// A Table, of rows that are kept beside their objects.
fn rows(
    shape: table::Shape,
    kind: Arc<Kind>,
    selected: Selected,
) -> Joined<Arc<Entry>, impl FnMut(&Arc<Entry>, &mut Vec<u8>) -> Part + use<>> {
    let head = shape.head(&table_metadata(&selected), Some(kind.columns_told()));
    let end = shape.row_end();
    Joined::new(head, selected.items, end, move |entry, out| Ok(shape.begin_row(&kind, entry, out)?))
}

async fn protobuf(
    core: &Arc<Core>,
    kind: &Kind,
    selected: &Selected,
    mut list: ProtobufList,
) -> Result<Reply, ApiError> {
    for entry in &selected.items {
        // What is sealed stays so in memory, and what converts has more than one form.
        if entry.is_sealed() || !kind.shows_as_stored(entry) {
            let object = list.encode(&core.value(kind, entry).await?);
            list.push(object.into());
        } else {
            list.push(entry.protobuf(|| Ok::<_, ApiError>(list.encode(&parse(entry.bytes())?).into()))?);
        }
    }
    Ok(reply::protobuf_body(200, ReplyBody::Ready(list.finish())))
}

pub(super) fn without_kind(mut value: Value) -> Value {
    if let Some(map) = value.as_object_mut() {
        map.shift_remove("kind");
        map.shift_remove("apiVersion");
    }
    value
}
