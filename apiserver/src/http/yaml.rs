//! YAML as upstream writes it: the keys of every map in the order of its library, in which numbers in them count as numbers.

use serde::{Serialize, Serializer};
use serde_json::Value;

/// A value as YAML.
///
/// # Errors
/// When it can't be put into words.
pub fn encode(value: &Value) -> Result<String, String> {
    serde_saphyr::to_string(&Sorted(value)).map_err(|error| error.to_string())
}

/// A value whose maps are told in order.
struct Sorted<'a>(&'a Value);

impl Serialize for Sorted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(map) => {
                let entries = sorted(map.iter().collect());
                serializer.collect_map(entries.into_iter().map(|(key, value)| (key, Sorted(value))))
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(Sorted)),
            other => other.serialize(serializer),
        }
    }
}

type Entry<'a> = (&'a String, &'a Value);

/// Sorts by merging: upstream's order knows circles (`a10`, `a1b`, `a2`), at which a sort of the standard library may panic.
fn sorted(mut entries: Vec<Entry<'_>>) -> Vec<Entry<'_>> {
    if entries.len() < 2 {
        return entries;
    }
    let mut right = sorted(entries.split_off(entries.len() / 2)).into_iter().peekable();
    let mut left = sorted(entries).into_iter().peekable();
    let mut merged = Vec::with_capacity(left.len() + right.len());
    while let (Some((one, _)), Some((other, _))) = (left.peek(), right.peek()) {
        merged.extend(if is_before(other, one) { right.next() } else { left.next() });
    }
    merged.extend(left);
    merged.extend(right);
    merged
}

/// Whether a key stands before another: letters behind all else, and runs of digits by their number.
fn is_before(one: &str, other: &str) -> bool {
    let same = one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
    // Back to where a letter begins.
    let start = (0..=same).rev().find(|at| one.is_char_boundary(*at) && other.is_char_boundary(*at)).unwrap_or(0);
    let (before, one) = one.split_at(start);
    let (_, other) = other.split_at(start);
    let (Some(first), Some(second)) = (one.chars().next(), other.chars().next()) else {
        return one.len() < other.len();
    };
    match (first.is_alphabetic(), second.is_alphabetic()) {
        (true, true) => return first < second,
        (false, false) => {}
        (_, is_letter) => return is_letter,
    }
    let ((left, left_digits), (right, right_digits)) =
        (number(before, one, [first, second]), number(before, other, [first, second]));
    (left, left_digits, first) < (right, right_digits, second)
}

/// The number that a text begins with, and how many digits it has. Where a zero differs, digits before it count for one.
fn number(before: &str, text: &str, differing: [char; 2]) -> (i64, usize) {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let led = before.bytes().rev().take_while(u8::is_ascii_digit).any(|digit| digit != b'0');
    let lead = i64::from(differing.contains(&'0') && led);
    let count = digits(text);
    let add = |sum: i64, digit: u8| sum.wrapping_mul(10).wrapping_add(i64::from(digit - b'0'));
    (text.bytes().take(count).fold(lead, add), count)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_stand_in_upstreams_order_on_every_level() {
        let value = json!({"kind": "X", "items": [{"b": {"z": 1, "x": null}, "a": {}}], "apiVersion": "v1"});
        let text = "apiVersion: v1\nitems:\n- a: {}\n  b:\n    x: null\n    z: 1\nkind: X\n";
        let squeezed = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(squeezed(&encode(&value).unwrap()), squeezed(text));
    }

    /// In the order that upstream's library gives them.
    #[test]
    fn numbers_in_keys_count_as_numbers() {
        let keys = [
            "", "-a", "0", "1", "01", "2", "10", "A", "Z", "a", "a-b", "a.b", "a/b", "a_b", "a0", "a00", "a1", "a01",
            "a2", "a10", "a11", "aB", "ab", "v1", "v2", "v10", "x1y2", "x1y10", "ä",
        ];
        for (at, one) in keys.iter().enumerate() {
            for (place, other) in keys.iter().enumerate() {
                assert_eq!(is_before(one, other), at < place, "{one:?} and {other:?}");
            }
        }
    }

    #[test]
    fn an_order_with_circles_is_no_obstacle() {
        assert!(is_before("a10", "a1b") && is_before("a1b", "a2") && is_before("a2", "a10"));
        let names = (0..2000).map(|number| format!("a{}{}", number % 97, ["", "b", "0", "é"][number % 4]));
        let map: serde_json::Map<String, Value> = names.map(|name| (name, Value::Null)).collect();
        assert_eq!(sorted(map.iter().collect()).len(), map.len());
    }
}
