//! Values as Go prints them: upstream's messages show some so.

use std::fmt::Write as _;

use serde_json::Value;

/// As a message about a bad value shows it: text in quotes, numbers plain, the rest as JSON.
#[must_use]
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Number(number) if number.is_f64() => float(number.as_f64().unwrap_or_default()),
        other => json(other),
    }
}

/// A text as `%q` prints it.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        let code = u32::from(letter);
        let _infallible = match letter {
            '"' | '\\' => write!(out, "\\{letter}"),
            '\u{7}' => out.write_str("\\a"),
            '\u{8}' => out.write_str("\\b"),
            '\u{b}' => out.write_str("\\v"),
            '\u{c}' => out.write_str("\\f"),
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            '\0'..='\x1f' | '\x7f' => write!(out, "\\x{code:02x}"),
            _ if is_printed(letter) => write!(out, "{letter}"),
            '\0'..='\u{ffff}' => write!(out, "\\u{code:04x}"),
            _ => write!(out, "\\U{code:08x}"),
        };
    }
    out.push('"');
    out
}

/// A text as Go's package `time` prints it in errors: what is not plain ASCII byte by byte.
#[must_use]
pub fn quoted_time(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for byte in text.bytes() {
        let _infallible = match byte {
            b'"' | b'\\' => write!(out, "\\{}", char::from(byte)),
            b' '..=0x7f => write!(out, "{}", char::from(byte)),
            _ => write!(out, "\\x{byte:02x}"),
        };
    }
    out.push('"');
    out
}

/// Whether a letter stands for itself. Marks do, also where they stand alone.
#[must_use]
pub fn is_printed(letter: char) -> bool {
    letter.is_ascii() || ['a', letter].iter().collect::<String>().escape_debug().count() == 2
}

/// A float as `%v` prints it: with an exponent from seven digits on, or below four places.
#[must_use]
pub fn float(number: f64) -> String {
    exponent(number, -4, 6).unwrap_or_else(|| number.to_string())
}

/// A float in `digits e power`, where its power of ten is below `least` or at least `most`.
fn exponent(number: f64, least: i32, most: i32) -> Option<String> {
    let text = format!("{number:e}");
    let (digits, power) = text.split_once('e')?;
    let power: i32 = power.parse().ok()?;
    let sign = if power < 0 { '-' } else { '+' };
    (power < least || power >= most).then(|| format!("{digits}e{sign}{:02}", power.abs()))
}

/// A value as Go encodes it as JSON: `<`, `>` and `&` are escaped in every text. Keys stay in the order that they have.
#[must_use]
pub fn json(value: &Value) -> String {
    match value {
        Value::String(_) => escaped(value),
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or_default();
            // The exponent of a small number is not filled up here.
            exponent(number, -6, 21).map_or_else(|| number.to_string(), |text| text.replace("e-0", "e-"))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(",")),
        Value::Object(map) => {
            let entries =
                map.iter().map(|(key, value)| format!("{}:{}", escaped(&Value::from(key.as_str())), json(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
        }
    }
}

/// Adds a value as JSON, floats being written as Go writes them.
pub fn encode_into(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    let mut writer = serde_json::Serializer::with_formatter(out, Floats);
    // Writing into memory does not fail, and values of JSON can be written.
    drop(value.serialize(&mut writer));
}

/// A value as JSON, floats being written as Go writes them.
#[must_use]
pub fn encode(value: &impl serde::Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    encode_into(&mut out, value);
    out
}

struct Floats;

impl serde_json::ser::Formatter for Floats {
    fn write_f64<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, number: f64) -> std::io::Result<()> {
        writer.write_all(json(&number.into()).as_bytes())
    }
}

fn escaped(text: &Value) -> String {
    let escapes =
        [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];
    let text = text.to_string();
    if !text.contains(escapes.map(|(letter, _)| letter)) {
        return text;
    }
    escapes.iter().fold(text, |text, (letter, escape)| text.replace(*letter, escape))
}

/// As `%v`; keys of maps are sorted.
#[must_use]
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut entries: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", plain(value))).collect();
            entries.sort();
            format!("map[{}]", entries.join(" "))
        }
    }
}

/// As `%s`, which is made for text: what else it meets it marks. Keys of maps are sorted.
#[must_use]
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "%!s(<nil>)".into(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => format!("%!s({}={value})", type_name(value)),
        Value::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut entries: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", text(value))).collect();
            entries.sort();
            format!("map[{}]", entries.join(" "))
        }
    }
}

/// As `%#v`; keys of maps are sorted.
#[must_use]
pub fn syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(syntax).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(map) => {
            let mut entries: Vec<String> =
                map.iter().map(|(key, value)| format!("{key:?}:{}", syntax(value))).collect();
            entries.sort();
            format!("map[string]interface {{}}{{{}}}", entries.join(", "))
        }
    }
}

/// What JSON holds, as Go's decoding names it.
#[must_use]
pub fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What Go's decoding says of JSON that holds `found` where a value of the type `wanted` should be.
#[must_use]
pub fn not_of_type(found: &str, wanted: &str) -> String {
    format!("json: cannot unmarshal {found} into Go value of type {wanted}")
}

/// The same of a field of a struct, at `place`.
#[must_use]
pub fn field_not_of_type(found: &str, place: &str, wanted: &str) -> String {
    format!("json: cannot unmarshal {found} into Go struct field {place} of type {wanted}")
}

/// As `reflect` names the kind of an untyped value.
#[must_use]
pub fn reflect_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
        Value::Bool(_) | Value::Number(_) | Value::String(_) => type_name(value),
    }
}

/// As `%T`: the name of the type that an untyped value has.
#[must_use]
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn floats_are_encoded_without_an_exponent_below_ten_to_the_twenty_one() {
        let value = serde_json::json!({"a": [1e20, 1e21, 0.5, 1e-7, 9_223_372_036_854_775_808.0, 5, "x"], "b": null});
        assert_eq!(
            String::from_utf8(encode(&value)).unwrap(),
            r#"{"a":[100000000000000000000,1e+21,0.5,1e-7,9223372036854776000,5,"x"],"b":null}"#
        );
    }

    #[test]
    fn times_are_quoted_byte_by_byte() {
        assert_eq!(quoted_time("a\"\\\u{7f}"), "\"a\\\"\\\\\u{7f}\"");
        assert_eq!(quoted_time("\té"), r#""\x09\xc3\xa9""#);
    }

    #[test]
    fn what_is_no_text_is_marked() {
        assert_eq!((text(&json!(null)), text(&json!(1))), ("%!s(<nil>)".to_owned(), "%!s(int64=1)".to_owned()));
        assert_eq!(text(&json!({"a": [true, "x"]})), "map[a:[%!s(bool=true) x]]");
    }

    #[test]
    fn messages_show_text_in_quotes_and_escape_it_in_json() {
        let cases = [
            (
                json!("<a>\"\u{1}\u{7f}\u{200b}e\u{301}"),
                r#""<a>\"\x01\x7f\u200be\u{301}""#.replace("\\u{301}", "\u{301}"),
            ),
            (json!({"b": ["<&>"], "a": 1.5}), r#"{"b":["\u003c\u0026\u003e"],"a":1.5}"#.to_owned()),
            (json!(null), "null".to_owned()),
            (json!(1e20), "1e+20".to_owned()),
            (json!(1_234_567.5), "1.2345675e+06".to_owned()),
            (json!([1e20, 1e21, 1e-7, 1e-6]), "[100000000000000000000,1e+21,1e-7,0.000001]".to_owned()),
        ];
        for (value, expected) in cases {
            assert_eq!(shown(&value), expected);
        }
        assert_eq!([1.5, 100_000.0, 1e6, 1e-5, 0.0].map(float), ["1.5", "100000", "1e+06", "1e-05", "0"]);
    }

    #[test]
    fn maps_are_printed_by_sorted_keys() {
        let value = json!({"b": [1, null, 1.5], "a": {"d": "x", "c": true}});
        assert_eq!(plain(&value), "map[a:map[c:true d:x] b:[1 <nil> 1.5]]");
        let inner = r#""a":map[string]interface {}{"c":true, "d":"x"}, "b":[]interface {}{1, interface {}(nil), 1.5}"#;
        assert_eq!(syntax(&value), format!("map[string]interface {{}}{{{inner}}}"));
        assert_eq!((type_name(&value), type_name(&json!(1.5))), ("map[string]interface {}", "float64"));
    }

    #[test]
    fn a_value_has_a_name_in_json_and_another_in_reflection() {
        let named = |value: Value| (json_kind(&value), reflect_kind(&value));
        assert_eq!(named(json!([])), ("array", "slice"));
        assert_eq!(named(json!({})), ("object", "map"));
        assert_eq!(named(json!(1)), ("number", "int64"));
        assert_eq!(named(json!(0.5)), ("number", "float64"));
        assert_eq!(named(json!(true)), ("bool", "bool"));
        assert_eq!(named(json!("")), ("string", "string"));
    }
}
