//! Reads: lists, watches, tables, documents.

use http::Method;
use serde_json::{Value, json};

use crate::{MAPS, TABLE, ask, config_map, rig::Rig, send, with_map};

#[tokio::test]
async fn a_list_goes_on_where_it_stopped() {
    let rig = Rig::new().await;
    for name in ["a", "b", "c"] {
        rig.admin(Method::POST, MAPS, Some(&config_map(name))).await;
    }
    for path in [MAPS, "/api/v1/configmaps"] {
        let (_, first) = rig.admin(Method::GET, &format!("{path}?limit=2"), None).await;
        let token = first["metadata"]["continue"].as_str().unwrap();
        let (_, rest) = rig.admin(Method::GET, &format!("{path}?limit=2&continue={token}"), None).await;
        let names: Vec<&str> =
            rest["items"].as_array().unwrap().iter().map(|one| one["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(names.first(), Some(&"c"), "{path}");
    }
    // {"v":"meta.k8s.io/v1","rv":-1,"start":"a\u0000"}: what is left in whatever state there is.
    let newest = "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoiYVx1MDAwMCJ9";
    let (_, rest) = rig.admin(Method::GET, &format!("{MAPS}?continue={newest}"), None).await;
    assert_eq!(rest["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_full_page_goes_on_where_anything_is_behind_it() {
    let rig = Rig::new().await;
    for name in ["a", "b", "c"] {
        rig.admin(Method::POST, MAPS, Some(&config_map(name))).await;
    }
    let selected = format!("{MAPS}?limit=2&fieldSelector=metadata.name!%3Dc");
    let (_, first) = rig.admin(Method::GET, &selected, None).await;
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    let token = first["metadata"]["continue"].as_str().expect("the third is behind, though it is not selected");
    let (_, rest) = rig.admin(Method::GET, &format!("{selected}&continue={token}"), None).await;
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["metadata"]["continue"]), (0, &Value::Null));
    let (_, all) = rig.admin(Method::GET, &format!("{MAPS}?limit=3&fieldSelector=metadata.name!%3Dc"), None).await;
    assert_eq!((all["items"].as_array().unwrap().len(), &all["metadata"]["continue"]), (2, &Value::Null));
}

#[tokio::test]
async fn a_list_whose_state_is_gone_may_go_on_inconsistently() {
    use martello_apiserver::store::Store as _;
    let rig = Rig::new().await;
    for name in ["a", "b", "c"] {
        rig.admin(Method::POST, MAPS, Some(&config_map(name))).await;
    }
    let (_, first) = rig.admin(Method::GET, &format!("{MAPS}?limit=1"), None).await;
    rig.admin(Method::DELETE, &format!("{MAPS}/b"), None).await;
    rig.store.compact(rig.store.progress().await.unwrap()).await.unwrap();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let (status, expired) = rig.admin(Method::GET, &format!("{MAPS}?limit=1&continue={token}"), None).await;
    assert_eq!((status.as_u16(), expired["reason"].as_str()), (410, Some("Expired")), "{expired}");
    let token = expired["metadata"]["continue"].as_str().unwrap();
    let (_, rest) = rig.admin(Method::GET, &format!("{MAPS}?limit=1&continue={token}"), None).await;
    assert_eq!(rest["items"][0]["metadata"]["name"], "c");
}

#[tokio::test]
async fn a_watch_that_can_not_begin_says_so_in_an_event() {
    use martello_apiserver::store::Store as _;
    let rig = with_map().await;
    rig.admin(Method::DELETE, &format!("{MAPS}/a"), None).await;
    rig.store.compact(rig.store.progress().await.unwrap()).await.unwrap();
    let answer = rig.raw(Method::GET, &format!("{MAPS}?watch=1&resourceVersion=1"), &[], "").await;
    let event = answer.json();
    assert_eq!((answer.status, event["type"].as_str()), (200, Some("ERROR")));
    assert_eq!((event["object"]["code"].as_i64(), event["object"]["reason"].as_str()), (Some(410), Some("Expired")));
    for (query, code) in [
        ("watch=1&resourceVersion=abc", 500),
        ("watch=1&fieldSelector=x%3Dy", 400),
        ("watch=1&sendInitialEvents=true", 422),
        ("watch=1&continue=x", 422),
    ] {
        assert_eq!(ask(&rig, Method::GET, &format!("{MAPS}?{query}")).await.0, code, "{query}");
    }
    let yaml = rig.raw(Method::GET, &format!("{MAPS}?watch=1"), &[("accept", "application/yaml")], "").await;
    assert_eq!(yaml.status, 406);
}

#[tokio::test]
async fn selectors_of_unknown_fields_are_refused_by_kind() {
    let rig = with_map().await;
    let unknown = "\"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"";
    assert_eq!(ask(&rig, Method::GET, &format!("{MAPS}?fieldSelector=spec.x%3D1")).await, (400, unknown.to_owned()));
    let (code, words) = ask(&rig, Method::GET, "/api/v1/pods?fieldSelector=spec.x%3D1").await;
    assert_eq!((code, words.as_str()), (400, "field label not supported: spec.x"));
    let (code, words) =
        ask(&rig, Method::GET, "/api/v1/watch/namespaces/default/configmaps/a?fieldSelector=metadata.name%3Db").await;
    assert_eq!((code, words.as_str()), (400, "fieldSelector metadata.name doesn't match requested name"));
}

#[tokio::test]
async fn what_nothing_serves_is_not_acceptable_in_two_ways() {
    let rig = with_map().await;
    let get = |path: String, accept: &'static str| {
        let rig = &rig;
        async move {
            let answer = rig.raw(Method::GET, &path, &[("accept", accept)], "").await;
            (answer.status, answer.message())
        }
    };
    let one = "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf";
    assert_eq!(get(format!("{MAPS}/a"), "text/html").await, (406, one.to_owned()));
    let many = format!("{one}, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch");
    assert_eq!(get(MAPS.to_owned(), "text/html").await, (406, many));
    let form = "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf";
    assert_eq!(get(format!("{MAPS}/a"), "application/json;as=Table").await, (406, form.to_owned()));
    let list = "you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)";
    let partial = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    assert_eq!(get(MAPS.to_owned(), partial).await, (406, list.to_owned()));
}

#[tokio::test]
async fn components_are_told_though_they_are_not_stored() {
    let rig = Rig::new().await;
    let path = "/api/v1/componentstatuses";
    let list = rig.raw(Method::GET, path, &[], "").await;
    assert_eq!(list.header("warning"), "299 - \"v1 ComponentStatus is deprecated in v1.19+\"");
    let list = list.json();
    let names: Vec<&str> =
        list["items"].as_array().unwrap().iter().map(|one| one["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(
        (list["kind"].as_str(), names),
        (Some("ComponentStatusList"), vec!["controller-manager", "etcd-0", "scheduler"])
    );
    let (_, one) = rig.admin(Method::GET, &format!("{path}/etcd-0"), None).await;
    assert_eq!(one["conditions"], json!([{"type": "Healthy", "status": "True", "message": "ok"}]));
    assert_eq!(ask(&rig, Method::GET, &format!("{path}/x")).await, (500, "Component not found: x".to_owned()));
    assert_eq!(ask(&rig, Method::DELETE, &format!("{path}/etcd-0")).await.0, 405);
    let table = rig.raw(Method::GET, path, &[("accept", TABLE)], "").await.json();
    assert_eq!(table["rows"][1]["cells"], json!(["etcd-0", "Healthy", "ok", ""]));
}

#[tokio::test]
async fn a_get_of_the_future_times_out() {
    let rig = with_map().await;
    let (code, words) = ask(&rig, Method::GET, &format!("{MAPS}/a?resourceVersion=999999")).await;
    assert_eq!(code, 504);
    assert!(words.starts_with("Timeout: Too large resource version: 999999, current: "), "{words}");
}

#[tokio::test]
async fn a_path_of_one_object_needs_its_namespace() {
    let rig = with_map().await;
    let nothing = (404, "the server could not find the requested resource".to_owned());
    for method in [Method::GET, Method::PUT, Method::PATCH, Method::DELETE] {
        let answer = send(&rig, method.clone(), "/api/v1/configmaps/a", "application/json", "{}").await;
        assert_eq!(answer, nothing, "{method}");
    }
    assert_eq!(ask(&rig, Method::GET, "/api/v1/pods/a/log").await, nothing);
    assert_eq!(ask(&rig, Method::GET, "/api/v1/namespaces/default/nodes/a/status").await, nothing);
    assert_eq!(ask(&rig, Method::DELETE, "/api/v1/configmaps").await.0, 405);
}

#[tokio::test]
async fn people_get_lines_and_programs_do_not() {
    let rig = with_map().await;
    let lines = |agent: &'static str, query: &'static str| {
        let rig = &rig;
        async move {
            let path = format!("{MAPS}/a{query}");
            let answer = rig.raw(Method::GET, &path, &[("user-agent", agent)], "").await;
            answer.bytes.iter().filter(|byte| **byte == b'\n').count()
        }
    };
    assert!(lines("curl/8.0", "").await > 3);
    assert_eq!(lines("curl/8.0", "?pretty=false").await, 1);
    assert_eq!(lines("kubectl/v1", "").await, 1);
    assert!(lines("kubectl/v1", "?pretty=true").await > 3);
}

#[tokio::test]
async fn an_unknown_group_has_no_page_and_an_unknown_version_no_resource() {
    let rig = Rig::new().await;
    for (path, media) in [
        ("/apis/none.example.com", "text/plain; charset=utf-8"),
        ("/apis/none.example.com/v1/frobs", "text/plain; charset=utf-8"),
        ("/apis/apps/v9", "application/json"),
        ("/apis/apps/v1/frobs", "application/json"),
        ("/api/v9", "application/json"),
        ("/debug/pprof", "text/plain; charset=utf-8"),
    ] {
        let answer = rig.raw(Method::GET, path, &[], "").await;
        assert_eq!((answer.status, answer.header("content-type").as_str()), (404, media), "{path}");
    }
}

#[tokio::test]
async fn documents_that_are_known_are_not_sent_again() {
    let rig = Rig::new().await;
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    for (path, accept) in
        [("/apis", aggregated), ("/openapi/v2", "application/json"), ("/openapi/v3/apis/apps/v1", "*/*")]
    {
        let first = rig.raw(Method::GET, path, &[("accept", accept)], "").await;
        let tag = first.header("etag");
        assert!(first.status == 200 && tag.len() > 10, "{path}");
        let again = rig.raw(Method::GET, path, &[("accept", accept), ("if-none-match", &tag)], "").await;
        assert_eq!((again.status, again.bytes.len()), (304, 0), "{path}");
    }
}
