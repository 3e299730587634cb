//! The node agent: pods, rootless containers, network, volumes.

pub mod network;
pub mod runtime;
pub mod sys;
