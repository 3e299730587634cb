//! The generic registry: a description per kind, one implementation of the verbs for all.

use std::{collections::HashMap, sync::Arc};

use martello_api::resource::Resource;

pub mod admissionregistration;
pub mod apiregistration;
pub mod apps;
pub mod autoscaling;
pub mod batch;
pub mod call;
pub mod certificates;
pub mod codec;
pub mod column;
pub mod columns;
pub mod coordination;
pub mod core;
pub mod devices;
pub mod discovery;
pub mod events;
pub mod flowcontrol;
pub mod kind;
pub mod martello;
pub mod meta;
pub mod naming;
pub mod networking;
pub mod node;
pub mod object;
pub mod options;
pub mod policy;
pub mod rbac;
pub mod reviews;
pub mod scheduling;
pub mod select;
pub mod storage;
pub mod table;
pub mod validation;
pub mod verbs;
pub mod volumes;

pub use kind::{Kind, Strategy};

/// Every kind that is served.
#[derive(Default)]
pub struct Registry {
    kinds: Vec<Arc<Kind>>,
    by_path: HashMap<String, usize>,
}

impl Registry {
    /// Those that are built in.
    #[must_use]
    pub fn builtin() -> Self {
        let mut registry = Self::default();
        for kinds in [
            core::kinds(),
            apps::kinds(),
            autoscaling::kinds(),
            batch::kinds(),
            policy::kinds(),
            coordination::kinds(),
            discovery::kinds(),
            events::kinds(),
            node::kinds(),
            rbac::kinds(),
            reviews::kinds(),
            networking::kinds(),
            flowcontrol::kinds(),
            devices::kinds(),
            certificates::kinds(),
            admissionregistration::kinds(),
            apiregistration::kinds(),
            scheduling::kinds(),
            volumes::kinds(),
            martello::kinds(),
        ] {
            kinds.into_iter().for_each(|kind| registry.add(kind));
        }
        registry
    }

    /// Adds a kind.
    pub fn add(&mut self, kind: Kind) {
        let path = path(&kind.resource.gvk.group, &kind.resource.gvk.version, &kind.resource.plural);
        self.by_path.insert(path, self.kinds.len());
        self.kinds.push(Arc::new(kind));
    }

    /// The kind that is served under these names.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.by_path.get(&path(group, version, plural)).and_then(|at| self.kinds.get(*at))
    }

    /// Whether anything is served in this version of the group.
    #[must_use]
    pub fn has_version(&self, group: &str, version: &str) -> bool {
        self.kinds.iter().any(|kind| kind.resource.gvk.group == group && kind.resource.gvk.version == version)
    }

    /// All kinds.
    #[must_use]
    pub fn kinds(&self) -> &[Arc<Kind>] {
        &self.kinds
    }

    /// What is served, for discovery.
    pub fn resources(&self) -> impl Iterator<Item = &Resource> {
        self.kinds.iter().map(|kind| &kind.resource)
    }
}

fn path(group: &str, version: &str, plural: &str) -> String {
    format!("{group}/{version}/{plural}")
}
