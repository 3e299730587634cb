//! Real `kubectl`, every version that this machine has.

use martello_tests::{
    binary::repository,
    cluster::Cluster,
    kubectl::{Kubectl, all},
};

/// Runs one story with every kubectl, each in a namespace of its own.
async fn with_each(story: impl Fn(&Kubectl, &str)) {
    let mut cluster = Cluster::start().await.unwrap();
    let kubeconfig = cluster.kubeconfig_path().unwrap();
    for (index, program) in all().iter().enumerate() {
        let kubectl = Kubectl::new(program, &kubeconfig);
        let namespace = format!("story-{index}");
        kubectl.run(&["create", "namespace", &namespace]).unwrap();
        story(&kubectl, &namespace);
    }
}

fn example(name: &str) -> String {
    repository().join("docs/examples").join(name).to_string_lossy().into_owned()
}

#[tokio::test]
async fn the_examples_are_applied_shown_changed_and_deleted() {
    with_each(|kubectl, namespace| {
        let run = |arguments: &[&str]| kubectl.run(&[arguments, &["-n", namespace]].concat()).unwrap();
        for name in ["db-credentials.yaml", "web-app.yaml", "encryption-service.yaml", "encryption-deployment.yaml", "viewer.yaml"] {
            let said = run(&["apply", "-f", &example(name)]);
            assert!(said.contains("created"), "{}: {said}", kubectl.program().display());
            let again = run(&["apply", "-f", &example(name)]);
            assert!(again.lines().all(|line| line.ends_with("unchanged")), "{}: {again}", kubectl.program().display());
        }
        assert!(run(&["get", "deployments"]).contains("web-app"));
        assert!(run(&["get", "services", "-o", "wide"]).contains("ClusterIP"));
        assert!(run(&["get", "secret", "db-credentials", "-o", "jsonpath={.data.password}"]).contains("cGFzc3dvcmQ="));
        assert!(run(&["describe", "secret", "db-credentials"]).contains("8 bytes"));
        run(&["scale", "deployment/web-app", "--replicas=5"]);
        assert_eq!(run(&["get", "deployment", "web-app", "-o", "jsonpath={.spec.replicas}"]), "5");
        run(&["set", "image", "deployment/web-app", "web=myapp:1.3.0"]);
        run(&["label", "deployment", "web-app", "tier=front"]);
        run(&["annotate", "deployment", "web-app", "note=x"]);
        run(&["patch", "deployment", "web-app", "-p", "{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"web\",\"env\":[{\"name\":\"A\",\"value\":\"b\"}]}]}}}}"]);
        let environment = run(&["get", "deployment", "web-app", "-o", "jsonpath={.spec.template.spec.containers[0].env[*].name}"]);
        assert!(environment.contains("A") && environment.contains("DB_PASSWORD"), "{environment}");
        run(&["rollout", "history", "deployment/web-app"]);
        run(&["get", "all"]);
        run(&["get", "pods", "-l", "app=web-app", "-o", "yaml"]);
        run(&["delete", "-f", &example("web-app.yaml"), "--wait=false"]);
        let gone = kubectl.try_with(&["get", "deployment", "web-app", "-n", namespace], "").unwrap();
        assert!(!gone.success && gone.stderr.contains("NotFound"), "{}", gone.stderr);
    })
    .await;
}

#[tokio::test]
async fn kubectl_explains_validates_and_asks_what_it_may() {
    with_each(|kubectl, namespace| {
        let program = kubectl.program().display();
        assert!(kubectl.run(&["version"]).unwrap().contains("v1.36"));
        assert!(kubectl.run(&["api-resources"]).unwrap().contains("deployments"));
        let explained = kubectl.run(&["explain", "pod.spec.containers.livenessProbe.httpGet"]).unwrap();
        assert!(explained.contains("port"), "{program}: {explained}");
        assert!(kubectl.run(&["explain", "deployment.spec.strategy"]).unwrap().contains("rollingUpdate"));
        let typo = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: typo\ndta: {}\n";
        let refused = kubectl.try_with(&["apply", "-n", namespace, "-f", "-"], typo).unwrap();
        assert!(!refused.success && refused.stderr.contains("unknown field"), "{program}: {}", refused.stderr);
        assert_eq!(kubectl.run(&["auth", "can-i", "delete", "secrets", "-n", namespace]).unwrap().trim(), "yes");
        let asked =
            kubectl.try_with(&["auth", "can-i", "delete", "secrets", "-n", namespace, "--as=viewer"], "").unwrap();
        assert_eq!(asked.stdout.trim(), "no");
        let denied = kubectl.try_with(&["get", "secrets", "-n", namespace, "--as=viewer"], "").unwrap();
        assert!(
            denied.stderr.contains("viewer") && denied.stderr.contains("cannot list resource \"secrets\""),
            "{}",
            denied.stderr
        );
        let server = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: by-server\ndata:\n  a: b\n";
        let applied = kubectl.run_with(&["apply", "--server-side", "-n", namespace, "-f", "-"], server).unwrap();
        assert!(applied.contains("serverside-applied"), "{program}: {applied}");
    })
    .await;
}
