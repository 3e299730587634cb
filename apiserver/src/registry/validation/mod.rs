//! Shared pieces of validation: each adds what is wrong, by path, in upstream's words.

pub mod metadata;
pub mod pod;
pub mod selector;
pub mod text;
