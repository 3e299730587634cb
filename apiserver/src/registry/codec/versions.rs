//! Objects in the versions in which their fields are owned: what the pure part asks for is converted between its attempts.

use std::fmt;

use martello_api::{
    managed_fields::{Convert, Unconverted},
    resource::GroupVersionKind,
    schema::{Schema, Schemas},
};
use parking_lot::Mutex;
use serde_json::Value;

use super::schema_of;
use crate::{
    registry::{kind::Kind, object},
    server::Core,
};

/// Most conversions of one call. Three or four are needed for each version that owns fields, and few kinds have more than
/// five.
const MOST_CONVERSIONS: usize = 64;
/// One kind, in two groups.
const EVENTS: [&str; 2] = ["", "events.k8s.io"];

/// What was converted for a call, and what it asks for.
#[derive(Default)]
pub struct Conversions(Mutex<Vec<Conversion>>);

struct Conversion {
    object: Value,
    to: String,
    /// Nothing yet where it is only asked for.
    converted: Option<Result<Value, String>>,
}

impl Conversions {
    /// Begins anew: the object has changed.
    pub fn forget(&self) {
        self.0.lock().clear();
    }

    /// Converts what was asked for; answers whether anything was, so that another attempt gets further.
    pub async fn settle(&self, core: &Core, kind: &Kind) -> bool {
        let waits = |one: &&Conversion| one.converted.is_none();
        let wanted: Vec<(Value, String)> =
            self.0.lock().iter().filter(waits).map(|one| (one.object.clone(), one.to.clone())).collect();
        for (object, to) in &wanted {
            let converted = converted(core, kind, object.clone(), to).await;
            let mut known = self.0.lock();
            if let Some(place) = known.iter_mut().find(|one| one.to == *to && one.object == *object) {
                place.converted = Some(converted);
            }
        }
        !wanted.is_empty()
    }

    fn ask(&self, object: &Value, to: &str) -> Result<Value, Unconverted> {
        let mut known = self.0.lock();
        match known.iter().find(|one| one.to == to && one.object == *object) {
            Some(Conversion { converted: Some(converted), .. }) => converted.clone().map_err(Unconverted::Failed),
            Some(_) => Err(Unconverted::Later),
            None if known.len() >= MOST_CONVERSIONS => Err(Unconverted::Failed(format!(
                "more than {MOST_CONVERSIONS} conversions to other versions are needed"
            ))),
            None => {
                known.push(Conversion { object: object.clone(), to: to.to_owned(), converted: None });
                Err(Unconverted::Later)
            }
        }
    }
}

/// An object of a kind as another of its versions has it.
async fn converted(core: &Core, kind: &Kind, mut object: Value, to: &str) -> Result<Value, String> {
    if kind.is_custom() {
        return kind.convert(core, object, to).await.map_err(|error| error.message);
    }
    let within = |version: &str| {
        core.registry.builtin_by(|one| one.name() == kind.name() && one.resource.gvk.api_version() == version)
    };
    if let Some(from) = within(object::text(&object, &["apiVersion"])) {
        from.to_stored(&mut object);
    }
    if let Some(to) = within(to) {
        to.show_stored(&mut object);
    }
    object::set(&mut object, &[], "apiVersion", to);
    Ok(object)
}

/// A kind in all its versions, for one call.
pub(super) struct Versions<'a> {
    pub(super) kind: &'a Kind,
    pub(super) conversions: &'a Conversions,
}

impl fmt::Debug for Versions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Versions").field(&self.kind.resource.gvk).finish()
    }
}

impl Convert for Versions<'_> {
    fn schema(&self, api_version: &str) -> Option<&Schema> {
        let own = &self.kind.resource.gvk;
        if own.api_version() == api_version {
            return Some(schema_of(self.kind));
        }
        if self.kind.is_custom() {
            return self.kind.schema_in(api_version);
        }
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let is_kin = *own.group == *group || (EVENTS.contains(&group) && EVENTS.contains(&&*own.group));
        let (group, version) = (group.to_owned().into(), version.to_owned().into());
        Schemas::builtin().get(&GroupVersionKind { group, version, kind: own.kind.clone() }).filter(|_| is_kin)
    }

    fn convert(&self, object: &Value, to: &str) -> Result<Value, Unconverted> {
        if to.matches('/').count() > 1 {
            return Err(Unconverted::Failed(format!("unexpected GroupVersion string: {to}")));
        }
        if self.schema(to).is_some() {
            return self.conversions.ask(object, to);
        }
        if !self.kind.is_custom() {
            return Err(Unconverted::Missing);
        }
        // Upstream forgets nothing of a kind that came at run time: whoever drops a version that fields are owned in has
        // to rewrite the objects before.
        let own = object::text(object, &["apiVersion"]);
        let group = to.split_once('/').map_or("", |(group, _)| group);
        Err(Unconverted::Failed(if group == self.kind.group() {
            format!("request to convert CR to an invalid group/version: {to}")
        } else {
            format!("{own}, Kind={} is unstructured and is not suitable for converting to {to:?}", self.kind.name())
        }))
    }
}
