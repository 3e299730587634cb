//! Paths of fields within a schema, as rules and selectable fields name them: `.spec.color`, `.labels['a.b']`.

use serde_json::{Map, Value};

/// Where a path leads.
#[derive(Debug)]
pub struct Target<'v> {
    /// The path as messages show it: `spec.color`, `labels[a.b]`.
    pub path: String,
    /// Its first segment.
    pub root: String,
    /// The schema there; none where nothing is known of the values of a map.
    pub schema: Option<&'v Value>,
}

/// Follows `path` through `schema`; `brackets` tells whether keys may stand in them.
pub fn find<'v>(schema: &'v Value, path: &str, brackets: bool) -> Result<Target<'v>, String> {
    let mut target = Target { path: String::new(), root: String::new(), schema: Some(schema) };
    let mut tokens = tokens(path).into_iter();
    const END: &str = "unexpected end of JSON path";
    while let Some(token) = tokens.next() {
        match token {
            "[" if !brackets => return Err("array notation is not allowed".to_owned()),
            "[" => {
                let quoted = tokens.next().ok_or(END)?;
                let inner = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                let inner = inner.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                target.step(&unescaped(inner)?)?;
                match tokens.next().ok_or(END)? {
                    "]" => {}
                    other => return Err(format!("expected ] but got {other}")),
                }
            }
            "." => target.step(tokens.next().ok_or(END)?)?,
            other => return Err(format!("expected [ or . but got: {other}")),
        }
    }
    Ok(target)
}

impl Target<'_> {
    fn step(&mut self, name: &str) -> Result<(), String> {
        const NOWHERE: &str = "does not refer to a valid field";
        let schema = self.schema.ok_or(NOWHERE)?;
        let properties = schema.get("properties").and_then(Value::as_object).filter(|map| !Map::is_empty(map));
        if let Some(properties) = properties {
            if !self.path.is_empty() {
                self.path.push('.');
            }
            self.path.push_str(name);
            self.schema = Some(properties.get(name).ok_or(NOWHERE)?);
        } else {
            let others = schema.get("additionalProperties").filter(|others| !others.is_null()).ok_or(NOWHERE)?;
            self.path.push_str(&format!("[{name}]"));
            self.schema = Some(others).filter(|others| others.is_object());
        }
        if self.root.is_empty() {
            name.clone_into(&mut self.root);
        }
        Ok(())
    }
}

/// Points, brackets, text in single quotes, and what stands between them.
fn tokens(path: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '.' | '[' | ']' => 1,
            '\'' => {
                let closing = rest
                    .char_indices()
                    .skip(1)
                    .find(|(at, own)| *own == '\'' && !rest.get(..*at).is_some_and(|before| before.ends_with('\\')));
                closing.map_or(rest.len(), |(at, _)| at + 1)
            }
            _ => rest.find(['.', '[', ']']).unwrap_or(rest.len()),
        };
        let Some((token, after)) = rest.split_at_checked(length) else { break };
        found.push(token);
        rest = after;
    }
    found
}

fn unescaped(text: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            plain.push(letter);
            continue;
        }
        plain.push(match letters.next() {
            Some('a') => '\u{7}',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\u{b}',
            Some(own @ ('\'' | '\\')) => own,
            Some(other) => return Err(format!("invalid string literal: invalid escape char \\{other}")),
            None => '\\',
        });
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_through_fields_and_maps() {
        let schema = json!({"properties": {"spec": {"properties": {"a.b": {"type": "string"}, "m": {
            "additionalProperties": {"type": "integer"}}, "open": {"additionalProperties": true}}}}});
        let path = |path: &str| find(&schema, path, true).map(|found| found.path);
        assert_eq!(path(".spec['a.b']").unwrap(), "spec.a.b");
        assert_eq!(path(".spec.m['it\\'s']").unwrap(), "spec.m[it's]");
        assert_eq!(find(&schema, ".spec.m.k", true).unwrap().schema.unwrap()["type"], "integer");
        assert!(find(&schema, ".spec.open.k", true).unwrap().schema.is_none());
        assert_eq!(path(".spec.none").unwrap_err(), "does not refer to a valid field");
        assert_eq!(path(".spec.m.k.l").unwrap_err(), "does not refer to a valid field");
        assert_eq!(path("spec").unwrap_err(), "expected [ or . but got: spec");
        assert_eq!(path(".spec[0]").unwrap_err(), "expected single quoted string but got 0");
        assert_eq!(path(".spec['a.b'").unwrap_err(), "unexpected end of JSON path");
        assert_eq!(find(&schema, ".spec['a.b']", false).unwrap_err(), "array notation is not allowed");
    }
}
