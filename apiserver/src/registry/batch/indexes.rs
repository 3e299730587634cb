//! Indexes of an indexed Job as text: `0,2-4,7`.

/// One interval, both ends included.
pub type Interval = (i64, i64);

/// Reads the intervals of `text`, each below `completions` and in rising order. In upstream's words for what is wrong.
pub fn parse(text: &str, completions: i64) -> Result<Vec<Interval>, String> {
    let mut intervals: Vec<Interval> = Vec::new();
    if text.is_empty() {
        return Ok(intervals);
    }
    for part in text.split(',') {
        let (first, last) = interval(part, completions)?;
        if let Some((_, before)) = intervals.last()
            && *before >= first
        {
            return Err(format!("non-increasing order, previous: {before}, current: {first}"));
        }
        intervals.push((first, last));
    }
    Ok(intervals)
}

/// How many indexes there are.
#[must_use]
pub fn count(intervals: &[Interval]) -> i64 {
    intervals.iter().map(|(first, last)| last - first + 1).sum()
}

/// The first index that both have; parts that can't be read are left out, they are told of elsewhere.
#[must_use]
pub fn overlap(left: &str, right: &str, completions: i64) -> Option<i64> {
    let read =
        |text: &str| -> Vec<Interval> { text.split(',').filter_map(|part| interval(part, completions).ok()).collect() };
    let (left, right) = (read(left), read(right));
    let meeting = left.iter().flat_map(|own| right.iter().map(move |other| (own, other)));
    meeting.filter(|(own, other)| own.0 <= other.1 && other.0 <= own.1).map(|(own, other)| own.0.max(other.0)).min()
}

fn interval(part: &str, completions: i64) -> Result<Interval, String> {
    let mut ends = part.split('-');
    let first = ends.next().unwrap_or_default();
    let last = ends.next();
    if ends.next().is_some() {
        return Err(format!(
            "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        ));
    }
    let read = |text: &str| match text.parse::<i64>() {
        Err(_) => Err(format!("cannot convert string to integer for index: {text:?}")),
        Ok(index) if index >= completions => Err(format!("too large index: {text:?}")),
        Ok(index) => Ok(index),
    };
    let first = read(first)?;
    let last = match last {
        None => return Ok((first, first)),
        Some(last) => read(last)?,
    };
    if first >= last {
        return Err(format!("non-increasing order, previous: {first}, current: {last}"));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_rise_and_stay_below_the_whole() {
        assert_eq!(parse("0,2-4", 5), Ok(vec![(0, 0), (2, 4)]));
        assert_eq!(count(&[(0, 0), (2, 4)]), 4);
        assert_eq!(parse("", 5), Ok(vec![]));
        assert_eq!(parse("5", 5), Err("too large index: \"5\"".to_owned()));
        assert_eq!(parse("1,1", 5), Err("non-increasing order, previous: 1, current: 1".to_owned()));
        assert_eq!(parse("3-2", 5), Err("non-increasing order, previous: 3, current: 2".to_owned()));
        assert_eq!(parse("a", 5), Err("cannot convert string to integer for index: \"a\"".to_owned()));
        assert!(parse("1-2-3", 5).unwrap_err().contains("at most two parts"));
    }

    #[test]
    fn an_overlap_is_told_by_its_first_index() {
        assert_eq!(overlap("0-3", "2,5", 9), Some(2));
        assert_eq!(overlap("0-1", "2,5", 9), None);
        assert_eq!(overlap("", "2", 9), None);
    }
}
