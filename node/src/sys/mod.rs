//! The operating system's calls that need `unsafe`, each behind a small safe function.
