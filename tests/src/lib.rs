//! The cluster harness and everything that is tested from outside.
//!
//! The harness starts the real `secctl` as a process of its own, on a free loopback port and in a temporary
//! directory, and speaks to it the way that users do: by kubeconfig, over TLS, with `kubectl`.

pub mod binary;
pub mod cluster;
pub mod foreign;
pub mod fuzz;
pub mod kubectl;
pub mod load;
pub mod pods;
pub mod process;
pub mod raw;
pub mod websocket;
