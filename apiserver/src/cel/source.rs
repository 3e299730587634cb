//! The text of an expression, and what is wrong with it, told with the line and a caret below it.

use std::fmt;

/// Longest expression, in characters: what upstream's parser takes.
pub(crate) const MAX_SOURCE_CHARS: usize = 100_000;
/// After so many issues no more are collected: the first ones are what a person mends.
const MAX_ISSUES: usize = 100;

/// Something wrong at a place of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issue {
    /// Place, in characters from the start.
    pub at: u32,
    /// What is wrong.
    pub message: String,
}

/// All that is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issues {
    source: String,
    list: Vec<Issue>,
}

impl Issues {
    /// None yet.
    #[must_use]
    pub fn of(source: &str) -> Self {
        Self { source: source.to_owned(), list: Vec::new() }
    }

    /// Adds one.
    pub fn add(&mut self, at: u32, message: impl Into<String>) {
        let issue = Issue { at, message: message.into() };
        if self.list.len() < MAX_ISSUES && !self.list.contains(&issue) {
            self.list.push(issue);
        }
    }

    /// How many there are.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether the messages say so.
    #[must_use]
    pub fn mention(&self, words: &str) -> bool {
        self.list.iter().any(|issue| issue.message.contains(words))
    }

    fn write(&self, issue: &Issue, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, column, line) = self.locate(issue.at);
        write!(out, "ERROR: <input>:{number}:{}: {}", column + 1, issue.message)?;
        write!(out, "\n | {}\n | ", line.replace('\t', " "))?;
        let mut chars = line.chars();
        for _ in 0..column {
            let wide = chars.next().is_some_and(|c| c.len_utf8() > 1);
            out.write_str(if wide { "．" } else { "." })?;
        }
        let wide = chars.next().is_some_and(|c| c.len_utf8() > 1);
        out.write_str(if wide { "＾" } else { "^" })
    }

    fn locate(&self, at: u32) -> (usize, usize, &str) {
        let mut left = usize::try_from(at).unwrap_or(usize::MAX);
        let mut last = (1, 0, "");
        for (index, line) in self.source.split('\n').enumerate() {
            let length = line.chars().count();
            if left <= length {
                return (index + 1, left, line);
            }
            last = (index + 1, length, line);
            left -= length + 1;
        }
        last
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ordered: Vec<&Issue> = self.list.iter().collect();
        ordered.sort_by_key(|issue| issue.at);
        for (index, issue) in ordered.into_iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            self.write(issue, out)?;
        }
        Ok(())
    }
}

impl std::error::Error for Issues {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issue_points_at_its_column() {
        let mut issues = Issues::of("a &&\n bé.c");
        issues.add(8, "undefined field 'c'");
        assert_eq!(issues.to_string(), "ERROR: <input>:2:4: undefined field 'c'\n |  bé.c\n | ..．^");
    }
}
