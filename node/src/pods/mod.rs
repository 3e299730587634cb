//! A pod's life on this node: what it wants, what is known, what to do next, and what clients see of it.

pub mod adopt;
pub mod backoff;
pub mod downward;
pub mod env;
pub mod fact;
pub mod goal;
pub mod model;
pub mod phase;
pub mod plan;
pub mod probe;
pub mod qos;
pub mod quantity;
pub mod sandbox;
pub mod spec;
pub mod status;
pub mod storage;

#[cfg(test)]
mod simulation;
