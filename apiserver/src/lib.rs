//! The Kubernetes API server: HTTP, registry, store.
