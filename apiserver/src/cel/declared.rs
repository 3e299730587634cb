//! Types of what every policy sees: the request and the namespace.

use std::sync::{Arc, LazyLock};

use super::{
    schema::{Field, Fields, ListKind, Schema, Shape},
    types::Type,
};

/// The type of `request`.
pub(super) fn request() -> Type {
    static REQUEST: LazyLock<Type> = LazyLock::new(|| {
        let kind =
            || object("kubernetes.GroupVersionKind", vec![("group", text()), ("version", text()), ("kind", text())]);
        let resource = || {
            let fields = vec![("group", text()), ("version", text()), ("resource", text())];
            object("kubernetes.GroupVersionResource", fields)
        };
        let user = object(
            "kubernetes.UserInfo",
            vec![("username", text()), ("uid", text()), ("groups", list(text())), ("extra", map(list(text())))],
        );
        let fields = vec![
            ("kind", kind()),
            ("resource", resource()),
            ("subResource", text()),
            ("requestKind", kind()),
            ("requestResource", resource()),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", Arc::new(Schema::new(Shape::Bool))),
            ("options", Arc::new(Schema::new(Shape::Any))),
        ];
        object("kubernetes.AdmissionRequest", fields).ty()
    });
    REQUEST.clone()
}

/// The type of `namespaceObject`.
pub(super) fn namespace() -> Type {
    static NAMESPACE: LazyLock<Type> = LazyLock::new(|| {
        let time = || Arc::new(Schema::new(Shape::Timestamp));
        let number = || Arc::new(Schema::new(Shape::Int));
        let condition = object(
            "kubernetes.NamespaceCondition",
            vec![
                ("status", text()),
                ("type", text()),
                ("lastTransitionTime", time()),
                ("message", text()),
                ("reason", text()),
            ],
        );
        let metadata = object(
            "kubernetes.NamespaceMetadata",
            vec![
                ("name", text()),
                ("generateName", text()),
                ("namespace", text()),
                ("labels", map(text())),
                ("annotations", map(text())),
                ("UID", text()),
                ("creationTimestamp", time()),
                ("deletionGracePeriodSeconds", number()),
                ("deletionTimestamp", time()),
                ("generation", number()),
                ("resourceVersion", text()),
                ("finalizers", list(text())),
            ],
        );
        let spec = object("kubernetes.NamespaceSpec", vec![("finalizers", list(text()))]);
        let status = object("kubernetes.NamespaceStatus", vec![("conditions", list(condition)), ("phase", text())]);
        object("kubernetes.Namespace", vec![("metadata", metadata), ("spec", spec), ("status", status)]).ty()
    });
    NAMESPACE.clone()
}

/// The type of `authorizer`.
pub(super) fn authorizer() -> Type {
    Type::Opaque("kubernetes.authorization.Authorizer", Vec::new())
}

/// The type of `authorizer.requestResource`.
pub(super) fn resource_check() -> Type {
    Type::Opaque("kubernetes.authorization.ResourceCheck", Vec::new())
}

fn text() -> Arc<Schema> {
    Arc::new(Schema::new(Shape::String))
}

fn list(of: Arc<Schema>) -> Arc<Schema> {
    Arc::new(Schema::new(Shape::List(of, ListKind::Atomic)))
}

fn map(of: Arc<Schema>) -> Arc<Schema> {
    Arc::new(Schema::new(Shape::Map(of)))
}

fn object(name: &str, fields: Vec<(&str, Arc<Schema>)>) -> Arc<Schema> {
    let fields =
        fields.into_iter().map(|(name, schema)| (name.to_owned(), Field { json: name.into(), schema })).collect();
    Arc::new(Schema::new(Shape::Object(Arc::new(Fields::known(name, fields)))))
}
