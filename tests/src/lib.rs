//! The cluster harness and everything that is tested from outside.
