//! The server: put together from its parts, served over TLS, and reachable in-process by the same door.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use ipnet::Ipv4Net;
use martello_api::{identity::User, status::ApiError};
use martello_kms::Kms;
use martello_pki::{Pki, identity::Identity};
use martello_policy::Authorizer;
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Metrics,
    registry::{Registry, versions::RuntimeConfig},
    store::Store,
};

pub mod account_tokens;
pub mod audit;
pub mod backends;
pub mod bootstrap;
mod callers;
mod expiry;
pub mod extensions;
pub mod followup;
mod http1;
mod inprocess;
mod listener;
mod local;
pub mod nodes;
pub mod sealer;
pub mod services;
pub mod signers;
mod unsettled;
mod unused_tokens;

pub use callers::{Busy, Visit};
pub use listener::ServeError;
pub use local::LocalError;
pub use nodes::{DialError, NodeDialer, NodeIo};
pub use unsettled::Unsettled;

/// What a server is made of.
pub struct Config {
    /// Where objects are kept.
    pub store: Arc<dyn Store>,
    /// Who may do what. The server keeps it up to date with what is committed.
    pub authorizer: Authorizer,
    /// The keys that objects are sealed with.
    pub kms: Kms,
    /// Authorities and tokens.
    pub pki: Pki,
    /// The record of every request.
    pub audit: audit::Audit,
    /// The way to the agents of nodes.
    pub nodes: Arc<dyn NodeDialer>,
    /// Addresses of Services.
    pub service_network: Ipv4Net,
    /// First and last port of Services on nodes.
    pub node_ports: (u16, u16),
    /// Where pods and nodes reach this server.
    pub advertise: (IpAddr, u16),
    /// Version of the product, for `/version`.
    pub product_version: String,
    /// The server's own certificate as it is renewed, for its status.
    pub identity: Option<Identity>,
    /// What was asked for that is weaker than the default, for its status.
    pub weaker_settings: Vec<String>,
    /// Which versions are served.
    pub runtime_config: RuntimeConfig,
    /// How long events last after they were last written; none keeps them.
    pub event_ttl: Option<Duration>,
}

/// An API server. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    core: Arc<Core>,
    event_ttl: Option<Duration>,
}

/// What all requests share.
pub struct Core {
    /// Where objects are kept.
    pub store: Arc<dyn Store>,
    /// Every kind that is served.
    pub registry: Registry,
    /// Who may do what.
    pub authorizer: Authorizer,
    /// What seals and opens objects.
    pub sealer: sealer::Sealer,
    /// Authorities and tokens.
    pub pki: Pki,
    /// The record of every request.
    pub audit: audit::Audit,
    /// The way to the agents of nodes.
    pub nodes: Arc<dyn NodeDialer>,
    /// Addresses and ports of Services.
    pub services: services::Allocator,
    /// Which namespaces have quotas, and whose turn it is to charge them.
    pub quotas: crate::admission::quota::Book,
    /// Who else serves groups.
    pub extensions: extensions::Extensions,
    /// Who else knows users.
    pub foreign: std::sync::OnceLock<crate::authn::foreign::Foreign>,
    /// Who shows a client certificate.
    pub users: crate::authn::shared::SharedUsers,
    /// Who is served first.
    pub flow: crate::flow::FlowControl,
    /// Policies and webhooks that users configured.
    pub hooks: crate::admission::dynamic::Hooks,
    /// Discovery and OpenAPI.
    pub published: crate::http::documents::Published,
    /// Changes that the authorizer may not know of yet.
    pub unsettled: Arc<Unsettled>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the server is to end: streams end in good order.
    pub drain: CancellationToken,
    /// Where pods and nodes reach this server.
    pub advertise: (IpAddr, u16),
    /// Version of the product.
    pub product_version: String,
    /// The server's own certificate as it is renewed.
    pub identity: Option<Identity>,
    /// What was asked for that is weaker than the default.
    pub weaker_settings: Vec<String>,
    /// Set when everything that a start does is done.
    pub ready: std::sync::atomic::AtomicBool,
}

impl Server {
    /// Puts a server together. It serves, but is not ready until [`Server::start`] is through.
    #[must_use]
    pub fn build(config: Config) -> Self {
        let registry = Registry::serving(&config.runtime_config);
        let mut weaker_settings = config.weaker_settings;
        weaker_settings.extend(registry.beyond_default().map(|resource| {
            let version = resource.gvk.api_version();
            format!("{version}/{} is served, though that version is no stable one (--runtime-config)", resource.plural)
        }));
        let metrics = Metrics::new();
        let core = Core {
            store: config.store,
            registry,
            authorizer: config.authorizer,
            sealer: sealer::Sealer::new(config.kms),
            pki: config.pki,
            audit: config.audit,
            nodes: config.nodes,
            services: services::Allocator::new(config.service_network, config.node_ports),
            quotas: crate::admission::quota::Book::default(),
            extensions: extensions::Extensions::default(),
            foreign: std::sync::OnceLock::new(),
            users: crate::authn::shared::SharedUsers::default(),
            flow: crate::flow::FlowControl::new(metrics.flow.clone()),
            hooks: crate::admission::dynamic::Hooks::default(),
            published: crate::http::documents::Published::default(),
            unsettled: Arc::default(),
            metrics,
            drain: CancellationToken::new(),
            advertise: config.advertise,
            product_version: config.product_version,
            identity: config.identity,
            weaker_settings,
            ready: std::sync::atomic::AtomicBool::new(false),
        };
        Self { core: Arc::new(core), event_ttl: config.event_ttl }
    }

    /// Learns what the store holds (roles, pods, addresses), and makes what every cluster has. Then the server is ready.
    pub async fn start(&self) -> Result<(), ApiError> {
        self.core.extensions.open(&self.core, martello_api::clock::now());
        bootstrap::learn(&self.core).await?;
        let definitions = crate::crd::follow::Follower::learn(self).await?;
        tokio::spawn(definitions.run());
        crate::admission::quota::learn(&self.core).await?;
        let shutdown = self.core.drain.clone();
        tokio::spawn(crate::admission::quota::run(Arc::clone(&self.core), shutdown));
        crate::admission::dynamic::learn(&self.core).await?;
        crate::admission::dynamic::follow(&self.core);
        tokio::spawn(crate::admission::dynamic::check_types(self.clone()));
        bootstrap::ensure(self).await?;
        crate::registry::networking::service_addresses::mend(&self.core);
        tokio::spawn(extensions::look_after(Arc::clone(&self.core)));
        tokio::spawn(account_tokens::look_after(Arc::clone(&self.core)));
        if let Some(ttl) = self.event_ttl {
            tokio::spawn(expiry::end_events(Arc::clone(&self.core), ttl));
        }
        tokio::spawn(crate::flow::upkeep::look_after(Arc::clone(&self.core)));
        self.core.ready.store(true, std::sync::atomic::Ordering::Release);
        crate::flow::condition::follow_all(&self.core);
        Ok(())
    }

    /// Lets others, too, say who somebody is. It is said once, before the first request.
    pub fn recognize(&self, foreign: crate::authn::foreign::Foreign) {
        if self.core.foreign.set(foreign).is_err() {
            tracing::error!("who else knows users was said already; what was said now does not count");
        }
        let (host, port) = self.core.advertise;
        let record = self.core.metrics.authentication.of_server(&std::net::SocketAddr::new(host, port).to_string());
        if let Some(foreign) = self.core.foreign.get() {
            foreign.begin(&record, &self.core.drain);
        }
    }

    /// What all requests share.
    #[must_use]
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// A client of this server in this process, as `user`: it meets the same authorization, admission and audit.
    #[must_use]
    pub fn client(&self, user: User) -> kube::Client {
        kube::Client::new(inprocess::InProcess::new(Arc::clone(&self.core), user), "default")
    }

    /// Figures in Prometheus' text form.
    #[must_use]
    pub fn metrics(&self) -> Bytes {
        self.core.metrics.render(&self.core.store.status()).into()
    }
}
