//! RoleBindings and ClusterRoleBindings.

use std::sync::Arc;

use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::{GROUP, guard};
use crate::{
    registry::{
        call::Call,
        kind::{Cell, Change, Checked, Column, NameRule, Strategy, resource},
        object, table,
        validation::{field::go_form, text},
    },
    server::Core,
};

/// Bindings, of the cluster or of a namespace.
pub struct Bindings {
    /// ClusterRoleBindings.
    pub cluster: bool,
}

impl Strategy for Bindings {
    fn resource(&self) -> Resource {
        if self.cluster {
            resource(GROUP, "v1", "ClusterRoleBinding", "clusterrolebindings").cluster_scoped().build()
        } else {
            resource(GROUP, "v1", "RoleBinding", "rolebindings").build()
        }
    }

    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value) {
        if object::text(object, &["roleRef", "apiGroup"]).is_empty() {
            object::set(object, &["roleRef"], "apiGroup", GROUP);
        }
        for subject in object::list_mut(object, &["subjects"]).into_iter().flatten() {
            if object::text(subject, &["apiGroup"]).is_empty()
                && matches!(object::text(subject, &["kind"]), "User" | "Group")
            {
                object::set(subject, &[], "apiGroup", GROUP);
            }
        }
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let reference = |key: &str| object::text(object, &["roleRef", key]);
        if reference("apiGroup") != GROUP {
            causes.push(Cause::not_supported("roleRef.apiGroup", &json!(reference("apiGroup")), &[GROUP]));
        }
        let kinds: &[&str] = if self.cluster { &["ClusterRole"] } else { &["Role", "ClusterRole"] };
        if !kinds.contains(&reference("kind")) {
            causes.push(Cause::not_supported("roleRef.kind", &json!(reference("kind")), kinds));
        }
        let name = reference("name");
        if name.is_empty() {
            causes.push(Cause::required("roleRef.name", ""));
        } else {
            for fault in text::path_segment(name) {
                causes.push(Cause::invalid("roleRef.name", &json!(name), &fault));
            }
        }
        for (index, subject) in object::list(object, &["subjects"]).iter().enumerate() {
            self.subject(subject, &format!("subjects[{index}]"), causes);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        // Upstream looks at all of it once more.
        self.validate(object, causes);
        if object.get("roleRef") != old.get("roleRef") {
            let fields = [("apiGroup", "APIGroup"), ("kind", "Kind"), ("name", "Name")];
            let found = object.get("roleRef").unwrap_or(&Value::Null);
            let shown = go_form(found, &fields.map(|(key, name)| (key, name, json!(""))));
            causes.push(Cause::invalid("roleRef", &shown, "cannot change roleRef"));
        }
    }

    fn columns(&self) -> &'static [Column] {
        const IN_NAMESPACE: [Column; 6] = columns(
            "RoleRef can reference a Role in the current namespace or a ClusterRole in the global namespace. If the RoleRef cannot be resolved, the Authorizer must return an error.",
            ["Users in the roleBinding", "Groups in the roleBinding", "ServiceAccounts in the roleBinding"],
        );
        const IN_CLUSTER: [Column; 6] = columns(
            "RoleRef can only reference a ClusterRole in the global namespace. If the RoleRef cannot be resolved, the Authorizer must return an error.",
            [
                "Users in the clusterRoleBinding",
                "Groups in the clusterRoleBinding",
                "ServiceAccounts in the clusterRoleBinding",
            ],
        );
        if self.cluster { &IN_CLUSTER } else { &IN_NAMESPACE }
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let of = |kind: &str| {
            let names: Vec<String> = object::list(object, &["subjects"])
                .iter()
                .filter(|subject| object::text(subject, &["kind"]) == kind)
                .map(|subject| {
                    let name = object::text(subject, &["name"]);
                    if kind == "ServiceAccount" {
                        format!("{}/{name}", object::text(subject, &["namespace"]))
                    } else {
                        name.to_owned()
                    }
                })
                .collect();
            Cell::from(names.join(", "))
        };
        let role =
            format!("{}/{}", object::text(object, &["roleRef", "kind"]), object::text(object, &["roleRef", "name"]));
        vec![
            object::name(object).into(),
            role.into(),
            table::age(object),
            of("User"),
            of("Group"),
            of("ServiceAccount"),
        ]
    }

    fn guard<'a>(
        &'a self,
        core: &'a Arc<Core>,
        call: &'a Call,
        object: &'a Value,
        old: Option<&'a Value>,
    ) -> Checked<'a> {
        Box::pin(guard::check_binding(core, call, object, old))
    }

    fn before_commit<'a>(&'a self, _core: &'a Arc<Core>, _call: &'a Call, change: Change<'a>) -> Checked<'a> {
        guard::before_commit(&change)
    }

    fn after_commit(&self, core: &Arc<Core>, object: Option<&Value>, old: Option<&Value>, revision: u64) {
        crate::server::bootstrap::tell_authorizer(core, object, old, revision);
    }
}

const fn columns(role: &'static str, [users, groups, accounts]: [&'static str; 3]) -> [Column; 6] {
    [
        Column::name(),
        Column::text("Role", role),
        Column::age(),
        Column::text("Users", users).wide(),
        Column::text("Groups", groups).wide(),
        Column::text("ServiceAccounts", accounts).wide(),
    ]
}

impl Bindings {
    fn subject(&self, subject: &Value, path: &str, causes: &mut Vec<Cause>) {
        let of = |key: &str| object::text(subject, &[key]);
        if of("name").is_empty() {
            causes.push(Cause::required(format!("{path}.name"), ""));
        }
        let group = of("apiGroup");
        match of("kind") {
            "ServiceAccount" => {
                for fault in if of("name").is_empty() { Vec::new() } else { text::dns1123_subdomain(of("name")) } {
                    causes.push(Cause::invalid(format!("{path}.name"), &json!(of("name")), &fault));
                }
                if !group.is_empty() {
                    causes.push(Cause::not_supported(format!("{path}.apiGroup"), &json!(group), &[""]));
                }
                if self.cluster && of("namespace").is_empty() {
                    causes.push(Cause::required(format!("{path}.namespace"), ""));
                }
            }
            "User" | "Group" => {
                if group != GROUP {
                    causes.push(Cause::not_supported(format!("{path}.apiGroup"), &json!(group), &[GROUP]));
                }
            }
            other => {
                let supported = ["ServiceAccount", "User", "Group"];
                causes.push(Cause::not_supported(format!("{path}.kind"), &json!(other), &supported));
            }
        }
    }
}
