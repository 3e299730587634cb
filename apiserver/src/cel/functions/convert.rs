//! From one type to another, and the sizes of things.

use super::{Fault, Library, Outcome, fail, text};
use crate::cel::{
    read,
    value::{Text, Value},
};

pub(super) const LIBRARY: Library = &[
    (
        "size",
        &[
            "size_bytes: (bytes) -> int",
            "bytes_size: bytes.() -> int",
            "size_list: (list(A)) -> int",
            "list_size: list(A).() -> int",
            "size_map: (map(A, B)) -> int",
            "map_size: map(A, B).() -> int",
            "size_string: (string) -> int",
            "string_size: string.() -> int",
        ],
        size,
    ),
    ("type", &["type: (A) -> type(A)"], type_of),
    ("dyn", &["to_dyn: (A) -> dyn"], |args| args.first().cloned().ok_or(Fault::NoOverload)),
    ("bool", &["bool_to_bool: (bool) -> bool", "string_to_bool: (string) -> bool"], to_bool),
    ("bytes", &["bytes_to_bytes: (bytes) -> bytes", "string_to_bytes: (string) -> bytes"], to_bytes),
    (
        "double",
        &[
            "double_to_double: (double) -> double",
            "int64_to_double: (int) -> double",
            "string_to_double: (string) -> double",
            "uint64_to_double: (uint) -> double",
        ],
        to_double,
    ),
    (
        "duration",
        &[
            "duration_to_duration: (duration) -> duration",
            "int64_to_duration: (int) -> duration",
            "string_to_duration: (string) -> duration",
        ],
        to_duration,
    ),
    (
        "int",
        &[
            "int64_to_int64: (int) -> int",
            "double_to_int64: (double) -> int",
            "duration_to_int64: (duration) -> int",
            "string_to_int64: (string) -> int",
            "timestamp_to_int64: (timestamp) -> int",
            "uint64_to_int64: (uint) -> int",
        ],
        to_int,
    ),
    (
        "string",
        &[
            "string_to_string: (string) -> string",
            "bool_to_string: (bool) -> string",
            "bytes_to_string: (bytes) -> string",
            "double_to_string: (double) -> string",
            "duration_to_string: (duration) -> string",
            "int64_to_string: (int) -> string",
            "timestamp_to_string: (timestamp) -> string",
            "uint64_to_string: (uint) -> string",
            "ip_to_string: (IP) -> string",
            "cidr_to_string: (CIDR) -> string",
        ],
        to_string,
    ),
    (
        "timestamp",
        &[
            "timestamp_to_timestamp: (timestamp) -> timestamp",
            "int64_to_timestamp: (int) -> timestamp",
            "string_to_timestamp: (string) -> timestamp",
        ],
        to_timestamp,
    ),
    (
        "uint",
        &[
            "uint64_to_uint64: (uint) -> uint",
            "double_to_uint64: (double) -> uint",
            "int64_to_uint64: (int) -> uint",
            "string_to_uint64: (string) -> uint",
        ],
        to_uint,
    ),
];

fn size<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_))] => {
            Ok(Value::Int(i64::try_from(value.size()).unwrap_or(i64::MAX)))
        }
        _ => Err(Fault::NoOverload),
    }
}

fn type_of<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value] => Ok(Value::Type(Text::Shared(value.type_name().into()))),
        _ => Err(Fault::NoOverload),
    }
}

fn to_bool<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Bool(flag)] => Ok(Value::Bool(*flag)),
        [Value::String(text)] => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => mismatch(args, "bool"),
        },
        _ => Err(Fault::NoOverload),
    }
}

fn to_bytes<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Bytes(data)] => Ok(Value::Bytes(data.clone())),
        [Value::String(text)] => Ok(Value::Bytes(text.as_bytes().into())),
        _ => Err(Fault::NoOverload),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a conversion to floating numbers is what was asked for")]
fn to_double<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Double(number)] => Ok(Value::Double(*number)),
        [Value::Int(number)] => Ok(Value::Double(*number as f64)),
        [Value::Uint(number)] => Ok(Value::Double(*number as f64)),
        [Value::String(text)] => match read::double(text) {
            Some(number) => Ok(Value::Double(number)),
            None => mismatch(args, "double"),
        },
        _ => Err(Fault::NoOverload),
    }
}

fn to_duration<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Duration(*nanos)),
        [Value::Int(_)] => mismatch(args, "google.protobuf.Duration"),
        [Value::String(text)] => match read::duration(text) {
            Some(nanos) => Ok(Value::Duration(nanos)),
            None => mismatch(args, "google.protobuf.Duration"),
        },
        _ => Err(Fault::NoOverload),
    }
}

fn to_int<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(number)] => Ok(Value::Int(*number)),
        [Value::Uint(number)] => {
            i64::try_from(*number).map_or_else(|_| fail("integer overflow"), |n| Ok(Value::Int(n)))
        }
        [Value::Double(number)] if number.abs() < 9_223_372_036_854_775_807.0 => {
            #[expect(clippy::cast_possible_truncation, reason = "in bounds; the fraction is dropped as asked")]
            let whole = *number as i64;
            Ok(Value::Int(whole))
        }
        [Value::Double(_)] => fail("integer overflow"),
        [Value::Duration(nanos)] => Ok(Value::Int(*nanos)),
        [Value::Timestamp(time)] => Ok(Value::Int(time.as_second())),
        [Value::String(text)] => {
            text.parse::<i64>().map_or_else(|_| mismatch(args, "int"), |number| Ok(Value::Int(number)))
        }
        _ => Err(Fault::NoOverload),
    }
}

fn to_uint<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Uint(number)] => Ok(Value::Uint(*number)),
        [Value::Int(number)] => {
            u64::try_from(*number).map_or_else(|_| fail("unsigned integer overflow"), |n| Ok(Value::Uint(n)))
        }
        [Value::Double(number)] if (0.0..18_446_744_073_709_551_615.0).contains(number) => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in bounds, as asked")]
            let whole = *number as u64;
            Ok(Value::Uint(whole))
        }
        [Value::Double(_)] => fail("unsigned integer overflow"),
        [Value::String(text)] => {
            let number = text.parse::<u64>().ok().filter(|_| !text.starts_with('+'));
            number.map_or_else(|| mismatch(args, "uint"), |number| Ok(Value::Uint(number)))
        }
        _ => Err(Fault::NoOverload),
    }
}

fn to_string<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    use crate::cel::opaque::Opaque;
    match args {
        [Value::String(text)] => Ok(Value::String(text.clone())),
        [Value::Bool(flag)] => Ok(text(flag.to_string())),
        [Value::Int(number)] => Ok(text(number.to_string())),
        [Value::Uint(number)] => Ok(text(number.to_string())),
        [Value::Double(number)] => Ok(text(read::shortest(*number))),
        [Value::Duration(nanos)] => Ok(Value::String(Text::Shared(read::seconds(*nanos)))),
        [Value::Timestamp(time)] => Ok(text(time.to_string())),
        [Value::Bytes(data)] => match std::str::from_utf8(data) {
            Ok(valid) => Ok(text(valid)),
            Err(_) => fail("invalid UTF-8 in bytes, cannot convert to string"),
        },
        [Value::Opaque(Opaque::Ip(address))] => Ok(text(address.to_string())),
        [Value::Opaque(Opaque::Cidr(network))] => Ok(text(network.to_string())),
        _ => Err(Fault::NoOverload),
    }
}

fn to_timestamp<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Timestamp(time)] => Ok(Value::Timestamp(*time)),
        [Value::Int(seconds)] => match jiff::Timestamp::from_second(*seconds) {
            Ok(time) if *seconds >= read::FIRST_SECOND => Ok(Value::Timestamp(time)),
            _ => fail("timestamp overflow"),
        },
        [Value::String(text)] => match read::instant(text) {
            Some(time) if time.as_second() < read::FIRST_SECOND => fail("timestamp overflow"),
            Some(time) => Ok(Value::Timestamp(time)),
            None => mismatch(args, "google.protobuf.Timestamp"),
        },
        _ => Err(Fault::NoOverload),
    }
}

fn mismatch<'a>(args: &[Value<'a>], to: &str) -> Outcome<'a> {
    match args {
        [value] => fail(format!("type conversion error from '{}' to '{to}'", value.type_name())),
        _ => Err(Fault::NoOverload),
    }
}
