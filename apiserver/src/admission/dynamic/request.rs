//! The request that is admitted, as selectors, expressions and webhooks see it.

use std::sync::Arc;

use martello_api::{resource::GroupVersionKind, status::ApiError};
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

use crate::{
    admission::{self, Operation},
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
    /// What admission's refusals call the object: before its name is made, what it is made of.
    told: String,
    pub(super) dry_run: bool,
    /// How something is to be deleted.
    delete: Option<&'a DeleteOptions>,
    /// How many seconds it is given to end, where that counts.
    grace: Option<i64>,
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
        let told = admission::told(call, shown.unwrap_or(&Value::Null)).to_owned();
        // A Namespace is in itself, from the request that makes it on.
        let namespace = if is_namespace(kind) {
            name.clone()
        } else if kind.resource.namespaced {
            let own = shown.map(object::namespace).unwrap_or_default();
            if call.namespace().is_empty() { own.to_owned() } else { call.namespace().to_owned() }
        } else {
            String::new()
        };
        let dry_run = call.dry_run("CreateOptions").unwrap_or(false);
        let (delete, grace, namespace_entry) = (None, None, OnceCell::new());
        Ok(Self { core, kind, call, operation, namespace, name, told, dry_run, delete, grace, namespace_entry })
    }

    /// The same for a delete with these options: what the query says of them does not count where there is a body.
    pub(super) fn deleting(mut self, options: &'a DeleteOptions, old: &Value) -> Self {
        self.dry_run = options.dry_run;
        // What has begun to end keeps its time.
        self.grace = self.kind.grace(old, options.grace).filter(|_| !object::is_terminating(old));
        self.delete = Some(options);
        self
    }

    pub(super) fn subresource(&self) -> &str {
        &self.call.target.subresource
    }

    /// The kind of what is sent where that is no object of the resource: options of a connection, what is created below an
    /// object, its scale.
    pub(super) fn foreign(&self) -> Option<&GroupVersionKind> {
        let (subresource, operation) = (self.subresource(), self.operation);
        let foreign = match operation {
            Operation::Create | Operation::Connect => !subresource.is_empty(),
            Operation::Update | Operation::Delete => subresource == "scale",
        };
        let own = self.kind.resource.subresources.iter().find(|own| own.name == subresource);
        own.filter(|_| foreign).map(|own| &own.gvk)
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
            let mut shown = options.shown();
            if let Some(grace) = self.grace {
                object::set(&mut shown, &[], "gracePeriodSeconds", grace);
            }
            return shown;
        }
        // A patch is told as the create or update that it comes to.
        let kind = if self.operation == Operation::Create { "CreateOptions" } else { "UpdateOptions" };
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

    /// 403 for the object of the request, by its name alone.
    pub(super) fn forbidden(&self, why: &str) -> ApiError {
        self.kind.forbidden(&self.name, why)
    }

    /// 403 as admission words it.
    pub(super) fn refused(&self, why: &str) -> ApiError {
        self.kind.forbidden(&self.told, why)
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
