//! What OpenAPI says about types and fields in words: taken at run time from the typed structs' own JSON schemas.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::{api, apiextensions_apiserver, apimachinery, kube_aggregator};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

/// The words for a set of types.
#[derive(Debug, Default)]
pub struct Descriptions {
    types: HashMap<String, Words>,
}

#[derive(Debug, Default)]
struct Words {
    own: String,
    fields: HashMap<String, String>,
}

impl Descriptions {
    /// Of the built-in types with these names, and of all that they hold.
    #[must_use]
    pub fn of(names: &BTreeSet<&str>) -> Self {
        let mut generator = SchemaGenerator::default();
        for (name, visit) in ROOTS {
            if names.contains(&*name()) {
                visit(&mut generator);
            }
        }
        let types =
            generator.take_definitions(false).into_iter().map(|(name, schema)| (name, words(&schema))).collect();
        Self { types }
    }

    /// What a type is for; empty where nobody says.
    #[must_use]
    pub fn of_type(&self, name: &str) -> &str {
        self.types.get(name).map_or("", |words| &words.own)
    }

    /// What a field is for; empty where nobody says.
    #[must_use]
    pub fn of_field(&self, name: &str, field: &str) -> &str {
        self.types.get(name).and_then(|words| words.fields.get(field)).map_or("", String::as_str)
    }
}

fn words(schema: &Value) -> Words {
    let text = |value: &Value| value.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    let fields = schema.get("properties").and_then(Value::as_object);
    Words {
        own: text(schema),
        fields: fields.into_iter().flatten().map(|(name, field)| (name.clone(), text(field))).collect(),
    }
}

type Root = (fn() -> std::borrow::Cow<'static, str>, fn(&mut SchemaGenerator));

macro_rules! roots {
    ($($root:ty,)*) => {
        &[$((<$root as JsonSchema>::schema_name, |generator| {
            let _reference = generator.subschema_for::<$root>();
        })),*]
    };
}

/// Every built-in kind, and what calls speak besides.
static ROOTS: &[Root] = roots![
    apimachinery::pkg::apis::meta::v1::DeleteOptions,
    apimachinery::pkg::apis::meta::v1::Patch,
    apimachinery::pkg::apis::meta::v1::Status,
    apimachinery::pkg::apis::meta::v1::ListMeta,
    apimachinery::pkg::apis::meta::v1::APIGroup,
    apimachinery::pkg::apis::meta::v1::APIGroupList,
    apimachinery::pkg::apis::meta::v1::APIResourceList,
    apimachinery::pkg::apis::meta::v1::APIVersions,
    apimachinery::pkg::apis::meta::v1::WatchEvent<apimachinery::pkg::runtime::RawExtension>,
    apimachinery::pkg::runtime::RawExtension,
    apimachinery::pkg::version::Info,
    api::admissionregistration::v1::MutatingAdmissionPolicy,
    api::admissionregistration::v1::MutatingAdmissionPolicyBinding,
    api::admissionregistration::v1::MutatingWebhookConfiguration,
    api::admissionregistration::v1::ValidatingAdmissionPolicy,
    api::admissionregistration::v1::ValidatingAdmissionPolicyBinding,
    api::admissionregistration::v1::ValidatingWebhookConfiguration,
    api::admissionregistration::v1alpha1::MutatingAdmissionPolicy,
    api::admissionregistration::v1alpha1::MutatingAdmissionPolicyBinding,
    api::admissionregistration::v1beta1::MutatingAdmissionPolicy,
    api::admissionregistration::v1beta1::MutatingAdmissionPolicyBinding,
    api::apiserverinternal::v1alpha1::StorageVersion,
    api::apps::v1::ControllerRevision,
    api::apps::v1::DaemonSet,
    api::apps::v1::Deployment,
    api::apps::v1::ReplicaSet,
    api::apps::v1::StatefulSet,
    api::authentication::v1::SelfSubjectReview,
    api::authentication::v1::TokenRequest,
    api::authentication::v1::TokenReview,
    api::authorization::v1::LocalSubjectAccessReview,
    api::authorization::v1::SelfSubjectAccessReview,
    api::authorization::v1::SelfSubjectRulesReview,
    api::authorization::v1::SubjectAccessReview,
    api::autoscaling::v1::HorizontalPodAutoscaler,
    api::autoscaling::v1::Scale,
    api::autoscaling::v2::HorizontalPodAutoscaler,
    api::batch::v1::CronJob,
    api::batch::v1::Job,
    api::certificates::v1::CertificateSigningRequest,
    api::certificates::v1alpha1::ClusterTrustBundle,
    api::certificates::v1beta1::ClusterTrustBundle,
    api::certificates::v1beta1::PodCertificateRequest,
    api::coordination::v1::Lease,
    api::coordination::v1alpha2::LeaseCandidate,
    api::coordination::v1beta1::LeaseCandidate,
    api::core::v1::Binding,
    api::core::v1::ComponentStatus,
    api::core::v1::ConfigMap,
    api::core::v1::Endpoints,
    api::core::v1::Event,
    api::core::v1::LimitRange,
    api::core::v1::Namespace,
    api::core::v1::Node,
    api::core::v1::PersistentVolume,
    api::core::v1::PersistentVolumeClaim,
    api::core::v1::Pod,
    api::core::v1::PodTemplate,
    api::core::v1::ReplicationController,
    api::core::v1::ResourceQuota,
    api::core::v1::Secret,
    api::core::v1::Service,
    api::core::v1::ServiceAccount,
    api::discovery::v1::EndpointSlice,
    api::events::v1::Event,
    api::flowcontrol::v1::FlowSchema,
    api::flowcontrol::v1::PriorityLevelConfiguration,
    api::networking::v1::Ingress,
    api::networking::v1::IngressClass,
    api::networking::v1::IPAddress,
    api::networking::v1::NetworkPolicy,
    api::networking::v1::ServiceCIDR,
    api::networking::v1beta1::IPAddress,
    api::networking::v1beta1::ServiceCIDR,
    api::node::v1::RuntimeClass,
    api::policy::v1::Eviction,
    api::policy::v1::PodDisruptionBudget,
    api::rbac::v1::ClusterRole,
    api::rbac::v1::ClusterRoleBinding,
    api::rbac::v1::Role,
    api::rbac::v1::RoleBinding,
    api::resource::v1::DeviceClass,
    api::resource::v1::ResourceClaim,
    api::resource::v1::ResourceClaimTemplate,
    api::resource::v1::ResourceSlice,
    api::resource::v1alpha3::DeviceTaintRule,
    api::resource::v1alpha3::ResourcePoolStatusRequest,
    api::resource::v1beta1::DeviceClass,
    api::resource::v1beta1::ResourceClaim,
    api::resource::v1beta1::ResourceClaimTemplate,
    api::resource::v1beta1::ResourceSlice,
    api::resource::v1beta2::DeviceClass,
    api::resource::v1beta2::DeviceTaintRule,
    api::resource::v1beta2::ResourceClaim,
    api::resource::v1beta2::ResourceClaimTemplate,
    api::resource::v1beta2::ResourceSlice,
    api::scheduling::v1::PriorityClass,
    api::scheduling::v1alpha2::PodGroup,
    api::scheduling::v1alpha2::Workload,
    api::storage::v1::CSIDriver,
    api::storage::v1::CSINode,
    api::storage::v1::CSIStorageCapacity,
    api::storage::v1::StorageClass,
    api::storage::v1::VolumeAttachment,
    api::storage::v1::VolumeAttributesClass,
    api::storage::v1beta1::VolumeAttributesClass,
    api::storagemigration::v1beta1::StorageVersionMigration,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_described_in_the_words_of_the_api() {
        let words = Descriptions::of(&BTreeSet::from(["io.k8s.api.apps.v1.Deployment"]));
        assert!(words.of_type("io.k8s.api.core.v1.PodSpec").starts_with("PodSpec is a description"));
        assert!(words.of_field("io.k8s.api.apps.v1.DeploymentSpec", "replicas").contains("desired pods"));
        assert_eq!(words.of_field("io.k8s.api.apps.v1.DeploymentSpec", "none"), "");
    }
}
