//! Tables of custom objects: columns by JSON path.

use jiff::Timestamp;
use martello_api::go;
use serde_json::{Value, json};

use super::{jsonpath::JsonPath, number::whole_part, shape::sorted};
use crate::registry::{
    kind::{AGE_DESCRIPTION, Cell, Column},
    object,
};

/// The columns of a version, the name first.
#[derive(Debug)]
pub struct Columns {
    /// As a Table tells them.
    pub told: Vec<Value>,
    /// Type and path of each but the name.
    cells: Vec<(String, JsonPath)>,
}

impl Columns {
    /// Those of a version of a definition; the age where it has none.
    #[must_use]
    pub fn of(version: &Value) -> Self {
        let name = Column::name();
        let mut told = vec![json!({
            "name": name.name, "type": name.kind, "format": name.format, "description": name.description, "priority": 0,
        })];
        let columns = object::list(version, &["additionalPrinterColumns"]);
        if columns.is_empty() {
            told.push(
                json!({"name": "Age", "type": "date", "format": "", "description": AGE_DESCRIPTION, "priority": 0}),
            );
            let age = JsonPath::parse(".metadata.creationTimestamp").map(|path| ("date".to_owned(), path));
            return Self { told, cells: age.into_iter().collect() };
        }
        let mut cells = Vec::with_capacity(columns.len());
        for column in columns {
            let text = |key: &str| object::text(column, &[key]);
            let path = text("jsonPath");
            // What comes after a path that can't be read is not shown.
            let Ok(parsed) = JsonPath::parse(path) else { break };
            let description = match text("description") {
                "" => format!("Custom resource definition column (in JSONPath format): {path}"),
                own => own.to_owned(),
            };
            told.push(json!({
                "name": text("name"),
                "type": text("type"),
                "format": text("format"),
                "description": description,
                "priority": object::int(column, &["priority"]).unwrap_or(0),
            }));
            cells.push((text("type").to_owned(), parsed));
        }
        Self { told, cells }
    }

    /// The cells of an object.
    #[must_use]
    pub fn row(&self, value: &Value) -> Vec<Cell> {
        let cell = |(kind, path): &(String, JsonPath)| {
            path.find(value).first().map_or(Value::Null.into(), |found| cell(kind, found))
        };
        std::iter::once(object::name(value).into()).chain(self.cells.iter().map(cell)).collect()
    }
}

/// Go's time of no value, in seconds of the Unix clock: the beginning of the year 1.
const NO_TIME: i64 = -62_135_596_800;

/// An instant in the one form that Go takes (RFC 3339, letters large).
fn rfc3339(text: &str) -> Option<Timestamp> {
    let letters = text.as_bytes();
    let fits = |(place, letter): (usize, &u8)| match place {
        4 | 7 => *letter == b'-',
        10 => *letter == b'T',
        13 | 16 => *letter == b':',
        _ => letter.is_ascii_digit(),
    };
    let (whole, rest) = letters.split_at_checked(19)?;
    if !whole.iter().enumerate().all(fits) || rest.iter().any(|letter| matches!(letter, b'z' | b' ' | b'[')) {
        return None;
    }
    text.parse().ok()
}

fn cell(kind: &str, value: &Value) -> Cell {
    match (kind, value) {
        ("string", Value::Null) => "<no value>".into(),
        (_, Value::Null) => Value::Null.into(),
        ("string", Value::String(text)) => text.clone().into(),
        ("string", lists @ (Value::Array(_) | Value::Object(_))) => go::json(&sorted(lists)).into(),
        ("string", plain) => go::shown(plain).into(),
        ("integer", Value::Number(number)) if number.is_i64() => value.clone().into(),
        ("integer", Value::Number(number)) => {
            number.as_f64().map_or(Value::Null, |number| json!(whole_part(number))).into()
        }
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone().into(),
        ("date", Value::String(text)) if matches!(text.as_str(), "" | "null") => "<unknown>".into(),
        ("date", Value::String(text)) => match rfc3339(text) {
            None => "<invalid>".into(),
            Some(time) if time.as_second() == NO_TIME => "<unknown>".into(),
            Some(_) => Cell::since(text),
        },
        _ => Value::Null.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_go_prints_them() {
        for (kind, value, shown) in [
            ("string", json!(null), json!("<no value>")),
            ("string", json!(1e-7), json!("1e-07")),
            ("string", json!({"z": "<", "a": [1]}), json!(r#"{"a":[1],"z":"\u003c"}"#)),
            ("integer", json!(1e21), json!(i64::MIN)),
            ("date", json!(""), json!("<unknown>")),
            ("date", json!("soon"), json!("<invalid>")),
            ("date", json!("2020-01-01T00:00:00z"), json!("<invalid>")),
            ("date", json!("2020-01-01 00:00:00Z"), json!("<invalid>")),
            ("date", json!("20000-01-01T00:00:00Z"), json!("<invalid>")),
            ("date", json!("0001-01-01T00:00:00Z"), json!("<unknown>")),
        ] {
            assert_eq!(cell(kind, &value), Cell::from(shown));
        }
    }

    #[test]
    fn columns_end_before_a_path_that_cant_be_read() {
        for path in
            [".spec.l[", ".spec.l[a]", ".spec.l[0", ".spec[\"s\"]", ".spec.s,.spec.i", ".spec.l[?(@.n in [\"a\"])]"]
        {
            let column = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path});
            let columns = [column("A", ".spec.a"), column("B", path), column("C", ".spec.c")];
            let told = Columns::of(&json!({"additionalPrinterColumns": columns})).told;
            let names: Vec<&str> = told.iter().map(|column| object::text(column, &["name"])).collect();
            assert_eq!(names, ["Name", "A"], "{path}");
        }
    }

    #[test]
    fn cells_have_the_type_of_their_column() {
        let version = json!({"additionalPrinterColumns": [
            {"name": "A", "type": "string", "jsonPath": ".spec.a"},
            {"name": "N", "type": "integer", "jsonPath": ".spec.n"},
            {"name": "M", "type": "string", "jsonPath": ".spec.m"},
            {"name": "Wrong", "type": "integer", "jsonPath": ".spec.a"},
            {"name": "None", "type": "date", "jsonPath": ".spec.none"},
        ]});
        let value = json!({"metadata": {"name": "w"}, "spec": {"a": "x", "n": 3.7, "m": {"k": [1]}}});
        let row = Columns::of(&version).row(&value);
        let expected = [json!("w"), json!("x"), json!(3), json!(r#"{"k":[1]}"#), Value::Null, Value::Null];
        assert_eq!(row, expected.map(Cell::from));
    }
}
