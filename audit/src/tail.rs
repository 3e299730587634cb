//! The last records of a log.

use std::{collections::VecDeque, path::Path};

use serde_json::Value;

use crate::{
    chain::{MAX_LINE_BYTES, RecordCipher, open_payload},
    files::{FileError, Lines, segment_path, segments},
};

/// A record as it stands in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its number.
    pub number: u64,
    /// Its event, or the reason why it can't be shown.
    pub event: Result<Value, String>,
}

/// The last `count` records of the log in `directory`, the oldest first. They are not verified.
///
/// # Errors
/// If a file could not be read.
pub fn tail(directory: &Path, count: usize, cipher: Option<&dyn RecordCipher>) -> Result<Vec<Entry>, FileError> {
    let mut last: VecDeque<Entry> = VecDeque::new();
    for first in segments(directory)?.into_iter().rev() {
        let wanted = count.saturating_sub(last.len());
        if wanted == 0 {
            break;
        }
        let mut lines = Lines::open(segment_path(directory, first))?;
        let mut line = Vec::with_capacity(MAX_LINE_BYTES.min(4096));
        let mut own: VecDeque<(u64, Vec<u8>)> = VecDeque::new();
        lines.next(&mut line)?;
        while lines.next(&mut line)? {
            let mut parts = line.trim_ascii_end().splitn(3, |&byte| byte == b' ');
            let (Some(number), Some(_), Some(payload)) = (parts.next(), parts.next(), parts.next()) else { continue };
            let Some(number) = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok()) else { continue };
            if own.len() == wanted {
                own.pop_front();
            }
            own.push_back((number, payload.to_vec()));
        }
        for (number, payload) in own.into_iter().rev() {
            let text = open_payload(number, &payload, cipher);
            let event = text.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
            last.push_front(Entry { number, event });
        }
    }
    Ok(last.into())
}
