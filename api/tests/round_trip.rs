//! Objects of every built-in kind, made from the schema table with any of their fields set, make the round trip in every
//! encoding without losing or changing anything.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what sets a test up fails as the test does"
)]

use martello_api::schema::{
    Envelope, Kind, Presence, Schema, Schemas, decode_json, decode_yaml, encode_protobuf, has_protobuf, normalize,
};
use proptest::{prelude::*, test_runner::TestRng};
use serde_json::{Map, Value, json};

/// How deep types that hold themselves are filled.
const DEPTH: usize = 9;
/// The one type with fields that are either of several types: encoded by rules of its own, which its own tests cover.
const EITHER: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// Fills objects.
struct Filler {
    rng: TestRng,
    /// Of a hundred fields that may be missing, how many are set.
    share: u32,
}

impl Filler {
    fn below(&mut self, end: u32) -> u32 {
        self.rng.next_u32() % end
    }

    fn text(&mut self) -> String {
        const LETTERS: [&str; 12] = ["a", "b", "0", "é", "\"", "\\", "\n", " ", "#", ":", "日", "-"];
        let length = self.below(6);
        let rest: String = (0..length).map(|_| LETTERS[self.below(12) as usize]).collect();
        format!("x{rest}")
    }

    fn object(&mut self, schema: &Schema, depth: usize) -> Value {
        let mut map = Map::new();
        // Parts do not say their kind in protobuf; whole objects do, in the envelope.
        for field in schema.fields().iter().filter(|field| field.number != 0 || !is_part(schema, &field.name)) {
            let always = field.required || matches!(field.presence, Presence::Always | Presence::Null);
            let holds_more = matches!(innermost(&field.kind), Kind::Message(_));
            if (always || self.below(100) < self.share) && (depth > 0 || always || !holds_more) {
                map.insert(field.name.to_string(), self.value(&field.kind, depth.saturating_sub(1)));
            }
        }
        Value::Object(map)
    }

    fn value(&mut self, kind: &Kind, depth: usize) -> Value {
        let count = 1 + self.below(3);
        match kind {
            Kind::Bool => json!(true),
            Kind::Int32 => json!(self.below(i32::MAX.unsigned_abs()).cast_signed() - 7),
            Kind::Int64 => json!(i64::from(self.below(u32::MAX)) * 4099 - 3),
            Kind::Double => json!(f64::from(1 + self.below(1000)) / 8.0),
            Kind::String => json!(self.text()),
            Kind::Bytes => json!(["AA==", "/+8=", "YWJj"][self.below(3) as usize]),
            Kind::Quantity => json!(["1", "100m", "3Gi", "2k", "1500m", "12e6"][self.below(6) as usize]),
            Kind::IntOrString if self.below(2) == 0 => json!(self.below(65_535)),
            Kind::IntOrString => json!("25%"),
            Kind::Time => json!(format!("2026-0{count}-11T10:0{count}:09Z")),
            Kind::MicroTime => json!(format!("2026-0{count}-11T10:09:0{count}.00{count}000Z")),
            Kind::Any | Kind::Raw => json!({"f:any": {"n": self.below(9), "l": [null, true, self.text()]}}),
            Kind::Message(link) => self.object(link.get(), depth),
            Kind::List(list) => (0..count).map(|_| self.value(&list.item, depth)).collect(),
            Kind::Map(map) => {
                (0..count).map(|at| (format!("k{at}"), self.value(&map.value, depth))).collect::<Map<_, _>>().into()
            }
        }
    }
}

fn is_part(schema: &Schema, field: &str) -> bool {
    let has_numbers = schema.fields().iter().any(|field| field.number != 0);
    (has_numbers || !schema.kinds.is_empty()) && matches!(field, "apiVersion" | "kind")
}

fn innermost(kind: &Kind) -> &Kind {
    match kind {
        Kind::List(list) => innermost(&list.item),
        Kind::Map(map) => innermost(&map.value),
        other => other,
    }
}

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

fn of_kind(filler: &mut Filler, schema: &Schema) -> Value {
    let gvk = &schema.kinds[0];
    let mut object = filler.object(schema, DEPTH);
    object["kind"] = json!(gvk.kind);
    object["apiVersion"] = json!(gvk.api_version());
    object
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
