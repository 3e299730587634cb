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
    tell(keeper.revive()?, told, |request, attempt| keeper.ask(&request, attempt).map(drop))?;
    if !uplink::is_served(keeper.state_dir()) {
        uplink::ensure(keeper.state_dir(), keeper.anchor())?;
        tracing::warn!("the way out of the pod network had died; it is served again");
    }
    Ok(())
}

/// Tells a keeper that is `new` all that it has to know, or what one before this look was not told.
fn tell(new: bool, told: &Told, ask: impl Fn(Ask, &'static str) -> io::Result<()>) -> io::Result<()> {
    if new {
        tracing::warn!("the keeper had died; another has taken its place");
        told.owed.store(true, Ordering::Relaxed);
    }
    if !told.owed.load(Ordering::Relaxed) {
        return Ok(());
    }
    ask(Ask::Network(told.network.clone()), "set up the pod network")?;
    let Tables { services, names } = told.tables.lock().clone();
    if let Some(services) = services {
        ask(Ask::Services(services), "load the services")?;
    }
    if let Some(names) = names {
        ask(Ask::Names(names), "load the cluster's names")?;
    }
    told.owed.store(false, Ordering::Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn told() -> Told {
        let network = NetworkConfig {
            pod_cidr: "10.244.7.0/24".parse().unwrap(),
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            dns_ip: "10.96.0.10".parse().unwrap(),
            api_service: ("10.96.0.1".parse().unwrap(), 443),
            api_server: "127.0.0.1:6443".parse().unwrap(),
            upstream_dns: Vec::new(),
        };
        let tables = Tables { services: Some(ServiceTable::default()), names: Some(DnsTable::default()) };
        Told { network, tables: Mutex::new(tables), owed: AtomicBool::new(false) }
    }

    /// What a keeper is told at a look, when it fails at one of the steps.
    fn look(told: &Told, new: bool, fails_at: Option<usize>) -> (Vec<&'static str>, bool) {
        let asked = RefCell::new(Vec::new());
        let result = tell(new, told, |request, _| {
            asked.borrow_mut().push(match request {
                Ask::Network(_) => "network",
                Ask::Services(_) => "services",
                Ask::Names(_) => "names",
                other => panic!("{other:?} is nothing to be told"),
            });
            if fails_at == Some(asked.borrow().len()) { Err(io::Error::other("the disk is full")) } else { Ok(()) }
        });
        (asked.into_inner(), result.is_ok())
    }

    #[test]
    fn a_new_keeper_that_failed_at_any_step_is_told_everything_again() {
        const ALL: [&str; 3] = ["network", "services", "names"];
        for step in 1..=ALL.len() {
            let told = told();
            assert_eq!(look(&told, true, Some(step)), (ALL[..step].to_vec(), false));
            assert_eq!(look(&told, false, Some(1)), (vec!["network"], false), "it fails again");
            assert_eq!(look(&told, false, None), (ALL.to_vec(), true), "after a failure at step {step}");
            assert_eq!(look(&told, false, None), (vec![], true), "once is enough");
        }
    }

    #[test]
    fn a_keeper_that_lives_is_told_nothing_again() {
        assert_eq!(look(&told(), false, None), (vec![], true));
    }
}
