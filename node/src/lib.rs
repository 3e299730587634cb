//! The node agent: pods, rootless containers, network, volumes.

pub mod keeper;
pub mod network;
pub mod pods;
pub mod runtime;
pub mod sys;
pub mod volumes;
mod wire;
