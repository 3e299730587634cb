//! Looks after what all pods lean on: the keeper, which answers their names, and the uplink, their way out. Either may
//! die without the agent; a pod must not have to wait for an agent's restart to have them back.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::keeper::Keeper;
use crate::keeper::protocol::Request as Ask;
use crate::network::{DnsTable, NetworkConfig, ServiceTable, uplink};

/// How often both are looked at: a resolver asks again after five seconds.
const LOOK: Duration = Duration::from_secs(2);

/// What a new keeper has to be told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) network: NetworkConfig,
    pub(super) tables: Mutex<Tables>,
    /// Whether a new keeper was not told everything yet: it may fail at any of the steps, and is told again then.
    pub(super) owed: AtomicBool,
}

/// What the keeper was told last of the cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    pub(super) services: Option<ServiceTable>,
    pub(super) names: Option<DnsTable>,
}

/// Looks after both until the last other holder of `told` is gone.
pub(super) async fn guard(keeper: Keeper, told: Arc<Told>) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failure = String::new();
    while Arc::strong_count(&told) > 1 {
        looks.tick().await;
        let (keeper, told) = (keeper.clone(), Arc::clone(&told));
        let looked = tokio::task::spawn_blocking(move || look(&keeper, &told)).await;
        let now = match looked.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        // The same failure is told once, not every two seconds.
        if now != failure && !now.is_empty() {
            tracing::error!(error = now, "what pods lean on has died and does not come back");
        }
        failure = now;
    }
}

fn look(keeper: &Keeper, told: &Told) -> io::Result<()> {
    if keeper.revive()? {
        tracing::warn!("the keeper had died; another has taken its place");
        told.owed.store(true, Ordering::Relaxed);
    }
    if told.owed.load(Ordering::Relaxed) {
        keeper.ask(&Ask::Network(told.network.clone()), "set up the pod network")?;
        let Tables { services, names } = told.tables.lock().clone();
        if let Some(services) = services {
            keeper.ask(&Ask::Services(services), "load the services")?;
        }
        if let Some(names) = names {
            keeper.ask(&Ask::Names(names), "load the cluster's names")?;
        }
        told.owed.store(false, Ordering::Relaxed);
    }
    if !uplink::is_served(keeper.state_dir()) {
        uplink::ensure(keeper.state_dir(), keeper.anchor())?;
        tracing::warn!("the way out of the pod network had died; it is served again");
    }
    Ok(())
}
