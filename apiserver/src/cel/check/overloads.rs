//! Calls: which signatures of a function fit, and the type of the result.

use std::{slice::from_ref, sync::Arc};

use super::{Checker, Reference};
use crate::cel::{
    ast::Expr,
    functions::{self, Function, Overload},
    types::Type,
};

impl Checker<'_> {
    pub(super) fn call(&mut self, expr: &Expr, name: &str, target: Option<&Expr>, args: &[Expr]) -> Type {
        if name == "_?._" {
            return self.optional_select(expr, args);
        }
        let Some(target) = target else {
            let types = args.iter().map(|arg| self.check(arg)).collect();
            return match functions::find(name).filter(|own| self.offered(own.name)) {
                Some(function) if matches!(name, "_&&_" | "_||_") => self.logical(expr, function, args, types),
                Some(function) => self.resolve(expr, function, types, false),
                None => self.undeclared(expr, name),
            };
        };
        if let Some(scope) = target.qualified_name() {
            let full = format!("{}.{name}", scope.strip_prefix('.').unwrap_or(&scope));
            if let Some(function) = functions::find(&full).filter(|own| self.offered(own.name)) {
                let types = args.iter().map(|arg| self.check(arg)).collect();
                return self.resolve(expr, function, types, false);
            }
        }
        let mut types = vec![self.check(target)];
        for arg in args {
            types.push(self.check(arg));
        }
        match functions::find(name).filter(|own| self.offered(own.name)) {
            Some(function) => self.resolve(expr, function, types, true),
            None => self.undeclared(expr, name),
        }
    }

    /// Each operand of `&&` and `||` is told by itself where it is no truth value.
    fn logical(&mut self, expr: &Expr, function: &'static Function, args: &[Expr], types: Vec<Type>) -> Type {
        let before = self.issues.len();
        for (arg, ty) in args.iter().zip(types) {
            if !self.bound.fit(from_ref(&ty), from_ref(&Type::Bool)) {
                self.issues.add(arg.at, format!("expected type 'bool' but found '{ty}'"));
            }
        }
        if self.issues.len() > before {
            return Type::Error;
        }
        self.refer(expr, Reference::Function(function, function.overloads.iter().map(|own| own.id).collect()));
        Type::Bool
    }

    /// Some functions are there for mutations only.
    fn offered(&self, name: &str) -> bool {
        self.names.mutation || name != "jsonpatch.escapeKey"
    }

    /// Finds the signatures that fit, and the type of the result.
    fn resolve(&mut self, expr: &Expr, function: &'static Function, args: Vec<Type>, member: bool) -> Type {
        let mut result: Option<Type> = None;
        let mut fitting = Vec::new();
        for overload in function.overloads.iter().filter(|own| own.member == member) {
            let (wanted, own) = self.instantiate(overload);
            if !self.bound.fit(&args, &wanted) {
                continue;
            }
            fitting.push(overload.id);
            let own = self.bound.resolve(&own, false);
            result = Some(match result {
                None => own,
                Some(known) if known.is_dyn() || known == own => known,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let args: Vec<Type> = args.iter().map(|arg| self.bound.resolve(arg, true)).collect();
            let signature = signature(&args, member);
            let name = function.name;
            self.issues.add(expr.at, format!("found no matching overload for '{name}' applied to '{signature}'"));
            return Type::Error;
        };
        self.refer(expr, Reference::Function(function, fitting));
        result
    }

    /// A signature whose parameters are types yet unknown.
    fn instantiate(&mut self, overload: &Overload) -> (Vec<Type>, Type) {
        if overload.params == 0 {
            return (overload.args.clone(), overload.result.clone());
        }
        let base = self.bound.fresh_base(overload.params);
        let args = overload.args.iter().map(|arg| shifted(arg, base)).collect();
        (args, shifted(&overload.result, base))
    }
}

fn shifted(ty: &Type, base: u32) -> Type {
    match ty {
        Type::Param(number) => Type::Param(number + base),
        Type::List(of) => Type::list(shifted(of, base)),
        Type::Map(key, value) => Type::map(shifted(key, base), shifted(value, base)),
        Type::Opaque(name, parts) => Type::Opaque(name, parts.iter().map(|part| shifted(part, base)).collect()),
        Type::Type(Some(of)) => Type::Type(Some(Arc::new(shifted(of, base)))),
        other => other.clone(),
    }
}

/// `(int, string)`, or `string.(int)` for what is called on a target.
fn signature(args: &[Type], member: bool) -> String {
    let list = |args: &[Type]| args.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match args.split_first().filter(|_| member) {
        Some((target, rest)) => format!("{target}.({})", list(rest)),
        None => format!("({})", list(args)),
    }
}
