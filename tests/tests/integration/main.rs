//! What users, and those who are none, see of the real server: one binary, one server per test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod access;
mod admission_record;
mod answers;
mod attacks;
mod audit;
mod bad_input;
mod basics;
mod certificates;
mod conformance;
mod conventions;
mod crash;
mod custom;
mod dead_conversion;
mod dead_webhooks;
mod events;
mod extension_servers;
mod hostile_objects;
mod identity;
mod impersonation;
mod in_pods;
mod kubectl;
mod node_agent;
mod node_rules;
mod operators;
mod proxies;
mod reloads;
mod secrets;
mod service_addresses;
mod slow_clients;
mod streams;
mod tokens;
mod versions;
mod webhooks;
