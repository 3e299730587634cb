//! What holds for the status of claims: what was given, and to whom.

use martello_api::status::Cause;
use serde_json::{Value, json};

use super::{
    claim_rules::{Requests, configuration, references},
    lists::{driver, each, pool, raw, set, uid},
};
use crate::registry::{
    networking::cidr,
    object,
    validation::{condition, field::Field, internal, pod::affinity::node_selector, text},
};

const MAX_CONSUMERS: usize = 256;
const MAX_RESULTS: usize = 32;
/// Of the class and of the claim.
const MAX_CONFIG: usize = 64;
const MAX_BINDING_CONDITIONS: usize = 4;
const MAX_STATUS_CONDITIONS: usize = 8;
const MAX_DATA_BYTES: usize = 10 * 1024;
const MAX_ADDRESSES: usize = 16;
const MAX_INTERFACE_BYTES: usize = 256;
const MAX_HARDWARE_BYTES: usize = 128;
const ALLOCATION: &str = "io.k8s.api.resource.v1.AllocationResult";

/// Checks the status of a claim against what it was.
pub fn check(claim: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let whole = Field::new(claim, "");
    let (spec, status) = (whole.at("spec"), whole.at("status"));
    let names = Requests::of(&spec);
    set(&status, "reservedFor", MAX_CONSUMERS, causes, consumer, |one| json!(one.str("uid")));
    let allocation = status.get("allocation");
    let given: Vec<[&str; 4]> =
        allocation.iter().flat_map(|one| one.at("devices").items("results")).map(|one| identity(&one)).collect();
    set(
        &status,
        "devices",
        usize::MAX,
        causes,
        |device, causes| device_status(device, &given, causes),
        |device| shown_identity(&identity(device)),
    );
    let reserved = status.at("reservedFor");
    if status.count("reservedFor") > 0 {
        if allocation.is_none() {
            reserved.forbidden("may not be specified when `allocated` is not set", causes);
        } else if object::is_terminating(claim) {
            let before = object::list(old, &["status", "reservedFor"]);
            if status.items("reservedFor").iter().any(|one| !before.contains(one.value)) {
                let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
                reserved.forbidden(why, causes);
            }
        }
    }
    let before = object::at(old, &["status", "allocation"]).filter(|one| !one.is_null());
    match (allocation, before) {
        (Some(new), Some(old)) if !object::same_of(ALLOCATION, Some(new.value), Some(old)) => {
            let shown = internal::of(ALLOCATION, new.value);
            causes.push(Cause::invalid(new.path, &shown, "field is immutable"));
        }
        (Some(new), None) => allocated(&new, &names, causes),
        _ => {}
    }
}

fn consumer(consumer: &Field<'_>, causes: &mut Vec<Cause>) {
    for key in ["resource", "name", "uid"] {
        consumer.at(key).needs_text(causes);
    }
}

fn identity<'a>(device: &Field<'a>) -> [&'a str; 4] {
    ["driver", "pool", "device", "shareID"].map(|key| object::text(device.value, &[key]))
}

fn shown_identity([driver, pool, device, share]: &[&str; 4]) -> Value {
    json!({"Driver": driver, "Pool": pool, "Device": device, "ShareID": share})
}

fn allocated(allocation: &Field<'_>, names: &Requests, causes: &mut Vec<Cause>) {
    let devices = allocation.at("devices");
    each(&devices, "results", MAX_RESULTS, causes, |result, causes| {
        names.check(&result.at("request"), causes);
        device(result, causes);
        binding_conditions(result, causes);
        share(result, causes);
    });
    each(&devices, "config", MAX_CONFIG, causes, |config, causes| {
        config.at("source").needs_one_of(&["FromClaim", "FromClass"], causes);
        references(config, names, causes);
        configuration(config, false, causes);
    });
    if let Some(selector) = allocation.get("nodeSelector") {
        node_selector(&selector, causes);
    }
}

fn device(device: &Field<'_>, causes: &mut Vec<Cause>) {
    driver(&device.at("driver"), causes);
    pool(&device.at("pool"), causes);
    device.at("device").check(text::dns1123_label, causes);
}

fn share(device: &Field<'_>, causes: &mut Vec<Cause>) {
    if let Some(share) = device.get("shareID") {
        share.check(uid, causes);
    }
}

/// Drops what is told of devices that were given, and are not any more.
pub fn forget_devices(claim: &mut Value, old: &Value) {
    let given = |claim: &Value| -> Vec<[String; 4]> {
        let results = object::list(claim, &["status", "allocation", "devices", "results"]);
        results.iter().map(|one| identity(&Field::new(one, "")).map(str::to_owned)).collect()
    };
    let (before, now) = (given(old), given(&*claim));
    let Some(devices) = object::list_mut(claim, &["status", "devices"]) else { return };
    devices.retain(|device| {
        let own = identity(&Field::new(device, "")).map(str::to_owned);
        !before.contains(&own) || now.contains(&own)
    });
    if devices.is_empty() {
        object::remove(claim, &["status"], "devices");
    }
}

/// Checks the conditions under which a device counts as bound.
pub(super) fn binding_conditions(owner: &Field<'_>, causes: &mut Vec<Cause>) {
    const KEYS: [&str; 2] = ["bindingConditions", "bindingFailureConditions"];
    for key in KEYS {
        each(owner, key, MAX_BINDING_CONDITIONS, causes, |one, causes| one.check(text::label_key, causes));
    }
    let (good, bad) = (owner.items("bindingConditions"), owner.items("bindingFailureConditions"));
    for list in [&good, &bad] {
        for (index, one) in list.iter().enumerate() {
            if list.iter().take(index).any(|other| other.text() == one.text()) {
                one.duplicate(causes);
            }
            if std::ptr::eq(list, &bad) && good.iter().any(|other| other.text() == one.text()) {
                one.invalid("bindingFailureConditions must not overlap with bindingConditions", causes);
            }
        }
    }
    for (list, other, [missing, there]) in
        [(&good, &bad, KEYS), (&bad, &good, ["bindingFailureConditions", "bindingConditions"])]
    {
        if list.is_empty() && !other.is_empty() {
            owner.at(missing).invalid(&format!("{missing} are required to use {there}"), causes);
        }
    }
}

fn device_status(status: &Field<'_>, given: &[[&str; 4]], causes: &mut Vec<Cause>) {
    device(status, causes);
    share(status, causes);
    let own = identity(status);
    if !given.contains(&own) {
        let why = "must be an allocated device in the claim";
        causes.push(Cause::invalid(status.path.as_str(), &shown_identity(&own), why));
    }
    if status.count("conditions") > MAX_STATUS_CONDITIONS {
        status.at("conditions").too_many(status.count("conditions"), MAX_STATUS_CONDITIONS, causes);
    }
    condition::check(status, causes);
    let data = status.at("data");
    if !data.value.is_null() {
        raw(&data, MAX_DATA_BYTES, causes);
    }
    if let Some(network) = status.get("networkData") {
        for (key, limit) in [("interfaceName", MAX_INTERFACE_BYTES), ("hardwareAddress", MAX_HARDWARE_BYTES)] {
            if network.str(key).len() > limit {
                causes.push(Cause::too_long(network.at(key).path, limit));
            }
        }
        set(&network, "ips", MAX_ADDRESSES, causes, interface_address, |one| json!(one.text()));
    }
}

/// An address with the length of its network, in canonical form.
fn interface_address(address: &Field<'_>, causes: &mut Vec<Cause>) {
    const WHY: &str = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
    match canonical(address.text()) {
        None => address.invalid(WHY, causes),
        Some(better) if better != address.text() => {
            address.invalid(&format!("must be in canonical form ({better:?})"), causes);
        }
        Some(_) => {}
    }
}

/// An address with the length of its network as it is best written; nothing of what is none.
fn canonical(text: &str) -> Option<String> {
    const V4_BITS: u8 = 32;
    const V6_BITS: u8 = 128;
    let (ip, length) = text.split_once('/')?;
    let most = if ip.contains(':') { V6_BITS } else { V4_BITS };
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let length = length.parse::<u8>().ok().filter(|length| digits && *length <= most)?;
    let ip = cidr::any_ip(ip)?.to_canonical();
    // Of an address that is mapped into the larger room the length is, too.
    let length = if ip.is_ipv4() && length > V4_BITS { length.saturating_sub(V6_BITS - V4_BITS) } else { length };
    Some(format!("{ip}/{length}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_lengths_are_written_in_one_way() {
        let of = |text: &str| canonical(text).unwrap_or_default();
        assert_eq!(of("10.9.8.7/24"), "10.9.8.7/24");
        assert_eq!(of("010.9.8.7/024"), "10.9.8.7/24");
        assert_eq!(of("2001:DB8:0::1/64"), "2001:db8::1/64");
        assert_eq!(of("::ffff:192.168.0.1/120"), "192.168.0.1/24");
        for bad in ["10.9.8.7", "10.9.8.7/33", "10.9.8.7/+1", "10.9.8.7/", "::1/129", "x/1"] {
            assert_eq!(canonical(bad), None, "{bad}");
        }
    }

    #[test]
    fn devices_that_are_not_given_any_more_are_forgotten() {
        let device = |name: &str| json!({"driver": "d", "pool": "p", "device": name});
        let claim = |given: &[&str], told: &[&str]| {
            let [given, told] = [given, told].map(|names| names.iter().map(|name| device(name)).collect::<Vec<_>>());
            json!({"status": {"allocation": {"devices": {"results": given}}, "devices": told}})
        };
        let old = claim(&["a", "b"], &["a", "b"]);
        let mut new = claim(&["a"], &["a", "b"]);
        forget_devices(&mut new, &old);
        assert_eq!(new, claim(&["a"], &["a"]));
        let mut none = json!({"status": {"devices": [device("a")]}});
        forget_devices(&mut none, &old);
        assert_eq!(none, json!({"status": {}}));
    }
}
