//! The behaviours that Kubernetes' conformance suite asks of an API server and of the controllers beside it.
//! `docs/conformance.md` tells which fact here stands for which of its tests. The facts of an area share one server and
//! are looked at all at once, each in a namespace of its own.

mod access;
mod admission;
mod clients;
mod customs;
mod defaults;
mod extended;
mod judged;
mod kinds;
mod kubelet;
mod machinery;
mod pods;
mod policies;
mod quotas;
mod races;
mod reinvocation;
pub(crate) mod server;
mod services;
mod watchers;
mod workloads;

pub(crate) use server::Server;

/// Waits for facts that run at the same time, and names those that don't hold.
pub(crate) async fn all(facts: Vec<(&'static str, tokio::task::JoinHandle<()>)>) {
    let mut broken = Vec::new();
    for (name, fact) in facts {
        if fact.await.is_err() {
            broken.push(name);
        }
    }
    assert!(broken.is_empty(), "these facts don't hold: {broken:?}");
}

/// Looks at facts of one server at the same time.
macro_rules! facts {
    ($server:expr; $($fact:ident),+ $(,)?) => {
        $crate::conformance::all(vec![$((stringify!($fact), tokio::spawn($fact($server.clone())))),+]).await
    };
}
pub(crate) use facts;
