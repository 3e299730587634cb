//! Values as upstream's internal types show them in messages: every field by its Go name, null or zero where unset.

use martello_api::schema::{Field, Kind, Presence, Schema, Schemas};
use serde_json::{Map, Value, json};

/// Fields whose Go names are more than a capital in front.
const NAMES: [(&str, &str); 38] = [
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
    ("fsType", "FSType"),
    ("gcePersistentDisk", "GCEPersistentDisk"),
    ("gmsaCredentialSpec", "GMSACredentialSpec"),
    ("gmsaCredentialSpecName", "GMSACredentialSpecName"),
    ("grpc", "GRPC"),
    ("hostIPC", "HostIPC"),
    ("httpGet", "HTTPGet"),
    ("httpHeaders", "HTTPHeaders"),
    ("image", "Image"),
    ("initiatorName", "InitiatorName"),
    ("iqn", "IQN"),
    ("iscsi", "ISCSI"),
    ("iscsiInterface", "ISCSIInterface"),
    ("monitors", "CephMonitors"),
    ("nfs", "NFS"),
    ("os", "OS"),
    ("pdName", "PDName"),
    ("pkixPublicKey", "PKIXPublicKey"),
    ("pool", "RBDPool"),
    ("rbd", "RBD"),
    ("scaleIO", "ScaleIO"),
    ("seLinuxOptions", "SELinuxOptions"),
    ("storageos", "StorageOS"),
    ("targetWWNs", "TargetWWNs"),
    ("tty", "TTY"),
    ("uid", "UID"),
    ("wwids", "WWIDs"),
];

/// Types whose fields are declared in another order than protobuf numbers them.
const ORDERS: [(&str, &[&str]); 4] = [
    (
        "io.k8s.api.core.v1.PersistentVolumeClaimSpec",
        &[
            "accessModes",
            "selector",
            "resources",
            "volumeName",
            "storageClassName",
            "volumeMode",
            "dataSource",
            "dataSourceRef",
            "volumeAttributesClassName",
        ],
    ),
    (
        "io.k8s.api.core.v1.SecurityContext",
        &[
            "capabilities",
            "privileged",
            "seLinuxOptions",
            "windowsOptions",
            "runAsUser",
            "runAsGroup",
            "runAsNonRoot",
            "readOnlyRootFilesystem",
            "allowPrivilegeEscalation",
            "procMount",
            "seccompProfile",
            "appArmorProfile",
        ],
    ),
    ("io.k8s.api.core.v1.VolumeResourceRequirements", &["limits", "requests"]),
    ("io.k8s.api.storage.v1.VolumeAttachmentSpec", &["attacher", "source", "nodeName"]),
];

/// `value`, which is of the type `schema`, as the internal type shows it.
#[must_use]
pub fn of(schema: &str, value: &Value) -> Value {
    Schemas::builtin().named(schema).map_or_else(|| value.clone(), |schema| message(schema, value))
}

fn message(schema: &Schema, value: &Value) -> Value {
    let mut fields: Vec<&Field> = schema.fields().iter().collect();
    let order = ORDERS.iter().find(|(name, _)| *name == schema.name).map_or(&[][..], |(_, order)| *order);
    fields.sort_by_key(|field| (order.iter().position(|name| *name == field.name), field.number));
    let shown = fields.into_iter().map(|field| {
        let own = value.get(&*field.name).filter(|own| !own.is_null());
        (go_name(&field.name), own.map_or_else(|| unset(field), |own| set(&field.kind, own)))
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
}
