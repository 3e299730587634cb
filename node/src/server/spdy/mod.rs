//! SPDY/3.1, as far as kubectl before 1.30 needs it: framing, compressed headers, streams over one connection.

pub mod frame;
pub mod headers;
pub mod session;

/// What makes a SPDY connection end.
#[derive(Debug, thiserror::Error)]
pub enum SpdyError {
    /// The peer sent what isn't SPDY/3.1, or goes beyond a limit.
    #[error("malformed SPDY: {0}")]
    Malformed(&'static str),
    /// The connection failed.
    #[error("SPDY connection failed")]
    Io(#[from] std::io::Error),
}
