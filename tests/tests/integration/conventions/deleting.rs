//! Collections that are deleted: some of them, by label, in trial, and with what each has to be.

use serde_json::{Value, json};

use super::{failure, names, told};
use crate::{
    answers::done,
    conformance::{Server, facts},
};

#[tokio::test(flavor = "multi_thread")]
async fn collections_are_deleted_as_asked() {
    let (_cluster, server) = Server::start().await;
    facts!(server;
        a_collection_is_deleted_piece_by_piece,
        what_is_selected_is_deleted,
        a_trial_deletes_nothing,
        preconditions_hold_for_each,
        options_that_make_no_sense_delete_nothing,
        dependents_are_met_as_the_options_say,
    );
}

/// Five templates, every other of which has the label; answers their collection.
async fn five(server: &Server, namespace: &str) -> String {
    let templates = format!("{}/podtemplates", server.namespace(namespace).await);
    for number in 0..5 {
        let container = json!({"name": "one", "image": "myapp:1.2.0"});
        let metadata = json!({"name": format!("t{number}"), "labels": {"odd": (number % 2).to_string()}});
        let template = json!({"metadata": metadata, "template": {"spec": {"containers": [container]}}});
        server.post(&templates, &template).await;
    }
    templates
}

async fn left(server: &Server, path: &str) -> Vec<String> {
    names(&server.get(path).await).into_iter().map(str::to_owned).collect()
}

async fn a_collection_is_deleted_piece_by_piece(server: Server) {
    let templates = five(&server, "pieces").await;
    let first = server.delete(&format!("{templates}?limit=2")).await;
    assert_eq!(first["kind"], "PodTemplateList");
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["t0", "t1"], &json!(3)));
    assert_eq!(left(&server, &templates).await, ["t2", "t3", "t4"]);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = server.delete(&format!("{templates}?limit=2&continue={token}")).await;
    assert_eq!(names(&second), ["t2", "t3"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let last = server.delete(&format!("{templates}?limit=2&continue={token}")).await;
    assert_eq!((names(&last), last["metadata"].get("continue")), (vec!["t4"], None));
    assert!(left(&server, &templates).await.is_empty());
    let answer = server.admin.ask("DELETE", &format!("{templates}?limit=2&continue=x"), "").await.unwrap();
    assert_eq!(failure(&answer).0, 400);
}

async fn what_is_selected_is_deleted(server: Server) {
    let templates = five(&server, "selected").await;
    let deleted = server.delete(&format!("{templates}?labelSelector=odd%3D1")).await;
    assert_eq!(names(&deleted), ["t1", "t3"]);
    server.delete(&format!("{templates}?fieldSelector=metadata.name%3Dt4")).await;
    assert_eq!(left(&server, &templates).await, ["t0", "t2"]);
    let one = server.delete(&format!("{templates}?labelSelector=odd%3D0&limit=1")).await;
    assert_eq!((names(&one), left(&server, &templates).await), (vec!["t0"], vec!["t2".to_owned()]));
    let answer = server.admin.ask("DELETE", &format!("{templates}?labelSelector=%3D%3D"), "").await.unwrap();
    assert_eq!(failure(&answer).0, 400);
    assert_eq!(left(&server, &templates).await, ["t2"]);
}

async fn a_trial_deletes_nothing(server: Server) {
    let templates = five(&server, "trial").await;
    let would = server.delete(&format!("{templates}?dryRun=All&labelSelector=odd%3D1")).await;
    assert_eq!(names(&would), ["t1", "t3"]);
    let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]});
    assert_eq!(names(&done(&server.ask("DELETE", &templates, &body).await)).len(), 5);
    assert_eq!(left(&server, &templates).await.len(), 5);
}

async fn preconditions_hold_for_each(server: Server) {
    let templates = five(&server, "held").await;
    let delete = |precondition: Value| {
        let (server, templates) = (server.clone(), templates.clone());
        async move { server.ask("DELETE", &templates, &json!({"preconditions": precondition})).await }
    };
    let (code, message) = failure(&delete(json!({"uid": "another"})).await);
    let begins = "Operation cannot be fulfilled on PodTemplate \"t0\": the UID in the precondition (another) does not match \
                  the UID in record (";
    assert!(code == 409 && message.starts_with(begins), "{code} {message}");
    let (code, message) = failure(&delete(json!({"resourceVersion": "1"})).await);
    assert!(code == 409 && message.contains("the ResourceVersion in the precondition (1)"), "{code} {message}");
    assert_eq!(left(&server, &templates).await.len(), 5);
    let uid = server.get(&format!("{templates}/t2")).await["metadata"]["uid"].clone();
    let body = json!({"preconditions": {"uid": uid}});
    done(&server.ask("DELETE", &format!("{templates}?fieldSelector=metadata.name%3Dt2"), &body).await);
    assert_eq!(left(&server, &templates).await, ["t0", "t1", "t3", "t4"]);
}

async fn options_that_make_no_sense_delete_nothing(server: Server) {
    let templates = five(&server, "senseless").await;
    let invalid = "DeleteOptions.meta.k8s.io \"\" is invalid: ";
    let policy = format!(
        "{invalid}propagationPolicy: Unsupported value: \"Some\": supported values: \"Foreground\", \"Background\", \
         \"Orphan\", \"nil\""
    );
    let both = format!(
        "{invalid}propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set"
    );
    let trial = format!("{invalid}dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"");
    let broken = "ignoreStoreReadErrorWithClusterBreakingPotential";
    for path in [templates.clone(), format!("{templates}/t0")] {
        for (query, body, message) in [
            ("propagationPolicy=Some", json!({"propagationPolicy": "Some"}), &policy),
            (
                "propagationPolicy=Orphan&orphanDependents=true",
                json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
                &both,
            ),
            ("dryRun=Some", json!({"dryRun": ["Some"]}), &trial),
        ] {
            let asked = server.admin.ask("DELETE", &format!("{path}?{query}"), "").await.unwrap();
            assert_eq!(failure(&asked), told(422, message), "{path} {query}");
            assert_eq!(failure(&server.ask("DELETE", &path, &body).await), told(422, message), "{path} {body}");
        }
        // What can't be read is never removed unread.
        for asked in [
            server.admin.ask("DELETE", &format!("{path}?{broken}=true"), "").await.unwrap(),
            server.ask("DELETE", &path, &json!({broken: true})).await,
        ] {
            let (code, message) = failure(&asked);
            assert!(code == 422 && message.starts_with(&format!("{invalid}{broken}: Forbidden: ")), "{code} {message}");
        }
        assert_eq!(failure(&server.ask("DELETE", &path, &json!([])).await).0, 400);
        let (code, _) = failure(&server.ask("DELETE", &path, &json!({"kind": "Pod", "apiVersion": "v1"})).await);
        assert_eq!(code, 400);
    }
    assert_eq!(left(&server, &templates).await.len(), 5);
}

async fn dependents_are_met_as_the_options_say(server: Server) {
    let namespace = server.namespace("dependents").await;
    let (owners, dependents) = (format!("{namespace}/configmaps"), format!("{namespace}/secrets"));
    for policy in ["Orphan", "Background", "Foreground"] {
        let name = policy.to_lowercase();
        let owner = json!({"metadata": {"name": name, "labels": {"policy": name}}});
        let uid = server.post(&owners, &owner).await["metadata"]["uid"].clone();
        let by = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "blockOwnerDeletion": true});
        server.post(&dependents, &json!({"metadata": {"name": name, "ownerReferences": [by]}})).await;
        let selected = format!("{owners}?labelSelector=policy%3D{name}");
        match policy {
            "Background" => drop(server.delete(&format!("{selected}&propagationPolicy={policy}")).await),
            _ => {
                let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
                // What is told is what there was.
                let listed = done(&server.ask("DELETE", &selected, &body).await);
                assert_eq!((names(&listed), listed["items"][0]["metadata"].get("finalizers")), (vec![&*name], None));
            }
        }
        server.gone(&format!("{owners}/{name}")).await;
        let dependent = format!("{dependents}/{name}");
        match policy {
            "Orphan" => {
                let orphan = server.get(&dependent).await;
                assert_eq!(orphan["metadata"].get("ownerReferences"), None);
            }
            _ => server.gone(&dependent).await,
        }
    }
}
