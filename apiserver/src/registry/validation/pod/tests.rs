use serde_json::{Value, json};

use super::*;

fn faults(extra: Value) -> Vec<String> {
    let mut pod = json!({"spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (key, value) in extra.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    crate::registry::core::pod_defaults::spec(&mut pod, &["spec"], true);
    let mut causes = Vec::new();
    spec(&pod, &["spec"], "spec", Some(Owner { name: "p", mirror: false }), &mut causes);
    causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

fn of_container(extra: Value) -> Vec<String> {
    let mut container = json!({"name": "c", "image": "i"});
    for (key, value) in extra.as_object().into_iter().flatten() {
        container[key] = value.clone();
    }
    faults(json!({"containers": [container]}))
}

#[test]
fn a_plain_pod_is_fine() {
    assert_eq!(faults(json!({})), Vec::<String>::new());
}

#[test]
fn a_host_port_is_taken_once() {
    let ports = json!([{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]);
    assert_eq!(
        of_container(json!({"ports": ports})),
        ["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//9\""]
    );
}

#[test]
fn probes_have_one_handler_and_sane_counts() {
    let probe = json!({"exec": {"command": ["x"]}, "successThreshold": 2, "periodSeconds": -1});
    assert_eq!(
        of_container(json!({"livenessProbe": probe})),
        [
            "spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ]
    );
    assert_eq!(
        of_container(json!({"readinessProbe": {}})),
        ["spec.containers[0].readinessProbe: Required value: must specify a handler type"]
    );
}

#[test]
fn resources_are_known_and_in_order() {
    assert_eq!(
        of_container(json!({"resources": {"limits": {"hugepages-2Mi": "2Mi"}}})),
        ["spec.containers[0].resources: Forbidden: HugePages require cpu or memory"]
    );
    assert_eq!(
        of_container(json!({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}})),
        ["spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"]
    );
    assert_eq!(
        of_container(json!({"resources": {"limits": {"disk": "1"}}})),
        [
            "spec.containers[0].resources.limits[disk]: Invalid value: \"disk\": must be a standard resource type or fully qualified",
            "spec.containers[0].resources.limits[disk]: Invalid value: \"disk\": must be a standard resource for containers",
            "spec.containers[0].resources.requests[disk]: Invalid value: \"disk\": must be a standard resource type or fully qualified",
            "spec.containers[0].resources.requests[disk]: Invalid value: \"disk\": must be a standard resource for containers",
        ]
    );
}

#[test]
fn references_to_fields_are_checked() {
    let env = |path: &str| json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": path}}}]});
    assert_eq!(of_container(env("metadata.labels['a']")), Vec::<String>::new());
    assert_eq!(
        of_container(env("spec.x")),
        [
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.x\": error converting fieldPath: field label not supported: spec.x"
        ]
    );
}

#[test]
fn mounts_stay_below_their_volume() {
    let mounts = json!([{"name": "v", "mountPath": "/v", "subPath": "../x"}]);
    let pod = json!({"volumes": [{"name": "v"}], "containers": [{"name": "c", "image": "i", "volumeMounts": mounts}]});
    assert_eq!(
        faults(pod),
        ["spec.containers[0].volumeMounts.subPath: Invalid value: \"../x\": must not contain '..'"]
    );
}

#[test]
fn tolerations_make_sense() {
    let tolerations =
        json!([{"operator": "Exists", "value": "x"}, {"key": "a", "effect": "NoSchedule", "tolerationSeconds": 3}]);
    assert_eq!(
        faults(json!({"tolerations": tolerations})),
        [
            "spec.tolerations[0].operator: Invalid value: \"x\": value must be empty when `operator` is 'Exists'",
            "spec.tolerations[1].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set",
        ]
    );
}

#[test]
fn settings_fit_the_operating_system() {
    assert_eq!(
        faults(json!({"os": {"name": "windows"}, "securityContext": {"runAsUser": 1}})),
        ["spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod"]
    );
}

#[test]
fn spreading_names_a_place() {
    assert_eq!(
        faults(
            json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "Never"}]})
        ),
        [
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
            "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"Never\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
        ]
    );
}

#[test]
fn long_lists_are_checked_without_a_search_per_item() {
    const COUNT: usize = 30_000;
    let all = |item: &dyn Fn(usize) -> Value| -> Vec<Value> { (0..COUNT).map(item).collect() };
    let named = |more: &dyn Fn(usize) -> Value| -> Vec<Value> {
        let with_name = |at: usize| {
            let mut item = more(at);
            item["name"] = json!(format!("n{at}"));
            item
        };
        all(&with_name)
    };
    let container = json!({
        "name": "c", "image": "i",
        "env": named(&|_| json!({"value": "x"})),
        "ports": named(&|at| json!({"containerPort": 1 + at, "hostPort": 1 + at})),
        "volumeMounts": named(&|at| json!({"mountPath": format!("/{at}")})),
        "volumeDevices": all(&|at| json!({"name": format!("d{at}"), "devicePath": format!("/dev/{at}")})),
        "resources": {"claims": named(&|_| json!({}))},
    });
    let mut volumes = named(&|_| json!({"emptyDir": {}}));
    volumes.extend(all(&|at| json!({"name": format!("d{at}"), "persistentVolumeClaim": {"claimName": "c"}})));
    let files = all(&|at| json!({"key": "k", "path": format!("f{at}")}));
    volumes.push(json!({"name": "p", "projected": {"sources": [{"configMap": {"name": "c", "items": files}}]}}));
    let claims = named(&|_| json!({"resourceClaimName": "c"}));
    let spec = json!({"containers": [container], "volumes": volumes, "resourceClaims": claims});
    assert_eq!(faults(spec.clone()), Vec::<String>::new());
    assert_eq!(warnings::warnings(&json!({"spec": spec})), Vec::<String>::new());
}

#[test]
fn a_directory_of_the_host_without_a_path_is_told_once() {
    assert_eq!(
        faults(json!({"volumes": [{"name": "v", "hostPath": {"path": "", "type": "Wrong"}}]})),
        ["spec.volumes[0].hostPath.path: Required value"]
    );
}

#[test]
fn a_pod_of_a_nodes_files_claims_nothing_and_needs_an_account_for_tokens() {
    let claim = json!({"name": "a", "resourceClaimName": "b"});
    let token = json!({"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}});
    let mut object = json!({
        "metadata": {"name": "p", "annotations": {MIRROR: "x"}},
        "spec": {
            "containers": [{"name": "c", "image": "i"}], "nodeName": "n", "resourceClaims": [claim.clone(), claim], "volumes": [token],
        },
    });
    crate::registry::core::pod_defaults::spec(&mut object, &["spec"], true);
    let mut causes = Vec::new();
    pod(&object, &mut causes);
    let told: Vec<String> = causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    assert_eq!(
        told,
        [
            "[]: Forbidden: static pods do not support resource claims",
            "[]: Forbidden: static pods do not support resource claims",
            "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set",
        ]
    );
}

#[test]
fn rules_of_an_init_container_are_looked_at_beside_a_policy_only() {
    let init = |policy: Value| {
        let rules = json!([{"action": "Wrong", "exitCodes": {"operator": "In", "values": [1]}}]);
        faults(json!({"initContainers": [
            {"name": "i", "image": "i", "restartPolicy": policy, "restartPolicyRules": rules},
        ]}))
    };
    assert_eq!(
        init(Value::Null),
        [
            "spec.initContainers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used"
        ]
    );
    assert_eq!(
        init(json!("Never")),
        [
            "spec.initContainers[0].restartPolicyRules[0].action: Unsupported value: \"Wrong\": supported values: \"Restart\", \"RestartAllContainers\""
        ]
    );
}

#[test]
fn a_pod_as_a_whole_uses_no_claims() {
    assert_eq!(
        faults(json!({"resources": {"claims": [{"name": "a"}]}})),
        [
            "spec.resources.claims: Forbidden: claims may not be set for Resources at pod-level",
            "spec.resources.claims[0]: Not found: \"a\": must be one of the names in pod.spec.resourceClaims which is empty",
        ]
    );
}
