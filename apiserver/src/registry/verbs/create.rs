//! Creating an object.

use std::sync::Arc;

use martello_api::status::ApiError;
use serde_json::Value;

use super::answer;
use crate::{
    admission::{self, Operation, quota},
    http::reply::Reply,
    registry::{
        call::Call,
        codec,
        kind::{Change, Kind},
        meta, object,
        storage::WriteError,
        validation,
    },
    server::{Core, audit::OBJECT_NAME},
    store::Entry,
};

/// Serves a create.
pub async fn create(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call) -> Result<Reply, ApiError> {
    let object = codec::decode(kind, call, "CreateOptions")?;
    let dry_run = call.dry_run("CreateOptions")?;
    let entry = create_object(core, kind, call, object, dry_run).await?;
    answer::stored(core, kind, call, 201, entry).await
}

/// How often a name is generated anew where the one before was taken, as upstream does.
const NAME_ATTEMPTS: usize = 8;

/// Creates what was decoded: the way of every new object, whatever verb brought it.
pub async fn create_object(
    core: &Arc<Core>,
    kind: &Arc<Kind>,
    call: &Call,
    object: Value,
    dry_run: bool,
) -> Result<answer::Written, ApiError> {
    let object = admitted(core, kind, call, object).await?;
    // Only now: who fills in what a new object lacks sees that it has no name yet, and is asked once, however many are taken.
    let base = object::text(&object, &["metadata", "generateName"]).to_owned();
    if !object::name(&object).is_empty() || base.is_empty() {
        return create_named(core, kind, call, object, dry_run).await;
    }
    until_free(|| {
        let mut named = object.clone();
        object::set(&mut named, &["metadata"], "name", meta::generate_name(&base));
        create_named(core, kind, call, named, dry_run)
    })
    .await
}

/// Tries anew, a few times, as long as the name is one that is taken.
async fn until_free<T, F: Future<Output = Result<T, ApiError>>>(create: impl Fn() -> F) -> Result<T, ApiError> {
    for _ in 1..NAME_ATTEMPTS {
        match create().await {
            Err(error) if error.reason == ALREADY_EXISTS => {}
            done => return done,
        }
    }
    create().await
}

/// A new object, as those who may change it leave it.
async fn admitted(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call, mut object: Value) -> Result<Value, ApiError> {
    meta::fit_namespace(kind, call, &mut object)?;
    meta::drop_system_fields(&mut object);
    if call.verb != "patch" {
        meta::dedup_owners(call, &mut object, false);
    }
    codec::track(core, kind, call, None, &mut object, "").await;
    admission::mutate(core, kind, call, Operation::Create, &mut object, None).await?;
    kind.guard(core, call, &object, None).await?;
    // Who changes the object may have taken the namespace out, or moved it to another.
    meta::fit_namespace(kind, call, &mut object)?;
    meta::dedup_owners(call, &mut object, true);
    Ok(object)
}

async fn create_named(
    core: &Arc<Core>,
    kind: &Arc<Kind>,
    call: &Call,
    mut object: Value,
    dry_run: bool,
) -> Result<answer::Written, ApiError> {
    call.note(vec![(OBJECT_NAME, object::name(&object).to_owned())]);
    meta::prepare_create(kind, &mut object, call.now);
    kind.early_warnings(&object).into_iter().for_each(|warning| call.warn(warning));
    kind.prepare_create(&mut object, call.now);
    let begun = kind.begin(core, Change { object: &mut object, old: None, dry_run })?;
    let stored = store(core, kind, call, &mut object, dry_run).await?;
    begun.stays();
    Ok(stored)
}

/// Checks a new object, and stores it if it is fine.
async fn store(
    core: &Arc<Core>,
    kind: &Arc<Kind>,
    call: &Call,
    object: &mut Value,
    dry_run: bool,
) -> Result<answer::Written, ApiError> {
    codec::check_custom_type(kind, object)?;
    let mut causes = kind.judged(core, call, object, None).await?;
    validation::metadata::create(kind, object, &mut causes);
    kind.validate(object, &mut causes);
    kind.validate_create(object, &mut causes);
    if !causes.is_empty() {
        return Err(kind.invalid(object::name(object), causes));
    }
    kind.warnings(object, None).into_iter().for_each(|warning| call.warn(warning));
    admission::validate(core, kind, call, Operation::Create, Some(&*object), None).await?;
    let _charged = quota::charge(core, kind, call, Operation::Create, (&*object, None), dry_run).await?;
    kind.before_commit(core, call, Change { object: &mut *object, old: None, dry_run }).await?;
    codec::normalize(kind, object);
    if dry_run {
        let taken = core.find(kind, object::namespace(object), object::name(object)).await?;
        return match taken {
            Some(there) => Err(already_exists(core, kind, object, Some(&there)).await),
            None => Ok(answer::Written::Only(object.clone())),
        };
    }
    let version = object::text(object, &["metadata", "resourceVersion"]);
    if version.parse().is_ok_and(|revision: u64| revision != 0) {
        core.quotas.touch(call.namespace());
        return Err(ApiError::new(500, "", "resourceVersion should not be set on objects to be created"));
    }
    object::remove(object, &["metadata"], "resourceVersion");
    match core.put_fitting(kind, call, object, None).await {
        Ok(entry) => {
            kind.after_commit(core, Some(&*object), None, entry.revision);
            Ok(answer::Written::Stored(entry, std::mem::take(object)))
        }
        Err(WriteError::Conflict(there)) => {
            core.quotas.touch(call.namespace());
            Err(already_exists(core, kind, object, there.as_deref()).await)
        }
        Err(WriteError::Failed(error)) => {
            core.quotas.touch(call.namespace());
            Err(error)
        }
    }
}

const ALREADY_EXISTS: &str = "AlreadyExists";

/// 409 for a name that is taken: by whom, and whether it was a generated one, shows in the words.
async fn already_exists(core: &Core, kind: &Kind, object: &Value, there: Option<&Entry>) -> ApiError {
    let mut error = ApiError::already_exists(kind.group(), &kind.resource.plural, object::name(object));
    if !object::text(object, &["metadata", "generateName"]).is_empty() {
        error.message.push_str(", the server was not able to generate a unique name for the object");
        if let Some(details) = &mut error.details {
            details.retry_after_seconds = 1;
        }
    }
    if let Some(there) = there
        && core.value(kind, there).await.is_ok_and(|there| object::is_terminating(&there))
    {
        error.message.insert_str(0, "object is being deleted: ");
    }
    error
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// How often it was tried, and what came of it, where so many names are taken.
    async fn tried(taken: usize, error: ApiError) -> (usize, Option<u16>) {
        let count = Cell::new(0);
        let create = || {
            count.set(count.get() + 1);
            let outcome = if count.get() > taken { Ok(()) } else { Err(error.clone()) };
            std::future::ready(outcome)
        };
        let code = until_free(create).await.err().map(|error| error.code);
        (count.get(), code)
    }

    #[tokio::test]
    async fn a_name_that_is_taken_is_made_anew_a_few_times() {
        let taken = ApiError::already_exists("", "configmaps", "one");
        assert_eq!(tried(0, taken.clone()).await, (1, None));
        assert_eq!(tried(7, taken.clone()).await, (8, None));
        assert_eq!(tried(8, taken).await, (8, Some(409)));
        let conflict = ApiError::conflict("", "configmaps", "one", "no");
        assert_eq!(tried(1, conflict).await, (1, Some(409)), "no other failure is met so");
    }
}
