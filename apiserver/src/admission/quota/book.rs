//! Which namespaces have quotas, whose turn it is to charge them, and which are to be counted again.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, OwnedMutexGuard};

use crate::store::Key;

/// The right to charge the quotas of a namespace, until it is dropped.
pub struct Turn {
    _guard: OwnedMutexGuard<()>,
}

/// See the module.
#[derive(Default)]
pub struct Book {
    known: RwLock<HashSet<String>>,
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    touched: Mutex<BTreeSet<String>>,
    bell: Notify,
}

impl Book {
    /// Whether the namespace has, or had, a quota.
    #[must_use]
    pub fn knows(&self, namespace: &str) -> bool {
        self.known.read().contains(namespace)
    }

    /// Notes that the namespace has a quota, and that it is to be counted.
    pub fn learn(&self, namespace: &str) {
        self.known.write().insert(namespace.to_owned());
        self.touch(namespace);
    }

    /// Forgets a namespace whose quotas are gone.
    pub(super) fn forget(&self, namespace: &str) {
        self.known.write().remove(namespace);
        self.turns.lock().remove(namespace);
    }

    /// Notes a write.
    pub fn wrote(&self, key: &Key) {
        let namespace = key.namespace();
        if namespace.is_empty() {
            return;
        }
        if key.resource().as_str() == "resourcequotas" {
            self.learn(namespace);
        } else {
            self.touch(namespace);
        }
    }

    /// Has the namespace counted again, if it has quotas.
    pub fn touch(&self, namespace: &str) {
        if !self.knows(namespace) {
            return;
        }
        self.touched.lock().insert(namespace.to_owned());
        self.bell.notify_one();
    }

    /// Waits for the turn to charge the quotas of a namespace.
    pub async fn turn(&self, namespace: &str) -> Turn {
        let own = Arc::clone(self.turns.lock().entry(namespace.to_owned()).or_default());
        Turn { _guard: own.lock_owned().await }
    }

    /// Waits until something was touched.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// What was touched since this was last asked.
    pub(super) fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.touched.lock())
    }
}
