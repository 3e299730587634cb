//! What holds for objects, with upstream's words for what does not.

pub mod address;
pub mod condition;
pub mod difference;
pub mod expression;
pub mod field;
pub mod internal;
pub mod internal_order;
pub mod metadata;
pub mod node_labels;
pub mod pod;
pub mod resource_name;
pub mod selector;
pub mod text;
pub mod version;
