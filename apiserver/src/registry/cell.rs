//! Cells of a Table, and the row that they make.

use jiff::Timestamp;
use serde_json::Value;

use crate::store::{Age, Row};

/// One cell of a row. What depends on when it is shown is an age, so that a row can be kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// The same whenever it is shown.
    Known(Value),
    /// The time since then, between two texts.
    Since {
        /// What stands before it.
        before: String,
        /// In seconds of the Unix clock.
        then: i64,
        /// What stands behind it.
        after: &'static str,
    },
}

impl<T: Into<Value>> From<T> for Cell {
    fn from(known: T) -> Self {
        Self::Known(known.into())
    }
}

impl Cell {
    /// The time since `then`, as people read it.
    #[must_use]
    pub fn since(then: &str) -> Self {
        match then.parse::<Timestamp>() {
            Ok(then) => Self::Since { before: String::new(), then: then.as_second(), after: "" },
            Err(_) if then.is_empty() => "<unknown>".into(),
            // Later than can be counted is not yet.
            Err(_) => "<invalid>".into(),
        }
    }

    /// The same between two texts.
    #[must_use]
    pub fn between(self, before: String, after: &'static str) -> Self {
        match self {
            Self::Since { then, .. } => Self::Since { before, then, after },
            Self::Known(value) => format!("{before}{}{after}", value.as_str().unwrap_or_default()).into(),
        }
    }
}

#[cfg(test)]
impl Cell {
    /// What is shown at that time, in seconds of the Unix clock.
    pub fn shown(&self, now: i64) -> Value {
        match self {
            Self::Known(value) => value.clone(),
            Self::Since { before, then, after } => format!("{before}{}{after}", human_duration(now - then)).into(),
        }
    }
}

/// The beginning of a row of these cells, by the columns of that number; the object and a brace are to follow.
#[must_use]
pub fn row(columns: u64, cells: &[Cell], condition: Option<&Value>) -> Row {
    let mut json = b"{\"cells\":[".to_vec();
    let mut ages = Vec::new();
    for (index, cell) in cells.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        match cell {
            Cell::Known(value) => write(&mut json, value),
            Cell::Since { before, then, after } => {
                write(&mut json, before);
                json.pop();
                ages.push(Age { at: json.len(), then: *then });
                let after = serde_json::to_vec(after).unwrap_or_default();
                json.extend_from_slice(after.get(1..).unwrap_or_default());
            }
        }
    }
    json.push(b']');
    if let Some(condition) = condition {
        json.extend_from_slice(b",\"conditions\":[");
        write(&mut json, condition);
        json.push(b']');
    }
    Row::new(columns, json, ages)
}

fn write(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    // Writing text and values into memory does not fail.
    drop(serde_json::to_writer(out, value));
}

/// Seconds as `5s`, `3m10s`, `2h`, `5d3h`, `2y10d`: coarser the longer they are.
#[must_use]
pub fn human_duration(seconds: i64) -> String {
    let with = |large: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{small_unit}") }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => with(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => with(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => with(hours / 24, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{}d", hours / 24),
        63_072_000..252_288_000 => with(hours / 8760, "y", hours / 24 % 365, "d"),
        _ => format!("{}y", hours / 8760),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_second_of_all_is_not_yet() {
        assert_eq!(Cell::since("9999-12-31T23:59:59Z"), Cell::from("<invalid>"));
        assert_eq!(Cell::since(""), Cell::from("<unknown>"));
    }

    #[test]
    fn a_row_has_holes_for_its_ages_alone() {
        let cells: [Cell; 5] = [
            "a\"b".into(),
            3.into(),
            Cell::since("1970-01-01T00:00:10Z"),
            Cell::since("1970-01-01T00:00:20Z").between("2 \\(".to_owned(), " \"ago\")"),
            Cell::since("").between("2 (".to_owned(), " ago)"),
        ];
        let row = row(1, &cells, Some(&json!({"type": "Completed"})));
        let told = |now: i64| {
            let mut out = Vec::new();
            row.write(&mut out, |then, out| out.extend_from_slice(human_duration(now - then).as_bytes()));
            out.push(b'}');
            serde_json::from_slice::<Value>(&out).unwrap()
        };
        let expected = |first: &str, second: &str| {
            let second = format!("2 \\({second} \"ago\")");
            json!({"cells": ["a\"b", 3, first, second, "2 (<unknown> ago)"], "conditions": [{"type": "Completed"}]})
        };
        assert_eq!(told(30), expected("20s", "10s"));
        assert_eq!(told(7230), expected("120m", "120m"));
    }

    #[test]
    fn ages_are_coarser_the_longer_they_are() {
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (190, "3m10s"),
            (600, "10m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (90_000, "25h"),
            (180_000, "2d2h"),
            (28_011_600, "324d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human_duration(seconds), text);
        }
    }
}
