//! Objects of every built-in kind, made from the schema table with any of their fields set, make the round trip in every
//! encoding without losing or changing anything.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what sets a test up fails as the test does"
)]

use martello_api::schema::{
    Envelope, Kind, Schema, Schemas, decode_json, decode_yaml, encode_protobuf, has_protobuf, normalize,
};
use proptest::{prelude::*, test_runner::TestRng};
use serde_json::Value;

mod filler;

use filler::{DEPTH, Filler, innermost, of_kind};

/// The one type with fields that are either of several types: encoded by rules of its own, which its own tests cover.
const EITHER: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// Whether a type or a part of it is encoded by rules of its own.
fn has_either(schema: &Schema, depth: usize) -> bool {
    let held = |kind: &Kind| match innermost(kind) {
        Kind::Message(link) => depth > 0 && has_either(link.get(), depth - 1),
        _ => false,
    };
    schema.name == EITHER || schema.fields().iter().any(|field| held(&field.kind))
}

/// Every kind that can be sent, with its schema; of types that belong to many kinds the first. Events of watches are sent
/// without a kind.
fn kinds() -> Vec<&'static Schema> {
    let all = Schemas::builtin().iter();
    let says_its_kind = |schema: &&Schema| !schema.kinds.is_empty() && schema.field("kind").is_some();
    all.filter(|schema| says_its_kind(schema) && !has_either(schema, DEPTH)).collect()
}

fn faults(schema: &Schema, object: &Value) -> Vec<String> {
    let mut wanted = object.clone();
    normalize(schema, &mut wanted);
    let mut found = Vec::new();
    let mut compare = |encoding: &str, decoded: Result<Value, String>| match decoded {
        Ok(mut value) => {
            normalize(schema, &mut value);
            if value != wanted {
                found.push(format!("{} in {encoding}: {value} instead of {wanted}", schema.name));
            }
        }
        Err(error) => found.push(format!("{} in {encoding}: {error}", schema.name)),
    };
    let strict = |decoded: martello_api::schema::Decoded| match decoded.issues.first() {
        None => Ok(decoded.value),
        Some(issue) => Err(issue.to_string()),
    };
    let json = decode_json(schema, wanted.to_string().as_bytes());
    compare("JSON", json.map_err(|error| error.to_string()).and_then(strict));
    let yaml = serde_saphyr::to_string(&wanted).unwrap();
    compare("YAML", decode_yaml(schema, yaml.as_bytes()).map_err(|error| error.to_string()).and_then(strict));
    if has_protobuf(&schema.kinds[0]) {
        let bytes = encode_protobuf(&wanted).unwrap();
        let decoded = Envelope::open(&bytes).and_then(|envelope| envelope.decode(schema));
        compare(
            "protobuf",
            decoded.map_err(|error| error.to_string()).map(|mut value| {
                for key in ["kind", "apiVersion"] {
                    value[key] = wanted[key].clone();
                }
                value
            }),
        );
    }
    found
}

#[test]
fn an_object_with_every_field_set_makes_the_round_trip() {
    let kinds = kinds();
    assert!(kinds.len() > 150, "only {} kinds", kinds.len());
    let mut filler =
        Filler { rng: TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha), share: 100 };
    let faults: Vec<String> = kinds
        .into_iter()
        .flat_map(|schema| {
            let object = of_kind(&mut filler, schema);
            faults(schema, &object)
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn an_object_with_any_fields_set_makes_the_round_trip(at in any::<prop::sample::Index>(), seed in any::<[u8; 32]>(), share in 5_u32..95) {
        let kinds = kinds();
        let rng = TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &seed);
        let schema = kinds[at.index(kinds.len())];
        let object = of_kind(&mut Filler { rng, share }, schema);
        let faults = faults(schema, &object);
        prop_assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
