//! LeaseCandidates: who would like to hold a Lease, and as which version.

use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use crate::registry::{
    kind::{Cell, Column, NameRule, Strategy, resource},
    object, table,
    validation::{field::Field, text, version::Version},
};

/// LeaseCandidates.
pub struct LeaseCandidates;

/// The one way to choose among candidates that Kubernetes names; others have a domain.
const OLDEST: &str = "OldestEmulationVersion";

impl Strategy for LeaseCandidates {
    fn resource(&self) -> Resource {
        resource("coordination.k8s.io", "v1beta1", "LeaseCandidate", "leasecandidates").build()
    }

    fn name_rule(&self) -> NameRule {
        NameRule::ConfigMapKey
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let spec = Field::new(object, "").at("spec");
        spec.at("leaseName").needs_text(causes);
        versions(&spec, causes);
        let strategy = spec.at("strategy");
        if !strategy.needs_text(causes) {
            return;
        }
        let emulated = spec.at("emulationVersion");
        if strategy.text() == OLDEST && Version::parse(emulated.text()).is_none_or(|version| version.is_zero()) {
            emulated.required("must be specified when `strategy` is 'OldestEmulationVersion'", causes);
        }
        // Upstream names the field twice.
        let twice = Field::new(strategy.value, "spec.strategy.strategy");
        if strategy.text().contains('/') {
            twice.check(text::qualified_name, causes);
        } else {
            twice.one_of(&[OLDEST], causes);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let name = |object: &Value| object::text(object, &["spec", "leaseName"]).to_owned();
        if name(object) != name(old) {
            causes.push(Cause::invalid("spec.leaseName", &json!(name(object)), "field is immutable"));
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 5] = [
            Column::name(),
            Column::text("LeaseName", "spec.leaseName"),
            Column::text("BinaryVersion", ""),
            Column::text("EmulationVersion", ""),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let of = |key: &str| Cell::from(object::text(object, &["spec", key]));
        vec![
            object::name(object).into(),
            of("leaseName"),
            of("binaryVersion"),
            of("emulationVersion"),
            table::age(object),
        ]
    }
}

fn versions(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    const WHY: &str = "must be a valid semantic version";
    let (emulated, binary) = (spec.at("emulationVersion"), spec.at("binaryVersion"));
    let zero = Version::parse("0.0.0");
    let parsed = |field: &Field<'_>, causes: &mut Vec<Cause>| {
        let version = Version::parse(field.text());
        if version.is_none() && !field.text().is_empty() {
            field.invalid(WHY, causes);
        }
    };
    parsed(&emulated, causes);
    if binary.needs_text(causes) {
        parsed(&binary, causes);
    }
    let both = !binary.text().is_empty() && !emulated.text().is_empty();
    if both && Version::parse(binary.text()).or(zero) < Version::parse(emulated.text()).or(zero) {
        binary.invalid("must be greater than or equal to `emulationVersion`", causes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(spec: Value) -> Vec<String> {
        let mut causes = Vec::new();
        LeaseCandidates.validate(&json!({"spec": spec}), &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn a_candidate_says_which_lease_which_versions_and_how_it_is_chosen() {
        let good =
            json!({"leaseName": "l", "binaryVersion": "1.36.0", "emulationVersion": "1.35.0", "strategy": OLDEST});
        assert!(faults(good).is_empty());
        assert_eq!(
            faults(json!({})),
            ["spec.leaseName: Required value", "spec.binaryVersion: Required value", "spec.strategy: Required value"]
        );
    }

    #[test]
    fn no_candidate_emulates_what_is_newer_than_itself() {
        let spec =
            json!({"leaseName": "l", "binaryVersion": "1.35.0", "emulationVersion": "1.36.0", "strategy": "Other"});
        assert_eq!(
            faults(spec),
            [
                "spec.binaryVersion: Invalid value: \"1.35.0\": must be greater than or equal to `emulationVersion`",
                "spec.strategy.strategy: Unsupported value: \"Other\": supported values: \"OldestEmulationVersion\"",
            ]
        );
    }
}
