//! StorageVersions: in which version each API server stores a resource.

use std::collections::HashMap;

use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use crate::registry::{
    kind::{Cell, Column, NameRule, Strategy, resource},
    object, table,
    validation::{
        field::Field,
        text::{self, Faults},
    },
};

/// StorageVersions.
pub struct StorageVersions;

/// Most servers that a cell of a Table names.
const MAX_SHOWN: usize = 3;

impl Strategy for StorageVersions {
    fn resource(&self) -> Resource {
        resource("internal.apiserver.k8s.io", "v1alpha1", "StorageVersion", "storageversions")
            .cluster_scoped()
            .status()
            .build()
    }

    fn name_rule(&self) -> NameRule {
        NameRule::GroupResource
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn reset_fields(&self, _subresource: &str) -> Option<&'static [&'static [&'static str]]> {
        Some(&[])
    }

    fn default(&self, object: &mut Value) {
        object::set_default(object, &[], "spec", json!({}));
    }

    fn validate_status(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        check_status(&Field::new(object, "").at("status"), causes);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 4] = [
            Column::name(),
            Column::text("CommonEncodingVersion", "status.commonEncodingVersion"),
            Column::text("StorageVersions", "status.storageVersions"),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let common = object::at(object, &["status", "commonEncodingVersion"]).and_then(Value::as_str);
        vec![
            object::name(object).into(),
            common.unwrap_or("<unset>").into(),
            shown(object::list(object, &["status", "storageVersions"])).into(),
            table::age(object),
        ]
    }
}

fn shown(servers: &[Value]) -> String {
    let one = |server: &Value| {
        format!("{}={}", object::text(server, &["apiServerID"]), object::text(server, &["encodingVersion"]))
    };
    let list = servers.iter().take(MAX_SHOWN).map(one).collect::<Vec<_>>().join(",");
    match servers.len() {
        0 => "<unset>".to_owned(),
        count if count > MAX_SHOWN => format!("{list} + {} more...", count - MAX_SHOWN),
        _ => list,
    }
}

/// What is wrong with a name: it is `group.resource`.
#[must_use]
pub fn name_faults(name: &str) -> Faults {
    let Some((group, plural)) = name.rsplit_once('.') else {
        return vec!["name must be in the form of <group>.<resource>".to_owned()];
    };
    let of_group = text::dns1123_subdomain(group).into_iter().map(|fault| format!("the group segment {fault}"));
    let of_plural = text::dns1035_label(plural).into_iter().map(|fault| format!("the resource segment {fault}"));
    of_group.chain(of_plural).collect()
}

fn check_status(status: &Field<'_>, causes: &mut Vec<Cause>) {
    let servers = status.items("storageVersions");
    let mut seen: Vec<&str> = Vec::new();
    for server in &servers {
        let id = server.at("apiServerID");
        if seen.contains(&id.text()) {
            id.duplicate(causes);
        }
        seen.push(id.text());
        check_server(server, causes);
    }
    check_common(status, &servers, causes);
    check_conditions(status, causes);
}

fn check_server(server: &Field<'_>, causes: &mut Vec<Cause>) {
    server.at("apiServerID").check(text::dns1123_subdomain, causes);
    let stored = server.at("encodingVersion");
    check_version(&stored, causes);
    let readable = server.items("decodableVersions");
    readable.iter().for_each(|version| check_version(version, causes));
    let reads = |wanted: &str| readable.iter().any(|version| version.text() == wanted);
    if !reads(stored.text()) {
        let why = format!("decodableVersions must include encodingVersion {}", stored.text());
        server.at("decodableVersions").invalid(&why, causes);
    }
    for version in server.items("servedVersions") {
        check_version(&version, causes);
        if !reads(version.text()) {
            let all: Vec<&str> = readable.iter().map(Field::text).collect();
            let why = format!(
                "individual served version : {} must be included in decodableVersions : [{}]",
                version.text(),
                all.join(" ")
            );
            version.invalid(&why, causes);
        }
    }
}

fn check_version(version: &Field<'_>, causes: &mut Vec<Cause>) {
    let faults = version_faults(version.text());
    if !faults.is_empty() {
        causes.push(Cause::invalid(version.path.as_str(), &json!(version.text()), &faults.join(",")));
    }
}

/// What is wrong with an `apiVersion`: `version` or `group/version`.
fn version_faults(text: &str) -> Faults {
    const MANY: &str = "an apiVersion is a DNS-1035 label, which must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyVersion')";
    let part = |what: &str, text: &str, rule: fn(&str) -> Faults| -> Faults {
        let faults = if text.is_empty() { vec!["must be non-empty".to_owned()] } else { rule(text) };
        faults.into_iter().map(|fault| format!("{what} part: {fault}")).collect()
    };
    match text.split('/').collect::<Vec<_>>().as_slice() {
        [version] => part("version", version, text::dns1035_label),
        [group, version] => {
            let mut faults = part("group", group, text::dns1123_subdomain);
            faults.extend(part("version", version, text::dns1035_label));
            faults
        }
        _ => vec![MANY.to_owned()],
    }
}

fn check_common(status: &Field<'_>, servers: &[Field<'_>], causes: &mut Vec<Cause>) {
    let told = status.at("commonEncodingVersion");
    let first = servers.first().map(|server| server.str("encodingVersion"));
    let common = first.filter(|first| servers.iter().all(|server| server.str("encodingVersion") == *first));
    match (common, told.value.as_str()) {
        (None, Some(_)) => told.invalid(
            "should be nil if servers do not agree on the same encoding version, or if there is no server reporting the supported versions yet",
            causes,
        ),
        (Some(common), None) => told.invalid(&format!("the common encoding version is {common}"), causes),
        (Some(common), Some(own)) if common != own => {
            told.invalid(&format!("the actual common encoding version is {common}"), causes);
        }
        _ => {}
    }
}

fn check_conditions(status: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, condition) in status.items("conditions").iter().enumerate() {
        // Upstream leaves out under which field the conditions are.
        let condition = Field::new(condition.value, format!("status[{index}]"));
        let kind = condition.at("type");
        if let Some(first) = seen.insert(kind.text(), index) {
            let why = format!("the type of the condition is not unique, it also appears in conditions[{first}]");
            kind.invalid(&why, causes);
        }
        kind.check(text::qualified_name, causes);
        condition.at("status").check(text::qualified_name, causes);
        for key in ["reason", "message"] {
            if condition.str(key).is_empty() {
                condition.at(key).required(&format!("{key} cannot be empty"), causes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(status: Value) -> Vec<String> {
        let mut causes = Vec::new();
        check_status(&Field::new(&status, "status"), &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn the_common_version_is_that_of_all_servers() {
        let server = |id: &str, version: &str| json!({"apiServerID": id, "encodingVersion": version, "decodableVersions": ["v1", "v2"]});
        assert!(faults(json!({})).is_empty());
        assert!(faults(json!({"commonEncodingVersion": "v1", "storageVersions": [server("a", "v1")]})).is_empty());
        assert_eq!(
            faults(json!({"storageVersions": [server("a", "v1"), server("a", "v1")]})),
            [
                "status.storageVersions[1].apiServerID: Duplicate value: \"a\"",
                "status.commonEncodingVersion: Invalid value: null: the common encoding version is v1",
            ]
        );
        let split = json!({"commonEncodingVersion": "v1", "storageVersions": [server("a", "v1"), server("b", "v2")]});
        assert!(faults(split)[0].contains("should be nil if servers do not agree"));
    }

    #[test]
    fn a_server_reads_what_it_stores_and_serves() {
        let server = json!({"apiServerID": "a", "encodingVersion": "g/v1", "decodableVersions": ["g/v2", "a/b/c"],
            "servedVersions": ["g/v3"]});
        let found = faults(json!({"commonEncodingVersion": "g/v1", "storageVersions": [server]}));
        assert!(
            found[0].starts_with(
                "status.storageVersions[0].decodableVersions[1]: Invalid value: \"a/b/c\": an apiVersion is a DNS-1035"
            ),
            "{found:?}"
        );
        assert_eq!(
            found[1..],
            [
                "status.storageVersions[0].decodableVersions: Invalid value: [\"g/v2\",\"a/b/c\"]: decodableVersions must include encodingVersion g/v1",
                "status.storageVersions[0].servedVersions[0]: Invalid value: \"g/v3\": individual served version : g/v3 must be included in decodableVersions : [g/v2 a/b/c]",
            ]
        );
    }

    #[test]
    fn a_name_is_a_group_and_a_resource() {
        assert!(name_faults("apps.deployments").is_empty());
        assert_eq!(name_faults("pods"), ["name must be in the form of <group>.<resource>"]);
        assert!(name_faults("apps.1x")[0].starts_with("the resource segment "));
    }

    #[test]
    fn three_servers_are_shown() {
        let servers: Vec<Value> =
            (0..4).map(|at| json!({"apiServerID": format!("s{at}"), "encodingVersion": "v1"})).collect();
        assert_eq!(shown(&servers), "s0=v1,s1=v1,s2=v1 + 1 more...");
        assert_eq!(shown(&[]), "<unset>");
    }
}
