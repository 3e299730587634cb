//! The tree of a parsed expression.

use std::sync::Arc;

/// How deep a tree may be. Checking, estimating and evaluating recurse, on threads with small stacks.
pub(crate) const MAX_DEPTH: u16 = 160;
/// How deep brackets may be nested: parsing recurses through all operators at each of them.
pub(crate) const MAX_NESTING: u16 = 50;

/// An expression.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    /// Index of the node: tables of types and references are kept by it.
    pub id: u32,
    /// Where it stands in the text, in characters.
    pub at: u32,
    /// Levels below and with this one.
    pub depth: u16,
    /// What it is.
    pub kind: ExprKind,
}

/// What an expression is.
#[derive(Clone, Debug)]
pub(crate) enum ExprKind {
    /// A constant.
    Literal(Literal),
    /// A name.
    Ident(Arc<str>),
    /// `operand.field`, or the test whether it is there.
    Select {
        /// Of what.
        operand: Box<Expr>,
        /// Which field.
        field: Arc<str>,
        /// Only whether it is there.
        test: bool,
    },
    /// A call; operators too, under names as `_+_`.
    Call {
        /// The function.
        function: Arc<str>,
        /// What it is called on.
        target: Option<Box<Expr>>,
        /// Its arguments.
        args: Vec<Expr>,
    },
    /// `[a, ?b]`
    List(Vec<ListItem>),
    /// `{k: v, ?k: v}`
    Map(Vec<MapEntry>),
    /// `Name{field: value}`
    Struct {
        /// Name of the type.
        name: Arc<str>,
        /// Its fields.
        fields: Vec<FieldInit>,
    },
    /// What a macro became.
    Fold(Box<Fold>),
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    /// `null`
    Null,
    /// `true`
    Bool(bool),
    /// `1`
    Int(i64),
    /// `1u`
    Uint(u64),
    /// `1.0`
    Double(f64),
    /// `'a'`
    String(Arc<str>),
    /// `b'a'`
    Bytes(Arc<[u8]>),
}

/// An element of a list.
#[derive(Clone, Debug)]
pub(crate) struct ListItem {
    /// Left out where it is an empty optional.
    pub optional: bool,
    /// The element.
    pub value: Expr,
}

/// An entry of a map.
#[derive(Clone, Debug)]
pub(crate) struct MapEntry {
    /// Left out where the value is an empty optional.
    pub optional: bool,
    /// The key.
    pub key: Expr,
    /// The value.
    pub value: Expr,
}

/// A field that is set.
#[derive(Clone, Debug)]
pub(crate) struct FieldInit {
    /// Where the field stands.
    pub at: u32,
    /// Left out where the value is an empty optional.
    pub optional: bool,
    /// Its name.
    pub field: Arc<str>,
    /// The value.
    pub value: Expr,
}

/// A walk over a range that carries a result along.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    /// What is walked.
    pub range: Expr,
    /// Name of the element; of the key or index if there are two names.
    pub iter: Arc<str>,
    /// Name of the value or element.
    pub iter2: Option<Arc<str>>,
    /// Name of what is carried.
    pub accu: Arc<str>,
    /// What it is at first.
    pub init: Expr,
    /// Whether to go on.
    pub condition: Expr,
    /// What it becomes.
    pub step: Expr,
    /// What it is in the end.
    pub result: Expr,
}

/// Name of what a macro's walk carries: no text can spell it.
pub(crate) const ACCUMULATOR: &str = "@result";
/// Name of the variable of a walk that has none.
pub(crate) const UNUSED: &str = "#unused";

impl Expr {
    /// The name, dots and all, if this is but a name.
    #[must_use]
    pub(crate) fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            ExprKind::Ident(name) => Some(name.to_string()),
            ExprKind::Select { operand, field, test: false } => {
                let mut name = operand.qualified_name()?;
                name.push('.');
                name.push_str(field);
                Some(name)
            }
            _ => None,
        }
    }

    /// The name, if this is a simple one.
    #[must_use]
    pub(crate) fn ident(&self) -> Option<&Arc<str>> {
        match &self.kind {
            ExprKind::Ident(name) => Some(name),
            _ => None,
        }
    }

    /// What is directly below.
    #[must_use]
    pub(crate) fn children(&self) -> Vec<&Expr> {
        match &self.kind {
            ExprKind::Literal(_) | ExprKind::Ident(_) => Vec::new(),
            ExprKind::Select { operand, .. } => vec![operand],
            ExprKind::Call { target, args, .. } => target.as_deref().into_iter().chain(args).collect(),
            ExprKind::List(items) => items.iter().map(|item| &item.value).collect(),
            ExprKind::Map(entries) => entries.iter().flat_map(|entry| [&entry.key, &entry.value]).collect(),
            ExprKind::Struct { fields, .. } => fields.iter().map(|field| &field.value).collect(),
            ExprKind::Fold(fold) => vec![&fold.range, &fold.init, &fold.condition, &fold.step, &fold.result],
        }
    }
}
