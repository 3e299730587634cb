//! The node agent: pods, rootless containers, network, volumes.

pub mod images;
pub mod network;
pub mod pods;
pub mod runtime;
pub mod sys;
pub mod volumes;
