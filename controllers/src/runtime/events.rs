//! Events that a controller tells users about its objects.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use super::queue::Chain;

/// Publishes events; repeated ones become a series. Clones share it.
#[derive(Clone)]
pub struct EventSink {
    recorder: Recorder,
}

impl EventSink {
    /// Publishes as `controller`.
    #[must_use]
    pub fn new(client: &Client, controller: &str) -> Self {
        let reporter = Reporter { controller: controller.to_owned(), instance: Some(controller.to_owned()) };
        Self { recorder: Recorder::new(client.clone(), reporter) }
    }

    /// Tells `note` about `object`. An event that cannot be written is logged: it must not hold up the work it tells of.
    pub async fn publish(&self, object: &ObjectReference, type_: EventType, reason: &str, note: String) {
        let action = reason.to_owned();
        let event = Event { type_, reason: reason.to_owned(), note: Some(note), action, secondary: None };
        if let Err(error) = self.recorder.publish(&event, object).await {
            let (namespace, name) = (object.namespace.as_deref(), object.name.as_deref());
            tracing::debug!(namespace, name, reason, error = %Chain(&error), "event was not written");
        }
    }
}
