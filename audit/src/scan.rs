//! Reads one segment record by record, and knows what a crash leaves behind.

use ring::digest::{Context, SHA256};

use crate::{
    chain::{Chain, GapRecord},
    files::{FileError, Lines},
};

/// What comes next in a segment.
pub(crate) enum Step {
    /// A record that fits the chain.
    Record,
    /// Bytes that a crash left behind, and the record that closed them off.
    Gap { closed_by: Chain, bytes: u64 },
    /// Bytes up to the end of the file that are no records and that nothing closed off.
    Broken(Broken),
    /// The end.
    End,
}

/// Bytes that are not the next record.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) why: &'static str,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    /// Whether the last of them is a line feed.
    pub(crate) ends_line: bool,
    /// Number of the line at which they begin, counted from where the scan began.
    pub(crate) line: u64,
}

/// A scan of a segment from a place where a record begins.
pub(crate) struct Scan {
    lines: Lines,
    chain: Chain,
    line: u64,
}

impl Scan {
    pub(crate) fn new(lines: Lines, chain: Chain) -> Self {
        Self { lines, chain, line: 0 }
    }

    pub(crate) fn chain(&self) -> Chain {
        self.chain
    }

    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    pub(crate) fn next(&mut self) -> Result<Step, FileError> {
        let mut line = Vec::new();
        if !self.lines.next(&mut line)? {
            return Ok(Step::End);
        }
        self.line += 1;
        match self.accept(&line) {
            Ok((next, _)) => {
                self.chain = next;
                Ok(Step::Record)
            }
            Err(why) => self.broken(line, why),
        }
    }

    fn accept<'a>(&self, line: &'a [u8]) -> Result<(Chain, &'a [u8]), &'static str> {
        self.chain.accept(line.strip_suffix(b"\n").ok_or("it is cut off")?)
    }

    /// Looks for the record that closes off what begins with `line`, which has the number that is missing.
    fn broken(&mut self, mut line: Vec<u8>, why: &'static str) -> Result<Step, FileError> {
        let begins = self.line;
        let mut context = Context::new(&SHA256);
        let mut bytes = 0;
        let mut ends_line;
        loop {
            context.update(&line);
            bytes += line.len() as u64;
            ends_line = line.ends_with(b"\n");
            if !self.lines.next(&mut line)? {
                let sha256 = hex::encode(context.finish());
                return Ok(Step::Broken(Broken { why, bytes, sha256, ends_line, line: begins }));
            }
            self.line += 1;
            let Ok((next, payload)) = self.accept(&line) else { continue };
            let Ok(gap) = serde_json::from_slice::<GapRecord>(payload) else { continue };
            if gap.martello.gap_bytes == bytes && gap.martello.gap_sha256 == hex::encode(context.clone().finish()) {
                self.chain = next;
                return Ok(Step::Gap { closed_by: next, bytes });
            }
        }
    }
}
