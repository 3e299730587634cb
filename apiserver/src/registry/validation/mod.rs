//! What holds for objects, with upstream's words for what does not.

pub mod address;
pub mod condition;
pub mod expression;
pub mod field;
pub mod metadata;
pub mod pod;
pub mod selector;
pub mod text;
