//! The tamper-evident record of every request.
//!
//! [`Log`] appends [`Event`]s (`audit.k8s.io/v1`) to files in one directory. Every record carries its number and a hash
//! over itself and all before it; the *head* file, authenticated with a key that the log's directory does not hold, says
//! how far the log went. [`verify`] finds a record that was edited, removed, moved or cut off, and names it; [`tail`]
//! shows the last records.
//!
//! # What is durable when
//!
//! - A change: [`Log::begin`] writes the record of the intent before the change is committed, and the change is refused if
//!   that fails. [`Pending::close`] adds the outcome and returns when the intent is on disk (one `fdatasync` is shared by
//!   all who wait), so nothing is acknowledged that the log does not know. With [`Durability::BeforeCommit`] even the
//!   commit waits for the disk.
//! - Anything else: [`Log::record`] puts the record into the chain at once and on disk within [`FLUSH_INTERVAL`]. A
//!   process that is killed loses at most those; so does a power failure.
//! - If the log cannot be written (disk full, directory or file gone or replaced), every call fails until it can; the
//!   caller answers 503.
//!
//! # What it does not find
//!
//! Whoever holds the authentication key can write a log of their own, and whoever can set the whole directory back to an
//! earlier state can hide what came after it. Both need a copy of the head elsewhere to be found.

mod chain;
mod event;
mod files;
mod head;
mod log;
mod recover;
mod scan;
mod tail;
mod verify;
mod waiters;
mod writer;

pub use chain::{Authenticator, Chain, Hash, RecordCipher};
pub use event::{
    Event, Level, MAX_ANNOTATIONS, MAX_TEXT_BYTES, MAX_URI_BYTES, ObjectReference, ResponseStatus, Stage, UserInfo,
};
pub use files::FileError;
pub use log::{Config, Durability, Keys, Log, LogError, Opened, Pending};
pub use tail::{Entry, tail};
pub use verify::{Damage, Finding, Gap, Report, VerifyError, verify};
pub use writer::FLUSH_INTERVAL;
