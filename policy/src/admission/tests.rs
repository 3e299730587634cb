use cedar_policy::{Schema, ValidationMode, Validator};
use serde_json::json;

use super::*;

fn levels(labels: &[(&str, &str)]) -> Levels {
    Levels::of_labels(
        &labels.iter().map(|(key, value)| (format!("{LABEL_PREFIX}{key}"), (*value).to_owned())).collect(),
    )
}

fn judge(spec: Value, labels: &[(&str, &str)]) -> Verdict {
    judge_pod("jane", "shop", &json!({"spec": spec}), &levels(labels))
}

fn container(security: Value) -> Value {
    json!({"containers": [{"name": "c", "image": "i", "securityContext": security}]})
}

#[test]
fn the_policies_satisfy_their_schema_strictly() {
    let (schema, _) = Schema::from_cedarschema_str(include_str!("pod-security.cedarschema")).unwrap();
    let policies = crate::builtin::load("pod-security.cedar", POLICIES).unwrap();
    let result = Validator::new(schema).validate(&policies, ValidationMode::Strict);
    let errors: Vec<String> = result.validation_errors().map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn the_facts_are_those_of_the_schema() {
    let (schema, _) = Schema::from_cedarschema_str(include_str!("pod-security.cedarschema")).unwrap();
    let pod = RestrictedExpression::new_record(Facts::default().to_sets()).unwrap();
    let context = Context::from_pairs([("pod".to_owned(), pod)]).unwrap();
    let uid = |text: &str| text.parse::<EntityUid>().unwrap();
    let [user, create, namespace] = ["User::\"u\"", "Action::\"create\"", "Namespace::\"n\""].map(uid);
    Request::new(user, create, namespace, context, Some(&schema)).unwrap();
}

#[test]
fn a_plain_pod_is_admitted_by_default_and_every_policy_has_its_words() {
    assert_eq!(judge(container(json!({})), &[]).refusal, None);
    let levels = ["default", "baseline", "restricted"].map(|level| level_policies(level).unwrap().order);
    for (id, _) in levels.iter().flatten() {
        assert!(id == "pod-security/otherwise" || words::words(id, &Facts::default()).is_some(), "{id}");
    }
}

#[test]
fn a_privileged_container_is_refused_and_the_policy_named() {
    let refusal = judge(container(json!({"privileged": true})), &[]).refusal.unwrap();
    assert!(
        refusal.starts_with(
            "violates Martello pod security: privileged (container \"c\" must not set securityContext.privileged=true, \
         policy \"pod-security/privileged\"); change the manifest"
        ),
        "{refusal}"
    );
}

#[test]
fn the_default_level_refuses_what_a_rootless_node_cannot_run() {
    for spec in [
        json!({"hostNetwork": true, "containers": []}),
        json!({"hostPID": true, "containers": []}),
        json!({"containers": [], "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
        json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}),
        json!({"initContainers": [{"name": "c", "securityContext": {"privileged": true}}], "containers": []}),
        json!({"ephemeralContainers": [{"name": "c", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]}),
        container(json!({"capabilities": {"add": ["ALL"]}})),
        container(json!({"procMount": "Unmasked"})),
        json!({"hostUsers": false, "containers": [{"name": "c", "securityContext": {"procMount": "Unmasked"}}]}),
        json!({"containers": [{"name": "c", "livenessProbe": {"httpGet": {"host": "169.254.169.254", "port": 80}}}]}),
        container(json!({"seccompProfile": {"type": "Unconfined"}})),
        json!({"securityContext": {"sysctls": [{"name": "vm.swappiness", "value": "1"}]}, "containers": []}),
    ] {
        assert!(judge(spec.clone(), &[]).refusal.is_some(), "{spec}");
        assert_eq!(judge(spec, &[("enforce", "privileged")]).refusal, None);
    }
    let own =
        json!({"securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "10"}]}, "containers": []});
    assert_eq!(judge(own, &[]).refusal, None);
}

#[test]
fn levels_that_were_asked_for_speak_as_upstream_does() {
    let baseline = |spec| judge(spec, &[("enforce", "baseline")]).refusal.unwrap();
    assert_eq!(
        baseline(container(json!({"capabilities": {"add": ["NET_ADMIN", "CHOWN"]}}))),
        "violates PodSecurity \"baseline:latest\": non-default capabilities (container \"c\" must not include \
         \"NET_ADMIN\" in securityContext.capabilities.add)"
    );
    assert_eq!(
        baseline(json!({"containers": [], "securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}})),
        "violates PodSecurity \"baseline:latest\": forbidden sysctls (kernel.msgmax)"
    );
    assert_eq!(
        baseline(json!({"containers": [], "securityContext": {"seccompProfile": {"type": "Unconfined"}}})),
        "violates PodSecurity \"baseline:latest\": seccompProfile (pod must not set securityContext.seccompProfile.type \
         to \"Unconfined\")"
    );
    assert_eq!(
        baseline(json!({"containers": [], "securityContext": {"seLinuxOptions": {"type": "spc_t", "user": "u"}}})),
        "violates PodSecurity \"baseline:latest\": seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: \
         type \"spc_t\"; user may not be set)"
    );
}

#[test]
fn warnings_of_a_workload_list_what_its_pods_would_violate() {
    let mut template = json!({"spec": container(json!({}))});
    template["spec"]["hostNetwork"] = json!(true);
    let verdict = judge_template("jane", "shop", &template, &levels(&[("warn", "restricted")]));
    assert_eq!(
        verdict.warnings,
        ["would violate PodSecurity \"restricted:latest\": host namespaces (hostNetwork=true), \
          allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
          unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
          runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
          seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
          \"Localhost\")"]
    );
    assert_eq!(verdict.refusal, None);
}

#[test]
fn a_pod_made_for_restricted_passes_and_an_invalid_label_counts_as_restricted() {
    let hardened = json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        "volumes": [{"name": "v", "secret": {"secretName": "s"}}],
    });
    assert_eq!(judge(hardened, &[("enforce", "restricted")]).refusal, None);
    assert!(judge(container(json!({})), &[("enforce", "strict")]).refusal.is_some());
}

#[test]
fn labels_that_name_no_level_and_no_version_are_found() {
    let wrong = |key: &str, value: &str| Levels::label_error(&format!("{LABEL_PREFIX}{key}"), value).is_some();
    for (key, value) in [
        ("enforce", "strict"),
        ("warn", ""),
        ("audit-version", "1.2"),
        ("warn-version", "v1.+2"),
        ("enforce-version", "v1.01"),
    ] {
        assert!(wrong(key, value), "{key}={value}");
    }
    for (key, value) in [
        ("enforce", "baseline"),
        ("warn-version", "latest"),
        ("audit-version", "v1.36"),
        ("enforce-version", "v1.0"),
        ("other", "x"),
    ] {
        assert!(!wrong(key, value), "{key}={value}");
    }
    assert_eq!(Levels::label_error("enforce", "strict"), None);
}

#[test]
fn who_is_enforced_upon_is_warned_unless_asked_otherwise() {
    assert_eq!(levels(&[("enforce", "restricted")]).warn.unwrap().level, Level::Restricted);
    assert_eq!(levels(&[("enforce", "restricted"), ("warn", "privileged")]).warn.unwrap().level, Level::Privileged);
    assert_eq!(levels(&[]).warn.unwrap().level, Level::Default);
}

#[test]
fn the_version_of_a_label_says_which_standards_hold() {
    let refusal = |spec: Value, level: &str, version: &str| {
        judge(spec, &[("enforce", level), ("enforce-version", version)]).refusal
    };
    let probing = json!({"containers": [
        {"name": "b", "lifecycle": {"preStop": {"httpGet": {"host": "node", "port": 1}}}},
        {"name": "a", "readinessProbe": {"tcpSocket": {"host": "10.0.0.1", "port": 1}}, "startupProbe": {"httpGet": {"port": 1}}},
    ]});
    assert_eq!(refusal(probing.clone(), "baseline", "v1.33"), None);
    assert_eq!(
        refusal(probing, "baseline", "v1.34").unwrap(),
        "violates PodSecurity \"baseline:v1.34\": probe or lifecycle host (containers \"a\", \"b\" use probe or lifecycle \
         hosts \"10.0.0.1\", \"node\")"
    );
    let own_users =
        |security: Value| json!({"hostUsers": false, "containers": [{"name": "c", "securityContext": security}]});
    let unmasked = own_users(json!({"procMount": "Unmasked"}));
    assert!(refusal(unmasked.clone(), "baseline", "v1.34").is_some());
    assert_eq!(refusal(unmasked.clone(), "baseline", "v1.35"), None);
    let words = refusal(unmasked, "restricted", "latest").unwrap();
    assert_eq!(words.matches("procMount (container \"c\" must not").count(), 1, "{words}");
    let root = own_users(json!({
        "runAsUser": 0, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"}
    }));
    assert!(refusal(root.clone(), "restricted", "v1.34").is_some());
    assert_eq!(refusal(root, "restricted", "v1.36"), None);
    let sysctl = |name: &str| json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}, "containers": []});
    assert!(refusal(sysctl("net.ipv4.tcp_rmem"), "baseline", "v1.31").is_some());
    assert_eq!(refusal(sysctl("net.ipv4.tcp_rmem"), "baseline", "v1.32"), None);
    let adding = container(json!({"runAsNonRoot": true, "capabilities": {"add": ["NET_ADMIN"]}}));
    assert!(
        refusal(adding, "restricted", "v1.7").unwrap().ends_with("\"NET_ADMIN\" in securityContext.capabilities.add)")
    );
    assert!(refusal(json!({"hostPID": true}), "baseline", "v1.99").is_some());
}

#[test]
fn pods_for_windows_need_nothing_that_only_linux_has() {
    let spec =
        json!({"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": true}, "containers": [{"name": "c"}]});
    assert_eq!(judge(spec.clone(), &[("enforce", "restricted")]).refusal, None);
    assert!(judge(spec, &[("enforce", "restricted"), ("enforce-version", "v1.24")]).refusal.is_some());
}

#[test]
fn annotations_for_app_armor_count_as_the_field_does() {
    let pod = json!({"metadata": {"annotations": {
        "container.apparmor.security.beta.kubernetes.io/c": "unconfined",
        "container.apparmor.security.beta.kubernetes.io/d": "localhost/mine",
    }}, "spec": {"containers": [{"name": "c"}], "securityContext": {"appArmorProfile": {"type": "Unconfined"}}}});
    let refusal = judge_pod("jane", "shop", &pod, &levels(&[("enforce", "baseline")])).refusal.unwrap();
    assert_eq!(
        refusal,
        "violates PodSecurity \"baseline:latest\": forbidden AppArmor profiles (pod and annotation must not set AppArmor \
         profile type to \"Unconfined\", \"container.apparmor.security.beta.kubernetes.io/c=\"unconfined\"\")"
    );
}

#[test]
fn a_stricter_level_tells_of_the_pods_that_are_there() {
    let pod = |name: &str, security: Value| json!({"metadata": {"name": name}, "spec": container(security)});
    let pods = [pod("a", json!({})), pod("b", json!({"privileged": true})), pod("c", json!({}))];
    let [privileged, baseline, restricted] =
        ["privileged", "baseline", "restricted"].map(|level| levels(&[("enforce", level)]).enforce);
    assert_eq!(
        judge_change("shop", &pods, &baseline, &privileged),
        [
            "existing pods in namespace \"shop\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "b: privileged"
        ]
    );
    let told = judge_change("shop", &pods, &restricted, &baseline);
    assert!(told[1].starts_with("a (and 1 other pod): allowPrivilegeEscalation != false, "), "{told:?}");
    assert!(judge_change("shop", &pods, &baseline, &restricted).is_empty());
}
