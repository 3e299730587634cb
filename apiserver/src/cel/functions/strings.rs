//! Text: searched, cut, joined and written. Places are counted in characters.

use super::{Fault, Library, Outcome, fail, formatting, lists, text};
use crate::cel::value::Value;

pub(super) const LIBRARY: Library = &[
    ("contains", &["contains_string: string.(string) -> bool"], |args| tested(args, |a, b| a.contains(b))),
    ("endsWith", &["ends_with_string: string.(string) -> bool"], |args| tested(args, |a, b| a.ends_with(b))),
    ("startsWith", &["starts_with_string: string.(string) -> bool"], |args| tested(args, |a, b| a.starts_with(b))),
    ("charAt", &["string_char_at_int: string.(int) -> string"], char_at),
    (
        "indexOf",
        &[
            "string_index_of_string: string.(string) -> int",
            "string_index_of_string_int: string.(string, int) -> int",
            "list_a_index_of_int: list(A).(A) -> int",
        ],
        |args| index_of(args, false),
    ),
    (
        "lastIndexOf",
        &[
            "string_last_index_of_string: string.(string) -> int",
            "string_last_index_of_string_int: string.(string, int) -> int",
            "list_a_last_index_of_int: list(A).(A) -> int",
        ],
        |args| index_of(args, true),
    ),
    ("join", &["list_join: list(string).() -> string", "list_join_string: list(string).(string) -> string"], join),
    ("lowerAscii", &["string_lower_ascii: string.() -> string"], |args| mapped(args, str::to_ascii_lowercase)),
    ("upperAscii", &["string_upper_ascii: string.() -> string"], |args| mapped(args, str::to_ascii_uppercase)),
    ("trim", &["string_trim: string.() -> string"], |args| mapped(args, |text| text.trim().to_owned())),
    ("strings.quote", &["strings_quote: (string) -> string"], |args| mapped(args, quote)),
    ("jsonpatch.escapeKey", &["jsonpatch_escapeKey: (string) -> string"], |args| {
        mapped(args, |key| key.replace('~', "~0").replace('/', "~1"))
    }),
    (
        "replace",
        &[
            "string_replace_string_string: string.(string, string) -> string",
            "string_replace_string_string_int: string.(string, string, int) -> string",
        ],
        replace,
    ),
    (
        "split",
        &[
            "string_split_string: string.(string) -> list(string)",
            "string_split_string_int: string.(string, int) -> list(string)",
        ],
        split,
    ),
    (
        "substring",
        &["string_substring_int: string.(int) -> string", "string_substring_int_int: string.(int, int) -> string"],
        substring,
    ),
    ("format", &["string_format: string.(list(dyn)) -> string"], formatting::run),
];

fn tested<'a>(args: &[Value<'a>], test: impl Fn(&str, &str) -> bool) -> Outcome<'a> {
    match args {
        [Value::String(a), Value::String(b)] => Ok(Value::Bool(test(a, b))),
        _ => Err(Fault::NoOverload),
    }
}

fn mapped<'a>(args: &[Value<'a>], map: impl Fn(&str) -> String) -> Outcome<'a> {
    match args {
        [Value::String(own)] => Ok(text(map(own))),
        _ => Err(Fault::NoOverload),
    }
}

fn out_of_range<T>(at: i64) -> Result<T, Fault> {
    fail(format!("index out of range: {at}"))
}

/// A place among characters; the end is one.
fn place(at: i64, chars: &[char]) -> Result<usize, Fault> {
    usize::try_from(at).ok().filter(|at| *at <= chars.len()).map_or_else(|| out_of_range(at), Ok)
}

/// The byte at which the character of a place begins.
fn byte_place(at: i64, own: &str) -> Option<usize> {
    usize::try_from(at).ok().and_then(|at| own.char_indices().nth(at)).map(|(at, _)| at)
}

fn char_at<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(own), Value::Int(at)] = args else { return Err(Fault::NoOverload) };
    let chars: Vec<char> = own.chars().collect();
    let at = place(*at, &chars)?;
    Ok(text(chars.get(at).map(char::to_string).unwrap_or_default()))
}

fn index_of<'a>(args: &[Value<'a>], last: bool) -> Outcome<'a> {
    let (own, wanted, from) = match args {
        [Value::List(list), wanted] => return Ok(lists::index_of(list, wanted, last)),
        [Value::String(own), Value::String(wanted)] => (own, wanted, None),
        [Value::String(own), Value::String(wanted), Value::Int(from)] => (own, wanted, Some(*from)),
        _ => return Err(Fault::NoOverload),
    };
    if let Some(from) = from.filter(|_| wanted.is_empty()) {
        return Ok(Value::Int(from));
    }
    let start = match from {
        Some(from) if from < 0 => return out_of_range(from),
        Some(from) => match byte_place(from, own) {
            Some(start) => Some(start),
            // Nothing begins behind the last character.
            None => return Ok(Value::Int(-1)),
        },
        None => None,
    };
    let found = if last {
        // What begins at `start` or before it ends here.
        let mut end = start.map_or(own.len(), |start| start.saturating_add(wanted.len()).min(own.len()));
        while !own.is_char_boundary(end) {
            end -= 1;
        }
        own.get(..end).and_then(|part| part.rfind(&**wanted))
    } else {
        let start = start.unwrap_or(0);
        own.get(start..).and_then(|part| part.find(&**wanted)).map(|at| start + at)
    };
    let chars = found.and_then(|at| own.get(..at)).map(|before| before.chars().count());
    Ok(Value::Int(chars.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1)))
}

fn join<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (list, separator) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, &**separator),
        _ => return Err(Fault::NoOverload),
    };
    let mut joined = String::new();
    for (at, item) in list.iter().enumerate() {
        let Value::String(item) = item else { return Err(Fault::NoOverload) };
        if at > 0 {
            joined.push_str(separator);
        }
        joined.push_str(&item);
    }
    Ok(text(joined))
}

fn replace<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (own, from, to, times) = match args {
        [Value::String(own), Value::String(from), Value::String(to)] => (own, from, to, -1),
        [Value::String(own), Value::String(from), Value::String(to), Value::Int(times)] => (own, from, to, *times),
        _ => return Err(Fault::NoOverload),
    };
    Ok(text(match usize::try_from(times) {
        Ok(times) => own.replacen(&**from, to, times),
        Err(_) => own.replace(&**from, to),
    }))
}

fn split<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (own, separator, limit) = match args {
        [Value::String(own), Value::String(separator)] => (own, separator, -1),
        [Value::String(own), Value::String(separator), Value::Int(limit)] => (own, separator, *limit),
        _ => return Err(Fault::NoOverload),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let parts: Vec<Value<'a>> = match (limit, separator.is_empty()) {
        (0, _) => Vec::new(),
        (_, true) if own.is_empty() => Vec::new(),
        (1, _) => vec![Value::String(own.clone())],
        (_, true) => {
            let ends = own.char_indices().map(|(at, _)| at).skip(1).take(limit.saturating_sub(1)).chain([own.len()]);
            let mut start = 0;
            let mut parts = Vec::new();
            for end in ends {
                parts.extend(own.get(start..end).filter(|part| !part.is_empty()).map(text));
                start = end;
            }
            parts
        }
        (limit, false) => own.splitn(limit, &**separator).map(text).collect(),
    };
    Ok(parts.into())
}

fn substring<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (own, start, end) = match args {
        [Value::String(own), Value::Int(start)] => (own, *start, None),
        [Value::String(own), Value::Int(start), Value::Int(end)] => (own, *start, Some(*end)),
        _ => return Err(Fault::NoOverload),
    };
    if let Some(end) = end.filter(|end| start > *end) {
        return fail(format!("invalid substring range. start: {start}, end: {end}"));
    }
    let chars: Vec<char> = own.chars().collect();
    let from = place(start, &chars)?;
    let to = end.map_or(Ok(chars.len()), |end| place(end, &chars))?;
    Ok(text(chars.get(from..to).unwrap_or_default().iter().collect::<String>()))
}

fn quote(own: &str) -> String {
    let mut quoted = String::with_capacity(own.len() + 2);
    quoted.push('"');
    for c in own.chars() {
        match c {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
