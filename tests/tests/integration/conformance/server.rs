//! A server that many facts share, and what they ask of it.

use std::{path::PathBuf, time::Duration};

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use martello_tests::{
    cluster::Cluster,
    raw::{Answer, Connection, Endpoint, Http},
};
use serde_json::{Value, json};

use crate::answers::done;

/// How long something may take to come about; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a change is tried anew when somebody else's came between.
const ATTEMPTS: usize = 20;

/// The server of an area of facts.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Its administrator.
    pub(crate) admin: Endpoint,
    /// The administrator's kubeconfig.
    pub(crate) kubeconfig: PathBuf,
}

impl Server {
    /// A fresh server; it is there as long as the cluster is.
    pub(crate) async fn start() -> (Cluster, Self) {
        let mut cluster = Cluster::start().await.unwrap();
        let server = Self { admin: cluster.admin().await.unwrap(), kubeconfig: cluster.kubeconfig_path().unwrap() };
        (cluster, server)
    }

    /// A new namespace, as soon as pods can be made in it; answers its path.
    pub(crate) async fn namespace(&self, name: &str) -> String {
        self.post("/api/v1/namespaces", &json!({"metadata": {"name": name}})).await;
        let path = format!("/api/v1/namespaces/{name}");
        self.until(&format!("{path}/serviceaccounts/default"), |_| true).await;
        path
    }

    /// Asks with a body of JSON.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.admin.ask(method, path, body.to_string()).await.unwrap()
    }

    /// Reads what is there.
    pub(crate) async fn get(&self, path: &str) -> Value {
        done(&self.admin.ask("GET", path, "").await.unwrap())
    }

    /// Creates an object.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        done(&self.ask("POST", path, body).await)
    }

    /// Patches an object, by merging.
    pub(crate) async fn merge(&self, path: &str, patch: &Value) -> Value {
        let media = "application/merge-patch+json";
        done(&self.admin.ask_as("PATCH", path, media, patch.to_string()).await.unwrap())
    }

    /// Deletes what is there.
    pub(crate) async fn delete(&self, path: &str) -> Value {
        done(&self.admin.ask("DELETE", path, "").await.unwrap())
    }

    /// Reads, changes and replaces an object, until nobody else's change came between.
    pub(crate) async fn change(&self, path: &str, change: impl Fn(&mut Value)) -> Value {
        done(&self.try_change(path, change).await)
    }

    /// As [`Server::change`], of a change that may be refused.
    pub(crate) async fn try_change(&self, path: &str, change: impl Fn(&mut Value)) -> Answer {
        for _ in 0..ATTEMPTS {
            let mut object = self.get(path).await;
            change(&mut object);
            let answer = self.ask("PUT", path, &object).await;
            if answer.status != 409 {
                return answer;
            }
        }
        panic!("{path} was changed by others {ATTEMPTS} times")
    }

    /// Watches; `path` has its query.
    pub(crate) async fn watch(&self, path: &str) -> Events {
        let mut connection = self.admin.connect(Http::One).await.unwrap();
        let request = connection.request("GET", path, &[], Bytes::new()).unwrap();
        let answer = connection.send(request).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        Events { body: answer.into_body(), rest: Vec::new(), _connection: connection }
    }

    /// Waits until an object is as it should be.
    pub(crate) async fn until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let (collection, name) = path.rsplit_once('/').unwrap();
        loop {
            let mut events = self.watch(&format!("{collection}?watch=1&fieldSelector=metadata.name%3D{name}")).await;
            let found = events.until_or_end(|kind, object| kind != "DELETED" && is_so(object)).await;
            // A watch ends when its kind is served otherwise than before.
            if let Some(found) = found {
                return found;
            }
        }
    }

    /// Asks until the answer is as it should be: what is served changes a moment after what says so.
    pub(crate) async fn until_answered(&self, path: &str, is_so: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.admin.ask("GET", path, "").await.unwrap();
            if is_so(&answer) {
                return answer;
            }
            assert!(tokio::time::Instant::now() < deadline, "GET {path}: {} {}", answer.status, answer.text());
            tokio::task::yield_now().await;
        }
    }

    /// Waits until an object is gone.
    pub(crate) async fn gone(&self, path: &str) {
        let answer = self.admin.ask("GET", path, "").await.unwrap();
        if answer.status == 404 {
            return;
        }
        let (collection, name) = path.rsplit_once('/').unwrap();
        let object = done(&answer);
        let from = object["metadata"]["resourceVersion"].as_str().unwrap();
        let query = format!("watch=1&fieldSelector=metadata.name%3D{name}&resourceVersion={from}");
        self.watch(&format!("{collection}?{query}")).await.until(|kind, _| kind == "DELETED").await;
    }

    /// Waits until as many objects as wanted are in a list, and answers them.
    pub(crate) async fn until_listed(&self, path: &str, count: usize) -> Vec<Value> {
        self.until_items(path, |items| items.len() == count).await
    }

    /// Waits until the objects of a list, which has a query, are as they should be; each change of one is looked at.
    pub(crate) async fn until_items(&self, path: &str, are_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let list = self.get(path).await;
        let from = list["metadata"]["resourceVersion"].as_str().unwrap();
        let mut items = list["items"].as_array().unwrap().clone();
        let mut events = self.watch(&format!("{path}&watch=1&resourceVersion={from}")).await;
        while !are_so(&items) {
            let (kind, object) = events.next().await;
            items.retain(|item| item["metadata"]["uid"] != object["metadata"]["uid"]);
            if kind != "DELETED" {
                items.push(object);
            }
        }
        items
    }
}

/// The events of a watch.
#[derive(Debug)]
pub(crate) struct Events {
    body: Incoming,
    rest: Vec<u8>,
    _connection: Connection,
}

impl Events {
    /// The next event: its type, and its object.
    pub(crate) async fn next(&mut self) -> (String, Value) {
        tokio::time::timeout(PATIENCE, self.line()).await.expect("the watch shows something in time")
    }

    async fn line(&mut self) -> (String, Value) {
        self.next_or_end().await.expect("the watch goes on")
    }

    /// The next event, however long it takes; none when the watch is over.
    pub(crate) async fn next_or_end(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                let mut event: Value = serde_json::from_slice(&line).unwrap();
                return Some((event["type"].as_str().unwrap().to_owned(), event["object"].take()));
            }
            let frame = self.body.frame().await?.ok()?;
            self.rest.extend_from_slice(frame.data_ref()?);
        }
    }

    /// Goes on until an event is as it should be.
    pub(crate) async fn until(&mut self, is_so: impl Fn(&str, &Value) -> bool) -> Value {
        self.until_or_end(is_so).await.expect("the watch goes on")
    }

    /// Goes on until an event is as it should be, or the watch is over.
    async fn until_or_end(&mut self, is_so: impl Fn(&str, &Value) -> bool) -> Option<Value> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut last = Value::Null;
        loop {
            let Ok(next) = tokio::time::timeout_at(deadline, self.next_or_end()).await else {
                panic!("it did not come about; the last that was seen: {last}")
            };
            let (kind, object) = next?;
            if is_so(&kind, &object) {
                return Some(object);
            }
            last = object;
        }
    }
}
