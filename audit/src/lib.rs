//! The tamper-evident record of every request.
