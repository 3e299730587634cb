//! The node agent may die at any time: what runs goes on, is reached, and is found again.

use std::{collections::BTreeMap, future::Future, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, LogParams, PostParams},
};
use martello_tests::{
    cluster::{Cluster, Options},
    load::until_node_is_ready,
    pods,
};
use nix::{sys::signal::Signal, unistd::Pid};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// How often the agent is killed.
const KILLS: usize = 3;
/// Requests that have to be answered before the first kill, and after each.
const REQUESTS: usize = 60;
/// How long anything may take before the test fails; a debug build on a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the cluster is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Asks the Service by its name again and again, on a new connection each, and says how it went.
const LOOP: &str = "while :; do \
    if timeout 10 wget -q -O /dev/null http://web-app.default.svc.cluster.local/healthz; then echo served; else echo failed; fi; \
    done";

pub(crate) fn from_json<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Looks until there is something to see.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let seen = async {
        let mut interval = tokio::time::interval(LOOK);
        loop {
            interval.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn make(client: &Client) {
    let deployment = json!({
        "metadata": {"name": "web-app"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web-app"}}, "template": {
            "metadata": {"labels": {"app": "web-app"}},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
                "name": "web", "image": "myapp:1.2.0", "ports": [{"containerPort": 3000}],
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": 3000}, "periodSeconds": 2},
            }]},
        }},
    });
    let service = json!({
        "metadata": {"name": "web-app"},
        "spec": {"selector": {"app": "web-app"}, "ports": [{"port": 80, "targetPort": 3000}]},
    });
    let params = PostParams::default();
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> = Api::default_namespaced(client.clone());
    deployments.create(&params, &from_json(deployment)).await.unwrap();
    let services: Api<k8s_openapi::api::core::v1::Service> = Api::default_namespaced(client.clone());
    services.create(&params, &from_json(service)).await.unwrap();
}

fn one_pod(name: &str, script: &str) -> Pod {
    let mounts = json!([{"name": "data", "mountPath": "/data"}]);
    let container =
        json!({"name": "one", "image": "myapp:1.2.0", "command": ["sh", "-c", script], "volumeMounts": mounts});
    let volumes = json!([{"name": "data", "emptyDir": {}}]);
    from_json(json!({
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], "volumes": volumes},
    }))
}

/// Each pod's containers and when they started: what must stay as it is.
async fn running(pods: &Api<Pod>) -> BTreeMap<String, Vec<String>> {
    let facts = |pod: &Pod| {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
        let one = |status: &k8s_openapi::api::core::v1::ContainerStatus| {
            let started = status.state.as_ref().and_then(|state| state.running.as_ref()?.started_at.clone());
            format!("{:?} since {started:?}, {} restarts", status.container_id, status.restart_count)
        };
        statuses.iter().map(one).collect()
    };
    let list = pods.list(&ListParams::default()).await.unwrap();
    list.items.iter().map(|pod| (pod.metadata.uid.clone().unwrap(), facts(pod))).collect()
}

/// How many requests were answered, whether or not others failed.
async fn answers(pods: &Api<Pod>) -> Option<usize> {
    let log = pods.logs("asking", &LogParams::default()).await.ok()?;
    Some(log.lines().filter(|line| *line == "served").count())
}

/// How many requests were answered; none may have failed. Nothing where the agent does not serve logs now.
async fn served(pods: &Api<Pod>) -> Option<usize> {
    let log = pods.logs("asking", &LogParams::default()).await.ok()?;
    assert!(!log.contains("failed"), "a request failed:\n{log}");
    Some(log.lines().filter(|line| *line == "served").count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_agent_fails_no_request_and_its_pods_are_found_again() {
    if let Some(why) = pods::hindrance() {
        eprintln!("killing_the_agent_fails_no_request_and_its_pods_are_found_again: skipped: {why}");
        return;
    }
    let mut cluster = Cluster::start_with(Options { node: true, ..Options::default() }).await.unwrap();
    until_node_is_ready(&cluster.admin().await.unwrap()).await.unwrap();
    pods::import_example(&cluster, "myapp-1.2.0").unwrap();
    let client = cluster.client().await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    make(&client).await;
    until("the application is ready", async || {
        let list = pods.list(&ListParams::default().labels("app=web-app")).await.unwrap();
        (list.items.iter().filter(|pod| is_ready(pod)).count() == 2).then_some(())
    })
    .await;
    // The first requests may come before this node forwards to the Service; from the first answer on, none may fail.
    let patient = format!(
        "until timeout 2 wget -q -O /dev/null http://web-app.default.svc.cluster.local/healthz 2>/dev/null; do :; done; {LOOP}"
    );
    pods.create(&PostParams::default(), &one_pod("asking", &patient)).await.unwrap();
    let mut answered =
        until("requests are answered", async || served(&pods).await.filter(|count| *count >= REQUESTS)).await;
    let before = running(&pods).await;
    assert_eq!(before.len(), 3, "{before:?}");

    for kill in 1..=KILLS {
        let agent = cluster.agent_pid().unwrap().expect("the agent runs");
        nix::sys::signal::kill(Pid::from_raw(agent.cast_signed()), Signal::SIGKILL).unwrap();
        until("another agent runs", async || cluster.agent_pid().unwrap().filter(|pid| *pid != agent)).await;
        // Logs come from the new agent, and of the same containers.
        let enough = answered + REQUESTS;
        answered = until("the new agent serves", async || served(&pods).await.filter(|count| *count >= enough)).await;
        until("every pod is found again", async || {
            (cluster.log().matches("found a running pod again").count() == kill * before.len()).then_some(())
        })
        .await;
    }
    assert!(!cluster.log().contains("a pod was lost"), "a pod was lost");

    keepers_come_back(&cluster, &pods).await;
    one_more_pod_lives(&cluster, &pods).await;
    assert_eq!(running(&pods).await, before, "containers were started anew");

    // The server may be killed, too: its agent does not outlive it, and the next one finds the pods.
    let agent = cluster.agent_pid().unwrap().expect("the agent runs");
    cluster.kill().unwrap();
    until("the agent of the killed server ends", async || {
        (!Path::new(&format!("/proc/{agent}")).exists()).then_some(())
    })
    .await;
    cluster.boot().await.unwrap();
    let enough = until("the next server's agent serves logs", async || answers(&pods).await).await + REQUESTS;
    until("requests are answered", async || answers(&pods).await.filter(|count| *count >= enough)).await;
    assert_eq!(running(&pods).await, before, "containers were started anew");
    eprintln!("{answered} requests were answered and none failed while the agent was killed {KILLS} times");
    pods.delete("asking", &DeleteParams::default()).await.unwrap();
    until("a pod that was found again ends", async || pods.get_opt("asking").await.unwrap().is_none().then_some(()))
        .await;
}

/// What all pods lean on may die, too, and comes back without another agent.
async fn keepers_come_back(cluster: &Cluster, pods: &Api<Pod>) {
    for record in ["server.json", "uplink.json"] {
        let path = cluster.node_dir().join("keeper").join(record);
        let process: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let pid = i32::try_from(process["pid"].as_i64().unwrap()).unwrap();
        nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    let told = ["the keeper had died", "the way out of the pod network had died"];
    until("both are back", async || told.iter().all(|what| cluster.log().contains(what)).then_some(())).await;
    let before_more = answers(pods).await.expect("the agent serves logs") + REQUESTS;
    until("names are answered again", async || answers(pods).await.filter(|count| *count >= before_more)).await;
}

/// The new agent works with what it found: one more pod runs and ends. What the pod leaves in its volume is its own, and goes
/// nevertheless; nobody else on the machine passes there.
async fn one_more_pod_lives(cluster: &Cluster, pods: &Api<Pod>) {
    let leaves = "mkdir /data/d && echo x > /data/d/f && chmod 700 /data/d && sleep 1000";
    pods.create(&PostParams::default(), &one_pod("later", leaves)).await.unwrap();
    let later = until("a new pod runs", async || pods.get("later").await.ok().filter(is_ready)).await;
    let volumes = cluster.node_dir().join("volumes").join(later.metadata.uid.unwrap());
    until("the pod has written", async || volumes.join("data/d/f").exists().then_some(())).await;
    assert_eq!(std::fs::metadata(&volumes).unwrap().permissions().mode() & 0o007, 0, "{}", volumes.display());
    pods.delete("later", &DeleteParams::default()).await.unwrap();
    until("the new pod has gone", async || pods.get_opt("later").await.unwrap().is_none().then_some(())).await;
    until("its volumes have gone", async || (!volumes.exists()).then_some(())).await;
}
