//! Macros: what is written as a call and means a walk, a test or a binding.

use std::sync::Arc;

use super::{
    ast::{ACCUMULATOR, Expr, ExprKind, Fold, ListItem, Literal, UNUSED},
    parser::Parser,
};

/// The optional that `optMap` looks at: evaluated once, whatever it is.
const KEPT: &str = "@optional";

/// The list that `sortBy` sorts.
const SORTED: &str = "@__sortBy_input__";

/// `f(args)` as a macro; the arguments come back if it is none.
pub(super) fn expand_global(parser: &mut Parser, at: u32, name: &str, args: Vec<Expr>) -> Result<Expr, Vec<Expr>> {
    if name != "has" {
        return Err(args);
    }
    let [arg] = <[Expr; 1]>::try_from(args)?;
    if let ExprKind::Select { operand, field, test: false } = arg.kind {
        return Ok(parser.node(at, ExprKind::Select { operand, field, test: true }));
    }
    parser.issue(arg.at, "invalid argument to has() macro");
    Ok(arg)
}

/// `target.f(args)` as a macro; target and arguments come back if it is none.
pub(super) fn expand_member(
    parser: &mut Parser,
    at: u32,
    name: &str,
    target: Expr,
    args: Vec<Expr>,
) -> Result<Expr, (Expr, Vec<Expr>)> {
    let mut maker = Maker { parser, at };
    match (name, args.len()) {
        ("all" | "exists" | "exists_one" | "filter", 2) | ("map", 2 | 3) => Ok(maker.walk(name, target, args, 1)),
        ("all" | "exists" | "exists_one" | "existsOne" | "transformMapEntry", 3)
        | ("transformList" | "transformMap", 3 | 4)
        | ("transformMapEntry", 4) => Ok(maker.walk(name, target, args, 2)),
        ("bind", 3) if target.ident().is_some_and(|own| **own == *"cel") => Ok(maker.bind(args)),
        ("sortBy", 2) => Ok(maker.sort_by(target, args)),
        ("optMap" | "optFlatMap", 2) => Ok(maker.optional(name, target, args)),
        _ => Err((target, args)),
    }
}

/// Makes nodes that all stand where the macro stands.
struct Maker<'a> {
    parser: &'a mut Parser,
    at: u32,
}

impl Maker<'_> {
    fn node(&mut self, kind: ExprKind) -> Expr {
        self.parser.node(self.at, kind)
    }

    fn literal(&mut self, literal: Literal) -> Expr {
        self.node(ExprKind::Literal(literal))
    }

    fn name(&mut self, name: &str) -> Expr {
        self.node(ExprKind::Ident(name.into()))
    }

    fn accu(&mut self) -> Expr {
        self.name(ACCUMULATOR)
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Expr {
        self.parser.call(self.at, function, args)
    }

    fn list(&mut self, values: Vec<Expr>) -> Expr {
        let items = values.into_iter().map(|value| ListItem { optional: false, value }).collect();
        self.node(ExprKind::List(items))
    }

    /// The simple name that an argument must be.
    fn variable(&mut self, arg: Option<Expr>) -> Arc<str> {
        self.variable_or(arg, "argument must be a simple name")
    }

    fn variable_or(&mut self, arg: Option<Expr>, why: &str) -> Arc<str> {
        let at = arg.as_ref().map_or(self.at, |arg| arg.at);
        match arg.as_ref().and_then(Expr::ident) {
            Some(name) if !name.starts_with('.') => Arc::clone(name),
            _ => {
                self.parser.issue(at, why);
                UNUSED.into()
            }
        }
    }

    fn walk(&mut self, name: &str, range: Expr, args: Vec<Expr>, names: usize) -> Expr {
        let mut args = args.into_iter();
        let iter = self.variable(args.next());
        let iter2 = (names == 2).then(|| self.variable(args.next()));
        if iter2.as_ref() == Some(&iter) && *iter != *UNUSED {
            self.parser.issue(self.at, format!("duplicate variable name: {iter}"));
        }
        let rest: Vec<Expr> = args.collect();
        let yes = |maker: &mut Self| maker.literal(Literal::Bool(true));
        let parts = match name {
            "all" | "exists" => self.quantifier(name == "all", rest),
            "exists_one" | "existsOne" => self.exactly_one(rest),
            "filter" => {
                let element = self.name(&iter);
                let condition = yes(self);
                self.collect(condition, rest.into_iter().next(), element)
            }
            "map" | "transformList" => {
                let condition = yes(self);
                let (filter, transform) = filtered(rest);
                match transform {
                    Some(transform) => self.collect(condition, filter, transform),
                    None => self.exactly_one(Vec::new()),
                }
            }
            _ => self.insert(name, &iter, rest),
        };
        let [init, condition, step, result] = parts;
        let accu = ACCUMULATOR.into();
        self.node(ExprKind::Fold(Box::new(Fold { range, iter, iter2, accu, init, condition, step, result })))
    }

    fn quantifier(&mut self, all: bool, rest: Vec<Expr>) -> [Expr; 4] {
        let init = self.literal(Literal::Bool(all));
        let mut going = self.accu();
        if !all {
            going = self.call("!_", vec![going]);
        }
        let condition = self.call("@not_strictly_false", vec![going]);
        let accu = self.accu();
        let step = self.call(if all { "_&&_" } else { "_||_" }, std::iter::once(accu).chain(rest).collect());
        [init, condition, step, self.accu()]
    }

    fn exactly_one(&mut self, rest: Vec<Expr>) -> [Expr; 4] {
        let init = self.literal(Literal::Int(0));
        let condition = self.literal(Literal::Bool(true));
        let (accu, one) = (self.accu(), self.literal(Literal::Int(1)));
        let more = self.call("_+_", vec![accu, one]);
        let same = self.accu();
        let step = self.call("_?_:_", rest.into_iter().chain([more, same]).collect());
        let (accu, one) = (self.accu(), self.literal(Literal::Int(1)));
        [init, condition, step, self.call("_==_", vec![accu, one])]
    }

    /// Elements that fit, gathered in a list.
    fn collect(&mut self, condition: Expr, filter: Option<Expr>, element: Expr) -> [Expr; 4] {
        let init = self.list(Vec::new());
        let accu = self.accu();
        let element = self.list(vec![element]);
        let step = self.call("_+_", vec![accu, element]);
        let step = self.filtered_step(filter, step);
        [init, condition, step, self.accu()]
    }

    /// Entries that fit, gathered in a map.
    fn insert(&mut self, name: &str, key: &str, rest: Vec<Expr>) -> [Expr; 4] {
        let init = self.node(ExprKind::Map(Vec::new()));
        let condition = self.literal(Literal::Bool(true));
        let (filter, transform) = filtered(rest);
        let mut args = vec![self.accu()];
        if name == "transformMap" {
            args.push(self.name(key));
        }
        args.extend(transform);
        let step = self.call("cel.@mapInsert", args);
        let step = self.filtered_step(filter, step);
        [init, condition, step, self.accu()]
    }

    fn filtered_step(&mut self, filter: Option<Expr>, step: Expr) -> Expr {
        let Some(filter) = filter else { return step };
        let same = self.accu();
        self.call("_?_:_", vec![filter, step, same])
    }

    /// `cel.bind(name, value, expression)`
    fn bind(&mut self, args: Vec<Expr>) -> Expr {
        let mut args = args.into_iter();
        let name = self.variable(args.next());
        match (args.next(), args.next()) {
            (Some(value), Some(result)) => self.binding(name, value, result),
            _ => self.literal(Literal::Null),
        }
    }

    /// A walk over nothing whose result sees a value by a name.
    fn binding(&mut self, accu: Arc<str>, init: Expr, result: Expr) -> Expr {
        let range = self.list(Vec::new());
        let condition = self.literal(Literal::Bool(false));
        let step = self.name(&accu);
        let iter = UNUSED.into();
        self.node(ExprKind::Fold(Box::new(Fold { range, iter, iter2: None, accu, init, condition, step, result })))
    }

    /// `list.sortBy(item, key)`: the list and its keys are sorted together.
    fn sort_by(&mut self, target: Expr, args: Vec<Expr>) -> Expr {
        if matches!(target.kind, ExprKind::Literal(_) | ExprKind::Map(_) | ExprKind::Struct { .. }) {
            let why = "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
            self.parser.issue(target.at, why);
        }
        let list = self.name(SORTED);
        let keys = self.walk("map", list, args, 1);
        let list = Some(Box::new(self.name(SORTED)));
        let sorted =
            self.node(ExprKind::Call { function: "@sortByAssociatedKeys".into(), target: list, args: vec![keys] });
        self.binding(SORTED.into(), target, sorted)
    }

    fn optional(&mut self, name: &str, target: Expr, args: Vec<Expr>) -> Expr {
        let mut args = args.into_iter();
        let variable = self.variable_or(args.next(), &format!("{name}() variable name must be a simple identifier"));
        let Some(body) = args.next() else { return target };
        let member = |maker: &mut Self, function: &str| {
            let kept = Box::new(maker.name(KEPT));
            maker.node(ExprKind::Call { function: function.into(), target: Some(kept), args: Vec::new() })
        };
        let there = member(self, "hasValue");
        let value = member(self, "value");
        let mut bound = self.binding(variable, value, body);
        if name == "optMap" {
            bound = self.call("optional.of", vec![bound]);
        }
        let none = self.call("optional.none", Vec::new());
        let choice = self.call("_?_:_", vec![there, bound, none]);
        self.binding(KEPT.into(), target, choice)
    }
}

/// Of two expressions the first is a filter.
fn filtered(mut rest: Vec<Expr>) -> (Option<Expr>, Option<Expr>) {
    let transform = rest.pop();
    (rest.pop(), transform)
}
