//! The Kubernetes API server: HTTP, registry, store.
//!
//! Every request takes one way ([`http::door`]): identity, audit opened, authorization, decoding and defaults,
//! admission, validation, sealing, commit, audit closed.

pub mod admission;
pub mod authn;
pub mod cel;
pub mod crd;
pub mod discovery;
pub mod flow;
pub mod http;
pub mod metrics;
pub mod openapi;
mod pattern;
pub mod registry;
pub mod server;
pub mod store;

pub use server::{Config, Server};
