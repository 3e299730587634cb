#!/usr/bin/env python3
"""Writes api/src/schema/builtin.txt, the table of facts about every built-in type of the Kubernetes API.

    builtin.py FOLDER > ../src/schema/builtin.txt

FOLDER holds swagger.json, openapi-v3/*.json and protobuf.json of one Kubernetes version. The table holds facts only:
names, types, numbers, defaults and merge semantics, never descriptions. Its format is told in api/src/schema/table.rs.
"""
import glob
import json
import os
import sys

# What OpenAPI does not tell: optional scalars that Go holds by pointer, so that a zero value that was given is kept.
# `Type.field`, or `group/Type.field` where two groups have a type of one name, or `group/version/Type.field`; `Type.*` for
# all scalars of a type.
POINTERS = """
CronJobSpec.suspend JobSpec.* CSIVolumeSource.readOnly CSIVolumeSource.fsType ClusterTrustBundleProjection.optional
ClusterTrustBundleProjection.name ClusterTrustBundleProjection.signerName
ConfigMap.immutable Secret.immutable ConfigMapEnvSource.optional ConfigMapKeySelector.optional ConfigMapProjection.optional
ConfigMapVolumeSource.optional SecretEnvSource.optional SecretKeySelector.optional SecretProjection.optional
SecretVolumeSource.optional ContainerStatus.started ContainerStatus.stopSignal NodeFeatures.* NodeRuntimeHandlerFeatures.*
PodSecurityContext.* PodSpec.automountServiceAccountToken PodSpec.enableServiceLinks PodSpec.hostUsers
PodSpec.setHostnameAsFQDN PodSpec.shareProcessNamespace PodSpec.activeDeadlineSeconds PodSpec.priority
PodSpec.terminationGracePeriodSeconds PodSpec.hostnameOverride PodSpec.preemptionPolicy PodSpec.runtimeClassName
SecurityContext.* ServiceAccount.automountServiceAccountToken ServiceSpec.allocateLoadBalancerNodePorts
ServiceSpec.internalTrafficPolicy ServiceSpec.ipFamilyPolicy ServiceSpec.loadBalancerClass ServiceSpec.trafficDistribution
WindowsSecurityContextOptions.* EndpointConditions.* Device.allNodes Device.allowMultipleAllocations Device.bindsToNode
Device.nodeName DeviceAttribute.* DeviceRequestAllocationResult.* ExactDeviceRequest.adminAccess ResourceSliceSpec.*
CSIDriverSpec.* StorageClass.* ValidationRule.optionalOldSelf ValidationRule.reason
JSONSchemaProps.x-kubernetes-preserve-unknown-fields JSONSchemaProps.x-kubernetes-list-type
JSONSchemaProps.x-kubernetes-map-type JSONSchemaProps.$ref JSONSchemaProps.maxItems JSONSchemaProps.maxLength
JSONSchemaProps.maxProperties JSONSchemaProps.minItems JSONSchemaProps.minLength JSONSchemaProps.minProperties
JSONSchemaProps.maximum JSONSchemaProps.minimum JSONSchemaProps.multipleOf
DeleteOptions.* Preconditions.* OwnerReference.blockOwnerDeletion OwnerReference.controller
MutatingWebhook.* ValidatingWebhook.* ServiceReference.port ServiceReference.path WebhookClientConfig.url
MatchResources.matchPolicy ValidatingAdmissionPolicySpec.failurePolicy MutatingAdmissionPolicySpec.failurePolicy
NamedRuleWithOperations.scope RuleWithOperations.scope ParamRef.parameterNotFoundAction Validation.reason
DaemonSetSpec.revisionHistoryLimit DaemonSetStatus.collisionCount DeploymentSpec.progressDeadlineSeconds
DeploymentSpec.replicas DeploymentSpec.revisionHistoryLimit DeploymentStatus.collisionCount
DeploymentStatus.terminatingReplicas ReplicaSetSpec.replicas ReplicaSetStatus.terminatingReplicas
RollingUpdateStatefulSetStrategy.partition StatefulSetSpec.replicas StatefulSetSpec.revisionHistoryLimit
StatefulSetStatus.collisionCount TokenRequestSpec.expirationSeconds storage/TokenRequest.expirationSeconds
HorizontalPodAutoscalerSpec.* HorizontalPodAutoscalerStatus.currentCPUUtilizationPercentage
HorizontalPodAutoscalerStatus.observedGeneration HPAScalingRules.* MetricTarget.averageUtilization
MetricValueStatus.averageUtilization CronJobSpec.failedJobsHistoryLimit CronJobSpec.startingDeadlineSeconds
CronJobSpec.successfulJobsHistoryLimit CronJobSpec.timeZone JobStatus.ready JobStatus.terminating JobStatus.failedIndexes
SuccessPolicyRule.* PodFailurePolicyOnExitCodesRequirement.containerName CertificateSigningRequestSpec.expirationSeconds
LeaseSpec.* ClientIPConfig.timeoutSeconds ConfigMapVolumeSource.defaultMode SecretVolumeSource.defaultMode
ProjectedVolumeSource.defaultMode DownwardAPIVolumeSource.defaultMode DownwardAPIVolumeFile.mode KeyToPath.mode
FCVolumeSource.lun NodeSwapStatus.capacity PodCertificateProjection.maxExpirationSeconds Probe.terminationGracePeriodSeconds
ServiceAccountTokenProjection.expirationSeconds Toleration.tolerationSeconds TopologySpreadConstraint.*
discovery/EndpointPort.* core/EndpointPort.appProtocol ExemptPriorityLevelConfiguration.* LimitedPriorityLevelConfiguration.*
NetworkPolicyPort.endPort NetworkPolicyPort.protocol DeviceToleration.tolerationSeconds VolumeError.errorCode
VolumeNodeResources.count ListMeta.remainingItemCount ObjectMeta.deletionGracePeriodSeconds
AppArmorProfile.localhostProfile SeccompProfile.localhostProfile AzureFilePersistentVolumeSource.secretNamespace
Container.restartPolicy EphemeralContainer.restartPolicy Lifecycle.stopSignal EndpointAddress.nodeName
HostPathVolumeSource.type ISCSIPersistentVolumeSource.initiatorName ISCSIVolumeSource.initiatorName
LoadBalancerIngress.ipMode LocalVolumeSource.fsType PersistentVolumeClaimSpec.storageClassName
PersistentVolumeClaimSpec.volumeAttributesClassName PersistentVolumeClaimSpec.volumeMode
PersistentVolumeClaimStatus.currentVolumeAttributesClassName PersistentVolumeSpec.volumeAttributesClassName
PersistentVolumeSpec.volumeMode PodDNSConfigOption.value PodResourceClaim.resourceClaimName
PodResourceClaim.resourceClaimTemplateName PodResourceClaimStatus.resourceClaimName PodSchedulingGroup.podGroupName
PortStatus.error IngressPortStatus.error ServicePort.appProtocol TypedObjectReference.namespace VolumeMount.mountPropagation
VolumeMount.recursiveReadOnly VolumeMountStatus.recursiveReadOnly discovery/Endpoint.* IngressClassParametersReference.*
IngressSpec.ingressClassName PodDisruptionBudgetSpec.unhealthyPodEvictionPolicy DeviceClassSpec.extendedResourceName
DeviceConstraint.* AllocatedDeviceStatus.shareID NodeAllocatableResourceMapping.capacityKey PriorityClass.preemptionPolicy
VolumeAttachmentSource.persistentVolumeName CustomResourceDefinitionVersion.deprecationWarning
CustomResourceSubresourceScale.labelSelectorPath HTTPIngressPath.pathType
BasicDevice.* resource/v1beta1/DeviceRequest.adminAccess DeviceTaintSelector.* PoolStatus.nodeName
PoolStatus.totalDevices PoolStatus.allocatedDevices PoolStatus.availableDevices PoolStatus.unavailableDevices
PoolStatus.resourceSliceCount PoolStatus.validationError ResourcePoolStatusRequestSpec.poolName
ResourcePoolStatusRequestStatus.poolCount StorageVersionStatus.commonEncodingVersion
PodGroupResourceClaim.resourceClaimName PodGroupResourceClaim.resourceClaimTemplateName
PodGroupResourceClaimStatus.resourceClaimName PodGroupSpec.priority PodGroupTemplate.priority
PodGroupTemplate.disruptionMode
""".split()

# Exceptions from the above: scalars of one version that Go holds by value.
VALUES = """
resource/v1beta1/ResourceSliceSpec.nodeName resource/v1beta1/ResourceSliceSpec.allNodes
""".split()

# Written as null where nothing is set: Go fields without omitempty whose zero value is nil, and times held by value.
NULLS = """
core/Event.eventTime core/Event.firstTimestamp core/Event.lastTimestamp events/Event.eventTime
events/Event.deprecatedFirstTimestamp events/Event.deprecatedLastTimestamp EventSeries.lastObservedTime
ClusterRole.rules Role.rules EndpointSlice.endpoints EndpointSlice.ports CSINodeDriver.topologyKeys
CustomResourceDefinitionStatus.conditions CustomResourceDefinitionStatus.storedVersions
HorizontalPodAutoscalerStatus.currentMetrics TokenRequestSpec.boundObjectRef core/TypedLocalObjectReference.apiGroup
TypedObjectReference.apiGroup ContainerStateRunning.startedAt ContainerStateTerminated.startedAt
ContainerStateTerminated.finishedAt TokenRequestStatus.expirationTimestamp VolumeError.time
""".split()
NULL_TIMES = {"lastTransitionTime", "lastUpdateTime", "lastProbeTime", "lastHeartbeatTime"}

# Have a default in OpenAPI and yet vanish when empty: Go writes them with omitempty (or omitzero).
OMITTED = """
ScaleSpec.replicas ReplicationControllerSpec.minReadySeconds SelfSubjectReviewStatus.userInfo
ValidatingAdmissionPolicyBindingSpec.validationActions
""".split()

SCALARS = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "q",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "o",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "t",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "u",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "x",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch": "x",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "x",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON": "j",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray": "j",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool": "j",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray": "j",
}
FORMATS = {
    ("string", None): "s", ("string", "byte"): "y", ("boolean", None): "b", ("integer", "int32"): "i",
    ("integer", "int64"): "l", ("number", "double"): "d", ("object", None): "x", (None, None): "j",
    ("string", "int-or-string"): "o", ("string", "date-time"): "t",
}


def load(folder):
    swagger = json.load(open(os.path.join(folder, "swagger.json")))["definitions"]
    third = {}
    for name in sorted(glob.glob(os.path.join(folder, "openapi-v3", "*.json"))):
        for key, value in json.load(open(name)).get("components", {}).get("schemas", {}).items():
            third.setdefault(key, value)
    return swagger, third, json.load(open(os.path.join(folder, "protobuf.json")))


def target(node):
    found = node.get("$ref") or (node.get("allOf") or [{}])[0].get("$ref")
    return found.rsplit("/", 1)[-1] if found else None


def code(node, ids):
    name = target(node)
    if name:
        return SCALARS.get(name) or "@%d" % ids[name]
    if node.get("type") == "array":
        return "[" + code(node["items"], ids)
    if isinstance(node.get("additionalProperties"), dict):
        return "{" + code(node["additionalProperties"], ids)
    return FORMATS[(node.get("type"), node.get("format"))]


def listed(table, name, field):
    parts = name.split(".")
    group, version, short = parts[-3:]
    owners = (short, f"{group}/{short}", f"{group}/{version}/{short}")
    keys = {f"{owner}.{which}" for owner in owners for which in (field, "*")}
    return any(key in table for key in keys)


# Fields whose Go tags and types say otherwise than the rules below would have it.
EXACT = {
    "n": """
admissionregistration.v1.MutatingWebhook.sideEffects admissionregistration.v1.ValidatingWebhook.sideEffects
authentication.v1.TokenRequestSpec.audiences authentication.v1.TokenRequestSpec.expirationSeconds
certificates.v1beta1.PodCertificateRequestSpec.pkixPublicKey
certificates.v1beta1.PodCertificateRequestSpec.proofOfPossession
core.v1.AzureFilePersistentVolumeSource.secretNamespace core.v1.ContainerImage.names
core.v1.ProjectedVolumeSource.sources flowcontrol.v1.LimitedPriorityLevelConfiguration.nominalConcurrencyShares
flowcontrol.v1.ResourcePolicyRule.namespaces networking.v1.HTTPIngressPath.pathType
networking.v1.IngressClassParametersReference.scope resource.v1.AllocatedDeviceStatus.conditions
resource.v1.CapacityRequestPolicy.default resource.v1.DeviceClaim.requests
resource.v1beta1.AllocatedDeviceStatus.conditions resource.v1beta1.CapacityRequestPolicy.default
resource.v1beta1.DeviceClaim.requests resource.v1beta2.AllocatedDeviceStatus.conditions
resource.v1beta2.CapacityRequestPolicy.default resource.v1beta2.DeviceClaim.requests
scheduling.v1alpha2.PodGroupSpec.podGroupTemplateRef scheduling.v1alpha2.PodGroupTemplate.schedulingConstraints
scheduling.v1alpha2.PodGroupTemplateReference.workload
    """.split(),
    "o": """
apiserverinternal.v1alpha1.ServerStorageVersion.decodableVersions core.v1.ConfigMapEnvSource.name
core.v1.ConfigMapKeySelector.name core.v1.ConfigMapProjection.name core.v1.ConfigMapVolumeSource.name
core.v1.LocalObjectReference.name core.v1.SecretEnvSource.name core.v1.SecretKeySelector.name
core.v1.SecretProjection.name resource.v1.CounterSet.counters resource.v1.DeviceCounterConsumption.counters
resource.v1beta1.CounterSet.counters resource.v1beta1.DeviceCounterConsumption.counters
resource.v1beta2.CounterSet.counters resource.v1beta2.DeviceCounterConsumption.counters
    """.split(),
    "p": """
autoscaling.v2.HPAScalingRules.policies core.v1.GlusterfsPersistentVolumeSource.endpointsNamespace
core.v1.ResourceHealth.message
    """.split(),
    "v": """
admissionregistration.v1.MutatingWebhook.name admissionregistration.v1.ValidatingWebhook.name
autoscaling.v1.HorizontalPodAutoscalerSpec.maxReplicas autoscaling.v2.HorizontalPodAutoscalerSpec.maxReplicas
core.v1.TopologySpreadConstraint.maxSkew core.v1.TopologySpreadConstraint.topologyKey
core.v1.TopologySpreadConstraint.whenUnsatisfiable networking.v1.IngressClassParametersReference.name
resource.v1.DeviceRequestAllocationResult.device resource.v1.DeviceRequestAllocationResult.driver
resource.v1.DeviceRequestAllocationResult.pool resource.v1.DeviceRequestAllocationResult.request
resource.v1.ResourceSliceSpec.driver resource.v1beta1.DeviceRequestAllocationResult.device
resource.v1beta1.DeviceRequestAllocationResult.driver resource.v1beta1.DeviceRequestAllocationResult.pool
resource.v1beta1.DeviceRequestAllocationResult.request resource.v1beta1.ResourceSliceSpec.driver
resource.v1beta2.DeviceRequestAllocationResult.device resource.v1beta2.DeviceRequestAllocationResult.driver
resource.v1beta2.DeviceRequestAllocationResult.pool resource.v1beta2.DeviceRequestAllocationResult.request
resource.v1beta2.ResourceSliceSpec.driver storage.v1.StorageClass.provisioner
    """.split(),
}


def presence(name, field, node, required, kind):
    short = f"{name.rsplit('.', 1)[-1]}.{field}"
    own = name.removeprefix("io.k8s.api.") + "." + field
    for exact, fields in EXACT.items():
        if own in fields:
            return exact
    if listed(NULLS, name, field) or (kind == "t" and field in NULL_TIMES):
        return "n"
    if short in OMITTED:
        return "o"
    if kind in "tuj" or kind[0] in "@qox":
        if kind == "q" and field == "divisor":
            return "v"
        return "v" if "default" in node else ("n" if required else "p")
    if kind[0] in "[{" or kind == "y":
        return "n" if required else "o"
    if listed(POINTERS, name, field) and not listed(VALUES, name, field):
        return "p"
    return "v" if "default" in node else "o"


def proto_name(name):
    for ours, theirs in (("io.k8s.api.", "k8s.io.api."), ("io.k8s.apimachinery.", "k8s.io.apimachinery."),
                         ("io.k8s.apiextensions-apiserver.", "k8s.io.apiextensions_apiserver."),
                         ("io.k8s.kube-aggregator.", "k8s.io.kube_aggregator.")):
        if name.startswith(ours):
            return theirs + name[len(ours):]
    return name


def number(proto, name, field, known, listing):
    """The field's number; of a field of an embedded message, and of a list that is a message of its own
    (`APIResource.verbs`): the embedded message's number, a dot, its own."""
    message = proto.get(proto_name(name), {})
    if field in message:
        inner = proto.get(message[field].get("type", ""), {})
        if listing and list(inner) == ["items"]:
            return "%d.%d" % (message[field]["number"], inner["items"]["number"])
        return str(message[field]["number"])
    for outer, entry in message.items():
        if outer not in known and field in proto.get(entry.get("type", ""), {}):
            return "%d.%d" % (entry["number"], proto[entry["type"]][field]["number"])
    return "0"


def main():
    swagger, third, proto = load(sys.argv[1])
    names = [n for n in sorted(third) if "properties" in third[n] or n not in SCALARS]
    ids = {n: i for i, n in enumerate(names)}
    # What Go calls a type that has a name of its own, and what structs a field is embedded with: decoding errors tell it.
    with open(os.path.join(os.path.dirname(__file__), "go_types.txt"), encoding="utf-8") as lines:
        types = {field: flags for field, *flags in (line.rstrip("\n").split("\t") for line in lines)}
    for name in names:
        node, old = third[name], swagger.get(name, {})
        kinds = ["/".join((g["group"], g["version"], g["kind"])) for g in node.get("x-kubernetes-group-version-kind", [])]
        kinds += [k for k in ("/".join((g["group"], g["version"], g["kind"])) for g in old.get("x-kubernetes-group-version-kind", [])) if k not in kinds]
        flags = [f"m={node['x-kubernetes-map-type']}"] if "x-kubernetes-map-type" in node else []
        if "x-kubernetes-unions" in node:
            flags.append("u=" + json.dumps(node["x-kubernetes-unions"], separators=(",", ":")))
        print("\t".join(["=" + name, ",".join(kinds), *flags]))
        fields = node.get("properties", {})
        for field, value in sorted(fields.items()):
            kind, required = code(value, ids), field in node.get("required", [])
            row = [field, number(proto, name, field, fields, kind[0] == "["), kind, presence(name, field, value, required, kind) + ("!" if required else "")]
            default = value.get("default")
            omitted = default == "" and row[3].startswith("o")
            if default not in (None, "", 0, False, {}) or omitted:
                row.append("d=" + json.dumps(default))
            if "x-kubernetes-map-type" in value:
                row.append("m=" + value["x-kubernetes-map-type"])
            shape = value.get("x-kubernetes-list-type")
            if shape:
                keys = value.get("x-kubernetes-list-map-keys")
                row.append("l=" + shape + (":" + ",".join(keys) if keys else ""))
            if "x-kubernetes-patch-strategy" in value:
                row.append("p=" + value["x-kubernetes-patch-strategy"])
            if "x-kubernetes-patch-merge-key" in value:
                row.append("k=" + value["x-kubernetes-patch-merge-key"])
            row += types.get(f"{name}.{field}", [])
            print("\t".join(row))


main()
