//! `secctl`: server, node agent and operator's tool in one binary.

fn main() {}
