//! The streams of a remote command, however they came here.

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// What the caller wants connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// A terminal, whose size may change.
    pub tty: bool,
}

/// The streams of a remote command: this side's ends.
#[derive(Debug)]
pub struct Streams {
    /// What the caller types.
    pub stdin: Option<DuplexStream>,
    /// What the caller sees.
    pub stdout: Option<DuplexStream>,
    /// What the caller sees as errors.
    pub stderr: Option<DuplexStream>,
    /// How it ended.
    pub error: DuplexStream,
    /// That is told in words, and not as a `Status`: so callers of before version 4 read it.
    pub in_words: bool,
    /// The sizes of the caller's terminal.
    pub resize: Option<DuplexStream>,
}

/// What a stream may hold that nobody has read.
pub const BUFFER: usize = 64 << 10;
/// A size takes fewer bytes than this.
const LONGEST_SIZE: usize = 256;

/// How a remote command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With this exit code.
    Exited(i32),
    /// It didn't run, or nobody knows how it ended.
    Failed(String),
}

impl Outcome {
    /// The `Status` that tells it.
    #[must_use]
    pub fn to_status(&self) -> Bytes {
        let status = match self {
            Self::Exited(0) => json!({"metadata": {}, "status": "Success"}),
            Self::Exited(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": self.to_words(),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failed(why) => json!({
                "metadata": {},
                "status": "Failure",
                "message": self.to_words(),
                "reason": "InternalError",
                "details": {"causes": [{"message": why}]},
                "code": 500,
            }),
        };
        Bytes::from(status.to_string())
    }

    /// Its words; none if all went well.
    fn to_words(&self) -> String {
        match self {
            Self::Exited(0) => String::new(),
            Self::Exited(code) => {
                format!("command terminated with non-zero exit code: command terminated with exit code {code}")
            }
            Self::Failed(why) => format!("Internal error occurred: {why}"),
        }
    }
}

impl Streams {
    /// Tells how it ended, and ends all streams.
    pub async fn finish(mut self, outcome: &Outcome) {
        let told = if self.in_words { Bytes::from(outcome.to_words()) } else { outcome.to_status() };
        // A caller that has gone needs to know nothing.
        self.error.write_all(&told).await.ok();
        self.error.shutdown().await.ok();
    }
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Size {
    /// Columns.
    #[serde(rename = "Width")]
    pub columns: u16,
    /// Rows.
    #[serde(rename = "Height")]
    pub rows: u16,
}

/// Reads one size after the other, however the bytes are cut.
#[derive(Debug)]
pub struct Sizes {
    source: DuplexStream,
    buffer: BytesMut,
}

impl Sizes {
    /// The sizes that come on `source`.
    #[must_use]
    pub fn new(source: DuplexStream) -> Self {
        Self { source, buffer: BytesMut::new() }
    }

    /// The next size; nothing at the end, or if what comes isn't a size.
    pub async fn next(&mut self) -> Option<Size> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'}') {
                let one = self.buffer.split_to(end + 1);
                return serde_json::from_slice(&one).ok();
            }
            if self.buffer.len() > LONGEST_SIZE || self.source.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sizes_are_read_however_they_are_cut() {
        let (mut there, here) = tokio::io::duplex(64);
        let mut sizes = Sizes::new(here);
        there.write_all(b"{\"Width\":80,\"Height\":24}\n{\"Wid").await.unwrap();
        assert_eq!(sizes.next().await, Some(Size { columns: 80, rows: 24 }));
        there.write_all(b"th\":1,\"Height\":2}").await.unwrap();
        assert_eq!(sizes.next().await, Some(Size { columns: 1, rows: 2 }));
        there.write_all(b"rubbish}").await.unwrap();
        assert_eq!(sizes.next().await, None);
    }

    #[test]
    fn an_exit_code_is_told_as_clients_read_it() {
        let status: serde_json::Value = serde_json::from_slice(&Outcome::Exited(3).to_status()).unwrap();
        assert_eq!(status["details"]["causes"][0]["message"], "3");
        assert_eq!(status["reason"], "NonZeroExitCode");
    }
}
