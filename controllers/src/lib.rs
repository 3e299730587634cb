//! The loops that bring the cluster to its declared state.
