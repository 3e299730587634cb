//! Pods that a controller makes and deletes for an owner, and the events that tell of it.

use k8s_openapi::{
    api::core::v1::{ObjectReference, Pod, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Preconditions},
    runtime::events::EventType,
};

use super::{controller_reference, pod_metadata};
use crate::runtime::{Attempt, EventSink, RequestError, is_namespace_terminating, post, revision, said};

/// Whose pods they are.
#[derive(Clone, Debug)]
pub struct Owner {
    /// As pods refer to it.
    pub reference: OwnerReference,
    /// As events refer to it.
    pub object: ObjectReference,
    /// Where it is.
    pub namespace: String,
}

impl Owner {
    /// The owner that `object` is.
    pub fn of<K: Resource<DynamicType = ()>>(object: &K) -> Self {
        Self {
            reference: controller_reference(object),
            object: object.object_ref(&()),
            namespace: object.namespace().unwrap_or_default(),
        }
    }

    /// The owner for messages.
    fn shown(&self) -> String {
        format!("{} {}/{}", self.reference.kind, self.namespace, self.reference.name)
    }

    /// A pod of `template`, named after its owner.
    #[must_use]
    pub fn pod(&self, template: &PodTemplateSpec) -> Pod {
        let metadata = pod_metadata(template, &self.namespace, self.reference.clone());
        Pod { metadata, spec: template.spec.clone(), status: None }
    }
}

/// Makes and deletes pods. Clones share the connection.
#[derive(Clone)]
pub struct PodControl {
    client: Client,
    events: EventSink,
}

impl PodControl {
    /// Acts and tells as `controller`.
    #[must_use]
    pub fn new(client: &Client, controller: &str) -> Self {
        Self { client: client.clone(), events: EventSink::new(client, controller) }
    }

    /// The pods of a namespace.
    #[must_use]
    pub fn api(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Makes a pod; answers the revision that has it.
    pub async fn create(&self, owner: &Owner, pod: &Pod) -> Result<u64, RequestError> {
        match self.api(&owner.namespace).create(&post(), pod).await {
            Ok(pod) => {
                let note = done(owner, Verb::Create, &pod.name_any());
                self.tell(owner, EventType::Normal, "SuccessfulCreate", note).await;
                Ok(revision(&pod))
            }
            Err(error) => {
                let exists = matches!(&error, kube::Error::Api(status) if status.reason == "AlreadyExists");
                if !is_namespace_terminating(&error) && !exists {
                    let note = failed(owner, Verb::Create, &pod.name_any(), &said(&error));
                    self.tell(owner, EventType::Warning, "FailedCreate", note).await;
                }
                Err(error).attempt(|| format!("create a pod of {}", owner.shown()))
            }
        }
    }

    /// Deletes the pod of this name and uid, unless it is gone; answers the revision that has it going.
    pub async fn delete(&self, owner: &Owner, name: &str, uid: &str) -> Result<u64, RequestError> {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let deleted = self.api(&owner.namespace).delete(name, &params).await;
        let trouble = match &deleted {
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => Some(failed(owner, Verb::Delete, name, &said(error))),
            Ok(_) => None,
        };
        if let Some(note) = trouble {
            self.tell(owner, EventType::Warning, "FailedDelete", note).await;
        }
        let deleted = deleted.attempt_unless_gone(|| format!("delete pod {}/{name}", owner.namespace))?;
        if deleted.is_some() {
            let note = done(owner, Verb::Delete, name);
            self.tell(owner, EventType::Normal, "SuccessfulDelete", note).await;
        }
        Ok(deleted.and_then(|deleted| deleted.left()).map_or(0, |pod| revision(&pod)))
    }

    /// Tells something about the owner.
    pub async fn tell(&self, owner: &Owner, kind: EventType, reason: &str, note: String) {
        self.events.publish(&owner.object, kind, reason, note).await;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Create,
    Delete,
}

/// What an event says of a pod that was made or deleted: StatefulSets have words of their own.
fn done(owner: &Owner, verb: Verb, pod: &str) -> String {
    let set = &owner.reference.name;
    match (owner.reference.kind == "StatefulSet", verb) {
        (true, Verb::Create) => format!("create Pod {pod} in StatefulSet {set} successful"),
        (true, Verb::Delete) => format!("delete Pod {pod} in StatefulSet {set} successful"),
        (false, Verb::Create) => format!("Created pod: {pod}"),
        (false, Verb::Delete) => format!("Deleted pod: {pod}"),
    }
}

fn failed(owner: &Owner, verb: Verb, pod: &str, why: &str) -> String {
    let set = &owner.reference.name;
    match (owner.reference.kind == "StatefulSet", verb) {
        (true, Verb::Create) => format!("create Pod {pod} in StatefulSet {set} failed error: {why}"),
        (true, Verb::Delete) => format!("delete Pod {pod} in StatefulSet {set} failed error: {why}"),
        (false, Verb::Create) => format!("Error creating: {why}"),
        (false, Verb::Delete) => format!("Error deleting: {why}"),
    }
}
