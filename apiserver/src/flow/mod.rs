//! Priority and fairness: who is served at once, who waits, and who is told to come back. Requests are told apart by flow
//! schemas, each leads to a priority level, and each level has seats of its own; those that it does not need it lends.

use std::{collections::HashMap, sync::Arc, time::Duration};

use martello_api::{attributes::Target, identity::User, order::Order};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;

use crate::{
    metrics::flow::{Executing, Figures, OfSchema, Waiting},
    registry::object,
};

pub mod classify;
pub mod condition;
pub mod seats;
pub mod upkeep;

use classify::Schema;
use seats::{Hall, Seat, Turned};

/// Seats of this server, as upstream's defaults together: 400 for reads, 200 for writes.
pub const TOTAL_SEATS: u32 = 600;
/// How long a request waits for a seat: a quarter of the time that it may take.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// What decides, made anew with every write of a schema or level.
#[derive(Default)]
struct Rules {
    /// In the order in which they are asked.
    schemas: Vec<(Schema, Arc<OfSchema>)>,
    /// Levels by name: UID and whether nothing limits it.
    levels: HashMap<String, (Arc<str>, bool)>,
}

/// Schemas and levels as they are stored, by name.
#[derive(Default)]
struct Known {
    schemas: HashMap<String, Value>,
    levels: HashMap<String, Value>,
    /// By kind and name.
    order: Order<(bool, String)>,
}

/// Tells requests apart and gives them seats.
#[derive(Default)]
pub struct FlowControl {
    known: Mutex<Known>,
    rules: RwLock<Arc<Rules>>,
    hall: Hall,
    figures: Figures,
}

/// A request's place among those that are served; it is free again when this is dropped.
pub struct Place {
    seat: Option<Seat>,
    _counted: Executing,
}

impl Place {
    /// Whether it is one of those that are counted: requests of exempt levels are served however many there are.
    #[must_use]
    pub const fn is_limited(&self) -> bool {
        self.seat.is_some()
    }
}

/// Where a request belongs.
#[derive(Clone)]
pub struct Classified {
    /// UID of the schema.
    pub schema: Arc<str>,
    /// UID of the level.
    pub level: Arc<str>,
    name: Arc<str>,
    exempt: bool,
    flow: u64,
    figures: Arc<OfSchema>,
}

impl FlowControl {
    /// With no schemas yet. What it does is counted in `figures`.
    #[must_use]
    pub fn new(figures: Figures) -> Self {
        Self { figures, ..Self::default() }
    }

    /// Notes a schema or level as it is since this revision; none for one that is gone.
    pub fn note(&self, object: Option<&Value>, old: Option<&Value>, revision: u64) {
        let mut known = self.known.lock();
        let Some(told) = object.or(old) else { return };
        let place = (object::text(told, &["kind"]) == "FlowSchema", object::name(told).to_owned());
        if !known.order.admits(place, object.is_none(), revision) {
            return;
        }
        for (value, stays) in [(old, false), (object, true)] {
            let Some(value) = value else { continue };
            let of =
                if object::text(value, &["kind"]) == "FlowSchema" { &mut known.schemas } else { &mut known.levels };
            let name = object::name(value).to_owned();
            if stays {
                of.insert(name, value.clone())
            } else {
                of.remove(&name)
            };
        }
        self.rebuild(&known);
    }

    fn rebuild(&self, known: &Known) {
        let levels: HashMap<String, (Arc<str>, bool)> = known
            .levels
            .iter()
            .map(|(name, level)| {
                let exempt = object::text(level, &["spec", "type"]) == "Exempt";
                (name.clone(), (object::uid(level).into(), exempt))
            })
            .collect();
        let mut schemas: Vec<Schema> = known.schemas.values().filter_map(Schema::read).collect();
        // A schema whose level is not there takes nothing.
        schemas.retain(|schema| levels.contains_key(&*schema.level));
        schemas.sort_by(|left, right| (left.precedence, &left.name).cmp(&(right.precedence, &right.name)));
        let counted = |schema: Schema| {
            let figures = Arc::new(self.figures.of(&schema.name, &schema.level));
            (schema, figures)
        };
        let schemas = schemas.into_iter().map(counted).collect();
        self.hall.arrange(TOTAL_SEATS, known.levels.values());
        self.figures.seats(self.hall.own_seats());
        *self.rules.write() = Arc::new(Rules { schemas, levels });
    }

    /// Schemas as they are stored, or the one of this name, and whether the level that each names is missing.
    #[must_use]
    pub fn dangling(&self, name: Option<&str>) -> Vec<(Value, bool)> {
        let known = self.known.lock();
        let missing = |schema: &Value| {
            !known.levels.contains_key(object::text(schema, &["spec", "priorityLevelConfiguration", "name"]))
        };
        let asked = known.schemas.iter().filter(|(own, _)| name.is_none_or(|name| name == own.as_str()));
        asked.map(|(_, schema)| (schema.clone(), missing(schema))).collect()
    }

    /// Where a request belongs; none before the schemas of every cluster are there.
    #[must_use]
    pub fn classify(&self, user: &User, verb: &str, target: &Target) -> Option<Classified> {
        let rules = Arc::clone(&self.rules.read());
        let (schema, figures) = rules.schemas.iter().find(|(schema, _)| schema.takes(user, verb, target))?;
        let (level, exempt) = rules.levels.get(&*schema.level)?;
        Some(Classified {
            schema: Arc::clone(&schema.uid),
            level: Arc::clone(level),
            name: Arc::clone(&schema.level),
            exempt: *exempt,
            flow: schema.flow(user, target),
            figures: Arc::clone(figures),
        })
    }

    /// A place for a request: at once, after a while, or not.
    pub async fn seat(&self, request: &Classified) -> Result<Place, Turned> {
        let waiting = Waiting::start(&request.figures);
        if request.exempt {
            return Ok(Place { seat: None, _counted: waiting.execute() });
        }
        match self.hall.seat(&request.name, request.flow, PATIENCE).await {
            Ok(seat) => Ok(Place { seat: Some(seat), _counted: waiting.execute() }),
            Err(turned) => {
                waiting.reject(turned.reason());
                Err(turned)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use martello_api::{attributes::ResourceTarget, identity::GROUP_MASTERS};

    use super::*;
    use crate::registry::flowcontrol::bootstrap::{MANDATORY, SUGGESTED};

    fn level(user: &User, verb: &str, target: Target) -> String {
        let control = FlowControl::default();
        for object in MANDATORY.iter().chain(SUGGESTED.iter()) {
            control.note(Some(object), None, 1);
        }
        control.classify(user, verb, &target).unwrap().name.to_string()
    }

    fn pods() -> Target {
        Target::Resource(ResourceTarget {
            version: "v1".into(),
            resource: "pods".into(),
            namespace: "shop".into(),
            ..ResourceTarget::default()
        })
    }

    fn leases() -> Target {
        Target::Resource(ResourceTarget {
            group: "coordination.k8s.io".into(),
            version: "v1".into(),
            resource: "leases".into(),
            namespace: "kube-node-lease".into(),
            ..ResourceTarget::default()
        })
    }

    #[test]
    fn requests_are_told_apart_as_upstream_tells_them_apart() {
        let node = User::node("worker");
        assert_eq!(level(&User::authenticated("jane", ["devs"]), "list", pods()), "global-default");
        assert_eq!(level(&User::authenticated("root", [GROUP_MASTERS]), "list", pods()), "exempt");
        assert_eq!(level(&node, "update", leases()), "node-high");
        assert_eq!(level(&node, "list", pods()), "system");
        assert_eq!(level(&User::service_account("shop", "web"), "list", pods()), "workload-low");
        assert_eq!(level(&User::service_account("kube-system", "dns"), "list", pods()), "workload-high");
        assert_eq!(level(&User::service_account("kube-system", "dns"), "update", leases()), "leader-election");
        assert_eq!(level(&User::anonymous(), "get", Target::Path("/healthz".into())), "exempt");
        assert_eq!(level(&User::anonymous(), "get", Target::Path("/version".into())), "global-default");
    }
}
