//! Objects of any type, made from the schema table with any of their fields set.

use martello_api::schema::{Kind, Presence, Schema};
use proptest::{prelude::Rng, test_runner::TestRng};
use serde_json::{Map, Value, json};

/// How deep types that hold themselves are filled.
pub(crate) const DEPTH: usize = 9;

/// Fills objects.
pub(crate) struct Filler {
    /// Where choices come from.
    pub(crate) rng: TestRng,
    /// Of a hundred fields that may be missing, how many are set.
    pub(crate) share: u32,
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

/// What a list or a map holds in the end.
pub(crate) fn innermost(kind: &Kind) -> &Kind {
    match kind {
        Kind::List(list) => innermost(&list.item),
        Kind::Map(map) => innermost(&map.value),
        other => other,
    }
}

/// An object of a kind of its own.
pub(crate) fn of_kind(filler: &mut Filler, schema: &Schema) -> Value {
    let gvk = &schema.kinds[0];
    let mut object = filler.object(schema, DEPTH);
    object["kind"] = json!(gvk.kind);
    object["apiVersion"] = json!(gvk.api_version());
    object
}
