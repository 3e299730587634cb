//! What a decision costs: the masters, a role binding among ten thousand, a node, a denial; decided anew and remembered.
#![allow(clippy::unwrap_used, reason = "a benchmark may stop")]
#![allow(missing_docs, reason = "the macros make undocumented items")]

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use martello_api::{
    attributes::{Attributes, ResourceTarget, Target},
    identity::User,
};
use martello_policy::{Authorizer, Change, bootstrap};
use serde_json::json;

/// Namespaces, each with a role binding of one user and one of a group that all share.
const NAMESPACES: usize = 5_000;

fn authorizer() -> Authorizer {
    let authorizer = Authorizer::new();
    let mut objects = bootstrap::objects();
    for number in 0..NAMESPACES {
        for (name, kind, subject) in [("user", "User", format!("user-{number}")), ("group", "Group", "devs".to_owned())]
        {
            objects.push(json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"namespace": format!("ns-{number}"), "name": name},
                "roleRef": {"kind": "ClusterRole", "name": "edit"}, "subjects": [{"kind": kind, "name": subject}],
            }));
        }
    }
    objects.push(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "ns-7", "name": "p"},
        "spec": {"nodeName": "n1", "containers": [], "volumes": [{"name": "v", "secret": {"secretName": "s"}}]},
    }));
    authorizer.replace_all(objects.iter().filter_map(|object| Change::written(object).unwrap()));
    authorizer
}

fn asks(user: User, verb: &str, resource: &str, name: &str) -> Attributes {
    let target = ResourceTarget {
        resource: resource.to_owned(),
        namespace: "ns-7".to_owned(),
        name: name.to_owned(),
        ..ResourceTarget::default()
    };
    Attributes { user: Arc::new(user), verb: verb.to_owned(), target: Target::Resource(target) }
}

fn benches(criterion: &mut Criterion) {
    let authorizer = authorizer();
    let cases = [
        ("masters", asks(User::authenticated("root", ["system:masters"]), "get", "secrets", "s")),
        ("role binding", asks(User::authenticated("user-7", ["devs"]), "get", "secrets", "s")),
        ("node", asks(User::node("n1"), "get", "secrets", "s")),
        ("denied", asks(User::authenticated("stranger", ["others"]), "get", "secrets", "s")),
    ];
    for (name, attributes) in cases {
        criterion.bench_function(&format!("authorize/{name}/remembered"), |bencher| {
            bencher.iter(|| black_box(authorizer.authorize(black_box(&attributes))));
        });
        let mut number = 0_u64;
        criterion.bench_function(&format!("authorize/{name}/anew"), |bencher| {
            bencher.iter(|| {
                let mut other = attributes.clone();
                number += 1;
                if let (false, Target::Resource(target)) = (name == "node", &mut other.target) {
                    target.name = format!("s{number}");
                }
                black_box(authorizer.authorize(black_box(&other)))
            });
        });
    }
}

criterion_group!(authorize, benches);
criterion_main!(authorize);
