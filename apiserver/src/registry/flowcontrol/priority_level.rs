//! PriorityLevelConfigurations: how many requests run at once, and how many wait.

use std::sync::Arc;

use jiff::Timestamp;
use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::{bootstrap, flow_schema};
use crate::{
    flow::condition,
    registry::{
        kind::{Cell, Column, Generation, Strategy, resource},
        object, table,
        validation::field::{Field, go_form},
    },
    server::Core,
};

/// PriorityLevelConfigurations.
pub struct PriorityLevels;

const DEFAULT_SHARES: i64 = 30;
/// What a queue has where nothing is said: queues, hand, requests that wait in each.
const DEFAULT_QUEUING: [(&str, i64); 3] = [("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)];
/// Most queues of a level.
const MAX_QUEUES: i64 = 10_000_000;
/// Bits of the hash by which a hand is dealt.
const MAX_HASH_BITS: u32 = 60;

impl Strategy for PriorityLevels {
    fn resource(&self) -> Resource {
        resource("flowcontrol.apiserver.k8s.io", "v1", "PriorityLevelConfiguration", "prioritylevelconfigurations")
            .cluster_scoped()
            .status()
            .build()
    }

    fn default(&self, object: &mut Value) {
        for (part, shares) in [("limited", DEFAULT_SHARES), ("exempt", 0)] {
            if object::at(object, &["spec", part]).is_some_and(|part| !part.is_null()) {
                object::set_default(object, &["spec", part], "nominalConcurrencyShares", shares);
                object::set_default(object, &["spec", part], "lendablePercent", 0);
            }
        }
        let queuing = ["spec", "limited", "limitResponse", "queuing"];
        if object::at(object, &queuing).is_some_and(|queuing| !queuing.is_null()) {
            for (key, default) in DEFAULT_QUEUING {
                if object::at(object, &queuing).and_then(|queuing| queuing.get(key)).is_none_or(object::is_zero) {
                    object::set(object, &queuing, key, default);
                }
            }
        }
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({}));
    }

    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        check(object, causes);
        must_equal(object, causes);
    }

    fn validate_status(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        flow_schema::check_conditions(object, causes);
    }

    fn after_commit(&self, core: &Arc<Core>, object: Option<&Value>, old: Option<&Value>, revision: u64) {
        core.flow.note(object, old, revision);
        if object.is_none() || old.is_none() {
            condition::follow_all(core);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 7] = [
            Column::name(),
            Column::text("Type", "spec.type"),
            Column::text("NominalConcurrencyShares", "spec.limited.nominalConcurrencyShares"),
            Column::text("Queues", "spec.limited.limitResponse.queuing.queues"),
            Column::text("HandSize", "spec.limited.limitResponse.queuing.handSize"),
            Column::text("QueueLengthLimit", "spec.limited.limitResponse.queuing.queueLengthLimit"),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let count = |path: &[&str]| object::int(object, path).map_or(Cell::from("<none>"), Cell::from);
        let queuing = |key: &str| count(&["spec", "limited", "limitResponse", "queuing", key]);
        vec![
            object::name(object).into(),
            object::text(object, &["spec", "type"]).into(),
            count(&["spec", "limited", "nominalConcurrencyShares"]),
            queuing("queues"),
            queuing("handSize"),
            queuing("queueLengthLimit"),
            table::age(object),
        ]
    }
}

/// Of mandatory levels only the shares of the exempt one may be changed.
fn must_equal(object: &Value, causes: &mut Vec<Cause>) {
    let name = object::name(object);
    let Some(fixed) = bootstrap::mandatory_spec("PriorityLevelConfiguration", name) else { return };
    let mut spec = object.get("spec").cloned().unwrap_or_default();
    let mut why = format!("spec of '{name}' must equal the fixed value");
    if name == "exempt" {
        object::copy_key(&mut spec, fixed, "exempt");
        why = "spec of 'exempt' except the 'spec.exempt' field must equal the fixed value".to_owned();
    }
    if !object::same_of("io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationSpec", Some(&spec), Some(fixed)) {
        causes.push(Cause::invalid("spec", &shown(object.get("spec").unwrap_or(&Value::Null)), &why));
    }
}

/// The spec as Go's internal types show it.
fn shown(spec: &Value) -> Value {
    let unset = Value::Null;
    let [limited, exempt] = ["limited", "exempt"].map(|key| spec.get(key).filter(|own| !own.is_null()));
    let limited = limited.map_or(Value::Null, |limited| {
        let response = limited.get("limitResponse").unwrap_or(&unset);
        let queuing = response.get("queuing").filter(|own| !own.is_null()).map_or(Value::Null, |queuing| {
            let sizes = [("queues", "Queues"), ("handSize", "HandSize"), ("queueLengthLimit", "QueueLengthLimit")];
            go_form(queuing, &sizes.map(|(key, name)| (key, name, json!(0))))
        });
        json!({
            "NominalConcurrencyShares": limited.get("nominalConcurrencyShares").unwrap_or(&unset),
            "LimitResponse": {"Type": object::text(response, &["type"]), "Queuing": queuing},
            "LendablePercent": limited.get("lendablePercent").unwrap_or(&unset),
            "BorrowingLimitPercent": limited.get("borrowingLimitPercent").unwrap_or(&unset),
        })
    });
    let shares = [("nominalConcurrencyShares", "NominalConcurrencyShares"), ("lendablePercent", "LendablePercent")];
    let exempt =
        exempt.map_or(Value::Null, |exempt| go_form(exempt, &shares.map(|(key, name)| (key, name, Value::Null))));
    json!({"Type": object::text(spec, &["type"]), "Limited": limited, "Exempt": exempt})
}

/// Checks a level.
pub(super) fn check(object: &Value, causes: &mut Vec<Cause>) {
    let whole = Field::new(object, "");
    let spec = whole.at("spec");
    let (kind, limited, exempt) = (spec.at("type"), spec.at("limited"), spec.at("exempt"));
    if (object::name(object) == "exempt") != (kind.text() == "Exempt") {
        kind.invalid("type must be 'Exempt' if and only if name is 'exempt'", causes);
    }
    match kind.text() {
        "Exempt" => {
            if !limited.value.is_null() {
                limited.forbidden("must be nil if the type is not Limited", causes);
            }
            shares(&exempt, causes);
        }
        "Limited" => {
            if !exempt.value.is_null() {
                exempt.forbidden("must be nil if the type is Limited", causes);
            }
            if limited.value.is_null() {
                return limited.required("must not be empty when type is Limited", causes);
            }
            check_limited(&limited, causes);
        }
        _ => kind.one_of(&["Exempt", "Limited"], causes),
    }
}

fn shares(part: &Field<'_>, causes: &mut Vec<Cause>) {
    let shares = part.at("nominalConcurrencyShares");
    if shares.int().is_some_and(|number| number < 0) {
        shares.invalid("must be a non-negative integer", causes);
    }
    if part.path.ends_with("exempt") {
        lendable(part, causes);
    }
}

fn lendable(part: &Field<'_>, causes: &mut Vec<Cause>) {
    let lendable = part.at("lendablePercent");
    if lendable.int().is_some_and(|percent| !(0..=100).contains(&percent)) {
        lendable.invalid("must be between 0 and 100, inclusive", causes);
    }
}

fn check_limited(limited: &Field<'_>, causes: &mut Vec<Cause>) {
    shares(limited, causes);
    let response = limited.at("limitResponse");
    let queuing = response.at("queuing");
    match response.str("type") {
        "Reject" if !queuing.value.is_null() => {
            queuing.forbidden("must be nil if limited.limitResponse.type is not Limited", causes);
        }
        "Reject" => {}
        "Queue" if queuing.value.is_null() => {
            queuing.required("must not be empty if limited.limitResponse.type is Limited", causes);
        }
        "Queue" => check_queuing(&queuing, causes),
        _ => response.at("type").one_of(&["Queue", "Reject"], causes),
    }
    lendable(limited, causes);
    let borrowing = limited.at("borrowingLimitPercent");
    if borrowing.int().is_some_and(|percent| percent < 0) {
        borrowing.invalid("if specified, must be a non-negative integer", causes);
    }
}

fn check_queuing(queuing: &Field<'_>, causes: &mut Vec<Cause>) {
    let (length, queues, hand) = (queuing.at("queueLengthLimit"), queuing.at("queues"), queuing.at("handSize"));
    if length.int().unwrap_or(0) <= 0 {
        length.invalid("must be positive", causes);
    }
    let (deck, dealt) = (queues.int().unwrap_or(0), hand.int().unwrap_or(0));
    if deck <= 0 {
        queues.invalid("must be positive", causes);
    } else if deck > MAX_QUEUES {
        queues.invalid(&format!("must not be greater than {MAX_QUEUES}"), causes);
    }
    if dealt <= 0 {
        hand.invalid("must be positive", causes);
    } else if dealt > deck {
        hand.invalid(&format!("should not be greater than queues ({deck})"), causes);
    } else if entropy_bits(deck, dealt) > MAX_HASH_BITS {
        let why = format!(
            "required entropy bits of deckSize {deck} and handSize {dealt} should not be greater than {MAX_HASH_BITS}"
        );
        hand.invalid(&why, causes);
    }
}

/// Bits that dealing a hand takes: one card after the other, from what is left of the deck. Counting ends where the answer
/// is clear.
fn entropy_bits(deck: i64, hand: i64) -> u32 {
    let mut bits = 0.0;
    for dealt in 0..hand {
        let left = u32::try_from(deck - dealt).unwrap_or(u32::MAX);
        bits += f64::from(left).log2();
        if bits > f64::from(MAX_HASH_BITS) {
            return MAX_HASH_BITS + 1;
        }
    }
    // At most 60.0 here.
    (0..=MAX_HASH_BITS).find(|whole| f64::from(*whole) >= bits).unwrap_or(MAX_HASH_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_is_dealt_from_sixty_bits() {
        assert_eq!(entropy_bits(128, 6), 42);
        assert_eq!(entropy_bits(64, 8), 48);
        assert_eq!(entropy_bits(10_000_000, 1_000_000), 61);
    }
}
