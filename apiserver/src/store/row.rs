//! A row of a Table as it is kept beside its object: ready bytes, with holes where ages go.

/// Longest row that is kept: a few times what most kinds show, so that what is kept beside an object stays small.
const MAX_KEPT_BYTES: usize = 1024;

/// What a row shows of an object, encoded once. Only what is relative to the time of the answer is left out.
#[derive(Debug)]
pub struct Row {
    columns: u64,
    json: Box<[u8]>,
    ages: Box<[Age]>,
}

/// A hole: before which byte a time since then goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// Before this byte.
    pub at: usize,
    /// Since then, in seconds of the Unix clock.
    pub then: i64,
}

impl Row {
    /// A row by the columns of that number; `ages` are in the order of their places.
    #[must_use]
    pub fn new(columns: u64, json: Vec<u8>, ages: Vec<Age>) -> Self {
        Self { columns, json: json.into(), ages: ages.into() }
    }

    /// The number of the columns that it was made by.
    #[must_use]
    pub fn columns(&self) -> u64 {
        self.columns
    }

    /// Writes the row, and each age by `tell`.
    pub fn write(&self, out: &mut Vec<u8>, mut tell: impl FnMut(i64, &mut Vec<u8>)) {
        let mut from = 0;
        for age in &self.ages {
            out.extend_from_slice(self.json.get(from..age.at).unwrap_or_default());
            tell(age.then, out);
            from = age.at;
        }
        out.extend_from_slice(self.json.get(from..).unwrap_or_default());
    }

    /// Whether it is worth keeping.
    pub(super) fn is_small(&self) -> bool {
        self.json.len() + self.ages.len() * size_of::<Age>() <= MAX_KEPT_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_put_where_they_belong() {
        let ages = vec![Age { at: 2, then: 7 }, Age { at: 2, then: 8 }, Age { at: 5, then: 9 }];
        let mut out = b">".to_vec();
        Row::new(1, b"abcde".to_vec(), ages).write(&mut out, |then, out| out.extend(then.to_string().bytes()));
        assert_eq!(out, b">ab78cde9");
    }
}
