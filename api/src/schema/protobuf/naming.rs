//! What Go calls fields and messages, which the objections to malformed protobuf name.

use super::super::{Field, Kind, Schema};

/// What Go calls a field.
pub(super) fn field(schema: &Schema, field: &Field) -> String {
    let known = match (schema.short_name(), &*field.name) {
        (list, "metadata") if list.ends_with("List") => "ListMeta",
        (_, "metadata") => "ObjectMeta",
        (message, name) if message.starts_with("RBD") => of_rbd(name),
        ("DeviceAttribute", name) => of_attribute(name),
        ("AzureDiskVolumeSource", "diskURI") => "DataDiskURI",
        ("ContainerStatus", "lastState") => "LastTerminationState",
        ("GlusterfsVolumeSource" | "GlusterfsPersistentVolumeSource", "endpoints") => "EndpointsName",
        ("NodeSpec", "externalID") => "DoNotUseExternalID",
        ("Event", "reportingComponent") => "ReportingController",
        ("PodSpec", "serviceAccount") => "DeprecatedServiceAccount",
        (_, name) => irregular(name),
    };
    if !known.is_empty() {
        return known.to_owned();
    }
    let mut letters = field.name.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

fn of_rbd(name: &str) -> &'static str {
    match name {
        "image" => "RBDImage",
        "monitors" => "CephMonitors",
        "pool" => "RBDPool",
        "user" => "RadosUser",
        name => irregular(name),
    }
}

fn of_attribute(name: &str) -> &'static str {
    match name {
        "bool" => "BoolValue",
        "int" => "IntValue",
        "string" => "StringValue",
        "version" => "VersionValue",
        _ => "",
    }
}

/// Names that are more than their first letter made large; nothing for the others.
fn irregular(name: &str) -> &'static str {
    match name {
        "$ref" => "Ref",
        "$schema" => "Schema",
        "apiGroup" => "APIGroup",
        "apiGroups" => "APIGroups",
        "apiServerID" => "APIServerID",
        "apiVersion" => "APIVersion",
        "apiVersions" => "APIVersions",
        "awsElasticBlockStore" => "AWSElasticBlockStore",
        "caBundle" => "CABundle",
        "cel" => "CEL",
        "cephfs" => "CephFS",
        "chapAuthDiscovery" => "DiscoveryCHAPAuth",
        "chapAuthSession" => "SessionCHAPAuth",
        "cidr" => "CIDR",
        "cidrs" => "CIDRs",
        "csi" => "CSI",
        "dnsConfig" => "DNSConfig",
        "dnsPolicy" => "DNSPolicy",
        "fc" => "FC",
        "fsGroup" => "FSGroup",
        "fsGroupChangePolicy" => "FSGroupChangePolicy",
        "fsGroupPolicy" => "FSGroupPolicy",
        "fsType" => "FSType",
        "gcePersistentDisk" => "GCEPersistentDisk",
        "gid" => "GID",
        "gmsaCredentialSpec" => "GMSACredentialSpec",
        "gmsaCredentialSpecName" => "GMSACredentialSpecName",
        "grpc" => "GRPC",
        "http" => "HTTP",
        "httpGet" => "HTTPGet",
        "httpHeaders" => "HTTPHeaders",
        "id" => "ID",
        "ip" => "IP",
        "ipBlock" => "IPBlock",
        "ipFamilies" => "IPFamilies",
        "ipFamilyPolicy" => "IPFamilyPolicy",
        "ipMode" => "IPMode",
        "ips" => "IPs",
        "iqn" => "IQN",
        "iscsi" => "ISCSI",
        "iscsiInterface" => "ISCSIInterface",
        "jsonPatch" => "JSONPatch",
        "jsonPath" => "JSONPath",
        "nfs" => "NFS",
        "os" => "OS",
        "osImage" => "OSImage",
        "pdName" => "PDName",
        "pkixPublicKey" => "PKIXPublicKey",
        "qosClass" => "QOSClass",
        "rbd" => "RBD",
        "seLinuxChangePolicy" => "SELinuxChangePolicy",
        "seLinuxMount" => "SELinuxMount",
        "seLinuxOptions" => "SELinuxOptions",
        "sslEnabled" => "SSLEnabled",
        "storageos" => "StorageOS",
        "tcpSocket" => "TCPSocket",
        "tls" => "TLS",
        "ttlSecondsAfterFinished" => "TTLSecondsAfterFinished",
        "tty" => "TTY",
        "uid" => "UID",
        "url" => "URL",
        "wwids" => "WWIDs",
        "x-kubernetes-embedded-resource" => "XEmbeddedResource",
        "x-kubernetes-int-or-string" => "XIntOrString",
        "x-kubernetes-list-map-keys" => "XListMapKeys",
        "x-kubernetes-list-type" => "XListType",
        "x-kubernetes-map-type" => "XMapType",
        "x-kubernetes-preserve-unknown-fields" => "XPreserveUnknownFields",
        "x-kubernetes-validations" => "XValidations",
        _ => "",
    }
}

/// What Go calls a message that JSON does not know, and the field that holds it: both bear one name.
pub(super) fn inside(schema: &Schema, level: usize) -> &'static str {
    match (schema.short_name(), level) {
        ("Volume", _) => "VolumeSource",
        ("PersistentVolumeSpec", _) => "PersistentVolumeSource",
        ("Probe", _) => "ProbeHandler",
        ("EphemeralContainer", _) => "EphemeralContainerCommon",
        ("IngressRule", _) => "IngressRuleValue",
        ("NamedRuleWithOperations", 0) => "RuleWithOperations",
        ("NamedRuleWithOperations" | "RuleWithOperations", _) => "Rule",
        (device, _) if device.starts_with("Device") => "DeviceConfiguration",
        _ => "LocalObjectReference",
    }
}

/// What Go calls the message that holds a value of another shape.
pub(super) fn wrapper(schema: &Schema, field: &Field) -> &'static str {
    match (&field.kind, &*field.name) {
        (_, "fieldsV1") => "FieldsV1",
        (Kind::Any | Kind::List(_) | Kind::Map(_), _) if schema.short_name() == "JSONSchemaProps" => "JSON",
        (Kind::Map(_), _) => "ExtraValue",
        _ => "RawExtension",
    }
}
