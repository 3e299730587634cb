//! What the cluster sees of this node: its object, its conditions, its lease.

pub mod lease;
pub mod machine;
pub mod node;
