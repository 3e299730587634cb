//! Pure vocabulary of the Kubernetes API: no IO lives here.
//!
//! Who asks ([`identity`]), for what ([`attributes`]), which kinds there are ([`resource`]) and what they
//! are made of ([`schema`]), what may be called what ([`names`]), what selects ([`selector`]) and how much is asked
//! for ([`quantity`]), which nodes are asked for ([`node_selector`]) and which taints are tolerated ([`taints`]), how
//! objects change ([`patch`]) and who owns which field ([`managed_fields`]), what an answer of failure looks like
//! ([`status`]), what a request's query says ([`query`]), the time ([`clock`]), and schedules
//! over it ([`cron`]).

pub mod attributes;
pub mod clock;
pub mod cron;
pub mod go;
pub mod identity;
pub mod managed_fields;
pub mod names;
pub mod node_selector;
pub mod order;
pub mod patch;
pub mod quantity;
pub mod query;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod status;
pub mod taints;

pub use k8s_openapi;
pub use kube::core as kube_core;
