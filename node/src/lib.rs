//! The node agent: pods, rootless containers, network, volumes.
