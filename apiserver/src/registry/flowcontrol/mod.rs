//! Kinds of the group `flowcontrol.apiserver.k8s.io`: who is served before whom when there is more to do than can be done.

use super::kind::Kind;

pub mod bootstrap;
pub mod flow_schema;
pub mod flow_schema_rules;
pub mod priority_level;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![Kind::new(flow_schema::FlowSchemas), Kind::new(priority_level::PriorityLevels)]
}
