//! Watches: events as they are committed, each encoded once for all who see it unfiltered.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::stream;
use martello_api::{
    go,
    schema::{encode_protobuf, protobuf_event},
    status::ApiError,
};
use prometheus_client::metrics::counter::Counter;
use rand::Rng as _;
use serde_json::{Value, json};

use super::{answer, chosen::is_chosen, list::select};
use crate::{
    http::{
        body::{BoxError, ReplyBody},
        negotiate::{Accepted, Encoding, Form},
        reply::{self, Reply},
    },
    registry::{
        call::Call,
        codec,
        kind::Kind,
        object,
        options::{ListOptions, Match},
        select::Selection,
        storage::{parse, store_failure},
        table,
    },
    server::Core,
    store::{Batch, Entry, Event, EventKind, Scope, Watch},
};

/// How long a watch without a timeout lasts at least; the random part keeps clients from coming back all at once.
const MIN_TIMEOUT: Duration = Duration::from_secs(1800);
/// How often a watch tells its progress, if it made any, whether it has told of changes meanwhile or not.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
/// Frames of known lengths, not a text.
const PROTOBUF_STREAM: http::HeaderValue =
    http::HeaderValue::from_static("application/vnd.kubernetes.protobuf;stream=watch");
/// Bytes of events that are sent as one frame.
const FRAME_BYTES: usize = 64 * 1024;

/// The version of metadata that clients ask for; its frames are shared.
const METADATA_VERSION: &str = "v1";

/// What a watch keeps for as long as it lasts, which may be hours: the call itself is gone.
struct Watcher {
    core: Arc<Core>,
    kind: Arc<Kind>,
    shape: Shape,
    selection: Selection,
    source: Box<dyn Watch>,
    bookmarks: bool,
    initial: std::vec::IntoIter<Arc<Entry>>,
    initial_end: Option<u64>,
    columns_sent: bool,
    last_bookmark: u64,
    next_bookmark: tokio::time::Instant,
    deadline: tokio::time::Instant,
    done: bool,
    sent: Counter,
}

/// In which form events are told.
struct Shape {
    accepted: Accepted,
    table: Option<table::Shape>,
}

/// Serves a watch. What is wrong with its options is an answer; what goes wrong behind it is an event.
pub async fn watch(core: &Arc<Core>, kind: &Arc<Kind>, call: Call) -> Result<Reply, ApiError> {
    let (options, selection) = Selection::listed(kind, &call.query, true)?;
    let selection = selection.named(call.name())?;
    let encoding = call.accepted.encoding;
    if encoding == Encoding::Yaml {
        return Err(answer::not_acceptable(
            "only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch",
        ));
    }
    let table = match &call.accepted.form {
        Form::Table(version) => Some(table::Shape::of(&call, version)?),
        _ => None,
    };
    let Begun { initial, from, source } = match begin(core, kind, &call, &options, &selection).await {
        Ok(begun) => begun,
        Err(error) => return Ok(streamed(encoding, ReplyBody::full(frame(encoding, "ERROR", &error.to_status())))),
    };
    let lasts =
        options.timeout.map_or_else(|| MIN_TIMEOUT.mul_f64(1.0 + rand::rng().random::<f64>()), Duration::from_secs);
    let watcher = Watcher {
        sent: core.metrics.watch_events(kind),
        core: Arc::clone(core),
        kind: Arc::clone(kind),
        shape: Shape { accepted: call.accepted, table },
        selection,
        source,
        bookmarks: options.bookmarks,
        initial: initial.into_iter(),
        initial_end: (options.initial_events == Some(true) && options.bookmarks).then_some(from),
        columns_sent: false,
        last_bookmark: from,
        next_bookmark: tokio::time::Instant::now() + BOOKMARK_PERIOD,
        deadline: tokio::time::Instant::now() + lasts,
        done: false,
    };
    let frames = stream::unfold(watcher, |mut watcher| async move {
        let frame = watcher.next_frame().await?;
        Some((Ok::<Bytes, BoxError>(frame), watcher))
    });
    Ok(streamed(encoding, ReplyBody::Stream(Box::pin(frames))))
}

fn streamed(encoding: Encoding, body: ReplyBody) -> Reply {
    match encoding {
        Encoding::Json | Encoding::Yaml => reply::json_body(200, body),
        Encoding::Protobuf => reply::reply(200, PROTOBUF_STREAM, body),
    }
}

/// Where a watch begins.
struct Begun {
    initial: Vec<Arc<Entry>>,
    from: u64,
    source: Box<dyn Watch>,
}

async fn begin(
    core: &Arc<Core>,
    kind: &Arc<Kind>,
    call: &Call,
    options: &ListOptions,
    selection: &Selection,
) -> Result<Begun, ApiError> {
    let scope = scope_of(kind, call, selection);
    let starts_with_state = options.initial_events.unwrap_or(matches!(options.version, Match::Newest | Match::Any));
    let (initial, from) = if starts_with_state {
        let whole = ListOptions { limit: 0, from: None, ..options.clone() };
        let selected = select(core, kind, call.namespace(), selection, &whole).await?;
        (selected.items, selected.revision)
    } else {
        let from = match options.version {
            Match::Exact(revision) | Match::NotOlderThan(revision) => revision,
            Match::Newest | Match::Any => core.store.progress().await.map_err(|error| store_failure(&error))?,
        };
        (Vec::new(), from)
    };
    let source = core.store.watch(&scope, from).await.map_err(|error| store_failure(&error))?;
    Ok(Begun { initial, from, source })
}

fn scope_of(kind: &Kind, call: &Call, selection: &Selection) -> Scope {
    let namespace = match selection.namespace() {
        Some(own) if call.namespace().is_empty() && kind.resource.namespaced => own,
        _ => call.namespace(),
    };
    match selection.name() {
        Some(name) if !name.is_empty() && (!namespace.is_empty() || !kind.resource.namespaced) => {
            Scope::object(&kind.key(namespace, name))
        }
        _ => kind.scope(namespace),
    }
}

impl Watcher {
    /// The next bytes to send; none when the watch is over. What it takes to make them is on the heap meanwhile, so that a
    /// watch that waits costs what waiting takes.
    async fn next_frame(&mut self) -> Option<Bytes> {
        if !self.initial.as_slice().is_empty() {
            return Box::pin(self.initial_frame()).await;
        }
        // Where there were many, their places would be kept for as long as the watch lasts.
        self.initial = Vec::new().into_iter();
        if let Some(revision) = self.initial_end.take() {
            return Some(self.bookmark(revision, true));
        }
        while !self.done {
            // Before any event: where they come without end, and few are told of, a bookmark is due all the same.
            if let Some(bookmark) = self.due_bookmark() {
                return Some(bookmark);
            }
            let wake = if self.bookmarks { self.next_bookmark.min(self.deadline) } else { self.deadline };
            let next = tokio::select! {
                biased;
                next = self.source.next() => Some(next),
                // One timer for both: each takes its place for as long as the watch lasts.
                () = tokio::time::sleep_until(wake) => {
                    if wake == self.deadline {
                        self.done = true;
                        return self.last_words();
                    }
                    None
                }
                () = self.core.drain.cancelled() => return None,
                () = self.core.registry.replaced(&self.kind), if self.kind.is_custom() => {
                    // Clients list anew what is served otherwise now.
                    self.done = true;
                    return self.last_words();
                }
            };
            match next {
                None => {}
                Some(Ok(batch)) => {
                    let frame = Box::pin(self.told(&batch)).await;
                    if frame.is_some() {
                        return frame;
                    }
                }
                Some(Err(error)) => return Some(self.fail(&store_failure(&error))),
            }
        }
        None
    }

    /// What there is to tell of some events, if there is anything.
    async fn told(&mut self, batch: &Batch) -> Option<Bytes> {
        let mut frame = Vec::new();
        let mut single = None;
        for event in &batch.events {
            match self.event(event).await {
                Ok(Some(bytes)) if frame.is_empty() && single.is_none() => single = Some(bytes),
                Ok(Some(bytes)) => {
                    if let Some(first) = single.take() {
                        frame.extend_from_slice(&first);
                    }
                    frame.extend_from_slice(&bytes);
                }
                Ok(None) => {}
                Err(error) => return Some(self.fail(&error)),
            }
        }
        single.or_else(|| (!frame.is_empty()).then(|| frame.into()))
    }

    async fn initial_frame(&mut self) -> Option<Bytes> {
        let mut frame = Vec::new();
        while frame.len() < FRAME_BYTES {
            let Some(entry) = self.initial.next() else { break };
            match self.render("ADDED", &entry, entry.revision).await {
                Ok(bytes) => {
                    self.sent.inc();
                    frame.extend_from_slice(&bytes);
                }
                Err(error) => {
                    self.initial = Vec::new().into_iter();
                    return Some(self.fail(&error));
                }
            }
        }
        (!frame.is_empty()).then(|| frame.into())
    }

    /// A bookmark, where it is time for one and there is progress to tell.
    fn due_bookmark(&mut self) -> Option<Bytes> {
        let now = tokio::time::Instant::now();
        if !self.bookmarks || now < self.next_bookmark {
            return None;
        }
        self.next_bookmark = now + BOOKMARK_PERIOD;
        self.last_words()
    }

    /// How far a watch came, where it was not told yet: a watch that ends in good order ends so, too.
    fn last_words(&mut self) -> Option<Bytes> {
        let revision = self.source.progress();
        (self.bookmarks && revision > self.last_bookmark).then(|| self.bookmark(revision, false))
    }

    fn fail(&mut self, error: &ApiError) -> Bytes {
        self.done = true;
        self.frame("ERROR", &error.to_status())
    }

    fn bookmark(&mut self, revision: u64, initial_end: bool) -> Bytes {
        self.last_bookmark = revision;
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            object::set(&mut metadata, &["annotations"], "k8s.io/initial-events-end", "true");
        }
        let mut object = json!({
            "kind": self.kind.name(),
            "apiVersion": self.kind.resource.gvk.api_version(),
            "metadata": metadata,
        });
        // Of a kind that has a type of its own upstream, it is the empty object of that type.
        if self.kind.schema().is_none() {
            codec::normalize(&self.kind, &mut object);
        }
        if let Some(shape) = &mut self.shape.table {
            shape.now = martello_api::clock::now();
            let told = std::mem::replace(&mut self.columns_sent, true);
            return wrap("BOOKMARK", &table::of_bookmark(shape, &self.kind, told, initial_end, &object));
        }
        let shaped = match &self.shape.accepted.form {
            Form::Metadata(version) | Form::MetadataList(version) => answer::metadata_only(version, &object),
            Form::Objects | Form::Table(_) => object,
        };
        self.frame("BOOKMARK", &shaped)
    }

    /// An event as this watcher sees it: a selector turns changes into comings and goings.
    async fn event(&mut self, event: &Event) -> Result<Option<Bytes>, ApiError> {
        let seen = self.seen(event).await?;
        self.sent.inc_by(seen.is_some().into());
        Ok(seen)
    }

    async fn seen(&mut self, event: &Event) -> Result<Option<Bytes>, ApiError> {
        let now = event.kind != EventKind::Deleted
            && is_chosen(&self.core, &self.kind, &self.selection, &event.entry).await?;
        let last = if event.kind == EventKind::Deleted { Some(&event.entry) } else { event.previous.as_ref() };
        let before = match last {
            Some(last) => is_chosen(&self.core, &self.kind, &self.selection, last).await?,
            None => false,
        };
        let unfiltered = self.selection.is_everything();
        match (before, now) {
            (true, true) if unfiltered => self.shared("MODIFIED", event).await.map(Some),
            (false, true) if unfiltered => self.shared("ADDED", event).await.map(Some),
            (true, false) if unfiltered => self.shared("DELETED", event).await.map(Some),
            (true, true) => self.render("MODIFIED", &event.entry, event.revision).await.map(Some),
            (false, true) => self.render("ADDED", &event.entry, event.revision).await.map(Some),
            (true, false) => match last {
                Some(last) => self.render("DELETED", last, event.revision).await.map(Some),
                None => Ok(None),
            },
            (false, false) => Ok(None),
        }
    }

    /// Encodes an event once for all watchers, unless it is secret or asked for in another form.
    async fn shared(&mut self, name: &str, event: &Event) -> Result<Bytes, ApiError> {
        let shareable = !event.entry.is_sealed() && self.kind.shows_as_stored(&event.entry);
        match (&self.shape.accepted.form, self.shape.accepted.encoding) {
            (Form::Objects, Encoding::Json) if shareable => {
                Ok(event.frame.get_or_init(|| wrap(name, event.entry.bytes())).clone())
            }
            (Form::Objects, Encoding::Protobuf) if shareable => {
                let object = || parse(event.entry.bytes()).unwrap_or_default();
                Ok(event.protobuf_frame.get_or_init(|| protobuf(name, &object())).clone())
            }
            (Form::Metadata(version) | Form::MetadataList(version), Encoding::Json)
                if shareable && version == METADATA_VERSION =>
            {
                let metadata = || event.entry.metadata().unwrap_or_else(|| Bytes::from_static(b"{}"));
                let made = || wrap(name, &answer::metadata_bytes(version, &metadata()));
                Ok(event.metadata_frame.get_or_init(made).clone())
            }
            _ => self.render(name, &event.entry, event.revision).await,
        }
    }

    async fn render(&mut self, name: &str, entry: &Entry, revision: u64) -> Result<Bytes, ApiError> {
        if let Some(shape) = &mut self.shape.table {
            // Ages are as of now, not as of when the watch began.
            shape.now = martello_api::clock::now();
            let told = std::mem::replace(&mut self.columns_sent, true);
            let as_kept = revision == entry.revision && !entry.is_sealed() && self.kind.shows_as_stored(entry);
            let table = if as_kept {
                table::of_entry(shape, &self.kind, told, entry)?
            } else {
                let json = self.core.json_at(&self.kind, entry, revision).await?;
                table::of_event(shape, &self.kind, told, &parse(&json)?)
            };
            return Ok(wrap(name, &table));
        }
        let json = self.core.json_at(&self.kind, entry, revision).await?;
        if self.shape.accepted == Accepted::default() {
            return Ok(wrap(name, &json));
        }
        let value = parse(&json)?;
        let shaped = match &self.shape.accepted.form {
            Form::Metadata(version) | Form::MetadataList(version) => answer::metadata_only(version, &value),
            Form::Objects | Form::Table(_) => value,
        };
        Ok(self.frame(name, &shaped))
    }

    /// An event in the encoding that was asked for.
    fn frame(&self, name: &str, object: &Value) -> Bytes {
        frame(self.shape.accepted.encoding, name, object)
    }
}

fn frame(encoding: Encoding, name: &str, object: &Value) -> Bytes {
    match encoding {
        Encoding::Json | Encoding::Yaml => line(&json!({"type": name, "object": object})),
        Encoding::Protobuf => protobuf(name, object),
    }
}

fn protobuf(name: &str, object: &Value) -> Bytes {
    protobuf_event(name, &encode_protobuf(object).unwrap_or_default()).into()
}

fn wrap(name: &str, object: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(object.len() + 40);
    frame.extend_from_slice(b"{\"type\":\"");
    frame.extend_from_slice(name.as_bytes());
    frame.extend_from_slice(b"\",\"object\":");
    frame.extend_from_slice(object);
    frame.extend_from_slice(b"}\n");
    frame.into()
}

fn line(value: &Value) -> Bytes {
    let mut bytes = go::encode(value);
    bytes.push(b'\n');
    bytes.into()
}
