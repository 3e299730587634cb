//! The request that is admitted, as selectors, expressions and webhooks see it.

use std::sync::Arc;

use martello_api::status::ApiError;
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

use crate::{
    admission::Operation,
    registry::{call::Call, kind::Kind, object, options::DeleteOptions},
    server::Core,
    store::Entry,
};

/// A request.
pub(super) struct Request<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) kind: &'a Kind,
    pub(super) call: &'a Call,
    pub(super) operation: Operation,
    /// Of the object; of a Namespace its own.
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) dry_run: bool,
    /// How something is to be deleted.
    delete: Option<&'a DeleteOptions>,
    namespace_entry: OnceCell<Option<Arc<Entry>>>,
}

impl<'a> Request<'a> {
    pub(super) async fn new(
        core: &'a Arc<Core>,
        kind: &'a Kind,
        call: &'a Call,
        operation: Operation,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<Self, ApiError> {
        let shown = object.filter(|object| !object.is_null()).or(old);
        let of_object = shown.map(object::name).unwrap_or_default();
        let name = if call.name().is_empty() { of_object } else { call.name() }.to_owned();
        let namespace = if is_namespace(kind) {
            if operation == Operation::Create { String::new() } else { name.clone() }
        } else if kind.resource.namespaced {
            let own = shown.map(object::namespace).unwrap_or_default();
            if call.namespace().is_empty() { own.to_owned() } else { call.namespace().to_owned() }
        } else {
            String::new()
        };
        let dry_run = call.dry_run("CreateOptions").unwrap_or(false);
        let (delete, namespace_entry) = (None, OnceCell::new());
        Ok(Self { core, kind, call, operation, namespace, name, dry_run, delete, namespace_entry })
    }

    /// The same for a delete with these options: what the query says of them does not count where there is a body.
    pub(super) fn deleting(mut self, options: &'a DeleteOptions) -> Self {
        self.dry_run = options.dry_run;
        self.delete = Some(options);
        self
    }

    pub(super) fn subresource(&self) -> &str {
        &self.call.target.subresource
    }

    pub(super) fn is_delete(&self) -> bool {
        self.operation == Operation::Delete
    }

    pub(super) fn is_namespace(&self) -> bool {
        is_namespace(self.kind)
    }

    pub(super) fn operation_name(&self) -> &'static str {
        operation_name(self.operation)
    }

    /// The Namespace of the object as the store has it; looked up once.
    pub(super) async fn namespace_entry(&self) -> Result<Option<Arc<Entry>>, ApiError> {
        let found = self.namespace_entry.get_or_try_init(|| async {
            match self.core.registry.find("", "v1", "namespaces") {
                Some(kind) if !self.namespace.is_empty() => self.core.find(kind, "", &self.namespace).await,
                _ => Ok(None),
            }
        });
        found.await.cloned()
    }

    /// The Namespace for expressions; null for what is in none.
    pub(super) async fn namespace_object(&self) -> Result<Value, ApiError> {
        if self.is_namespace() {
            return Ok(Value::Null);
        }
        let (Some(entry), Some(kind)) =
            (self.namespace_entry().await?, self.core.registry.find("", "v1", "namespaces"))
        else {
            return Ok(Value::Null);
        };
        self.core.value(kind, &entry).await
    }

    /// The part of an `AdmissionRequest` that says what is asked, without the objects. `matched` is the kind that a rule
    /// named, which may be another version of the same.
    pub(super) fn describe(&self, matched: &Kind) -> Map<String, Value> {
        let subresource = self.subresource();
        let mut map = Map::new();
        map.insert("uid".into(), "".into());
        map.insert("kind".into(), kind_of(matched, subresource));
        map.insert("resource".into(), resource_of(matched));
        if !subresource.is_empty() {
            map.insert("subResource".into(), subresource.into());
        }
        map.insert("requestKind".into(), kind_of(self.kind, subresource));
        map.insert("requestResource".into(), resource_of(self.kind));
        if !subresource.is_empty() {
            map.insert("requestSubResource".into(), subresource.into());
        }
        if !self.name.is_empty() {
            map.insert("name".into(), self.name.as_str().into());
        }
        if !self.namespace.is_empty() {
            map.insert("namespace".into(), self.namespace.as_str().into());
        }
        map.insert("operation".into(), self.operation_name().into());
        map.insert("userInfo".into(), serde_json::to_value(&*self.call.user).unwrap_or_default());
        map.insert("dryRun".into(), self.dry_run.into());
        map.insert("options".into(), self.options());
        map
    }

    fn options(&self) -> Value {
        if self.operation == Operation::Connect {
            return Value::Null;
        }
        if let Some(options) = self.delete {
            return options.shown();
        }
        let kind = match (self.operation, self.call.verb) {
            (_, "patch") => "PatchOptions",
            (Operation::Create, _) => "CreateOptions",
            _ => "UpdateOptions",
        };
        let mut options = Map::new();
        options.insert("kind".into(), kind.into());
        options.insert("apiVersion".into(), "meta.k8s.io/v1".into());
        if self.dry_run {
            options.insert("dryRun".into(), json!(["All"]));
        }
        for name in ["fieldManager", "fieldValidation"] {
            let value = self.call.query.get(name);
            if !value.is_empty() {
                options.insert(name.into(), value.into());
            }
        }
        Value::Object(options)
    }

    /// 403 for the object of the request.
    pub(super) fn forbidden(&self, why: &str) -> ApiError {
        self.kind.forbidden(&self.name, why)
    }
}

fn is_namespace(kind: &Kind) -> bool {
    (kind.group(), kind.name()) == ("", "Namespace")
}

fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

fn kind_of(kind: &Kind, subresource: &str) -> Value {
    let own = kind.resource.subresources.iter().find(|one| one.name == subresource);
    let gvk = own.map_or(&kind.resource.gvk, |own| &own.gvk);
    json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind})
}

fn resource_of(kind: &Kind) -> Value {
    let gvk = &kind.resource.gvk;
    json!({"group": gvk.group, "version": gvk.version, "resource": kind.resource.plural})
}
