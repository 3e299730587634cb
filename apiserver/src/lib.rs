//! The Kubernetes API server: HTTP, registry, store.
pub mod store;
