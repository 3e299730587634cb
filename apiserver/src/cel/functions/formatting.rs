//! `'%s is %d'.format([…])`

use super::{Fault, Outcome, fail, text};
use crate::cel::{
    read,
    value::{List, Value},
};

/// Most digits behind the point.
const MAX_PRECISION: usize = 1000;

/// Writes the values of the list where the text says.
pub(super) fn run<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(pattern), Value::List(values)] = args else { return Err(Fault::NoOverload) };
    let mut out = String::new();
    let mut next = 0;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let value = argument(values, next)?;
        next += 1;
        let (clause, precision) = clause(&mut chars).or_else(fail)?;
        out.push_str(&clause_text(clause, precision, &value)?);
    }
    Ok(text(out))
}

/// Reads what stands behind a percent sign: how to write a value, and with how many digits.
pub(in crate::cel) fn clause(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
) -> Result<(char, Option<usize>), String> {
    const UNREAD: &str = "could not parse formatting clause: ";
    if chars.peek().is_none() {
        return Err("unexpected end of string".to_owned());
    }
    let precision = precision(chars).map_err(|why| format!("{UNREAD}error while parsing precision: {why}"))?;
    match chars.next() {
        Some(clause @ ('s' | 'd' | 'f' | 'e' | 'b' | 'o' | 'x' | 'X')) => Ok((clause, precision)),
        Some(other) => {
            // Upstream looks at the first byte only.
            let byte = other.to_string().bytes().next().map_or(other, char::from);
            Err(format!("{UNREAD}unrecognized formatting clause \"{byte}\""))
        }
        None => Err(format!("{UNREAD}error while parsing precision: could not find end of precision specifier")),
    }
}

/// What is said of a value that is written in a way that is not for its type.
#[must_use]
pub(in crate::cel) fn misfit(clause: char, given: &str) -> String {
    let why = match clause {
        'd' => "decimal clause can only be used on integers",
        'f' => "fixed-point clause can only be used on doubles",
        'e' => "scientific clause can only be used on doubles",
        'b' => "only integers and bools can be formatted as binary",
        'o' => "octal clause can only be used on integers",
        'x' | 'X' => "only integers, byte buffers, and strings can be formatted as hex",
        _ => {
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps"
        }
    };
    format!("error during formatting: {why}, was given {given}")
}

fn precision(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Option<usize>, String> {
    if chars.next_if_eq(&'.').is_none() {
        return Ok(None);
    }
    let mut digits = String::new();
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        digits.push(digit);
    }
    match digits.parse() {
        Ok(precision) if precision <= MAX_PRECISION => Ok(Some(precision)),
        Ok(precision) => Err(format!("precision {precision} is too large")),
        Err(_) => {
            let why = if digits.is_empty() { "invalid syntax" } else { "value out of range" };
            Err(format!("error while converting precision to integer: strconv.Atoi: parsing {digits:?}: {why}"))
        }
    }
}

fn argument<'a>(values: &List<'a>, at: usize) -> Result<Value<'a>, Fault> {
    values.get(at).map_or_else(|| fail(format!("index {at} out of range")), Ok)
}

fn clause_text(clause: char, precision: Option<usize>, value: &Value<'_>) -> Result<String, Fault> {
    let hex = |digits: String| if clause == 'X' { digits.to_uppercase() } else { digits };
    Ok(match (clause, value) {
        ('s', _) => return plain(value),
        ('d', Value::Int(_) | Value::Uint(_)) => return plain(value),
        ('f' | 'e', Value::Double(number)) => point(clause, precision.unwrap_or(6), *number),
        ('f' | 'e', Value::String(own)) => match &**own {
            "NaN" => point(clause, 0, f64::NAN),
            "Infinity" => point(clause, 0, f64::INFINITY),
            "-Infinity" => point(clause, 0, f64::NEG_INFINITY),
            _ => return fail(misfit(clause, "string")),
        },
        ('b', Value::Int(number)) => signed(*number, |number| format!("{number:b}")),
        ('b', Value::Uint(number)) => format!("{number:b}"),
        ('b', Value::Bool(flag)) => u8::from(*flag).to_string(),
        ('o', Value::Int(number)) => signed(*number, |number| format!("{number:o}")),
        ('o', Value::Uint(number)) => format!("{number:o}"),
        ('x' | 'X', Value::Int(number)) => hex(signed(*number, |number| format!("{number:x}"))),
        ('x' | 'X', Value::Uint(number)) => hex(format!("{number:x}")),
        ('x' | 'X', Value::String(own)) => hex(own.bytes().map(|byte| format!("{byte:02x}")).collect()),
        ('x' | 'X', Value::Bytes(data)) => hex(data.iter().map(|byte| format!("{byte:02x}")).collect()),
        _ => return fail(misfit(clause, value.type_name())),
    })
}

fn signed(number: i64, write: impl Fn(u64) -> String) -> String {
    format!("{}{}", if number < 0 { "-" } else { "" }, write(number.unsigned_abs()))
}

/// A floating number as it is written in English: in groups of three digits, powers of ten raised.
fn point(clause: char, precision: usize, number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "∞" } else { "-∞" }.to_owned();
    }
    if clause == 'f' {
        return grouped(&format!("{number:.precision$}"));
    }
    let text = format!("{number:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(("", exponent), |rest| ("⁻", rest));
    const RAISED: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let raised: String = format!("{exponent:0>2}")
        .chars()
        .filter_map(|digit| RAISED.get(usize::try_from(digit.to_digit(10)?).ok()?))
        .collect();
    format!("{digits}\u{202f}×\u{202f}10{sign}{raised}")
}

fn grouped(number: &str) -> String {
    let (sign, plain) = number.strip_prefix('-').map_or(("", number), |plain| ("-", plain));
    let (whole, fraction) = plain.find('.').and_then(|at| plain.split_at_checked(at)).unwrap_or((plain, ""));
    let mut out = sign.to_owned();
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out.push_str(fraction);
    out
}

/// A value as text.
fn plain(value: &Value<'_>) -> Result<String, Fault> {
    Ok(match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => read::number(*number),
        Value::String(own) | Value::Type(own) => own.to_string(),
        Value::Bytes(data) => match std::str::from_utf8(data) {
            Ok(valid) => valid.to_owned(),
            Err(_) => {
                let why = "invalid UTF-8 in bytes, cannot convert to string";
                return fail(format!("error during formatting: could not convert argument \"{why}\" to string"));
            }
        },
        Value::Timestamp(time) => time.to_string(),
        Value::Duration(nanos) => read::seconds(*nanos).to_string(),
        Value::List(list) => {
            let items: Result<Vec<String>, Fault> = list.iter().map(|item| nested(&item)).collect();
            format!("[{}]", items?.join(", "))
        }
        Value::Map(map) => {
            let mut entries = Vec::new();
            for (key, value) in map.entries() {
                entries.push((nested(&key)?, nested(&value)?));
            }
            entries.sort();
            let entries: Vec<String> = entries.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
            format!("{{{}}}", entries.join(", "))
        }
        other => return fail(misfit('s', other.type_name())),
    })
}

/// A value within another, as it is written in an expression.
fn nested(value: &Value<'_>) -> Result<String, Fault> {
    Ok(match value {
        Value::String(own) => format!("{:?}", &**own),
        Value::Bytes(_) => format!("b{:?}", plain(value)?),
        Value::Timestamp(_) => format!("timestamp({:?})", plain(value)?),
        Value::Duration(_) => format!("duration({:?})", plain(value)?),
        Value::Double(number) if number.is_nan() => "\"NaN\"".to_owned(),
        Value::Double(number) if number.is_infinite() => if *number > 0.0 { "\"+Inf\"" } else { "\"-Inf\"" }.to_owned(),
        Value::Double(number) => format!("{number:.6}"),
        Value::Optional(_) | Value::Opaque(_) | Value::Object(_) => {
            return fail(format!("error during formatting: no formatting function for {}", value.type_name()));
        }
        other => plain(other)?,
    })
}
