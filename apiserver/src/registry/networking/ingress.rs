//! Ingresses.

use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;
use martello_api::{
    resource::Resource,
    status::{ApiError, Cause},
};
use serde_json::{Value, json};

use super::ingress_rules;
use crate::{
    registry::{
        kind::{Cell, Column, Generation, Kind, Strategy, resource},
        object, table,
    },
    server::Core,
};

/// Ingresses.
pub struct Ingresses;

/// The annotation that named the class before there was a field.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// Hosts that the column shows before it only counts.
const SHOWN_HOSTS: usize = 3;

impl Strategy for Ingresses {
    fn resource(&self) -> Resource {
        resource("networking.k8s.io", "v1", "Ingress", "ingresses").short(&["ing"]).status().build()
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({"loadBalancer": {}}));
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        ingress_rules::check(object, causes);
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        let named = object::at(object, &["metadata", "annotations", CLASS_ANNOTATION]).and_then(Value::as_str);
        let class = object::at(object, &["spec", "ingressClassName"]).and_then(Value::as_str);
        if let (Some(named), Some(class)) = (named, class)
            && named != class
        {
            let path = format!("annotations.{CLASS_ANNOTATION}");
            causes.push(Cause::invalid(path, &json!(named), "must match `ingressClassName` when both are specified"));
        }
    }

    fn validate_status(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        ingress_rules::check_status(object, old, causes);
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let annotated = object::at(object, &["metadata", "annotations", CLASS_ANNOTATION]).is_some();
        let named = object::at(object, &["spec", "ingressClassName"]).is_some_and(Value::is_string);
        if old.is_some() || !annotated || named {
            return Vec::new();
        }
        vec![format!("annotation {CLASS_ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' instead")]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 6] = [
            Column::name(),
            Column::text(
                "Class",
                "The name of the IngressClass resource that should be used for additional configuration",
            ),
            Column::text("Hosts", "Hosts that incoming requests are matched against before the ingress rule"),
            Column::text("Address", "Address is a list containing ingress points for the load-balancer"),
            Column::text("Ports", "Ports of TLS configurations that open"),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let class = object::at(object, &["spec", "ingressClassName"]).and_then(Value::as_str);
        let ports = if object::list(object, &["spec", "tls"]).is_empty() { "80" } else { "80, 443" };
        vec![
            object::name(object).into(),
            class.unwrap_or("<none>").into(),
            hosts(object).into(),
            addresses(object).into(),
            ports.into(),
            table::age(object),
        ]
    }
}

fn hosts(ingress: &Value) -> String {
    let rules = object::list(ingress, &["spec", "rules"]);
    let named = rules.iter().map(|rule| object::text(rule, &["host"])).enumerate().filter(|(_, host)| !host.is_empty());
    let (places, shown): (Vec<usize>, Vec<&str>) = named.take(SHOWN_HOSTS).unzip();
    if shown.is_empty() {
        return "*".to_owned();
    }
    // Whatever rules follow the last host that is shown, with a host or without.
    if shown.len() == SHOWN_HOSTS && places.last().is_some_and(|last| last + 1 < rules.len()) {
        return format!("{} + {} more...", shown.join(","), rules.len() - SHOWN_HOSTS);
    }
    shown.join(",")
}

fn addresses(ingress: &Value) -> String {
    table::balanced(ingress).join(",")
}

/// Gives a new Ingress the class that is marked as the default; of several the newest.
pub fn default_class<'a>(core: &'a Arc<Core>, ingress: &'a mut Value) -> BoxFuture<'a, Result<(), ApiError>> {
    Box::pin(async move {
        let named = object::at(ingress, &["spec", "ingressClassName"]).is_some_and(|class| !class.is_null());
        if named || object::at(ingress, &["metadata", "annotations", CLASS_ANNOTATION]).is_some() {
            return Ok(());
        }
        let Some(kind) = core.registry.find("networking.k8s.io", "v1", "ingressclasses") else { return Ok(()) };
        if let Some(class) = newest_default(&all(core, kind).await?) {
            object::set(ingress, &["spec"], "ingressClassName", class);
        }
        Ok(())
    })
}

async fn all(core: &Arc<Core>, kind: &Kind) -> Result<Vec<Value>, ApiError> {
    crate::server::bootstrap::all(core, kind).await
}

fn newest_default(classes: &[Value]) -> Option<String> {
    let is_default = |class: &&Value| {
        object::text(class, &["metadata", "annotations", super::ingress_class::DEFAULT_ANNOTATION]) == "true"
    };
    let age = |class: &Value| object::text(class, &["metadata", "creationTimestamp"]).to_owned();
    let mut marked: Vec<&Value> = classes.iter().filter(is_default).collect();
    marked.sort_by(|left, right| age(right).cmp(&age(left)).then(object::name(left).cmp(object::name(right))));
    marked.first().map(|class| object::name(class).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_counted_beyond_three() {
        let ingress = |hosts: &[&str]| {
            let rules: Vec<Value> = hosts.iter().map(|host| json!({"host": host})).collect();
            super::hosts(&json!({"spec": {"rules": rules}}))
        };
        assert_eq!(ingress(&[]), "*");
        assert_eq!(ingress(&["a", "b"]), "a,b");
        assert_eq!(ingress(&["a", "b", "c", "d", "e"]), "a,b,c + 2 more...");
    }

    #[test]
    fn the_annotation_for_the_class_says_the_same_and_is_told_of_alone() {
        let ingress = |class: Value| json!({"metadata": {"annotations": {CLASS_ANNOTATION: ""}}, "spec": {"ingressClassName": class}});
        let mut causes = Vec::new();
        Ingresses.validate_create(&ingress(json!("a")), &mut causes);
        assert_eq!(causes[0].field, "annotations.kubernetes.io/ingress.class");
        assert_eq!(Ingresses.warnings(&ingress(json!("a")), None).len(), 0);
        assert_eq!(Ingresses.warnings(&ingress(Value::Null), None).len(), 1);
    }

    #[test]
    fn the_newest_default_class_counts() {
        let class = |name: &str, created: &str, default: &str| {
            json!({"metadata": {"name": name, "creationTimestamp": created,
                "annotations": {"ingressclass.kubernetes.io/is-default-class": default}}})
        };
        let classes = [
            class("old", "2026-01-01T00:00:00Z", "true"),
            class("new", "2026-02-01T00:00:00Z", "true"),
            class("newest", "2026-03-01T00:00:00Z", "false"),
        ];
        assert_eq!(newest_default(&classes).as_deref(), Some("new"));
        assert_eq!(newest_default(&classes[2..]), None);
    }
}
