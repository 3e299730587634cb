//! Values as Go prints them: upstream's messages show some so.

use serde_json::Value;

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
    fn what_is_no_text_is_marked() {
        assert_eq!((text(&json!(null)), text(&json!(1))), ("%!s(<nil>)".to_owned(), "%!s(int64=1)".to_owned()));
        assert_eq!(text(&json!({"a": [true, "x"]})), "map[a:[%!s(bool=true) x]]");
    }

    #[test]
    fn maps_are_printed_by_sorted_keys() {
        let value = json!({"b": [1, null, 1.5], "a": {"d": "x", "c": true}});
        assert_eq!(plain(&value), "map[a:map[c:true d:x] b:[1 <nil> 1.5]]");
        let inner = r#""a":map[string]interface {}{"c":true, "d":"x"}, "b":[]interface {}{1, interface {}(nil), 1.5}"#;
        assert_eq!(syntax(&value), format!("map[string]interface {{}}{{{inner}}}"));
        assert_eq!((type_name(&value), type_name(&json!(1.5))), ("map[string]interface {}", "float64"));
    }
}
