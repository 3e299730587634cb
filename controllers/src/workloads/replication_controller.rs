//! ReplicationController: a ReplicaSet of the oldest kind, whose selector is a plain map.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus},
        core::v1::{ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus},
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    pod_control::{Owner, PodControl},
    replicaset,
};
use crate::{
    Caches,
    runtime::{Key, Queue, RequestError, work, write_status},
};

const WORKERS: usize = 2;

pub(crate) fn spawn(client: &Client, caches: &Arc<Caches>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    queue.add_changed(&caches.replication_controllers);
    queue.add_controllers_of(&caches.pods, &caches.replication_controllers);
    let pods = PodControl::new(client, "replication-controller");
    let controller = Controller { client: client.clone(), caches: Arc::clone(caches), queue: queue.clone(), pods };
    work(tasks, "replicationcontroller", &queue, WORKERS, shutdown, controller, Controller::reconcile);
}

#[derive(Clone)]
struct Controller {
    client: Client,
    caches: Arc<Caches>,
    queue: Queue<Key>,
    pods: PodControl,
}

impl Controller {
    async fn reconcile(self, key: Key) -> Result<(), RequestError> {
        self.caches.replication_controllers.synced().await;
        self.caches.pods.synced().await;
        let Some(own) = self.caches.replication_controllers.get(&key) else { return Ok(()) };
        let (set, owner) = (as_set(&own), Owner::of(own.as_ref()));
        let pass = replicaset::pass(&self.pods, &self.caches, &key.namespace, &set, &owner).await?;
        let Some(pass) = pass else { return Ok(()) };
        let all = Api::namespaced(self.client.clone(), &key.namespace);
        let updated = ReplicationController { status: Some(of_set(pass.status)), ..ReplicationController::clone(&own) };
        write_status(&all, &self.caches.replication_controllers, &own, updated).await?;
        self.caches.pods.caught_up(pass.last).await;
        if let Some(delay) = pass.look_again {
            self.queue.add_after(key, delay);
        }
        pass.done
    }
}

fn as_set(own: &ReplicationController) -> ReplicaSet {
    let spec = own.spec.clone().unwrap_or_default();
    let conditions = own.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let conditions = conditions.into_iter().map(|condition| ReplicaSetCondition {
        last_transition_time: condition.last_transition_time,
        message: condition.message,
        reason: condition.reason,
        status: condition.status,
        type_: condition.type_,
    });
    ReplicaSet {
        metadata: own.metadata.clone(),
        spec: Some(ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: spec.replicas,
            selector: LabelSelector { match_labels: spec.selector, match_expressions: None },
            template: spec.template,
        }),
        status: Some(ReplicaSetStatus { conditions: Some(conditions.collect()), ..ReplicaSetStatus::default() }),
    }
}

fn of_set(status: ReplicaSetStatus) -> ReplicationControllerStatus {
    let conditions = status.conditions.map(|all| {
        all.into_iter()
            .map(|condition| ReplicationControllerCondition {
                last_transition_time: condition.last_transition_time,
                message: condition.message,
                reason: condition.reason,
                status: condition.status,
                type_: condition.type_,
            })
            .collect()
    });
    ReplicationControllerStatus {
        replicas: status.replicas,
        fully_labeled_replicas: status.fully_labeled_replicas,
        ready_replicas: status.ready_replicas,
        available_replicas: status.available_replicas,
        observed_generation: status.observed_generation,
        conditions,
    }
}
