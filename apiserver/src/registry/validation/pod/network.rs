//! Names and name servers of pods.

use martello_api::status::Cause;
use serde_json::json;

use crate::registry::{
    networking::cidr,
    validation::{field::Field, text},
};

/// Most name servers, as resolvers take.
const MAX_SERVERS: usize = 3;
/// Most search domains.
const MAX_SEARCHES: usize = 32;
/// Most characters of all search domains together.
const MAX_SEARCH_CHARACTERS: usize = 2048;

/// Checks `dnsConfig`.
pub(super) fn dns_config(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let config = spec.at("dnsConfig");
    let alone = spec.str("dnsPolicy") == "None";
    if config.value.is_null() {
        if alone {
            config.required("must provide `dnsConfig` when `dnsPolicy` is None", causes);
        }
        return;
    }
    let (servers, searches) = (config.at("nameservers"), config.at("searches"));
    match config.count("nameservers") {
        0 if alone => {
            return servers.required("must provide at least one DNS nameserver when `dnsPolicy` is None", causes);
        }
        too_many if too_many > MAX_SERVERS => {
            servers.invalid(&format!("must not have more than {MAX_SERVERS} nameservers"), causes);
        }
        _ => {}
    }
    for server in config.items("nameservers") {
        server.check(cidr::strict_ip, causes);
    }
    if config.count("searches") > MAX_SEARCHES {
        searches.invalid(&format!("must not have more than {MAX_SEARCHES} search paths"), causes);
    }
    let all: Vec<&str> = config.items("searches").iter().map(Field::text).collect();
    if all.join(" ").len() > MAX_SEARCH_CHARACTERS {
        let why =
            format!("must not have more than {MAX_SEARCH_CHARACTERS} characters (including spaces) in the search list");
        searches.invalid(&why, causes);
    }
    for search in config.items("searches").iter().filter(|search| search.text() != ".") {
        let name = search.text().strip_suffix('.').unwrap_or(search.text());
        for fault in text::dns1123_subdomain_with_underscore(name) {
            causes.push(Cause::invalid(search.path.as_str(), &json!(name), &fault));
        }
    }
    for option in config.items("options").iter().filter(|option| option.str("name").is_empty()) {
        option.required("must not be empty", causes);
    }
}

/// Checks names that are put into `/etc/hosts`.
pub(super) fn host_aliases(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    for alias in spec.items("hostAliases") {
        alias.at("ip").check(cidr::strict_ip, causes);
        for name in alias.items("hostnames") {
            name.check(text::dns1123_subdomain, causes);
        }
    }
}
