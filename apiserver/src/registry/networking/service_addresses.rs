//! The IPAddresses of Services: each address that a Service has is told of by one object, which names the Service.
//!
//! What follows a write does not do what the write asks for, it looks at what is so by then; and of one address there is one
//! look at a time. Whatever order the looks come in, the last one sees how things are in the end.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use martello_api::status::ApiError;
use serde_json::{Value, json};

use crate::{
    registry::{Kind, object},
    server::{Core, bootstrap, followup},
};

const PATH: &str = "/apis/networking.k8s.io/v1/ipaddresses";
/// Who keeps an IPAddress, as its label says; those of others are theirs.
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGER: &str = "ipallocator.k8s.io";

/// Follows a write of a Service.
pub fn follow(core: &Arc<Core>, service: Option<&Value>, old: Option<&Value>) {
    let address =
        |service: Option<&Value>| -> Option<Ipv4Addr> { object::text(service?, &["spec", "clusterIP"]).parse().ok() };
    let (now, before) = (address(service), address(old));
    if now != before {
        now.into_iter().chain(before).for_each(|address| settle_later(core, address));
    }
}

/// Notes what an IPAddress tells since this revision: one that somebody else keeps takes the address from all Services to come.
pub fn learn(core: &Core, told: &Value, is_there: bool, revision: u64) {
    if let Ok(address) = object::name(told).parse() {
        core.services.reserve(address, is_there && !is_managed(told), revision);
    }
}

/// Follows the end of an IPAddress: where a Service still has the address, one is made that tells so.
pub fn follow_end(core: &Arc<Core>, gone: &Value) {
    if let Ok(address) = object::name(gone).parse() {
        settle_later(core, address);
    }
}

/// Looks at all addresses, as a start does: a former one may have been broken off between a Service and its IPAddress.
pub fn mend(core: &Arc<Core>) {
    let core = Arc::clone(core);
    followup::spawn("look at the addresses of Services", "all", async move {
        let Some(kind) = kind(&core) else { return Ok(()) };
        let told = bootstrap::all(&core, kind).await?;
        let told =
            told.iter().filter(|told| is_managed(told)).filter_map(|told| object::name(told).parse::<Ipv4Addr>().ok());
        let mut addresses: BTreeSet<Ipv4Addr> = core.services.addresses().into_iter().collect();
        addresses.extend(told);
        for address in addresses {
            if let Err(error) = settle(&core, address).await {
                tracing::warn!(%address, %error, "the IPAddress of an address could not be mended");
            }
        }
        Ok(())
    });
}

fn settle_later(core: &Arc<Core>, address: Ipv4Addr) {
    let core = Arc::clone(core);
    followup::spawn(
        "tell whose a Service's address is",
        &address.to_string(),
        async move { settle(&core, address).await },
    );
}

fn kind(core: &Core) -> Option<&Arc<Kind>> {
    core.registry.find("networking.k8s.io", "v1", "ipaddresses")
}

fn is_managed(told: &Value) -> bool {
    object::at(told, &["metadata", "labels", MANAGED_BY]).and_then(Value::as_str) == Some(MANAGER)
}

/// Makes the object of an address tell what is so.
async fn settle(core: &Arc<Core>, address: Ipv4Addr) -> Result<(), ApiError> {
    let Some(kind) = kind(core) else { return Ok(()) };
    let _turn = core.services.turn(address).await;
    let parent = parent(core, address).await?;
    let client = core.own_client();
    let name = address.to_string();
    if let Some(entry) = core.find(kind, "", &name).await? {
        let told = core.value(kind, &entry).await?;
        if !is_managed(&told) || parent.as_ref().is_some_and(|parent| names(&told, parent)) {
            return Ok(());
        }
        // Not another one that bears the name by now.
        match followup::delete(&client, &format!("{PATH}/{name}?uid={}", entry.uid)).await {
            Err(error) if error.code != 404 => return Err(error),
            _ => {}
        }
    }
    let Some(parent) = parent else { return Ok(()) };
    let labels = json!({"ipaddress.kubernetes.io/ip-family": "IPv4", MANAGED_BY: MANAGER});
    let body = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {"name": name, "labels": labels}, "spec": {"parentRef": parent},
    });
    bootstrap::create(&client, PATH, &body).await
}

/// Whether an IPAddress names this parent.
fn names(told: &Value, parent: &Value) -> bool {
    let same = |key: &&str| object::text(told, &["spec", "parentRef", key]) == object::text(parent, &[key]);
    ["group", "resource", "namespace", "name"].iter().all(same)
}

/// The Service that is stored with this address, as an IPAddress names it.
async fn parent(core: &Core, address: Ipv4Addr) -> Result<Option<Value>, ApiError> {
    let Some(owner) = core.services.owner(address) else { return Ok(None) };
    let mut parts = owner.split('/');
    let (Some(namespace), Some(name), Some(uid)) = (parts.next(), parts.next(), parts.next()) else { return Ok(None) };
    let Some(services) = core.registry.find("", "v1", "services") else { return Ok(None) };
    // Given an address is not stored yet: that write is followed too.
    let stored = core.find(services, namespace, name).await?.filter(|entry| *entry.uid == *uid);
    let Some(entry) = stored else { return Ok(None) };
    let has = object::text(&core.value(services, &entry).await?, &["spec", "clusterIP"]) == address.to_string();
    Ok(has.then(|| json!({"group": "", "resource": "services", "namespace": namespace, "name": name})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_the_same_whether_its_empty_group_is_told_or_not() {
        let parent = json!({"group": "", "resource": "services", "namespace": "a", "name": "b"});
        let told = |parent: Value| json!({"spec": {"parentRef": parent}});
        assert!(names(&told(json!({"resource": "services", "namespace": "a", "name": "b"})), &parent));
        assert!(!names(&told(json!({"resource": "services", "namespace": "a", "name": "c"})), &parent));
        assert!(!names(&told(json!({"group": "x", "resource": "services", "namespace": "a", "name": "b"})), &parent));
    }

    #[test]
    fn only_what_the_server_keeps_is_its_own() {
        let told = |by: &str| json!({"metadata": {"labels": {MANAGED_BY: by}}});
        assert!(is_managed(&told(MANAGER)) && !is_managed(&told("me")) && !is_managed(&json!({})));
    }
}
