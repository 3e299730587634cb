//! Deleting one object: at once, after its grace period, or when its finalizers are done.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use martello_api::{clock::rfc3339_seconds, status::ApiError};
use serde_json::Value;

use super::answer;
use crate::{
    admission,
    http::{negotiate::Form, reply::Reply},
    registry::{
        call::Call,
        codec,
        kind::{Deleted, Kind},
        object,
        options::{DeleteOptions, Propagation},
        storage::{Expected, WriteError, set_revision},
        table,
    },
    server::Core,
    store::Entry,
};

/// How often a delete is tried anew when another write came between.
const ATTEMPTS: usize = 20;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What a delete did.
pub struct Outcome {
    /// The object as it is, or as it last was.
    pub object: Value,
    /// Whether it is gone.
    pub gone: bool,
}

/// Serves a delete.
pub async fn delete(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call) -> Result<Reply, ApiError> {
    let body = codec::decode_delete_options(call)?;
    let options = DeleteOptions::read(&call.query, body.as_ref())?;
    let outcome = delete_object(core, kind, call, call.namespace(), call.name(), &options).await?;
    if outcome.gone && kind.deleted() == Deleted::Status {
        if let Form::Table(version) = &call.accepted.form {
            // No table shows it, and what is asked of one is looked at.
            table::Shape::of(call, version)?;
        }
        return Ok(answer::encoded(call, 200, &answer::success(kind, &outcome.object)));
    }
    // Whoever asked in the old way that dependents go first is told that they are still going.
    answer::value(kind, call, if options.waits && !outcome.gone { 202 } else { 200 }, outcome.object)
}

/// Deletes an object as `options` say.
pub async fn delete_object(
    core: &Arc<Core>,
    kind: &Arc<Kind>,
    call: &Call,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
) -> Result<Outcome, ApiError> {
    if let Some(warning) = kind.delete_warning().filter(|_| options.propagation.is_none()) {
        call.warn(warning);
    }
    for _ in 0..ATTEMPTS {
        let entry = core.get(kind, namespace, name).await?;
        let current = core.value(kind, &entry).await?;
        check_preconditions(kind, &current, options)?;
        kind.before_delete(call, &current)?;
        admission::dynamic::before_delete(core, kind, call, &current, options).await?;
        admission::validate_delete(core, kind, call, &current, options).await?;
        match attempt(core, kind, &entry, current, options, call.now).await {
            Ok(outcome) => return Ok(outcome),
            Err(WriteError::Conflict(_)) => {}
            Err(WriteError::Failed(error)) => return Err(error),
        }
    }
    Err(kind.conflict(name, super::change::MODIFIED))
}

async fn attempt(
    core: &Arc<Core>,
    kind: &Arc<Kind>,
    entry: &Arc<Entry>,
    current: Value,
    options: &DeleteOptions,
    now: Timestamp,
) -> Result<Outcome, WriteError> {
    let mut new = current.clone();
    if !object::is_terminating(&current) && kind.begin_delete(&mut new, now) {
        return keep(core, kind, entry, new, &current, options).await;
    }
    if object::is_terminating(&current) && kind.holds_back(&current) {
        // It is waited for, and whoever asks again changes nothing.
        return Ok(Outcome { object: current, gone: false });
    }
    let mut grace = kind.grace(&current, options.grace);
    let mut pending = false;
    if object::is_terminating(&current) && left(&current) > 0 && grace.is_some() {
        // It is ending already: only what is asked for in so many words may change when.
        let asked = options.grace.map(|asked| if asked < 0 { 1 } else { asked });
        grace = Some(asked.unwrap_or(left(&current)));
        pending = asked.is_none_or(|asked| asked >= left(&current));
    }
    if kind.collects_garbage() && !pending {
        set_finalizers(&mut new, propagation(kind, &current, options));
    }
    let held = !object::finalizers(&new).is_empty() || kind.holds_back(&new);
    let marked = mark(kind, &mut new, &current, grace, held, now);
    let stays = held || grace.is_some_and(|grace| grace > 0) && marked != Mark::Ended;
    if !stays {
        if !options.dry_run {
            let gone = core.remove(entry).await?;
            kind.after_commit(core, None, Some(&current), gone.revision);
            set_revision(&mut new, gone.revision);
        }
        return Ok(Outcome { object: new, gone: true });
    }
    keep(core, kind, entry, new, &current, options).await
}

/// Stores an object whose delete has begun.
async fn keep(
    core: &Arc<Core>,
    kind: &Arc<Kind>,
    entry: &Arc<Entry>,
    mut new: Value,
    current: &Value,
    options: &DeleteOptions,
) -> Result<Outcome, WriteError> {
    if new == *current || options.dry_run {
        return Ok(Outcome { object: new, gone: false });
    }
    codec::normalize(kind, &mut new);
    let stored = core.put(kind, &new, Expected::Revision(entry.revision)).await?;
    kind.after_commit(core, Some(&new), Some(current), stored.revision);
    set_revision(&mut new, stored.revision);
    Ok(Outcome { object: new, gone: false })
}

#[derive(PartialEq, Eq)]
enum Mark {
    /// The object is being deleted now.
    Deleting,
    /// Its time is over.
    Ended,
}

/// Writes down that the object is being deleted, and since when.
fn mark(kind: &Kind, new: &mut Value, current: &Value, grace: Option<i64>, held: bool, now: Timestamp) -> Mark {
    let seconds = grace.unwrap_or(0);
    if object::is_terminating(current) {
        let before = left(current);
        // A second delete may only shorten the time that is left, and that began with the first.
        if grace.is_some() && seconds < before {
            let end = object::text(current, &["metadata", "deletionTimestamp"]).parse().unwrap_or(now);
            let begun = end.checked_sub(SignedDuration::from_secs(before)).unwrap_or(now);
            set_deletion(new, seconds, begun);
        }
        if grace.is_none() && held {
            // What was marked in another way is marked as what has no time left, too.
            object::set(new, &["metadata"], "deletionGracePeriodSeconds", 0);
        }
        return if seconds == 0 || before == 0 { Mark::Ended } else { Mark::Deleting };
    }
    if grace.is_some() || held {
        set_deletion(new, seconds, now);
        kind.mark_deleted(new);
        if let Some(generation) = object::int(current, &["metadata", "generation"])
            && generation > 0
        {
            object::set(new, &["metadata"], "generation", generation + 1);
        }
    }
    Mark::Deleting
}

/// Seconds that an object was given to end.
fn left(object: &Value) -> i64 {
    object::int(object, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0)
}

fn set_deletion(new: &mut Value, seconds: i64, begun: Timestamp) {
    let end = begun.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(begun);
    object::set(new, &["metadata"], "deletionTimestamp", rfc3339_seconds(end));
    object::set(new, &["metadata"], "deletionGracePeriodSeconds", seconds);
}

/// What becomes of dependents: what was asked for, else what the object says itself, else what its kind does.
fn propagation(kind: &Kind, current: &Value, options: &DeleteOptions) -> Option<Propagation> {
    let said = object::finalizers(current).iter().any(|finalizer| matches!(*finalizer, ORPHAN | FOREGROUND));
    options.propagation.or_else(|| (kind.orphans_by_default() && !said).then_some(Propagation::Orphan))
}

/// The garbage collector is told by finalizers what becomes of dependents.
fn set_finalizers(new: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let mut finalizers: Vec<String> = object::finalizers(new)
        .into_iter()
        .filter(|finalizer| !matches!(*finalizer, ORPHAN | FOREGROUND))
        .map(str::to_owned)
        .collect();
    match propagation {
        Propagation::Orphan => finalizers.push(ORPHAN.to_owned()),
        Propagation::Foreground => finalizers.push(FOREGROUND.to_owned()),
        Propagation::Background => {}
    }
    if finalizers.is_empty() {
        object::remove(new, &["metadata"], "finalizers");
    } else {
        object::set(new, &["metadata"], "finalizers", finalizers);
    }
}

/// Whether upstream marks an object of the kind as ending in a way of its own, in which it has its own words.
fn is_marked_first(kind: &Kind) -> bool {
    matches!((kind.group(), kind.name()), ("", "Namespace") | ("apiextensions.k8s.io", "CustomResourceDefinition"))
}

fn check_preconditions(kind: &Kind, current: &Value, options: &DeleteOptions) -> Result<(), ApiError> {
    let conflict = |what: &str, wanted: &str, found: &str, perhaps: &str| {
        let why = format!(
            "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The object might have been {perhaps}"
        );
        if is_marked_first(kind) {
            let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
            return kind.conflict(object::name(current), &why);
        }
        // Upstream names the kind here, where it names the resource elsewhere.
        ApiError::conflict(kind.group(), kind.name(), object::name(current), &why)
    };
    if let Some(uid) = &options.uid
        && uid != object::uid(current)
    {
        return Err(conflict("UID", uid, object::uid(current), "deleted and then recreated"));
    }
    let revision = object::text(current, &["metadata", "resourceVersion"]);
    if let Some(wanted) = &options.resource_version
        && wanted != revision
    {
        return Err(conflict("ResourceVersion", wanted, revision, "modified"));
    }
    Ok(())
}
