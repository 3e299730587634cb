//! What differs between two values, as upstream shows it in messages: a unified diff of their indented JSON.

use std::collections::HashMap;

use serde_json::Value;

/// Lines around a change.
const CONTEXT: usize = 3;
/// From this many lines on, lines that come up often are no anchors.
const POPULAR_FROM: usize = 200;

/// The unified diff from `old` to `new`; empty where they are the same.
#[must_use]
pub fn unified(old: &Value, new: &Value) -> String {
    let (old, new) = (pretty(old), pretty(new));
    let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    groups(&a, &b).iter().map(|group| hunk(&a, &b, group)).collect()
}

/// JSON, indented by one space a level.
fn pretty(value: &Value) -> String {
    let mut out = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, format);
    // Writing into memory does not fail.
    drop(serde::Serialize::serialize(value, &mut serializer));
    String::from_utf8(out).unwrap_or_default()
}

/// Lines `a.0..a.1` of the old text that are lines `b.0..b.1` of the new one, or become them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    same: bool,
    a: (usize, usize),
    b: (usize, usize),
}

fn hunk(a: &[&str], b: &[&str], group: &[Step]) -> String {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return String::new() };
    let mut out = format!("@@ -{} +{} @@\n", range(first.a.0, last.a.1), range(first.b.0, last.b.1));
    let mut write = |sign: char, lines: &[&str], (from, to): (usize, usize)| {
        for line in lines.get(from..to).unwrap_or_default() {
            out.push(sign);
            out.push_str(line);
            out.push('\n');
        }
    };
    for step in group {
        if step.same {
            write(' ', a, step.a);
        } else {
            write('-', a, step.a);
            write('+', b, step.b);
        }
    }
    out
}

fn range(from: usize, to: usize) -> String {
    match to - from {
        1 => format!("{}", from + 1),
        0 => format!("{from},0"),
        count => format!("{},{count}", from + 1),
    }
}

/// Changes with what surrounds them; those that are near each other share a group.
fn groups(a: &[&str], b: &[&str]) -> Vec<Vec<Step>> {
    let mut steps = steps(a, b);
    if steps.iter().all(|step| step.same) {
        return Vec::new();
    }
    if let Some(first) = steps.first_mut().filter(|step| step.same) {
        first.a.0 = first.a.0.max(first.a.1.saturating_sub(CONTEXT));
        first.b.0 = first.b.0.max(first.b.1.saturating_sub(CONTEXT));
    }
    if let Some(last) = steps.last_mut().filter(|step| step.same) {
        last.a.1 = last.a.1.min(last.a.0 + CONTEXT);
        last.b.1 = last.b.1.min(last.b.0 + CONTEXT);
    }
    let (mut all, mut group) = (Vec::new(), Vec::new());
    for mut step in steps {
        if step.same && step.a.1 - step.a.0 > 2 * CONTEXT {
            let (a, b) = ((step.a.0, step.a.0 + CONTEXT), (step.b.0, step.b.0 + CONTEXT));
            group.push(Step { same: true, a, b });
            all.push(std::mem::take(&mut group));
            step.a.0 = step.a.1 - CONTEXT;
            step.b.0 = step.b.1 - CONTEXT;
        }
        group.push(step);
    }
    if group.iter().any(|step| !step.same) {
        all.push(group);
    }
    all
}

fn steps(a: &[&str], b: &[&str]) -> Vec<Step> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, line) in b.iter().enumerate() {
        places.entry(line).or_default().push(at);
    }
    if b.len() >= POPULAR_FROM {
        places.retain(|_, at| at.len() <= b.len() / 100 + 1);
    }
    let mut blocks = Vec::new();
    let mut open = vec![((0, a.len()), (0, b.len()))];
    while let Some((left, right)) = open.pop() {
        let (i, j, size) = longest(a, b, &places, left, right);
        if size > 0 {
            blocks.push((i, j, size));
            open.push(((left.0, i), (right.0, j)));
            open.push(((i + size, left.1), (j + size, right.1)));
        }
    }
    blocks.sort_unstable();
    blocks.push((a.len(), b.len(), 0));
    let (mut i, mut j, mut steps) = (0, 0, Vec::<Step>::new());
    for (at, to, size) in blocks {
        if i < at || j < to {
            steps.push(Step { same: false, a: (i, at), b: (j, to) });
        }
        (i, j) = (at + size, to + size);
        if size == 0 {
            continue;
        }
        match steps.last_mut() {
            Some(last) if last.same => (last.a.1, last.b.1) = (i, j),
            _ => steps.push(Step { same: true, a: (at, i), b: (to, j) }),
        }
    }
    steps
}

/// The longest run of lines that both have, the earliest of those.
fn longest(
    a: &[&str],
    b: &[&str],
    places: &HashMap<&str, Vec<usize>>,
    left: (usize, usize),
    right: (usize, usize),
) -> (usize, usize, usize) {
    let mut best = (left.0, right.0, 0);
    let mut runs: HashMap<usize, usize> = HashMap::new();
    for (i, line) in a.iter().enumerate().take(left.1).skip(left.0) {
        let mut next = HashMap::new();
        for j in places.get(line).into_iter().flatten().copied().filter(|j| (right.0..right.1).contains(j)) {
            let run = j.checked_sub(1).and_then(|before| runs.get(&before)).copied().unwrap_or(0) + 1;
            next.insert(j, run);
            if run > best.2 {
                best = (i + 1 - run, j + 1 - run, run);
            }
        }
        runs = next;
    }
    while best.0 > left.0 && best.1 > right.0 && a.get(best.0 - 1) == b.get(best.1 - 1) {
        best = (best.0 - 1, best.1 - 1, best.2 + 1);
    }
    while best.0 + best.2 < left.1 && best.1 + best.2 < right.1 && a.get(best.0 + best.2) == b.get(best.1 + best.2) {
        best.2 += 1;
    }
    best
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_is_shown_with_three_lines_around_it() {
        let value = |size: &str| json!({"A": ["x"], "S": null, "R": {"L": null, "Q": {"storage": size}}, "V": "", "W": 1, "X": 2, "Y": 3});
        let shown = unified(&value("1Gi"), &value("2Gi"));
        assert_eq!(
            shown,
            "@@ -6,7 +6,7 @@\n  \"R\": {\n   \"L\": null,\n   \"Q\": {\n-   \"storage\": \"1Gi\"\n+   \"storage\": \"2Gi\"\n   }\n  },\n  \"V\": \"\",\n"
        );
        assert_eq!(unified(&value("1Gi"), &value("1Gi")), "");
    }

    #[test]
    fn changes_far_apart_are_hunks_of_their_own() {
        let lines = |first: i32, last: i32| json!([first, 1, 2, 3, 4, 5, 6, 7, 8, 9, last]);
        let shown = unified(&lines(0, 10), &lines(20, 30));
        assert_eq!(shown.matches("@@ -").count(), 2);
        assert!(shown.starts_with("@@ -1,5 +1,5 @@\n [\n- 0,\n+ 20,\n  1,\n"));
    }
}
