//! The node agent: pods, rootless containers, network, volumes.

pub mod agent;
pub mod images;
pub mod keeper;
pub mod network;
pub mod pods;
pub mod runtime;
pub mod server;
pub mod status;
pub mod sys;
pub mod volumes;
mod wire;

pub use agent::{AgentError, config::Config, run};
