//! The generic registry: a description per kind, one implementation of the verbs for all.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use martello_api::{attributes::ResourceTarget, resource::Resource};
use tokio::sync::watch;

pub mod admissionregistration;
pub mod apiextensions;
pub mod apiregistration;
pub mod apiserverinternal;
pub mod apps;
pub mod autoscaling;
pub mod batch;
pub mod call;
pub mod cell;
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
pub mod size;
pub mod storage;
pub mod storagemigration;
pub mod table;
pub mod validation;
pub mod verbs;
pub mod versions;
pub mod volumes;

pub use kind::{Kind, Strategy};
use versions::{RuntimeConfig, RuntimeConfigError};

/// Kinds, found by their paths.
#[derive(Default)]
pub struct Kinds {
    all: Vec<Arc<Kind>>,
    by_path: HashMap<String, usize>,
}

impl Kinds {
    fn add(&mut self, kind: Arc<Kind>) {
        let path = path(&kind.resource.gvk.group, &kind.resource.gvk.version, &kind.resource.plural);
        self.by_path.insert(path, self.all.len());
        self.all.push(kind);
    }

    fn find(&self, path: &str) -> Option<&Arc<Kind>> {
        self.by_path.get(path).and_then(|at| self.all.get(*at))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.all.iter()
    }
}

/// The kinds that came at run time, as they are at one moment.
#[derive(Default)]
pub struct Custom {
    /// Grows with every change, so that what is made of these kinds can tell whether it is still right.
    pub generation: u64,
    /// The kinds.
    pub kinds: Kinds,
}

/// Every kind that is served: those that are built in, and those that come and go at run time.
#[derive(Default)]
pub struct Registry {
    builtin: Kinds,
    /// Those that are built in and not served.
    withheld: Kinds,
    custom: ArcSwap<Custom>,
    changes: watch::Sender<u64>,
}

impl Registry {
    /// Those that are built in and served by default.
    #[must_use]
    pub fn builtin() -> Self {
        Self::serving(&RuntimeConfig::default())
    }

    /// Those that are built in and served where this was asked for.
    #[must_use]
    pub fn serving(config: &RuntimeConfig) -> Self {
        let mut registry = Self::default();
        for kinds in [
            core::kinds(),
            apiextensions::kinds(),
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
            apiserverinternal::kinds(),
            storagemigration::kinds(),
            scheduling::kinds(),
            volumes::kinds(),
            martello::kinds(),
        ] {
            for kind in kinds {
                if config.serves(&kind.resource, kind.by_default()) {
                    registry.add(kind);
                } else {
                    registry.withheld.add(Arc::new(kind));
                }
            }
        }
        registry
    }

    /// Whether everything that was asked for exists.
    pub fn check(&self, config: &RuntimeConfig) -> Result<(), RuntimeConfigError> {
        config.check(self.builtin.iter().chain(self.withheld.iter()).map(|kind| &kind.resource))
    }

    /// What is served and would not be by default.
    pub fn beyond_default(&self) -> impl Iterator<Item = &Resource> {
        self.builtin.iter().filter(|kind| !kind.by_default()).map(|kind| &kind.resource)
    }

    /// Adds a kind that is built in.
    pub fn add(&mut self, kind: Kind) {
        self.builtin.add(Arc::new(kind));
    }

    /// The built-in kind of these names, whether it is served or not: the server itself keeps objects of some.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        let path = path(group, version, plural);
        self.builtin.find(&path).or_else(|| self.withheld.find(&path))
    }

    /// The kind that is served under these names, wherever it comes from. It stays as it is while the caller holds it.
    #[must_use]
    pub fn lookup(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        let path = path(group, version, plural);
        self.builtin.find(&path).or(self.custom.load().kinds.find(&path)).cloned()
    }

    /// The kind that a call reaches: one that is served, and for our own components any that is built in, so that they go
    /// on whatever their users are served.
    #[must_use]
    pub fn reach(&self, target: &ResourceTarget, is_own: bool) -> Option<Arc<Kind>> {
        let served = self.lookup(&target.group, &target.version, &target.resource);
        let withheld = || self.withheld.find(&path(&target.group, &target.version, &target.resource)).cloned();
        if is_own { served.or_else(withheld) } else { served }
    }

    /// Whether there is such a resource, and the subresource if one is named.
    #[must_use]
    pub fn serves(&self, target: &ResourceTarget) -> bool {
        self.lookup(&target.group, &target.version, &target.resource).is_some_and(|kind| {
            target.subresource.is_empty() || kind.resource.subresources.iter().any(|own| own.name == target.subresource)
        })
    }

    /// Whether anything of the group is built in.
    #[must_use]
    pub fn has_group(&self, group: &str) -> bool {
        self.builtin.iter().any(|kind| kind.resource.gvk.group == group)
    }

    /// Whether a built-in kind is served in this version of the group.
    #[must_use]
    pub fn has_version(&self, group: &str, version: &str) -> bool {
        self.builtin.iter().any(|kind| kind.resource.gvk.group == group && kind.resource.gvk.version == version)
    }

    /// All kinds that are built in.
    #[must_use]
    pub fn kinds(&self) -> &[Arc<Kind>] {
        &self.builtin.all
    }

    /// The first kind that fits, of those that are built in and those that came at run time.
    #[must_use]
    pub fn find_by(&self, fits: impl Fn(&Kind) -> bool) -> Option<Arc<Kind>> {
        let builtin = self.builtin.iter().find(|kind| fits(kind)).cloned();
        builtin.or_else(|| self.custom.load().kinds.iter().find(|kind| fits(kind)).cloned())
    }

    /// The first kind that fits, of those that are built in, whether it is served or not.
    #[must_use]
    pub fn builtin_by(&self, fits: impl Fn(&Kind) -> bool) -> Option<&Arc<Kind>> {
        self.builtin.iter().chain(self.withheld.iter()).find(|kind| fits(kind))
    }

    /// What is built in, for discovery.
    pub fn resources(&self) -> impl Iterator<Item = &Resource> {
        self.builtin.iter().map(|kind| &kind.resource)
    }

    /// The kinds that came at run time.
    #[must_use]
    pub fn custom(&self) -> Arc<Custom> {
        self.custom.load_full()
    }

    /// Serves these kinds beside the built-in ones from now on. Requests in flight keep the kind that they have.
    pub fn replace_custom(&self, kinds: Vec<Arc<Kind>>) {
        let mut found = Kinds::default();
        kinds.into_iter().for_each(|kind| found.add(kind));
        let generation = self.custom.load().generation + 1;
        self.custom.store(Arc::new(Custom { generation, kinds: found }));
        self.changes.send_replace(generation);
    }

    /// Waits until `kind` is not served any more, or is served otherwise. Kinds that are built in always are.
    pub async fn replaced(&self, kind: &Kind) {
        let mut changes = self.changes.subscribe();
        let gvk = &kind.resource.gvk;
        while kind.is_custom() {
            let now = self.lookup(&gvk.group, &gvk.version, &kind.resource.plural);
            if now.is_none_or(|now| now.identity() != kind.identity()) || changes.changed().await.is_err() {
                return;
            }
        }
        std::future::pending().await
    }
}

fn path(group: &str, version: &str, plural: &str) -> String {
    format!("{group}/{version}/{plural}")
}
