use std::sync::Arc;

use martello_api::{
    attributes::{Attributes, ResourceTarget, Target},
    identity::User,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::rbac::{Binding, BindingKey, Subject, naive::Model};

fn asks(user: User, verb: &str, target: Target) -> Attributes {
    Attributes { user: Arc::new(user), verb: verb.to_owned(), target }
}

fn on(group: &str, resource: &str, namespace: &str, name: &str) -> Target {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Target::Resource(ResourceTarget {
        group: group.to_owned(),
        version: "v1".to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        selected_fields: Vec::new(),
    })
}

fn jane() -> User {
    User::authenticated("jane", ["devs"])
}

fn written(authorizer: &Authorizer, object: Value) {
    authorizer.update(Change::written(&object).unwrap().unwrap());
}

fn role_and_binding(authorizer: &Authorizer, rules: Value, subject: Value) {
    let api_version = "rbac.authorization.k8s.io/v1";
    written(
        authorizer,
        json!({"apiVersion": api_version, "kind": "Role", "metadata": {"namespace": "shop", "name": "r"}, "rules": rules}),
    );
    written(
        authorizer,
        json!({
            "apiVersion": api_version, "kind": "RoleBinding", "metadata": {"namespace": "shop", "name": "rb"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}, "subjects": [subject],
        }),
    );
}

fn reason(authorizer: &Authorizer, asked: &Attributes) -> Result<String, String> {
    match authorizer.authorize(asked) {
        Decision::Allow(permit) => Ok(permit.reason().upstream()),
        Decision::Deny(denial) => Err(denial.message()),
    }
}

#[test]
fn a_role_binding_allows_in_its_namespace_and_is_named() {
    let authorizer = Authorizer::new();
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    role_and_binding(&authorizer, rules, json!({"kind": "User", "name": "jane"}));
    let asked = asks(jane(), "get", on("", "pods", "shop", "p"));
    assert_eq!(
        reason(&authorizer, &asked),
        Ok("RBAC: allowed by RoleBinding \"rb/shop\" of Role \"r\" to User \"jane\"".into())
    );
    let denied = reason(&authorizer, &asks(jane(), "get", on("", "pods", "other", "p"))).unwrap_err();
    assert_eq!(denied, "User \"jane\" cannot get resource \"pods\" in API group \"\" in the namespace \"other\"");
    let denied = reason(&authorizer, &asks(jane(), "get", on("", "pods/log", "shop", "p"))).unwrap_err();
    assert_eq!(denied, "User \"jane\" cannot get resource \"pods/log\" in API group \"\" in the namespace \"shop\"");
    let denied = reason(&authorizer, &asks(jane(), "get", Target::Path("/metrics".into()))).unwrap_err();
    assert_eq!(denied, "User \"jane\" cannot get path \"/metrics\"");
}

#[test]
fn a_change_counts_for_the_next_request() {
    let authorizer = Authorizer::new();
    let asked = asks(jane(), "get", on("", "pods", "shop", "p"));
    assert!(!authorizer.authorize(&asked).is_allowed());
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    role_and_binding(&authorizer, rules, json!({"kind": "Group", "name": "devs"}));
    assert!(authorizer.authorize(&asked).is_allowed());
    authorizer.update(Change::RemoveBinding(BindingKey { namespace: Some("shop".into()), name: "rb".into() }));
    assert!(!authorizer.authorize(&asked).is_allowed());
}

#[test]
fn a_bound_role_that_is_missing_is_named_in_the_denial() {
    let authorizer = Authorizer::new();
    role_and_binding(&authorizer, json!([]), json!({"kind": "ServiceAccount", "name": "web"}));
    authorizer.update(Change::RemoveRole(RoleKey::Namespaced("shop".into(), "r".into())));
    let denied = reason(&authorizer, &asks(User::service_account("shop", "web"), "get", on("", "pods", "shop", "p")))
        .unwrap_err();
    assert!(denied.ends_with(": RBAC: role.rbac.authorization.k8s.io \"r\" not found"), "{denied}");
}

#[test]
fn a_denial_says_what_would_have_allowed_it() {
    let Decision::Deny(denial) = Authorizer::new().authorize(&asks(jane(), "get", on("", "secrets", "shop", "s")))
    else {
        panic!("allowed");
    };
    assert_eq!(
        denial.hint(),
        "a Role in namespace \"shop\" with verbs [\"get\"] on resources [\"secrets\"] of apiGroups [\"\"], \
         bound to User \"jane\" or one of its groups by a RoleBinding there"
    );
    assert_eq!(
        denial.to_api_error().message,
        "secrets \"s\" is forbidden: User \"jane\" cannot get resource \"secrets\" in API group \"\" in the namespace \"shop\""
    );
}

#[test]
fn masters_may_do_all_with_no_binding_at_all() {
    let admin = User::authenticated("root", ["system:masters"]);
    let authorizer = Authorizer::new();
    assert_eq!(reason(&authorizer, &asks(admin.clone(), "frobnicate", on("x", "y/z", "", ""))), Ok(String::new()));
    assert!(authorizer.authorize(&asks(admin, "delete", Target::Path("/x".into()))).is_allowed());
}

#[test]
fn anonymous_requests_reach_only_health_and_version_whatever_is_bound() {
    let authorizer = Authorizer::new();
    written(
        &authorizer,
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "all"},
            "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"nonResourceURLs": ["*"], "verbs": ["*"]}]}),
    );
    written(
        &authorizer,
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "all"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "all"},
            "subjects": [{"kind": "Group", "name": "system:unauthenticated"}]}),
    );
    let allowed = |target| authorizer.authorize(&asks(User::anonymous(), "get", target)).is_allowed();
    assert!(allowed(Target::Path("/livez".into())) && allowed(Target::Path("/version".into())));
    assert!(!allowed(Target::Path("/metrics".into())) && !allowed(on("", "pods", "shop", "p")));
}

#[test]
fn a_node_reads_what_its_pods_need_and_no_more() {
    let authorizer = Authorizer::new();
    written(
        &authorizer,
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop", "name": "p"}, "spec": {
            "nodeName": "n1", "serviceAccountName": "web", "containers": [],
            "volumes": [{"name": "v", "secret": {"secretName": "needed"}}]}}),
    );
    let may = |node: &str, verb: &str, target| authorizer.authorize(&asks(User::node(node), verb, target)).is_allowed();
    assert!(may("n1", "get", on("", "secrets", "shop", "needed")));
    assert!(!may("n2", "get", on("", "secrets", "shop", "needed")));
    assert!(!may("n1", "get", on("", "secrets", "shop", "other")));
    assert!(!may("n1", "list", on("", "secrets", "shop", "")));
    assert!(!may("n1", "update", on("", "secrets", "shop", "needed")));
    assert!(may("n1", "create", on("", "serviceaccounts/token", "shop", "web")));
    assert!(!may("n1", "create", on("", "serviceaccounts/token", "shop", "default")));
    assert!(may("n1", "patch", on("", "pods/status", "shop", "p")));
    assert!(!may("n2", "patch", on("", "pods/status", "shop", "p")));
    assert!(
        may("n1", "update", on("", "nodes/status", "", "n1")) && !may("n1", "update", on("", "nodes/status", "", "n2"))
    );
    assert!(may("n1", "update", on("coordination.k8s.io", "leases", "kube-node-lease", "n1")));
    assert!(!may("n1", "update", on("coordination.k8s.io", "leases", "kube-system", "n1")));
    assert!(!may("n1", "list", on("", "pods", "", "")));
    let Target::Resource(mut own) = on("", "pods", "", "") else { panic!() };
    own.selected_fields = vec![("spec.nodeName".into(), "n1".into())];
    assert!(may("n1", "watch", Target::Resource(own.clone())) && !may("n2", "watch", Target::Resource(own)));
    let denied = reason(&authorizer, &asks(User::node("n2"), "get", on("", "secrets", "shop", "needed"))).unwrap_err();
    assert!(denied.ends_with(": no relationship found between node 'n2' and this object"), "{denied}");
}

#[test]
fn a_policy_that_errs_denies() {
    let policies = crate::builtin::load(
        "test",
        "@id(\"a\") permit (principal, action, resource); \
        @id(\"b\") forbid (principal, action, resource) when { context.typo == 1 };",
    )
    .unwrap();
    let authorizer = Authorizer::new();
    let principal = Principal::of(&jane()).unwrap();
    let asked = asks(jane(), "get", on("", "pods", "", ""));
    let request = request(&principal, &asked, None).unwrap();
    assert!(matches!(authorizer.ask(&request, &policies, &principal), Answer::Broken(_)));
}

#[test]
fn an_explanation_shows_the_policies_and_their_answers() {
    let authorizer = Authorizer::new();
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]);
    role_and_binding(&authorizer, rules, json!({"kind": "User", "name": "jane"}));
    let explanation = authorizer.explain(&asks(jane(), "get", on("", "pods", "shop", "p")));
    let answers: Vec<_> = explanation.considered.iter().map(|one| (one.policy.as_str(), one.answer.as_str())).collect();
    assert_eq!(answers, [("rbac/RoleBinding/shop/rb#0.0", "allows"), ("rbac/RoleBinding/shop/rb#0.1", "says nothing")]);
    assert!(explanation.allowed && explanation.considered[0].text.contains("User::\"jane\""));
}

/// Few words, so that rules and requests often meet; some that would break a careless quoting or pattern.
fn word(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![9 => proptest::sample::select(words).prop_map(str::to_owned), 1 => ".{0,4}"]
}

fn verbs() -> impl Strategy<Value = String> {
    word(&["get", "list", "create", "deletecollection", "*", "a\"b"])
}

fn groups() -> impl Strategy<Value = String> {
    word(&["", "apps", "*", "x\\y"])
}

fn rule_resources() -> impl Strategy<Value = String> {
    word(&["pods", "pods/log", "pods/*", "*", "*/log", "*/scale", "deployments", "deployments/scale", "*/", "pod"])
}

fn rule_paths() -> impl Strategy<Value = String> {
    word(&["/a", "/a/*", "*", "/a*", "/*/b", "/a**", "", "/a*b*"])
}

fn names() -> impl Strategy<Value = String> {
    word(&["x", "y", "", "*"])
}

fn rules() -> impl Strategy<Value = Rule> {
    use proptest::collection::vec;
    let lists = (
        vec(verbs(), 0..3),
        vec(groups(), 0..3),
        vec(rule_resources(), 0..3),
        prop_oneof![3 => Just(Vec::new()), 1 => vec(names(), 1..3)],
        prop_oneof![2 => Just(Vec::new()), 1 => vec(rule_paths(), 1..3)],
    );
    lists.prop_map(|(verbs, api_groups, resources, resource_names, non_resource_urls)| Rule {
        verbs,
        api_groups,
        resources,
        resource_names,
        non_resource_urls,
    })
}

fn role_keys() -> impl Strategy<Value = RoleKey> {
    prop_oneof![
        word(&["r", "s"]).prop_map(RoleKey::Cluster),
        (word(&["n", "m"]), word(&["r", "s"])).prop_map(|(namespace, name)| RoleKey::Namespaced(namespace, name)),
    ]
}

fn subjects() -> impl Strategy<Value = Subject> {
    prop_oneof![
        word(&["jane", "joe", "devs"]).prop_map(Subject::User),
        word(&["devs", "ops", "jane"]).prop_map(Subject::Group),
        Just(Subject::ServiceAccount("n".into(), "web".into())),
    ]
}

fn models() -> impl Strategy<Value = Model> {
    use proptest::collection::{btree_map, vec};
    let keys = (proptest::option::of(word(&["n", "m"])), word(&["b", "c", "d"]))
        .prop_map(|(namespace, name)| BindingKey { namespace, name });
    let bindings = (role_keys(), vec(subjects(), 0..4)).prop_map(|(role, subjects)| Binding { role, subjects });
    (btree_map(role_keys(), vec(rules(), 0..4), 0..4), btree_map(keys, bindings, 0..5)).prop_map(|(roles, bindings)| {
        Model { roles: roles.into_iter().collect(), bindings: bindings.into_iter().collect() }
    })
}

fn requests() -> impl Strategy<Value = Attributes> {
    let users = prop_oneof![
        (word(&["jane", "joe", "devs"]), proptest::collection::vec(word(&["devs", "ops"]), 0..3))
            .prop_map(|(name, groups)| User { name, groups, ..User::default() }),
        Just(User::service_account("n", "web")),
    ];
    let resources = (
        groups(),
        word(&["pods", "deployments", "*", "pods/log"]),
        word(&["", "log", "scale", "*"]),
        word(&["n", "m", ""]),
        names(),
    )
        .prop_map(|(group, resource, subresource, namespace, name)| {
            Target::Resource(ResourceTarget {
                group,
                resource,
                subresource,
                namespace,
                name,
                ..ResourceTarget::default()
            })
        });
    let targets = prop_oneof![3 => resources, 1 => word(&["/a", "/a/b", "/a*b", "/a*bc", "/*/b", "/", ""]).prop_map(Target::Path)];
    (users, verbs(), targets).prop_map(|(user, verb, target)| asks(user, &verb, target))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn cedar_and_the_naive_model_of_rbac_agree(model in models(), asked in proptest::collection::vec(requests(), 1..8)) {
        let authorizer = Authorizer::new();
        for (key, binding) in &model.bindings {
            authorizer.update(Change::SetBinding(key.clone(), binding.clone()));
        }
        for (key, rules) in &model.roles {
            authorizer.update(Change::SetRole(key.clone(), rules.clone()));
        }
        for asked in &asked {
            prop_assert_eq!(authorizer.authorize(asked).is_allowed(), model.allows(asked), "{:?}", asked);
        }
        // Half of the bindings go, and the answers follow.
        let (gone, left): (Vec<_>, Vec<_>) = model.bindings.into_iter().enumerate().partition(|(place, _)| place % 2 == 0);
        for (_, (key, _)) in gone {
            authorizer.update(Change::RemoveBinding(key));
        }
        let model = Model { roles: model.roles, bindings: left.into_iter().map(|(_, one)| one).collect() };
        for asked in &asked {
            prop_assert_eq!(authorizer.authorize(asked).is_allowed(), model.allows(asked), "{:?}", asked);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    /// One rule that is meant for who asks: denser than whole models, so that rare words meet.
    #[test]
    fn a_single_rule_matches_as_the_naive_model_says(rule in rules(), asked in requests(), everywhere in any::<bool>()) {
        let namespace = (!everywhere).then(|| "n".to_owned());
        let key = BindingKey { namespace, name: "b".into() };
        let role = RoleKey::Cluster("r".into());
        let binding = Binding { role: role.clone(), subjects: vec![Subject::User(asked.user.name.clone())] };
        let mut rule = rule;
        rule.verbs.push("get".into());
        let asked = Attributes { verb: "get".into(), ..asked };
        let model = Model { roles: vec![(role.clone(), vec![rule.clone()])], bindings: vec![(key.clone(), binding.clone())] };
        let authorizer = Authorizer::new();
        authorizer.replace_all([Change::SetRole(role, vec![rule]), Change::SetBinding(key, binding)]);
        prop_assert_eq!(authorizer.authorize(&asked).is_allowed(), model.allows(&asked));
    }
}
