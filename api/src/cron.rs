//! Schedules of CronJobs: five fields, a name such as `@daily`, or `@every 1h30m`.
//!
//! What is understood, and the words for what isn't, are those of the parser that upstream uses.

pub mod duration;

use jiff::{
    SignedDuration, Timestamp, ToSpan as _,
    civil::{Date, DateTime, Time},
    tz::{AmbiguousOffset, TimeZone},
};

/// How far ahead the next time is looked for: a schedule that names February 30th never comes.
const MAX_YEARS: i64 = 5;

/// What a schedule's text could not be understood as.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScheduleError(String);

fn bad<T>(why: impl Into<String>) -> Result<T, ScheduleError> {
    Err(ScheduleError(why.into()))
}

/// When something is to be done again and again.
#[derive(Clone, Debug)]
pub struct Schedule {
    kind: Kind,
    zone: Option<TimeZone>,
}

#[derive(Clone, Debug)]
enum Kind {
    Every(SignedDuration),
    Fields(Fields),
}

#[derive(Clone, Debug)]
struct Fields {
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    weekdays: Set,
}

/// Numbers as bits; `any` where the field was a star.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Set {
    bits: u64,
    any: bool,
}

impl Set {
    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| self.bits.checked_shr(number).unwrap_or(0) & 1 == 1)
    }
}

/// A field: what it may hold, and the names that stand for numbers from the least on.
struct Bounds {
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds { least: 0, most: 59, names: &[] };
const HOURS: Bounds = Bounds { least: 0, most: 23, names: &[] };
const DAYS: Bounds = Bounds { least: 1, most: 31, names: &[] };
const MONTHS: Bounds = Bounds {
    least: 1,
    most: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAYS: Bounds = Bounds { least: 0, most: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

impl Schedule {
    /// Reads a schedule.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        if text.is_empty() {
            return bad("empty spec string");
        }
        let (zone, rest) = zone(text)?;
        let kind = match rest.strip_prefix('@') {
            Some(_) => named(rest)?,
            None => Kind::Fields(fields(rest)?),
        };
        Ok(Self { kind, zone })
    }

    /// The first time after `after`, in the schedule's own zone or else in `zone`; none within the next years.
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match &self.kind {
            Kind::Every(pause) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(*pause).ok()
            }
            Kind::Fields(fields) => fields.next(after, self.zone.as_ref().unwrap_or(zone)),
        }
    }
}

/// A zone in front of the schedule, and the rest.
fn zone(text: &str) -> Result<(Option<TimeZone>, &str), ScheduleError> {
    let Some(rest) = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) else {
        return Ok((None, text));
    };
    let Some((name, rest)) = rest.split_once(' ') else {
        return bad("invalid schedule format: runtime error: slice bounds out of range [:-1]");
    };
    match TimeZone::get(if name.is_empty() { "UTC" } else { name }) {
        Ok(zone) => Ok((Some(zone), rest.trim())),
        Err(_) => bad(format!("provided bad location {name}: unknown time zone {name}")),
    }
}

fn named(text: &str) -> Result<Kind, ScheduleError> {
    let fields_of = |text: &str| fields(text).map(Kind::Fields);
    match text {
        "@yearly" | "@annually" => fields_of("0 0 1 1 *"),
        "@monthly" => fields_of("0 0 1 * *"),
        "@weekly" => fields_of("0 0 * * 0"),
        "@daily" | "@midnight" => fields_of("0 0 * * *"),
        "@hourly" => fields_of("0 * * * *"),
        _ => match text.strip_prefix("@every ") {
            Some(pause) => match duration::parse(pause) {
                Ok(pause) => Ok(Kind::Every(SignedDuration::from_secs(pause.as_secs().max(1)))),
                Err(why) => bad(format!("failed to parse duration {text}: {why}")),
            },
            None => bad(format!("unrecognized descriptor: {text}")),
        },
    }
}

fn fields(text: &str) -> Result<Fields, ScheduleError> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = parts.as_slice() else {
        return bad(format!("expected exactly 5 fields, found {}: [{}]", parts.len(), parts.join(" ")));
    };
    Ok(Fields {
        minutes: set(minutes, &MINUTES)?,
        hours: set(hours, &HOURS)?,
        days: set(days, &DAYS)?,
        months: set(months, &MONTHS)?,
        weekdays: set(weekdays, &WEEKDAYS)?,
    })
}

fn set(text: &str, bounds: &Bounds) -> Result<Set, ScheduleError> {
    let mut all = Set { bits: 0, any: false };
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let one = range(part, bounds)?;
        all = Set { bits: all.bits | one.bits, any: all.any | one.any };
    }
    Ok(all)
}

/// One range: `*`, `5`, `1-5`, each perhaps with a step behind a slash.
fn range(text: &str, bounds: &Bounds) -> Result<Set, ScheduleError> {
    let mut pieces = text.split('/');
    let (ends, step, more) = (pieces.next().unwrap_or_default(), pieces.next(), pieces.next());
    let mut ends_of = ends.split('-');
    let (low, high, beyond) = (ends_of.next().unwrap_or_default(), ends_of.next(), ends_of.next());
    let (mut any, first, mut last);
    if matches!(low, "*" | "?") {
        (any, first, last) = (true, bounds.least, bounds.most);
    } else {
        any = false;
        first = number_or_name(low, bounds)?;
        last = match (high, beyond) {
            (None, _) => first,
            (Some(high), None) => number_or_name(high, bounds)?,
            (Some(_), Some(_)) => return bad(format!("too many hyphens: {text}")),
        };
    }
    let step = match (step, more) {
        (None, _) => 1,
        (Some(step), None) => {
            let step = number(step)?;
            if high.is_none() {
                last = bounds.most;
            }
            any &= step <= 1;
            step
        }
        (Some(_), Some(_)) => return bad(format!("too many slashes: {text}")),
    };
    if first < bounds.least {
        return bad(format!("beginning of range ({first}) below minimum ({}): {text}", bounds.least));
    }
    if last > bounds.most {
        return bad(format!("end of range ({last}) above maximum ({}): {text}", bounds.most));
    }
    if first > last {
        return bad(format!("beginning of range ({first}) beyond end of range ({last}): {text}"));
    }
    if step == 0 {
        return bad(format!("step of range should be a positive number: {text}"));
    }
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    let bits = (first..=last).step_by(step).fold(0, |bits, number| bits | 1 << number);
    Ok(Set { bits, any })
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u32, ScheduleError> {
    let lower = text.to_lowercase();
    match bounds.names.iter().position(|name| *name == lower) {
        Some(at) => Ok(bounds.least + u32::try_from(at).unwrap_or(0)),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, ScheduleError> {
    let Ok(number) = text.parse::<i64>() else {
        return bad(format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"));
    };
    match u32::try_from(number) {
        Ok(number) => Ok(number),
        Err(_) if number < 0 => bad(format!("negative number ({number}) not allowed: {text}")),
        Err(_) => Ok(u32::MAX),
    }
}

impl Fields {
    /// A day counts when both fields for days agree; where neither is a star, one is enough.
    fn is_day(&self, date: Date) -> bool {
        let (by_month, by_week) =
            (self.days.has(date.day()), self.weekdays.has(date.weekday().to_sunday_zero_offset()));
        let either = !self.days.any && !self.weekdays.any;
        self.months.has(date.month()) && if either { by_month || by_week } else { by_month && by_week }
    }

    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let first = zone.to_datetime(after).date();
        let last = first.checked_add(MAX_YEARS.years()).ok()?;
        let mut date = first;
        while date <= last {
            if self.is_day(date)
                && let Some(found) = self.times(date, zone).filter(|time| *time > after).min()
            {
                return Some(found);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// The moments of a day. An hour that the clocks skip has none, an hour that they repeat has two.
    fn times<'a>(&'a self, date: Date, zone: &'a TimeZone) -> impl Iterator<Item = Timestamp> + 'a {
        let hours = (0..24).filter(|hour| self.hours.has(*hour));
        let clock = hours.flat_map(move |hour| {
            (0..60)
                .filter(|minute| self.minutes.has(*minute))
                .filter_map(move |minute| Time::new(hour, minute, 0, 0).ok())
        });
        clock.flat_map(move |time| moments(DateTime::from_parts(date, time), zone))
    }
}

fn moments(datetime: DateTime, zone: &TimeZone) -> impl Iterator<Item = Timestamp> {
    let offsets = match zone.to_ambiguous_timestamp(datetime).offset() {
        AmbiguousOffset::Unambiguous { offset } => [Some(offset), None],
        AmbiguousOffset::Gap { .. } => [None, None],
        AmbiguousOffset::Fold { before, after } => [Some(before), Some(after)],
    };
    offsets.into_iter().flatten().filter_map(move |offset| offset.to_timestamp(datetime).ok())
}

#[cfg(test)]
mod tests;
