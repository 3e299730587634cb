//! Follows the definitions: lets the registry serve them, accepts their names, and takes their objects away with them.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use martello_api::{
    clock,
    identity::{API_SERVER, GROUP_MASTERS, User},
    status::ApiError,
};
use parking_lot::Mutex;
use serde_json::Value;

use super::{
    announce::Announced,
    definition::{Definition, has_condition},
    finalize, kind, naming,
};
use crate::{
    registry::{Kind, object, storage::store_failure},
    server::{Core, Server},
    store::{EventKind, ListAt, Page, Scope, StoreError},
};

/// Group and plural name of definitions.
pub const DEFINITIONS: (&str, &str) = ("apiextensions.k8s.io", "customresourcedefinitions");
/// Delay before definitions are read anew after the store failed.
const RETRY: Duration = Duration::from_millis(500);

/// A definition and what it serves.
struct Known {
    crd: Value,
    /// What was compiled, and from what; none while it is not served.
    compiled: Option<(Value, Vec<Arc<Kind>>)>,
}

/// Follows all definitions of one server.
pub struct Follower {
    core: Arc<Core>,
    client: kube::Client,
    known: BTreeMap<String, Known>,
    revision: u64,
    /// Definitions whose objects are being removed.
    ending: Arc<Mutex<HashSet<String>>>,
    announced: Announced,
}

impl Follower {
    /// Reads the definitions that there are, and serves them.
    pub async fn learn(server: &Server) -> Result<Self, ApiError> {
        let user = User::authenticated(API_SERVER, [GROUP_MASTERS]);
        let mut follower = Self {
            core: Arc::clone(server.core()),
            client: server.client(user),
            known: BTreeMap::new(),
            revision: 0,
            ending: Arc::default(),
            announced: Announced::default(),
        };
        follower.list().await?;
        Ok(follower)
    }

    /// Follows until the server ends.
    pub async fn run(mut self) {
        let drain = self.core.drain.clone();
        drain.run_until_cancelled(self.follow()).await;
    }

    async fn follow(&mut self) {
        self.settle_all().await;
        self.announce().await;
        loop {
            if let Err(error) = self.watch().await {
                tracing::warn!(%error, "following custom resource definitions broke off, will go on");
                tokio::time::sleep(RETRY).await;
                if let Err(error) = self.list().await {
                    tracing::warn!(%error, "custom resource definitions could not be read, will try again");
                }
                self.settle_all().await;
            }
        }
    }

    fn kind(&self) -> Option<Arc<Kind>> {
        self.core.registry.find(DEFINITIONS.0, "v1", DEFINITIONS.1).cloned()
    }

    fn scope(&self) -> Scope {
        Scope::namespace(&crate::store::Resource::from_qualified(&format!("{}.{}", DEFINITIONS.1, DEFINITIONS.0)), "")
    }

    async fn list(&mut self) -> Result<(), ApiError> {
        let Some(kind) = self.kind() else { return Ok(()) };
        let listed = self.core.store.list(&self.scope(), ListAt::Latest, Page::default()).await;
        let listed = listed.map_err(|error| store_failure(&error))?;
        let mut present = HashSet::new();
        for entry in &listed.items {
            let crd = self.core.value(&kind, entry).await?;
            present.insert(object::name(&crd).to_owned());
            self.take(crd);
        }
        self.known.retain(|name, _| present.contains(name));
        self.revision = listed.revision;
        self.publish();
        Ok(())
    }

    async fn watch(&mut self) -> Result<(), StoreError> {
        let Some(kind) = self.kind() else { return std::future::pending().await };
        let mut source = self.core.store.watch(&self.scope(), self.revision).await?;
        loop {
            let batch = source.next().await?;
            for event in &batch.events {
                self.revision = event.revision;
                let Ok(crd) = self.core.value(&kind, &event.entry).await else { continue };
                let group = object::text(&crd, &["spec", "group"]).to_owned();
                if event.kind == EventKind::Deleted {
                    self.known.remove(object::name(&crd));
                } else {
                    self.take(crd);
                }
                self.publish();
                self.settle(&group).await;
            }
            self.announce().await;
        }
    }

    /// Takes a definition as it is now; compiles it only where what it serves has changed.
    fn take(&mut self, crd: Value) {
        let name = object::name(&crd).to_owned();
        let before = self.known.remove(&name).and_then(|known| known.compiled);
        let compiled = is_served(&crd).then(|| {
            let source = source_of(&crd);
            match before {
                Some((known, kinds)) if known == source => (known, kinds),
                _ => (source, kind::kinds(&Arc::new(Definition::compile(&crd)))),
            }
        });
        self.known.insert(name, Known { crd, compiled });
    }

    fn publish(&self) {
        let kinds: Vec<Arc<Kind>> = self
            .known
            .values()
            .filter_map(|known| known.compiled.as_ref())
            .flat_map(|(_, kinds)| kinds)
            .cloned()
            .collect();
        let custom = self.core.registry.custom();
        let same = custom.kinds.iter().count() == kinds.len()
            && custom.kinds.iter().zip(&kinds).all(|(one, other)| Arc::ptr_eq(one, other));
        if !same {
            self.core.registry.replace_custom(kinds);
            self.core.extensions.wake();
        }
    }

    async fn announce(&mut self) {
        let custom = self.core.registry.custom();
        self.announced.update(&self.client, &custom).await;
    }

    async fn settle_all(&mut self) {
        let groups: HashSet<String> =
            self.known.values().map(|known| object::text(&known.crd, &["spec", "group"]).to_owned()).collect();
        for group in groups {
            self.settle(&group).await;
        }
    }

    /// Brings the status of each definition of a group up to date, and ends those that are to end.
    async fn settle(&mut self, group: &str) {
        let names: Vec<String> = self
            .known
            .iter()
            .filter(|(_, known)| object::text(&known.crd, &["spec", "group"]) == group)
            .map(|(name, _)| name.clone())
            .collect();
        for name in &names {
            let Some(crd) = self.known.get(name).map(|known| known.crd.clone()) else { continue };
            if object::is_terminating(&crd) {
                self.end(name, &crd);
                continue;
            }
            let others = names.iter().filter(|other| *other != name).filter_map(|other| self.known.get(other));
            let Some(status) = naming::plan(&crd, others.map(|known| &known.crd), clock::now()) else { continue };
            let mut planned = crd;
            object::set(&mut planned, &[], "status", status);
            // Served before it says so.
            self.take(planned.clone());
            self.publish();
            let path = format!("/apis/{}/v1/{}/{name}/status", DEFINITIONS.0, DEFINITIONS.1);
            if let Err(error) = send(&self.client, "PUT", &path, &planned).await
                && !matches!(error.code, 404 | 409)
            {
                tracing::warn!(name, %error, "the status of a custom resource definition could not be written");
            }
        }
    }

    fn end(&self, name: &str, crd: &Value) {
        if !object::finalizers(crd).contains(&finalize::FINALIZER) || !self.ending.lock().insert(name.to_owned()) {
            return;
        }
        let (core, client, ending) = (Arc::clone(&self.core), self.client.clone(), Arc::clone(&self.ending));
        let (name, crd) = (name.to_owned(), crd.clone());
        tokio::spawn(async move {
            let drain = core.drain.clone();
            drain.run_until_cancelled(finalize::end(&core, &client, &crd)).await;
            ending.lock().remove(&name);
        });
    }
}

/// Whether objects of a definition are served.
fn is_served(crd: &Value) -> bool {
    has_condition(crd, "NamesAccepted") || has_condition(crd, "Established")
}

/// All of a definition that matters for what it serves.
fn source_of(crd: &Value) -> Value {
    let names = object::at(crd, &["status", "acceptedNames"]).cloned().unwrap_or_default();
    let spec = crd.get("spec").cloned().unwrap_or_default();
    serde_json::json!([object::uid(crd), spec, names, has_condition(crd, "Terminating")])
}

/// Sends a request as this server, by the same door as everybody's.
pub(super) async fn send(client: &kube::Client, method: &str, path: &str, body: &Value) -> Result<Value, ApiError> {
    let failed = |why: String| ApiError::internal(format!("{method} {path}: {why}"));
    let bytes =
        if body.is_null() { Vec::new() } else { serde_json::to_vec(body).map_err(|why| failed(why.to_string()))? };
    let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, media)
        .header(http::header::USER_AGENT, "kube-apiserver")
        .body(bytes)
        .map_err(|error| failed(error.to_string()))?;
    match client.request::<Value>(request).await {
        Ok(value) => Ok(value),
        Err(kube::Error::Api(status)) => Err(ApiError::new(status.code, &status.reason, status.message.clone())),
        Err(error) => Err(failed(error.to_string())),
    }
}
