//! ClusterTrustBundles: certificates of authorities that workloads may trust, some of them those of a signer.

use martello_api::{
    resource::Resource,
    status::{ApiError, Cause},
};
use martello_pki::blocks::bundle_faults;
use serde_json::{Value, json};

use super::{GROUP, signer_name};
use crate::{
    registry::{
        call::Call,
        kind::{Cell, Column, Kind, NameRule, Strategy, resource},
        object,
        validation::{
            field::Field,
            metadata,
            text::{self, Faults},
        },
    },
    server::Core,
};

/// ClusterTrustBundles.
pub struct TrustBundles;

/// Most bytes of a bundle.
const MAX_BUNDLE_BYTES: usize = 1024 * 1024;

impl Strategy for TrustBundles {
    fn resource(&self) -> Resource {
        resource(GROUP, "v1beta1", "ClusterTrustBundle", "clustertrustbundles").cluster_scoped().build()
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Any
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        check_name(object, causes);
        check_signer(object, causes);
        check_bundle(object, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        check_name(object, causes);
        check_signer(object, causes);
        let part = |object: &Value, key: &str| object::text(object, &["spec", key]).to_owned();
        // A bundle that stays as it is need not be what is understood today.
        if part(object, "trustBundle") != part(old, "trustBundle") {
            check_bundle(object, causes);
        }
        let signer = part(object, "signerName");
        if signer != part(old, "signerName") {
            causes.push(Cause::invalid("spec.signerName", &json!(signer), "field is immutable"));
        }
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["spec.signerName"]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 2] = [Column::name(), Column::text("SignerName", "spec.signerName")];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let signer = object::text(object, &["spec", "signerName"]);
        vec![object::name(object).into(), if signer.is_empty() { "<none>" } else { signer }.into()]
    }
}

fn check_name(object: &Value, causes: &mut Vec<Cause>) {
    let signer = object::text(object, &["spec", "signerName"]);
    let base = object::text(object, &["metadata", "generateName"]);
    if !base.is_empty() {
        for fault in name_faults(&metadata::without_dash(base), signer) {
            causes.push(Cause::invalid("metadata.generateName", &json!(base), &fault));
        }
    }
    let name = object::name(object);
    if !name.is_empty() {
        for fault in name_faults(name, signer) {
            causes.push(Cause::invalid("metadata.name", &json!(name), &fault));
        }
    }
}

/// The name of a signer's bundle begins with that of the signer, and no other does.
fn name_faults(name: &str, signer: &str) -> Faults {
    if signer.is_empty() {
        if name.contains(':') {
            return vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()];
        }
        return text::dns1123_subdomain(name);
    }
    let prefix = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(&prefix) {
        Some(rest) => text::dns1123_subdomain(rest),
        None => vec![format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}")],
    }
}

fn check_signer(object: &Value, causes: &mut Vec<Cause>) {
    let signer = Field::new(object, "").at("spec").at("signerName");
    if !signer.text().is_empty() {
        signer_name::check(&signer, causes);
    }
}

fn check_bundle(object: &Value, causes: &mut Vec<Cause>) {
    const PATH: &str = "spec.trustBundle";
    let bundle = object::text(object, &["spec", "trustBundle"]);
    if bundle.len() > MAX_BUNDLE_BYTES {
        return causes.push(Cause::too_long(PATH, MAX_BUNDLE_BYTES));
    }
    for fault in bundle_faults(bundle.as_bytes()) {
        causes.push(Cause::invalid(PATH, &json!("<value omitted>"), &fault));
    }
}

/// Admission: who says what a signer's bundle is must be allowed to attest for the signer.
pub fn admit(core: &Core, kind: &Kind, call: &Call, object: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    let signer = object::text(object, &["spec", "signerName"]);
    let unchanged = old.is_some_and(|old| object::same_but_for_owners(object, old));
    if signer.is_empty() || unchanged || signer_name::may(core, call, "attest", signer) {
        return Ok(());
    }
    let why = format!("user not permitted to attest for signerName {signer:?}");
    Err(kind.forbidden(object::name(object), &why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_named_after_its_signer() {
        for (name, signer) in [("b", ""), ("example.com:s:b", "example.com/s"), ("example.com:s:b.c", "example.com/s")]
        {
            assert!(name_faults(name, signer).is_empty(), "{name}");
        }
        assert_eq!(name_faults("a:b", ""), ["ClusterTrustBundle without signer name must not have \":\" in its name"]);
        assert_eq!(
            name_faults("b", "example.com/s"),
            ["ClusterTrustBundle for signerName example.com/s must be named with prefix example.com:s:"]
        );
        assert!(name_faults("example.com:s:B", "example.com/s")[0].contains("RFC 1123 subdomain"));
    }

    #[test]
    fn a_bundle_that_stays_is_not_read_again() {
        let bundle = |signer: &str, text: &str| json!({"metadata": {"name": "b"}, "spec": {"signerName": signer, "trustBundle": text}});
        let faults = |new: &Value, old: &Value| {
            let mut causes = Vec::new();
            TrustBundles.validate_update(new, old, &mut causes);
            causes.into_iter().map(|cause| cause.field).collect::<Vec<_>>()
        };
        assert!(faults(&bundle("", "odd"), &bundle("", "odd")).is_empty());
        assert_eq!(faults(&bundle("", "odd"), &bundle("", "other")), ["spec.trustBundle"]);
        assert_eq!(faults(&bundle("a.b/c", "odd"), &bundle("", "odd")), ["metadata.name", "spec.signerName"]);
    }
}
