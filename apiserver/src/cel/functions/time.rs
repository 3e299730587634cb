//! Parts of instants and spans.

use jiff::{Timestamp, Zoned, tz::TimeZone};

use super::{Fault, Library, Outcome, fail};
use crate::cel::value::Value;

pub(super) const LIBRARY: Library = &[
    (
        "getFullYear",
        &["timestamp_to_year: timestamp.() -> int", "timestamp_to_year_with_tz: timestamp.(string) -> int"],
        |args| part(args, |time| i64::from(time.year()), None),
    ),
    (
        "getMonth",
        &["timestamp_to_month: timestamp.() -> int", "timestamp_to_month_with_tz: timestamp.(string) -> int"],
        |args| part(args, |time| i64::from(time.month()) - 1, None),
    ),
    (
        "getDayOfYear",
        &[
            "timestamp_to_day_of_year: timestamp.() -> int",
            "timestamp_to_day_of_year_with_tz: timestamp.(string) -> int",
        ],
        |args| part(args, |time| i64::from(time.day_of_year()) - 1, None),
    ),
    (
        "getDayOfMonth",
        &[
            "timestamp_to_day_of_month: timestamp.() -> int",
            "timestamp_to_day_of_month_with_tz: timestamp.(string) -> int",
        ],
        |args| part(args, |time| i64::from(time.day()) - 1, None),
    ),
    (
        "getDate",
        &[
            "timestamp_to_day_of_month_1_based: timestamp.() -> int",
            "timestamp_to_day_of_month_1_based_with_tz: timestamp.(string) -> int",
        ],
        |args| part(args, |time| i64::from(time.day()), None),
    ),
    (
        "getDayOfWeek",
        &[
            "timestamp_to_day_of_week: timestamp.() -> int",
            "timestamp_to_day_of_week_with_tz: timestamp.(string) -> int",
        ],
        |args| part(args, |time| i64::from(time.weekday().to_sunday_zero_offset()), None),
    ),
    (
        "getHours",
        &[
            "timestamp_to_hours: timestamp.() -> int",
            "timestamp_to_hours_with_tz: timestamp.(string) -> int",
            "duration_to_hours: duration.() -> int",
        ],
        |args| part(args, |time| i64::from(time.hour()), Some(3_600_000_000_000)),
    ),
    (
        "getMinutes",
        &[
            "timestamp_to_minutes: timestamp.() -> int",
            "timestamp_to_minutes_with_tz: timestamp.(string) -> int",
            "duration_to_minutes: duration.() -> int",
        ],
        |args| part(args, |time| i64::from(time.minute()), Some(60_000_000_000)),
    ),
    (
        "getSeconds",
        &[
            "timestamp_to_seconds: timestamp.() -> int",
            "timestamp_to_seconds_with_tz: timestamp.(string) -> int",
            "duration_to_seconds: duration.() -> int",
        ],
        |args| part(args, |time| i64::from(time.second()), Some(1_000_000_000)),
    ),
    (
        "getMilliseconds",
        &[
            "timestamp_to_milliseconds: timestamp.() -> int",
            "timestamp_to_milliseconds_with_tz: timestamp.(string) -> int",
            "duration_to_milliseconds: duration.() -> int",
        ],
        |args| part(args, |time| i64::from(time.millisecond()), Some(1_000_000)),
    ),
];

/// A part of an instant, or how many units a span has.
fn part<'a>(args: &[Value<'a>], of: impl Fn(&Zoned) -> i64, unit: Option<i64>) -> Outcome<'a> {
    match (args, unit) {
        ([Value::Timestamp(time)], _) => Ok(Value::Int(of(&time.to_zoned(TimeZone::UTC)))),
        ([Value::Timestamp(time), Value::String(zone)], _) => Ok(Value::Int(of(&within(*time, zone)?))),
        ([Value::Duration(nanos)], Some(unit)) => Ok(Value::Int(nanos / unit)),
        _ => Err(Fault::NoOverload),
    }
}

/// The instant in a zone of this name or offset.
fn within(time: Timestamp, zone: &str) -> Result<Zoned, Fault> {
    let Some((hours, minutes)) = zone.split_once(':') else {
        let known = if matches!(zone, "" | "Local") { Ok(TimeZone::UTC) } else { TimeZone::get(zone) };
        return match known {
            Ok(known) => Ok(time.to_zoned(known)),
            Err(_) => fail(format!("unknown time zone {zone}")),
        };
    };
    let parsed = hours.parse::<i32>().ok().zip(minutes.parse::<i32>().ok().filter(|m| (0..60).contains(m)));
    let offset = parsed.and_then(|(h, m)| {
        let seconds = h.checked_mul(3600)?;
        let minutes = if hours.starts_with('-') { -m * 60 } else { m * 60 };
        jiff::tz::Offset::from_seconds(seconds.checked_add(minutes)?).ok()
    });
    match offset {
        Some(offset) => Ok(time.to_zoned(TimeZone::fixed(offset))),
        None => fail(format!("unknown time zone {zone}")),
    }
}
