//! Values as upstream's internal types show them in messages: every field by its Go name, null or zero where unset.

use martello_api::schema::{Field, Kind, Presence, Schema, Schemas};
use serde_json::{Map, Value, json};

use super::internal_order;

/// Fields whose Go names are more than a capital in front.
const NAMES: [(&str, &str); 39] = [
    ("apiGroup", "APIGroup"),
    ("apiVersion", "APIVersion"),
    ("awsElasticBlockStore", "AWSElasticBlockStore"),
    ("cephfs", "CephFS"),
    ("csi", "CSI"),
    ("datasetUUID", "DatasetUUID"),
    ("dnsConfig", "DNSConfig"),
    ("dnsPolicy", "DNSPolicy"),
    ("endpoints", "EndpointsName"),
    ("fc", "FC"),
    ("fsGroup", "FSGroup"),
    ("fsGroupChangePolicy", "FSGroupChangePolicy"),
    ("fsType", "FSType"),
    ("gcePersistentDisk", "GCEPersistentDisk"),
    ("gmsaCredentialSpec", "GMSACredentialSpec"),
    ("gmsaCredentialSpecName", "GMSACredentialSpecName"),
    ("grpc", "GRPC"),
    ("hostIPC", "HostIPC"),
    ("httpGet", "HTTPGet"),
    ("httpHeaders", "HTTPHeaders"),
    ("initiatorName", "InitiatorName"),
    ("ip", "IP"),
    ("iqn", "IQN"),
    ("iscsi", "ISCSI"),
    ("iscsiInterface", "ISCSIInterface"),
    ("nfs", "NFS"),
    ("os", "OS"),
    ("pdName", "PDName"),
    ("pkixPublicKey", "PKIXPublicKey"),
    ("rbd", "RBD"),
    ("scaleIO", "ScaleIO"),
    ("seLinuxChangePolicy", "SELinuxChangePolicy"),
    ("seLinuxOptions", "SELinuxOptions"),
    ("storageos", "StorageOS"),
    ("targetWWNs", "TargetWWNs"),
    ("tcpSocket", "TCPSocket"),
    ("tty", "TTY"),
    ("uid", "UID"),
    ("wwids", "WWIDs"),
];

/// Fields whose Go names are others in the types of this sort of volume alone.
const RBD: [(&str, &str); 4] =
    [("monitors", "CephMonitors"), ("image", "RBDImage"), ("pool", "RBDPool"), ("user", "RadosUser")];

/// Types that upstream has no internal form of.
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const POD_SPEC: &str = "io.k8s.api.core.v1.PodSpec";
/// Fields of a pod spec that the internal one has in its security context.
const OF_THE_HOST: [&str; 5] = ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers"];

/// `value`, which is of the type `schema`, as the internal type shows it.
#[must_use]
pub fn of(schema: &str, value: &Value) -> Value {
    Schemas::builtin().named(schema).map_or_else(|| value.clone(), |schema| message(schema, value))
}

fn message(schema: &Schema, value: &Value) -> Value {
    if schema.name.starts_with(META) {
        return external(schema, value);
    }
    let mut fields: Vec<&Field> = schema.fields().iter().collect();
    fields.sort_by_key(|field| (internal_order::place(&schema.name, &field.name), field.number));
    let is_pod = *schema.name == *POD_SPEC;
    let mut shown = Map::new();
    for field in fields {
        let own = value.get(&*field.name).filter(|own| !own.is_null());
        match (&*field.name, &field.kind) {
            // Upstream's types have the fields of their metadata as their own.
            ("metadata", Kind::Message(link)) => {
                if let Value::Object(inner) = external(link.get(), own.unwrap_or(&Value::Null)) {
                    shown.extend(inner);
                }
            }
            ("securityContext", Kind::Message(link)) if is_pod => {
                shown.insert("SecurityContext".to_owned(), pod_security(schema, link.get(), value));
            }
            (name, _) if is_pod && (name == "serviceAccount" || OF_THE_HOST.contains(&name)) => {}
            (name, kind) => {
                let of_rbd = RBD.iter().find(|(json, _)| *json == name && schema.name.contains(".RBD"));
                let go = of_rbd.map_or_else(|| go_name(name), |(_, go)| (*go).to_owned());
                shown.insert(go, own.map_or_else(|| unset(field), |own| set(kind, own)));
            }
        }
    }
    Value::Object(shown)
}

/// The security context of a pod, with what the pod shares with its host.
fn pod_security(pod: &Schema, context: &Schema, spec: &Value) -> Value {
    let given = |name: &str| spec.get(name).filter(|own| !own.is_null());
    let mut shown = Map::new();
    for name in OF_THE_HOST {
        if let Some(field) = pod.fields().iter().find(|field| *field.name == *name) {
            shown.insert(go_name(name), given(name).cloned().unwrap_or_else(|| unset(field)));
        }
    }
    if let Value::Object(own) = message(context, given("securityContext").unwrap_or(&Value::Null)) {
        shown.extend(own);
    }
    Value::Object(shown)
}

/// A value by its names in JSON, in the order of the fields, without what need not be set.
fn external(schema: &Schema, value: &Value) -> Value {
    let mut fields: Vec<&Field> = schema.fields().iter().collect();
    fields.sort_by_key(|field| (internal_order::place(&schema.name, &field.name), field.number));
    let shown = fields.into_iter().filter_map(|field| {
        let own = match (&field.kind, value.get(&*field.name)) {
            (_, None | Some(Value::Null)) if field.presence == Presence::Always => unset(field),
            (_, None | Some(Value::Null)) => return None,
            (Kind::List(_), Some(Value::Array(items))) if items.is_empty() => return None,
            (Kind::Map(_), Some(Value::Object(entries))) if entries.is_empty() => return None,
            (kind, Some(own)) => set(kind, own),
        };
        Some((field.name.to_string(), own))
    });
    Value::Object(shown.collect())
}

fn set(kind: &Kind, value: &Value) -> Value {
    match (kind, value) {
        (Kind::Message(link), value) => message(link.get(), value),
        (Kind::List(list), Value::Array(items)) => {
            if items.is_empty() {
                Value::Null
            } else {
                items.iter().map(|item| set(&list.item, item)).collect()
            }
        }
        (Kind::Map(map), Value::Object(entries)) => {
            if entries.is_empty() {
                return Value::Null;
            }
            let mut sorted: Vec<(&String, &Value)> = entries.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            let shown = sorted.into_iter().map(|(key, value)| (key.clone(), set(&map.value, value)));
            Value::Object(shown.collect::<Map<_, _>>())
        }
        (_, value) => value.clone(),
    }
}

fn unset(field: &Field) -> Value {
    match (&field.kind, field.presence) {
        (Kind::List(_) | Kind::Map(_), _) | (_, Presence::Optional | Presence::Null) => Value::Null,
        (Kind::Message(link), _) => message(link.get(), &Value::Null),
        (Kind::Bool, _) => json!(false),
        (Kind::Int32 | Kind::Int64 | Kind::Double, _) => json!(0),
        (Kind::String | Kind::Bytes, _) => json!(""),
        (Kind::Quantity, _) => json!("0"),
        _ => Value::Null,
    }
}

fn go_name(name: &str) -> String {
    if let Some((_, go)) = NAMES.iter().find(|(json, _)| *json == name) {
        return (*go).to_owned();
    }
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_types_show_what_is_unset() {
        let spec = json!({"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "pv"}});
        assert_eq!(
            of("io.k8s.api.storage.v1.VolumeAttachmentSpec", &spec).to_string(),
            r#"{"Attacher":"a","Source":{"PersistentVolumeName":"pv","InlineVolumeSpec":null},"NodeName":"n"}"#
        );
    }

    #[test]
    fn what_has_no_internal_type_is_shown_as_it_is_declared() {
        let owner = json!({"uid": "u", "controller": true, "kind": "K", "apiVersion": "v1"});
        assert_eq!(
            of("io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference", &owner).to_string(),
            r#"{"apiVersion":"v1","kind":"K","name":"","uid":"u","controller":true}"#
        );
        let selector = json!({"matchExpressions": [{"values": ["v"], "operator": "In", "key": "k"}, {"key": "e"}],
            "matchLabels": {"z": "1", "a": "2"}});
        assert_eq!(
            of("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector", &selector).to_string(),
            concat!(
                r#"{"matchLabels":{"a":"2","z":"1"},"matchExpressions":[{"key":"k","operator":"In","values":["v"]},"#,
                r#"{"key":"e","operator":""}]}"#
            )
        );
    }

    #[test]
    fn a_template_shows_its_metadata_as_its_own_and_its_pod_as_upstream_declares_it() {
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Never", "hostNetwork": true,
            "serviceAccount": "s", "serviceAccountName": "s", "containers": [{"name": "c", "image": "i:2"}]}});
        let shown = of("io.k8s.api.core.v1.PodTemplateSpec", &template).to_string();
        let container = r#"{"Name":"c","Image":"i:2","Command":null,"Args":null,"WorkingDir":"","Ports":null,"EnvFrom":null,"Env":null,"Resources":{"Limits":null,"Requests":null,"Claims":null},"ResizePolicy":null,"RestartPolicy":null,"RestartPolicyRules":null,"VolumeMounts":null,"VolumeDevices":null,"LivenessProbe":null,"ReadinessProbe":null,"StartupProbe":null,"Lifecycle":null,"TerminationMessagePath":"","TerminationMessagePolicy":"","ImagePullPolicy":"","SecurityContext":null,"Stdin":false,"StdinOnce":false,"TTY":false}"#;
        let start = r#"{"labels":{"a":"b"},"Spec":{"Volumes":null,"InitContainers":null,"Containers":["#;
        let middle = r#"],"EphemeralContainers":null,"RestartPolicy":"Never","TerminationGracePeriodSeconds":null,"ActiveDeadlineSeconds":null,"DNSPolicy":"","NodeSelector":null,"ServiceAccountName":"s","AutomountServiceAccountToken":null,"NodeName":"","SecurityContext":{"HostNetwork":true,"HostPID":false,"HostIPC":false,"ShareProcessNamespace":null,"HostUsers":null,"SELinuxOptions":null,"WindowsOptions":null,"RunAsUser":null,"RunAsGroup":null,"RunAsNonRoot":null,"SupplementalGroups":null,"SupplementalGroupsPolicy":null,"FSGroup":null,"FSGroupChangePolicy":null,"Sysctls":null,"SeccompProfile":null,"AppArmorProfile":null,"SELinuxChangePolicy":null}"#;
        let end = r#","ImagePullSecrets":null,"Hostname":"","Subdomain":"","SetHostnameAsFQDN":null,"Affinity":null,"SchedulerName":"","Tolerations":null,"HostAliases":null,"PriorityClassName":"","Priority":null,"PreemptionPolicy":null,"DNSConfig":null,"ReadinessGates":null,"RuntimeClassName":null,"Overhead":null,"EnableServiceLinks":null,"TopologySpreadConstraints":null,"OS":null,"SchedulingGates":null,"ResourceClaims":null,"Resources":null,"HostnameOverride":null,"SchedulingGroup":null}}"#;
        assert_eq!(shown, format!("{start}{container}{middle}{end}"));
    }

    #[test]
    fn a_pool_has_its_odd_name_in_volumes_alone() {
        let result = of("io.k8s.api.resource.v1.DeviceRequestAllocationResult", &json!({"pool": "p"}));
        assert_eq!(result["Pool"], "p");
        let volume = of("io.k8s.api.core.v1.RBDPersistentVolumeSource", &json!({"pool": "p", "monitors": ["m"]}));
        assert_eq!(volume["RBDPool"], "p");
        assert_eq!(volume["CephMonitors"], json!(["m"]));
    }

    #[test]
    fn types_of_the_machinery_keep_their_names() {
        let spec = json!({"selector": {"matchLabels": {"a": "b"}, "matchExpressions": []}});
        let shown = of("io.k8s.api.core.v1.PersistentVolumeClaimSpec", &spec);
        assert_eq!(shown["Selector"].to_string(), r#"{"matchLabels":{"a":"b"}}"#);
    }
}
