//! Acting as another: what of the other must be granted, who the other then is, and what the audit trail tells of both.

use martello_tests::{
    cluster::Cluster,
    raw::{Answer, Endpoint},
};
use serde_json::{Value, json};

use crate::{
    answers::{config_map, done, refused},
    audit::tail,
};

const WHOAMI: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Gives a user these rules in the whole cluster.
pub(crate) async fn grant(admin: &Endpoint, user: &str, rules: Value) {
    let group = "rbac.authorization.k8s.io";
    let role = json!({"metadata": {"name": user}, "rules": rules});
    done(&admin.ask("POST", &format!("{RBAC}/clusterroles"), role.to_string()).await.unwrap());
    let binding = json!({"metadata": {"name": user}, "subjects": [{"kind": "User", "name": user, "apiGroup": group}],
        "roleRef": {"kind": "ClusterRole", "name": user, "apiGroup": group}});
    done(&admin.ask("POST", &format!("{RBAC}/clusterrolebindings"), binding.to_string()).await.unwrap());
}

fn rule(group: &str, resources: &[&str], names: &[&str], verb: &str) -> Value {
    json!({"apiGroups": [group], "resources": resources, "resourceNames": names, "verbs": [verb]})
}

async fn whoami(user: &Endpoint, headers: &[(&str, &str)]) -> Answer {
    user.ask_with("POST", WHOAMI, &[headers, &[("content-type", "application/json")]].concat(), "{}").await.unwrap()
}

/// The record of the request that was answered so.
fn record(trail: &str, answer: &Answer) -> Value {
    let id = answer.headers["audit-id"].to_str().unwrap();
    let mut events = trail.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.find(|event| event["auditID"] == id && event["stage"] == "ResponseComplete").expect("it was recorded")
}

#[tokio::test]
async fn who_may_act_as_another_is_that_other_in_every_part() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let extra = ["userextras/acme.com/project", "userextras/scopes"];
    let rules = json!([
        rule("", &["users"], &["jane"], "impersonate"),
        rule("", &["groups"], &["devs", "ops"], "impersonate"),
        rule("", &["serviceaccounts"], &["robot"], "impersonate"),
        rule(AUTHENTICATION, &["uids"], &["u-7"], "impersonate"),
        rule(AUTHENTICATION, &extra, &["a", "B"], "impersonate"),
    ]);
    grant(&admin, "agent", rules).await;
    let agent = cluster.user("agent").await.unwrap();
    let all = [
        ("Impersonate-User", "jane"),
        ("Impersonate-Uid", "u-7"),
        ("Impersonate-Group", "devs"),
        ("Impersonate-Group", "ops"),
        ("Impersonate-Extra-Acme.com%2FProject", "a"),
        ("Impersonate-Extra-acme.com%2fproject", "B"),
        ("Impersonate-Extra-Scopes", "a"),
    ];
    let acted = whoami(&agent, &all).await;
    let jane = json!({"username": "jane", "uid": "u-7", "groups": ["devs", "ops", "system:authenticated"],
        "extra": {"acme.com/project": ["a", "B"], "scopes": ["a"]}});
    assert_eq!(done(&acted)["status"]["userInfo"], jane);
    // Others are told of the same user.
    let account = whoami(&agent, &[("Impersonate-User", "system:serviceaccount:default:robot")]).await;
    let groups = json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]);
    assert_eq!(done(&account)["status"]["userInfo"]["groups"], groups);

    // Whoever acts as another has the other's rights, and no others.
    let headers = [("Impersonate-User", "jane")];
    let message = refused(&agent.ask_with("GET", MAPS, &headers, "").await.unwrap(), 403, "Forbidden");
    assert!(message.starts_with("configmaps is forbidden: User \"jane\" cannot list resource"), "{message}");

    // What is not granted is refused, part by part.
    let mut denied = Vec::new();
    let cannot = |resource: &str, group: &str| {
        format!("User \"agent\" cannot impersonate resource {resource:?} in API group {group:?} at the cluster scope")
    };
    for (added, wanted) in [
        (
            ("Impersonate-Uid", "u-8"),
            format!("uids.{AUTHENTICATION} \"u-8\" is forbidden: {}", cannot("uids", AUTHENTICATION)),
        ),
        (("Impersonate-Group", "root"), format!("groups \"root\" is forbidden: {}", cannot("groups", ""))),
        (
            ("Impersonate-Extra-acme.com%2Fproject", "c"),
            format!("userextras.{AUTHENTICATION} \"c\" is forbidden: {}", cannot(extra[0], AUTHENTICATION)),
        ),
        (
            ("Impersonate-Extra-Other", "a"),
            format!("userextras.{AUTHENTICATION} \"a\" is forbidden: {}", cannot("userextras/other", AUTHENTICATION)),
        ),
    ] {
        let answer = whoami(&agent, &[("Impersonate-User", "jane"), added]).await;
        assert_eq!(refused(&answer, 403, "Forbidden"), wanted);
        denied.push(answer);
    }
    let answer = whoami(&agent, &[("Impersonate-User", "bob")]).await;
    assert_eq!(refused(&answer, 403, "Forbidden"), format!("users \"bob\" is forbidden: {}", cannot("users", "")));
    let answer = whoami(&agent, &[("Impersonate-User", "system:serviceaccount:default:other")]).await;
    let words =
        "User \"agent\" cannot impersonate resource \"serviceaccounts\" in API group \"\" in the namespace \"default\"";
    assert_eq!(refused(&answer, 403, "Forbidden"), format!("serviceaccounts \"other\" is forbidden: {words}"));
    let answer = whoami(&agent, &[("Impersonate-Uid", "u-7"), ("Impersonate-Extra-Scopes", "a")]).await;
    assert_eq!(
        refused(&answer, 400, "BadRequest"),
        "requested &user.DefaultInfo{Name:\"\", UID:\"u-7\", Groups:[]string(nil), \
         Extra:map[string][]string{\"scopes\":[]string{\"a\"}}} without impersonating a user name"
    );

    // The record of a change is written before it is answered, and with it all that came before.
    done(&admin.ask("POST", MAPS, config_map("last").to_string()).await.unwrap());
    let trail = tail(&cluster, "1000");
    let event = record(&trail, &acted);
    assert_eq!((&event["user"]["username"], &event["impersonatedUser"]), (&json!("agent"), &jane));
    assert_eq!(event["authenticationMetadata"], Value::Null);
    for answer in denied {
        let event = record(&trail, &answer);
        assert_eq!((&event["user"]["username"], &event["impersonatedUser"]), (&json!("agent"), &Value::Null));
    }
}

#[tokio::test]
async fn who_may_act_as_another_for_one_thing_does_nothing_else_so() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let node = "impersonate:arbitrary-node";
    grant(
        &admin,
        "agent",
        json!([
            rule(AUTHENTICATION, &["users"], &["jane"], "impersonate:user-info"),
            rule(AUTHENTICATION, &["userextras/acme.com/project"], &["a"], "impersonate:user-info"),
            rule("", &["configmaps"], &[], "impersonate-on:user-info:list"),
            rule(AUTHENTICATION, &["nodes"], &["n1"], node),
            rule(AUTHENTICATION, &["selfsubjectreviews"], &[], "impersonate-on:arbitrary-node:create"),
        ]),
    )
    .await;
    grant(&admin, "jane", json!([{"apiGroups": [""], "resources": ["*"], "verbs": ["*"]}])).await;
    let agent = cluster.user("agent").await.unwrap();
    let jane = ("Impersonate-User", "jane");
    let ask = async |method: &str, path: &str, headers: &[(&str, &str)]| {
        agent.ask_with(method, path, headers, "").await.unwrap()
    };
    let listed = ask("GET", MAPS, &[jane, ("Impersonate-Extra-acme.com%2Fproject", "a")]).await;
    assert_eq!(done(&listed)["kind"], "ConfigMapList");
    let on = |verb: &str, resource: &str| {
        format!(
            "User \"agent\" cannot impersonate-on:user-info:{verb} resource {resource:?} in API group \"\" \
             in the namespace \"default\""
        )
    };
    for (method, path, wanted) in [
        ("GET", "/api/v1/namespaces/default/secrets", format!("secrets is forbidden: {}", on("list", "secrets"))),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps/x",
            format!("configmaps \"x\" is forbidden: {}", on("get", "configmaps")),
        ),
        ("DELETE", MAPS, format!("configmaps is forbidden: {}", on("deletecollection", "configmaps"))),
    ] {
        assert_eq!(refused(&ask(method, path, &[jane]).await, 403, "Forbidden"), wanted);
    }
    let refusal = |resource: &str, why: &str| {
        format!(
            "User \"agent\" cannot impersonate:user-info resource {resource:?} in API group {AUTHENTICATION:?} \
             at the cluster scope{why}"
        )
    };
    for (added, wanted) in [
        (("Impersonate-User", "bob"), format!("users.{AUTHENTICATION} \"bob\" is forbidden: {}", refusal("users", ""))),
        (("Impersonate-Uid", "1"), format!("uids.{AUTHENTICATION} \"1\" is forbidden: {}", refusal("uids", ""))),
        (
            ("Impersonate-Group", "system:masters"),
            format!(
                "groups.{AUTHENTICATION} \"system:masters\" is forbidden: {}",
                refusal("groups", ": impersonating the system:masters group is not allowed")
            ),
        ),
        (
            ("Impersonate-Extra-Scopes", "a"),
            format!(
                "userextras.{AUTHENTICATION} is forbidden: {}",
                refusal(
                    "userextras",
                    ": impersonating an invalid key in extra is not allowed: extra.key: Invalid value: \"scopes\": \
                     must be a domain-prefixed path (such as \"acme.io/foo\")"
                )
            ),
        ),
    ] {
        let headers = if added.0 == jane.0 { vec![added] } else { vec![jane, added] };
        assert_eq!(refused(&ask("GET", MAPS, &headers).await, 403, "Forbidden"), wanted);
    }
    // A node has the groups of nodes, and is not asked for with others.
    let as_node = whoami(&agent, &[("Impersonate-User", "system:node:n1")]).await;
    let groups = json!(["system:nodes", "system:authenticated"]);
    assert_eq!(done(&as_node)["status"]["userInfo"], json!({"username": "system:node:n1", "groups": groups}));
    let grouped = [("Impersonate-User", "system:node:n1"), ("Impersonate-Group", "system:nodes")];
    refused(&whoami(&agent, &grouped).await, 403, "Forbidden");

    done(&admin.ask("POST", MAPS, config_map("last").to_string()).await.unwrap());
    let trail = tail(&cluster, "1000");
    for (answer, verb) in [(&listed, "impersonate:user-info"), (&as_node, node)] {
        let event = record(&trail, answer);
        assert_eq!(event["user"]["username"], "agent", "{event}");
        assert_eq!(event["authenticationMetadata"], json!({"impersonationConstraint": verb}), "{event}");
    }
    assert_eq!(record(&trail, &listed)["impersonatedUser"]["extra"], json!({"acme.com/project": ["a"]}));
}
