//! A column of a Table.

/// A column of a Table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Title.
    pub name: &'static str,
    /// `string`, `integer`, `boolean`, `date`.
    pub kind: &'static str,
    /// `name` for the name, else empty.
    pub format: &'static str,
    /// For people.
    pub description: &'static str,
    /// 0 is always shown, 1 only when wide.
    pub priority: i32,
}

impl Column {
    /// A column of text that is always shown.
    #[must_use]
    pub const fn text(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: "string", format: "", description, priority: 0 }
    }

    /// The column of names.
    #[must_use]
    pub const fn name() -> Self {
        Self { name: "Name", kind: "string", format: "name", description: NAME_DESCRIPTION, priority: 0 }
    }

    /// The column of ages.
    #[must_use]
    pub const fn age() -> Self {
        Self::text("Age", AGE_DESCRIPTION)
    }

    /// Of whole numbers.
    #[must_use]
    pub const fn integer(mut self) -> Self {
        self.kind = "integer";
        self
    }

    /// Of truths.
    #[must_use]
    pub const fn boolean(mut self) -> Self {
        self.kind = "boolean";
        self
    }

    /// Of names.
    #[must_use]
    pub const fn as_name(mut self) -> Self {
        self.format = "name";
        self
    }

    /// Shown only when wide.
    #[must_use]
    pub const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }
}

const NAME_DESCRIPTION: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
/// What the column of ages says of itself.
pub const AGE_DESCRIPTION: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
