//! Changing an object: the way of updates and patches, of the object and of its subresources.

use std::sync::Arc;

use martello_api::{
    attributes::{Attributes, Target},
    managed_fields::same_but_for_times,
    status::{ApiError, Cause},
};
use martello_policy::Decision;
use serde_json::Value;

use super::{answer::Written, create};
use crate::{
    admission::{self, Operation, quota},
    registry::{
        call::Call,
        codec,
        kind::{Begun, Change, Kind},
        meta, object,
        options::parse_revision,
        storage::WriteError,
        validation,
    },
    server::Core,
    store::Entry,
};

/// How often a change is tried anew when another write came between.
const ATTEMPTS: usize = 20;
/// Upstream's words for a lost race.
pub const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// Which part of the object a call may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All but the status.
    Main,
    /// The status, and metadata as far as the kind lets it.
    Status,
    /// What the kind lets a subresource of its own change.
    Aspect(&'static str),
    /// What the caller's transformation touches, and no rules of the kind (scale, binding, finalize …).
    Whole(&'static str),
}

impl Part {
    /// The subresource that owns the fields.
    #[must_use]
    pub fn subresource(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Aspect(name) | Self::Whole(name) => name,
        }
    }
}

/// What makes the new object of the current one; none of the current where the object is missing.
pub type Transform<'a> = &'a (dyn Fn(Option<&Value>) -> Result<Value, ApiError> + Send + Sync);

/// What a change is.
pub struct Plan<'a> {
    /// Which part of the object may change.
    pub part: Part,
    /// Nothing may be kept.
    pub dry_run: bool,
    /// A missing object is made.
    pub creates: bool,
    /// A missing resourceVersion is fine although the kind wants one.
    pub unconditional: bool,
    /// What makes the new object.
    pub transform: Transform<'a>,
}

/// Changes the object that the call names. The flag says whether it was made.
pub async fn change(
    core: &Arc<Core>,
    kind: &Arc<Kind>,
    call: &Call,
    plan: &Plan<'_>,
) -> Result<(Written, bool), ApiError> {
    for _ in 0..ATTEMPTS {
        let Some(entry) = core.find(kind, call.namespace(), call.name()).await? else {
            return make(core, kind, call, plan).await.map(|written| (written, true));
        };
        let current = core.value(kind, &entry).await?;
        match attempt(core, kind, call, plan, &entry, &current).await {
            Ok(written) => return Ok((written, false)),
            Err(WriteError::Failed(error)) => return Err(error),
            Err(WriteError::Conflict(_)) => {}
        }
    }
    Err(kind.conflict(call.name(), MODIFIED))
}

/// Changes the object, unless another write comes between.
async fn attempt(
    core: &Arc<Core>,
    kind: &Arc<Kind>,
    call: &Call,
    plan: &Plan<'_>,
    entry: &Arc<Entry>,
    current: &Value,
) -> Result<Written, WriteError> {
    let mut new = transformed(core, kind, call, plan, current).await?;
    let pinned = check_preconditions(kind, call, &new, current, plan)?;
    shape(core, kind, call, plan, &mut new, current).await;
    if plan.part == Part::Main {
        admission::mutate(core, kind, call, Operation::Update, &mut new, Some(current)).await?;
        kind.guard(core, call, &new, Some(current)).await?;
        meta::dedup_owners(call, &mut new, true);
        meta::prepare_update(&mut new, current);
        kind.early_warnings(&new).into_iter().for_each(|warning| call.warn(warning));
        kind.prepare_update(&mut new, current, call.now);
    } else {
        admission::fill_part(core, kind, call, &mut new).await?;
        if core.hooks.may_mutate() {
            let only_status = plan.part == Part::Status;
            admission::mutate_part(core, kind, call, &mut new, current, only_status).await?;
            if let Part::Aspect(name) = plan.part {
                kind.shape_aspect(name, &mut new, current);
            }
        }
    }
    if plan.part != Part::Main {
        meta::dedup_owners(call, &mut new, true);
    }
    if !matches!(plan.part, Part::Status | Part::Aspect(_) | Part::Whole("binding" | "finalize")) {
        meta::bump_generation(kind, &mut new, current);
    }
    let begun = match plan.part {
        Part::Main => kind.begin(core, Change { object: &mut new, old: Some(current), dry_run: plan.dry_run })?,
        _ => Begun::default(),
    };
    let judged = kind.judged(core, call, &new, Some(current)).await?;
    check(kind, plan, &new, current, judged)?;
    if matches!(plan.part, Part::Main | Part::Whole("scale")) {
        kind.warnings(&new, Some(current)).into_iter().for_each(|warning| call.warn(warning));
    }
    if plan.part == Part::Status {
        kind.status_warnings(&new).into_iter().for_each(|warning| call.warn(warning));
    }
    admission::validate(core, kind, call, Operation::Update, Some(&new), Some(current)).await?;
    let (objects, dry_run) = ((&new, Some(current)), plan.dry_run);
    let _charged = quota::charge(core, kind, call, Operation::Update, objects, dry_run).await?;
    let change = Change { object: &mut new, old: Some(current), dry_run: plan.dry_run };
    kind.before_commit(core, call, change).await?;
    codec::normalize(kind, &mut new);
    match commit(core, kind, call, plan, (entry, new, current)).await {
        Err(WriteError::Conflict(_)) if pinned => Err(kind.conflict(call.name(), MODIFIED).into()),
        Err(error) => Err(error),
        Ok(written) => {
            begun.stays();
            Ok(written)
        }
    }
}

/// What the plan makes of the object. Where it has to see it in other versions it says so, and is asked again.
async fn transformed(
    core: &Core,
    kind: &Kind,
    call: &Call,
    plan: &Plan<'_>,
    current: &Value,
) -> Result<Value, ApiError> {
    call.conversions.forget();
    loop {
        let made = (plan.transform)(Some(current));
        if !call.conversions.settle(core, kind).await {
            return made;
        }
    }
}

async fn make(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call, plan: &Plan<'_>) -> Result<Written, ApiError> {
    if !plan.creates {
        return Err(kind.not_found(call.name()));
    }
    let mut new = (plan.transform)(None)?;
    let uid = object::uid(&new);
    if !uid.is_empty() && call.verb == "update" {
        return Err(kind.conflict(call.name(), &uid_precondition(kind, call, plan.dry_run, uid, "")));
    }
    if !uid.is_empty() {
        let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
        return Err(kind.conflict(call.name(), &why));
    }
    if call.verb == "update" && !matches!(object::text(&new, &["metadata", "resourceVersion"]), "" | "0") {
        return Err(kind.not_found(call.name()));
    }
    call.check_identity(&new)?;
    object::remove(&mut new, &["metadata"], "resourceVersion");
    may_create(core, call)?;
    create::create_object(core, kind, call, new, plan.dry_run).await
}

/// Who changes what is missing makes it, and needs the right to do that too.
fn may_create(core: &Core, call: &Call) -> Result<(), ApiError> {
    let target = Target::Resource(call.target.clone());
    let attributes = Attributes { user: Arc::clone(&call.user), verb: "create".to_owned(), target };
    match core.authorizer.authorize(&attributes) {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(denial) => Err(denial.to_api_error()),
    }
}

/// What upstream's store says of a uid that is not the one that was asked for, the place of the object included.
fn uid_precondition(kind: &Kind, call: &Call, dry_run: bool, wanted: &str, found: &str) -> String {
    let resource = match (kind.group(), &*kind.resource.plural) {
        ("", "endpoints") => "services/endpoints".to_owned(),
        ("", "services") => "services/specs".to_owned(),
        ("", "nodes") => "minions".to_owned(),
        ("", "replicationcontrollers") => "controllers".to_owned(),
        ("networking.k8s.io", "ingresses") => "ingress".to_owned(),
        ("apiextensions.k8s.io" | "apiregistration.k8s.io", plural) => format!("{}/{plural}", kind.group()),
        (group, plural) if kind.is_custom() => format!("{group}/{plural}"),
        (_, plural) => plural.to_owned(),
    };
    let namespace = if kind.resource.namespaced { format!("{}/", call.namespace()) } else { String::new() };
    // What is only tried does not get as far as the store, which knows where it keeps things.
    let root = if dry_run { "" } else { "/registry" };
    format!(
        "StorageError: invalid object, Code: 4, Key: {root}/{resource}/{namespace}{}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}",
        call.name()
    )
}

/// Whether what is to be written names the object that is there. Answers whether it is pinned to a revision.
fn check_preconditions(
    kind: &Kind,
    call: &Call,
    new: &Value,
    current: &Value,
    plan: &Plan<'_>,
) -> Result<bool, ApiError> {
    call.check_identity(new)?;
    let uid = object::uid(new);
    if !uid.is_empty() && uid != object::uid(current) && call.verb != "patch" {
        let why = uid_precondition(kind, call, plan.dry_run, uid, object::uid(current));
        return Err(kind.conflict(call.name(), &why));
    }
    let wanted = object::text(new, &["metadata", "resourceVersion"]);
    let revision = parse_revision(wanted)
        .map_err(|_| ApiError::new(500, "", format!("strconv.ParseUint: parsing {wanted:?}: invalid syntax")))?;
    match revision {
        None | Some(0) if kind.allows_unconditional_update() || plan.unconditional => Ok(false),
        None | Some(0) => {
            let zero = Value::from(0);
            let cause = Cause::invalid("metadata.resourceVersion", &zero, "must be specified for an update");
            Err(ApiError::invalid(kind.group(), &kind.resource.plural, call.name(), vec![cause]))
        }
        Some(_) if wanted == object::text(current, &["metadata", "resourceVersion"]) => Ok(call.verb == "update"),
        Some(_) => Err(kind.conflict(call.name(), MODIFIED)),
    }
}

/// Restores what this part may not change, and writes down whose fields were set.
async fn shape(core: &Core, kind: &Kind, call: &Call, plan: &Plan<'_>, new: &mut Value, current: &Value) {
    if kind.resource.namespaced {
        object::set(new, &["metadata"], "namespace", call.namespace());
    } else {
        object::remove(new, &["metadata"], "namespace");
    }
    match plan.part {
        Part::Main if kind.keeps_status() => object::copy_key(new, current, "status"),
        Part::Main => {}
        Part::Status => {
            let mut shaped = current.clone();
            object::copy_key(&mut shaped, new, "status");
            object::copy_key(&mut shaped, new, "metadata");
            *new = shaped;
        }
        Part::Aspect(name) => kind.shape_aspect(name, new, current),
        Part::Whole(_) => {}
    }
    if plan.part != Part::Main {
        meta::restore(new, current, "deletionTimestamp");
        meta::restore(new, current, "deletionGracePeriodSeconds");
        if kind.is_custom() {
            meta::restore(new, current, "generateName");
        }
        meta::prepare_update(new, current);
    }
    if call.verb != "patch" {
        meta::dedup_owners(call, new, false);
    }
    if plan.part != Part::Whole("scale") {
        // Whose the number is that is written through a scale was found out of the scale.
        codec::track(core, kind, call, Some(current), new, plan.part.subresource()).await;
    }
    if plan.part == Part::Status {
        if kind.status_keeps_metadata() {
            for key in ["labels", "annotations", "finalizers", "ownerReferences"] {
                meta::restore(new, current, key);
            }
        }
        kind.prepare_status(new, current);
    }
}

fn check(kind: &Kind, plan: &Plan<'_>, new: &Value, current: &Value, mut causes: Vec<Cause>) -> Result<(), ApiError> {
    if plan.part == Part::Main {
        codec::check_custom_type(kind, new)?;
    }
    validation::metadata::update(kind, new, current, plan.part == Part::Main, &mut causes);
    match plan.part {
        Part::Main => {
            kind.validate(new, &mut causes);
            kind.validate_update(new, current, &mut causes);
        }
        Part::Status => kind.validate_status(new, current, &mut causes),
        Part::Aspect(name) => kind.validate_aspect(name, new, current, &mut causes),
        Part::Whole("scale") if kind.is_custom() => kind.validate_update(new, current, &mut causes),
        Part::Whole(name) => kind.validate_aspect(name, new, current, &mut causes),
    }
    if causes.is_empty() { Ok(()) } else { Err(kind.invalid(object::name(new), causes)) }
}

async fn commit(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    plan: &Plan<'_>,
    (entry, mut new, current): (&Arc<Entry>, Value, &Value),
) -> Result<Written, WriteError> {
    let revision = object::text(current, &["metadata", "resourceVersion"]).to_owned();
    object::set(&mut new, &["metadata"], "resourceVersion", revision);
    if same(&mut new, current) {
        return Ok(Written::Unchanged(Arc::clone(entry)));
    }
    if plan.dry_run {
        return Ok(Written::Only(new));
    }
    let ends = object::is_terminating(&new)
        && object::finalizers(&new).is_empty()
        && !kind.holds_back(&new)
        && object::int(current, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0) == 0;
    if ends {
        let gone = core.remove(entry).await?;
        kind.after_commit(core, None, Some(current), gone.revision);
        crate::registry::storage::set_revision(&mut new, gone.revision);
        return Ok(Written::Only(new));
    }
    let stored = core.put_fitting(kind, call, &mut new, Some(entry)).await?;
    kind.after_commit(core, Some(&new), Some(current), stored.revision);
    Ok(Written::Stored(stored, new))
}

/// Whether nothing was changed. Times of managed fields alone are no change; they are set back.
fn same(new: &mut Value, current: &Value) -> bool {
    let same = same_but_for_times(current, new);
    if same {
        meta::restore(new, current, "managedFields");
    }
    same
}
