//! `'%s is %d'.format([…])`

use super::{Fault, Outcome, fail, text};
use crate::cel::{
    read,
    value::{List, Value},
};

/// Most digits behind the point.
const MAX_PRECISION: usize = 100;

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
        let precision = precision(&mut chars)?;
        let Some(clause) = chars.next() else { return fail("unexpected end of string") };
        let value = argument(values, next)?;
        next += 1;
        out.push_str(&clause_text(clause, precision, &value)?);
    }
    if next < values.len() {
        return fail(format!("too many arguments supplied to string.format (expected {next}, got {})", values.len()));
    }
    Ok(text(out))
}

fn precision(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Option<usize>, Fault> {
    if chars.next_if_eq(&'.').is_none() {
        return Ok(None);
    }
    let mut digits = String::new();
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        digits.push(digit);
    }
    match digits.parse() {
        Ok(precision) if precision <= MAX_PRECISION => Ok(Some(precision)),
        Ok(precision) => fail(format!("error while parsing precision: precision {precision} is too large")),
        Err(_) => fail("error while converting precision to integer: strconv.Atoi: parsing \"\": invalid syntax"),
    }
}

fn argument<'a>(values: &List<'a>, at: usize) -> Result<Value<'a>, Fault> {
    values.get(at).map_or_else(|| fail(format!("index {at} out of range")), Ok)
}

fn clause_text(clause: char, precision: Option<usize>, value: &Value<'_>) -> Result<String, Fault> {
    let wrong = |what: &str, wanted: &str| {
        fail(format!(
            "error during formatting: {what} clause can only be used on {wanted}, was given {}",
            value.type_name()
        ))
    };
    match clause {
        's' => plain(value),
        'd' => match value {
            Value::Int(_) | Value::Uint(_) => plain(value),
            Value::Double(number) if !number.is_finite() => plain(value),
            _ => wrong("decimal", "integers"),
        },
        'f' | 'e' => {
            let (Value::Double(_) | Value::Int(_) | Value::Uint(_)) = value else {
                return wrong(if clause == 'f' { "fixed-point" } else { "scientific" }, "doubles");
            };
            Ok(point(clause, precision.unwrap_or(6), as_double(value)))
        }
        'b' => match value {
            Value::Int(number) => Ok(signed(*number, |number| format!("{number:b}"))),
            Value::Uint(number) => Ok(format!("{number:b}")),
            Value::Bool(flag) => Ok(u8::from(*flag).to_string()),
            _ => wrong("binary", "integers and bools"),
        },
        'o' => match value {
            Value::Int(number) => Ok(signed(*number, |number| format!("{number:o}"))),
            Value::Uint(number) => Ok(format!("{number:o}")),
            _ => wrong("octal", "integers"),
        },
        'x' | 'X' => {
            let hex = match value {
                Value::Int(number) => signed(*number, |number| format!("{number:x}")),
                Value::Uint(number) => format!("{number:x}"),
                Value::String(own) => own.bytes().map(|byte| format!("{byte:02x}")).collect(),
                Value::Bytes(data) => data.iter().map(|byte| format!("{byte:02x}")).collect(),
                _ => return wrong("hex", "integers, byte buffers, and strings"),
            };
            Ok(if clause == 'X' { hex.to_uppercase() } else { hex })
        }
        other => fail(format!("could not parse formatting clause: unrecognized formatting clause \"{other}\"")),
    }
}

fn signed(number: i64, write: impl Fn(u64) -> String) -> String {
    format!("{}{}", if number < 0 { "-" } else { "" }, write(number.unsigned_abs()))
}

#[expect(clippy::cast_precision_loss, reason = "written with few digits")]
fn as_double(value: &Value<'_>) -> f64 {
    match value {
        Value::Double(number) => *number,
        Value::Int(number) => *number as f64,
        Value::Uint(number) => *number as f64,
        _ => f64::NAN,
    }
}

fn point(clause: char, precision: usize, number: f64) -> String {
    if !number.is_finite() {
        return if number.is_nan() {
            "NaN"
        } else if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_owned();
    }
    if clause == 'f' {
        return format!("{number:.precision$}");
    }
    let text = format!("{number:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// A value as text.
fn plain(value: &Value<'_>) -> Result<String, Fault> {
    Ok(match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) if number.is_infinite() => {
            if *number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
        }
        Value::Double(number) => read::number(*number),
        Value::String(own) | Value::Type(own) => own.to_string(),
        Value::Bytes(data) => String::from_utf8_lossy(data).into_owned(),
        Value::Timestamp(time) => time.to_string(),
        Value::Duration(nanos) => read::seconds(*nanos).to_string(),
        Value::List(list) => {
            let items: Result<Vec<String>, Fault> = list.iter().map(|item| plain(&item)).collect();
            format!("[{}]", items?.join(", "))
        }
        Value::Map(map) => {
            let mut entries = Vec::new();
            for (key, value) in map.entries() {
                entries.push(format!("{}: {}", plain(&key)?, plain(&value)?));
            }
            entries.sort();
            format!("{{{}}}", entries.join(", "))
        }
        other => {
            return fail(format!(
                "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, \
                 maps, lists, types, durations, and timestamps, was given {}",
                other.type_name()
            ));
        }
    })
}
