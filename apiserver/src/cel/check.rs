//! Finds the type of each part of an expression, and what each name and call means.

use std::{slice::from_ref, sync::Arc};

use super::{
    ast::{Expr, ExprKind, Fold, Literal},
    functions::Function,
    parser::Parsed,
    schema::Fields,
    source::Issues,
    types::{Bound, Type, less_specific},
};

mod overloads;

/// What names mean outside of an expression.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// Variables; a name may have dots.
    pub variables: Vec<(Arc<str>, Type)>,
    /// Whether `Object{…}` and `JSONPatch{…}` may be built.
    pub mutation: bool,
}

/// An expression whose types fit.
#[derive(Debug)]
pub(crate) struct Checked {
    /// The tree.
    pub root: Expr,
    /// The type of each node.
    pub types: Vec<Type>,
    /// What each node refers to.
    pub references: Vec<Reference>,
    /// What is worked out once, for each node.
    pub fixed: Vec<Fixed>,
}

impl Checked {
    /// What a node refers to.
    pub(super) fn reference(&self, expr: &Expr) -> &Reference {
        const NONE: &Reference = &Reference::None;
        usize::try_from(expr.id).ok().and_then(|at| self.references.get(at)).unwrap_or(NONE)
    }

    /// What is worked out once of a node.
    pub(super) fn fixed(&self, expr: &Expr) -> Fixed {
        usize::try_from(expr.id).ok().and_then(|at| self.fixed.get(at)).copied().unwrap_or_default()
    }
}

/// What of a node is worked out once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fixed {
    /// Nothing.
    #[default]
    No,
    /// All of it: it is a constant.
    Constant,
    /// The call, though not its arguments.
    Call,
}

/// What a node refers to.
#[derive(Clone, Default)]
pub(crate) enum Reference {
    /// Nothing, or what its kind says.
    #[default]
    None,
    /// A variable from outside.
    Variable(Arc<str>),
    /// A type, by its name.
    Type(Arc<str>),
    /// A function, and those of its signatures that may be meant.
    Function(&'static Function, Vec<&'static str>),
}

impl std::fmt::Debug for Reference {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => out.write_str("-"),
            Self::Variable(name) | Self::Type(name) => out.write_str(name),
            Self::Function(function, overloads) => write!(out, "{}{overloads:?}", function.name),
        }
    }
}

/// Types that expressions can name.
const TYPE_NAMES: [(&str, Type); 11] = [
    ("bool", Type::Bool),
    ("int", Type::Int),
    ("uint", Type::Uint),
    ("double", Type::Double),
    ("string", Type::String),
    ("bytes", Type::Bytes),
    ("null_type", Type::Null),
    ("google.protobuf.Timestamp", Type::Timestamp),
    ("google.protobuf.Duration", Type::Duration),
    ("type", Type::Type(None)),
    ("optional_type", Type::Dyn),
];

/// Checks a parsed expression.
pub(crate) fn check(source: &str, parsed: Parsed, names: &Names) -> Result<Checked, Issues> {
    let count = usize::try_from(parsed.nodes).unwrap_or(0);
    let mut checker = Checker {
        names,
        issues: Issues::of(source),
        bound: Bound::default(),
        types: vec![Type::Error; count],
        references: vec![Reference::None; count],
        scopes: Vec::new(),
    };
    checker.check(&parsed.root);
    if !checker.issues.is_empty() {
        return Err(checker.issues);
    }
    let Checker { bound, types, references, .. } = checker;
    let types = types.iter().map(|ty| bound.resolve(ty, true)).collect();
    let fixed = vec![Fixed::No; count];
    Ok(Checked { root: parsed.root, types, references, fixed })
}

struct Checker<'a> {
    names: &'a Names,
    issues: Issues,
    bound: Bound,
    types: Vec<Type>,
    references: Vec<Reference>,
    scopes: Vec<(Arc<str>, Type)>,
}

impl Checker<'_> {
    fn check(&mut self, expr: &Expr) -> Type {
        let ty = match &expr.kind {
            ExprKind::Literal(literal) => of_literal(literal),
            ExprKind::Ident(name) => self.ident(expr, name),
            ExprKind::Select { operand, field, test } => self.select(expr, operand, field, *test),
            ExprKind::Call { function, target, args } => self.call(expr, function, target.as_deref(), args),
            ExprKind::List(items) => {
                let mut element = None;
                for item in items {
                    let ty = self.check(&item.value);
                    let ty = if item.optional { self.unwrapped(&item.value, &ty) } else { ty };
                    element = Some(self.join(element, ty));
                }
                Type::list(element.unwrap_or_else(|| self.bound.fresh()))
            }
            ExprKind::Map(entries) => {
                let (mut key, mut value) = (None, None);
                for entry in entries {
                    let ty = self.check(&entry.key);
                    key = Some(self.join(key, ty));
                    let ty = self.check(&entry.value);
                    let ty = if entry.optional { self.unwrapped(&entry.value, &ty) } else { ty };
                    value = Some(self.join(value, ty));
                }
                let key = key.unwrap_or_else(|| self.bound.fresh());
                Type::map(key, value.unwrap_or_else(|| self.bound.fresh()))
            }
            ExprKind::Struct { name, .. } => self.message(expr, name),
            ExprKind::Fold(fold) => self.fold(fold),
        };
        self.set(expr, ty.clone());
        ty
    }

    fn set(&mut self, expr: &Expr, ty: Type) {
        if let Some(slot) = usize::try_from(expr.id).ok().and_then(|at| self.types.get_mut(at)) {
            *slot = ty;
        }
    }

    fn refer(&mut self, expr: &Expr, reference: Reference) {
        if let Some(slot) = usize::try_from(expr.id).ok().and_then(|at| self.references.get_mut(at)) {
            *slot = reference;
        }
    }

    fn undeclared(&mut self, expr: &Expr, name: &str) -> Type {
        self.issues.add(expr.at, format!("undeclared reference to '{name}' (in container '')"));
        Type::Error
    }

    fn ident(&mut self, expr: &Expr, name: &str) -> Type {
        let plain = name.strip_prefix('.').unwrap_or(name);
        if let Some((_, ty)) = self.scopes.iter().rev().find(|(own, _)| **own == *name) {
            return ty.clone();
        }
        match self.outer(expr, plain) {
            Some(ty) => ty,
            None => self.undeclared(expr, name),
        }
    }

    /// What a name means outside of the expression's own scopes.
    fn outer(&mut self, expr: &Expr, name: &str) -> Option<Type> {
        if let Some((name, ty)) = self.names.variables.iter().find(|(own, _)| **own == *name) {
            let (name, ty) = (Arc::clone(name), ty.clone());
            self.refer(expr, Reference::Variable(name));
            return Some(ty);
        }
        let ty = match name {
            "list" => Type::list(Type::Dyn),
            "map" => Type::map(Type::Dyn, Type::Dyn),
            _ => match TYPE_NAMES.iter().find(|(own, _)| *own == name) {
                Some((_, ty)) => ty.clone(),
                None => Type::Object(Arc::new(self.built(name)?)),
            },
        };
        self.refer(expr, Reference::Type(name.into()));
        Some(Type::Type(Some(Arc::new(ty))))
    }

    /// The type of an object that the expression may build.
    fn built(&self, name: &str) -> Option<Fields> {
        match name {
            _ if !self.names.mutation => None,
            "JSONPatch" => Some(Fields::json_patch()),
            _ if name == "Object" || name.starts_with("Object.") => Some(Fields::built(name)),
            _ => None,
        }
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, test: bool) -> Type {
        let shadowed = |name: &str, scopes: &[(Arc<str>, Type)]| {
            let first = name.split('.').next().unwrap_or_default();
            scopes.iter().any(|(own, _)| **own == *first)
        };
        if let Some(name) = expr.qualified_name().filter(|name| !test && !shadowed(name, &self.scopes))
            && let Some(ty) = self.outer(expr, name.strip_prefix('.').unwrap_or(&name))
        {
            return ty;
        }
        let of = self.check(operand);
        let result = self.selected(expr, &of, field);
        if test { Type::Bool } else { result }
    }

    /// The type of a field.
    fn selected(&mut self, expr: &Expr, of: &Type, field: &str) -> Type {
        let of = self.bound.resolve(of, false);
        if let Some(inner) = of.optional_of().cloned() {
            return Type::optional(self.selected(expr, &inner, field));
        }
        match &of {
            Type::Dyn | Type::Any | Type::Error => Type::Dyn,
            Type::Map(_, value) => (**value).clone(),
            Type::Object(fields) => match fields.field_type(field) {
                Some(ty) => ty,
                None => {
                    self.issues.add(expr.at, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Param(_) => {
                self.bound.fit(&[of], &[Type::Dyn]);
                Type::Dyn
            }
            Type::Opaque(name, _) if name.starts_with("kubernetes.") => {
                self.issues.add(expr.at, format!("unexpected failed resolution of '{name}'"));
                Type::Error
            }
            _ => {
                self.issues.add(expr.at, format!("type '{of}' does not support field selection"));
                Type::Dyn
            }
        }
    }

    fn optional_select(&mut self, expr: &Expr, args: &[Expr]) -> Type {
        let [operand, field] = args else { return Type::Error };
        let ExprKind::Literal(Literal::String(name)) = &field.kind else { return Type::Error };
        let of = self.check(operand);
        self.set(field, Type::String);
        let of = self.bound.resolve(&of, false);
        let inner = of.optional_of().cloned().unwrap_or(of);
        match self.selected(expr, &inner, name) {
            Type::Error => Type::Error,
            found if found.optional_of().is_some() => found,
            found => Type::optional(found),
        }
    }

    fn unwrapped(&mut self, expr: &Expr, ty: &Type) -> Type {
        let ty = self.bound.resolve(ty, false);
        match ty.optional_of() {
            Some(inner) => inner.clone(),
            None if matches!(ty, Type::Dyn | Type::Any) => ty,
            None => {
                self.mismatch(expr.at, &Type::optional(ty.clone()), &ty);
                ty
            }
        }
    }

    fn mismatch(&mut self, at: u32, wanted: &Type, found: &Type) {
        let (wanted, found) = (self.bound.resolve(wanted, false), self.bound.resolve(found, false));
        self.issues.add(at, format!("expected type '{wanted}' but found '{found}'"));
    }

    /// The type of all elements of a list, keys or values of a map; whether it should be one is looked at later.
    fn join(&mut self, known: Option<Type>, found: Type) -> Type {
        let Some(known) = known else { return found };
        if !self.bound.fit(from_ref(&known), from_ref(&found)) {
            return Type::Dyn;
        }
        if less_specific(&known, &found) { known } else { found }
    }

    fn message(&mut self, expr: &Expr, name: &Arc<str>) -> Type {
        let ExprKind::Struct { fields, .. } = &expr.kind else { return Type::Error };
        let own = match self.built(name) {
            Some(own) => Some(Arc::new(own)),
            None if TYPE_NAMES.iter().any(|(own, _)| **own == **name) => {
                self.issues.add(expr.at, format!("'{name}' is not a message type"));
                None
            }
            None => {
                self.undeclared(expr, name);
                None
            }
        };
        for field in fields {
            let mut ty = self.check(&field.value);
            if field.optional {
                ty = self.unwrapped(&field.value, &ty);
            }
            let Some(own) = &own else { continue };
            let Some(wanted) = own.field_type(&field.field) else {
                self.issues.add(field.at, format!("undefined field '{}'", field.field));
                continue;
            };
            if !self.bound.fit(from_ref(&wanted), from_ref(&ty)) {
                let name = &field.field;
                let ty = self.bound.resolve(&ty, false);
                let message = format!("expected type of field '{name}' is '{wanted}' but provided type is '{ty}'");
                self.issues.add(field.at, message);
            }
        }
        own.map_or(Type::Error, Type::Object)
    }

    fn fold(&mut self, fold: &Fold) -> Type {
        let range = self.check(&fold.range);
        let accu = self.check(&fold.init);
        let range = self.bound.resolve(&range, false);
        let (first, second) = match &range {
            Type::List(of) if fold.iter2.is_some() => (Type::Int, (**of).clone()),
            Type::List(of) => ((**of).clone(), Type::Dyn),
            Type::Map(key, value) => ((**key).clone(), (**value).clone()),
            Type::Dyn | Type::Error => (Type::Dyn, Type::Dyn),
            Type::Param(_) => {
                self.bound.fit(&[range], &[Type::Dyn]);
                (Type::Dyn, Type::Dyn)
            }
            _ => {
                let why = "cannot be range of a comprehension (must be list, map, or dynamic)";
                self.issues.add(fold.range.at, format!("expression of type '{range}' {why}"));
                (Type::Error, Type::Error)
            }
        };
        self.scopes.push((Arc::clone(&fold.accu), accu.clone()));
        let outer = self.scopes.len();
        self.scopes.push((Arc::clone(&fold.iter), first));
        if let Some(iter2) = &fold.iter2 {
            self.scopes.push((Arc::clone(iter2), second));
        }
        let condition = self.check(&fold.condition);
        self.expect(&fold.condition, &Type::Bool, &condition);
        let step = self.check(&fold.step);
        self.expect(&fold.step, &accu, &step);
        self.scopes.truncate(outer);
        let result = self.check(&fold.result);
        self.scopes.pop();
        self.bound.resolve(&result, false)
    }

    fn expect(&mut self, expr: &Expr, wanted: &Type, found: &Type) {
        if !self.bound.fit(from_ref(wanted), from_ref(found)) {
            self.mismatch(expr.at, wanted, found);
        }
    }
}

fn of_literal(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
