//! Evaluates a checked expression, and counts what it costs.

use std::sync::Arc;

use super::{
    ast::{ACCUMULATOR, Expr, ExprKind, Literal},
    charge,
    check::{Checked, Fixed, Reference},
    functions::{Fault, Function},
    limits,
    meter::{Budget, EvalError, Meter},
    unfit,
    value::{Map, Text, Value},
};

mod aggregates;
mod comprehension;

type Outcome<'a> = Result<Value<'a>, EvalError>;

/// Values of variables.
#[derive(Clone, Debug, Default)]
pub struct Bindings<'a> {
    values: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Bindings<'a> {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a variable its value.
    pub fn set(&mut self, name: &'a str, value: Value<'a>) {
        self.values.retain(|(own, _)| *own != name);
        self.values.push((name, value));
    }

    fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.values.iter().find(|(own, _)| *own == name).map(|(_, value)| value)
    }
}

/// Evaluates.
pub(super) fn run<'a>(checked: &'a Checked, bindings: &Bindings<'a>, meter: &Meter) -> Outcome<'a> {
    Evaluator { checked, bindings, meter, scopes: Vec::new() }.eval(&checked.root)
}

/// Evaluates a part that needs no variable.
pub(super) fn constant<'a>(checked: &'a Checked, part: &'a Expr) -> Outcome<'a> {
    let meter = Meter::new(Budget::of(super::PER_CALL_LIMIT));
    Evaluator { checked, bindings: &Bindings::new(), meter: &meter, scopes: Vec::new() }.eval(part)
}

struct Evaluator<'e, 'a> {
    checked: &'a Checked,
    bindings: &'e Bindings<'a>,
    meter: &'e Meter,
    scopes: Vec<(&'a str, Outcome<'a>)>,
}

impl<'a> Evaluator<'_, 'a> {
    fn eval(&mut self, expr: &'a Expr) -> Outcome<'a> {
        let depth = self.meter.depth.get();
        if depth >= limits::MAX_DEPTH {
            return Err(limits::too_large("expressions and variables within one another are nested too deeply"));
        }
        self.meter.depth.set(depth + 1);
        let meter = self.meter;
        let result = match self.checked.fixed(expr) {
            Fixed::Constant => meter.freely(|| self.node(expr)),
            _ => self.node(expr),
        };
        self.meter.depth.set(depth);
        result
    }

    fn node(&mut self, expr: &'a Expr) -> Outcome<'a> {
        match &expr.kind {
            ExprKind::Literal(value) => Ok(literal(value)),
            ExprKind::Ident(name) => self.ident(expr, name),
            ExprKind::Select { operand, field, test } => self.select(expr, operand, field, *test),
            ExprKind::Call { function, target, args } => self.call(expr, function, target.as_deref(), args),
            ExprKind::List(items) => self.list(items),
            ExprKind::Map(entries) => self.map(entries),
            ExprKind::Struct { name, fields } => self.object(name, fields),
            ExprKind::Fold(fold) => self.fold(fold),
        }
    }

    fn reference(&self, expr: &Expr) -> &'a Reference {
        self.checked.reference(expr)
    }

    fn ident(&mut self, expr: &'a Expr, name: &str) -> Outcome<'a> {
        self.meter.charge(1)?;
        if let Some((_, value)) = self.scopes.iter().rev().find(|(own, _)| *own == name) {
            return value.clone();
        }
        self.outer(expr, name)
    }

    fn outer(&mut self, expr: &'a Expr, name: &str) -> Outcome<'a> {
        match self.reference(expr) {
            Reference::Type(name) => Ok(Value::Type(Text::Borrowed(name))),
            Reference::Variable(name) => match self.bindings.get(name) {
                Some(value) => sound(value.clone()),
                None => Err(EvalError::runtime(format!("no such attribute(s): {name}"))),
            },
            _ => Err(EvalError::runtime(format!("no such attribute(s): {name}"))),
        }
    }

    fn select(&mut self, expr: &'a Expr, operand: &'a Expr, field: &'a str, test: bool) -> Outcome<'a> {
        if let Reference::Variable(name) | Reference::Type(name) = self.reference(expr) {
            self.meter.charge(1)?;
            return self.outer(expr, name);
        }
        let of = self.eval(operand)?;
        if test {
            let found = self.field(&of, field)?;
            return Ok(Value::Bool(match found {
                Some(Value::Optional(inner)) if matches!(of, Value::Optional(_)) => inner.is_some(),
                found => found.is_some(),
            }));
        }
        self.meter.charge(if self.is_attribute(operand) { 1 } else { 2 })?;
        match self.field(&of, field)? {
            Some(value) => sound(value),
            None => Err(EvalError::runtime(format!("no such key: {field}"))),
        }
    }

    /// A field, if it is there; of an optional an optional.
    fn field(&self, of: &Value<'a>, name: &str) -> Result<Option<Value<'a>>, EvalError> {
        match of {
            Value::Map(Map::Lazy(lazy)) => lazy.get(name, self.meter).transpose(),
            Value::Map(map) => Ok(map.field(name)),
            Value::Object(object) => {
                Ok(object.fields.iter().find(|(own, _)| **own == *name).map(|(_, value)| value.clone()))
            }
            Value::Optional(None) => Ok(Some(Value::Optional(None))),
            Value::Optional(Some(inner)) => Ok(Some(Value::optional(self.field(inner, name)?))),
            Value::List(_) => Err(EvalError::runtime("unsupported index type 'string' in list")),
            _ => Ok(None),
        }
    }

    fn call(&mut self, expr: &'a Expr, name: &str, target: Option<&'a Expr>, args: &'a [Expr]) -> Outcome<'a> {
        match (name, target, args) {
            ("_&&_", _, [left, right]) => self.logical(left, right, false),
            ("_||_", _, [left, right]) => self.logical(left, right, true),
            ("_?:_" | "_?_:_", _, [condition, truthy, falsy]) => match self.eval(condition)? {
                Value::Bool(true) => self.part(truthy),
                Value::Bool(false) => self.part(falsy),
                _ => Err(EvalError::runtime("no such overload")),
            },
            ("@not_strictly_false", _, [arg]) => self.not_strictly_false(arg),
            ("_[_]" | "_[?_]", None, [operand, at]) => {
                let of = self.eval(operand)?;
                let at = self.part(at)?;
                self.meter.charge(u64::from(!self.is_attribute(operand)))?;
                let Reference::Function(function, _) = self.reference(expr) else {
                    return Err(EvalError::runtime("no such overload"));
                };
                self.apply(function, None, &[of, at])
            }
            ("_?._", _, [operand, field]) => self.optional_select(operand, field),
            // In nothing: whatever it is, it is not looked at.
            ("@in", _, _) if self.checked.fixed(expr) == Fixed::Constant => Ok(Value::Bool(false)),
            ("or" | "orValue", Some(target), [other]) => self.or_else(expr, target, other),
            ("_+_" | "cel.@mapInsert", None, [accu, ..]) if accu.ident().is_some_and(|own| **own == *ACCUMULATOR) => {
                self.accumulate(expr, accu, args)
            }
            _ => self.strict(expr, target, args),
        }
    }

    /// Evaluates what becomes a part of a path: where it is a path itself, its name costs nothing.
    fn part(&mut self, expr: &'a Expr) -> Outcome<'a> {
        let value = self.eval(expr)?;
        let is_named = !matches!(&expr.kind, ExprKind::Call { function, .. } if **function == *"_?_:_");
        if is_named && self.is_attribute(expr) {
            self.meter.refund(1);
        }
        Ok(value)
    }

    fn is_attribute(&self, expr: &Expr) -> bool {
        is_attribute(expr) && self.checked.fixed(expr) != Fixed::Constant
    }

    fn strict(&mut self, expr: &'a Expr, target: Option<&'a Expr>, args: &'a [Expr]) -> Outcome<'a> {
        let Reference::Function(function, meant) = self.reference(expr) else {
            return Err(EvalError::runtime("no such overload"));
        };
        let meant = if let [one] = meant.as_slice() { Some(*one) } else { None };
        let member = function.overloads.iter().any(|own| own.member) && target.is_some();
        let mut values = Vec::with_capacity(args.len() + 1);
        if let Some(target) = target.filter(|_| member && !function.name.contains('.')) {
            values.push(self.eval(target)?);
        }
        for arg in args {
            values.push(self.eval(arg)?);
        }
        let pattern = if target.is_some() { args.first() } else { args.get(1) };
        if matches!(function.name, "matches" | "find" | "findAll")
            && matches!(pattern.map(|pattern| &pattern.kind), Some(ExprKind::Literal(Literal::String(_))))
            && !matches!(values.first(), Some(Value::String(_)))
        {
            // The pattern is compiled beforehand, and the function replaced by one that says less.
            return Err(EvalError::runtime("no such overload"));
        }
        let meter = self.meter;
        match self.checked.fixed(expr) {
            Fixed::Call => meter.freely(|| self.apply(function, meant, &values)),
            _ => self.apply(function, meant, &values),
        }
    }

    fn apply(&mut self, function: &'static Function, meant: Option<&str>, values: &[Value<'a>]) -> Outcome<'a> {
        let cost = charge::before(function.name, meant, values);
        // Of a type that is known late it costs little, and takes as long.
        let work = match (function.name, values) {
            ("@in", [_, Value::List(list)]) => cost.max(list.len() as u64),
            _ => cost,
        };
        self.meter.step(work)?;
        self.meter.charge(cost)?;
        self.meter.build(limits::measure(function.name, values)?)?;
        let result = (function.run)(values).map_err(|fault| error(function, values, fault))?;
        self.meter.charge(charge::after(function.name, &result))?;
        match (function.name, &result) {
            ("findAll", Value::List(found)) => self.meter.build(limits::items_bytes(found.len()))?,
            ("_+_" | "cel.@mapInsert", _) => self.walkable(&result)?,
            _ => {}
        }
        sound(result)
    }

    /// Refuses a value that holds too many others; looking through it counts as time.
    fn walkable(&self, value: &Value<'a>) -> Result<(), EvalError> {
        self.meter.step(limits::walkable(value)?)
    }

    fn logical(&mut self, left: &'a Expr, right: &'a Expr, decisive: bool) -> Outcome<'a> {
        let first = self.eval(left);
        match &first {
            Ok(Value::Bool(flag)) if *flag == decisive => return first,
            Err(error) if error.is_final() => return first,
            _ => {}
        }
        let second = self.eval(right);
        match (&first, &second) {
            (_, Ok(Value::Bool(flag))) if *flag == decisive => second,
            (_, Err(error)) if error.is_final() => second,
            (Err(_), _) => first,
            (Ok(Value::Bool(_)), Ok(Value::Bool(_)) | Err(_)) => second,
            _ => Err(EvalError::runtime("no such overload")),
        }
    }

    fn not_strictly_false(&mut self, arg: &'a Expr) -> Outcome<'a> {
        self.meter.charge(1)?;
        match self.eval(arg) {
            Err(error) if error.is_final() => Err(error),
            Ok(Value::Bool(false)) => Ok(Value::Bool(false)),
            _ => Ok(Value::Bool(true)),
        }
    }

    fn optional_select(&mut self, operand: &'a Expr, field: &'a Expr) -> Outcome<'a> {
        let of = self.eval(operand)?;
        self.meter.charge(1)?;
        let ExprKind::Literal(Literal::String(name)) = &field.kind else {
            return Err(EvalError::runtime("no such overload"));
        };
        match (self.field(&of, name)?, &of) {
            (Some(found @ Value::Optional(_)), Value::Optional(_)) => Ok(found),
            (found, _) => Ok(Value::optional(found)),
        }
    }

    /// The second is only looked at where the first is missing.
    fn or_else(&mut self, expr: &'a Expr, target: &'a Expr, other: &'a Expr) -> Outcome<'a> {
        let Reference::Function(function, _) = self.reference(expr) else {
            return Err(EvalError::runtime("no such overload"));
        };
        match self.eval(target)? {
            Value::Optional(Some(value)) if function.name == "orValue" => Ok((*value).clone()),
            Value::Optional(None) => self.eval(other),
            own => Ok(own),
        }
    }
}

/// Whether the evaluator reads it as a path from a variable.
fn is_attribute(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Ident(_) | ExprKind::Select { test: false, .. } => true,
        ExprKind::Call { function, .. } => matches!(&**function, "_[_]" | "_?_:_"),
        _ => false,
    }
}

/// The value of a literal.
pub(super) fn literal(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(flag) => Value::Bool(*flag),
        Literal::Int(number) => Value::Int(*number),
        Literal::Uint(number) => Value::Uint(*number),
        Literal::Double(number) => Value::Double(*number),
        Literal::String(text) => Value::String(Text::Borrowed(text)),
        Literal::Bytes(data) => Value::Bytes(Arc::clone(data)),
    }
}

fn sound(value: Value<'_>) -> Outcome<'_> {
    match value {
        Value::Broken(why) => Err(EvalError::runtime(why)),
        value => Ok(value),
    }
}

fn error(function: &Function, values: &[Value<'_>], fault: Fault) -> EvalError {
    EvalError::runtime(match fault {
        Fault::Message(message) => message,
        Fault::NoOverload => unfit::unfit(function.name, values),
    })
}
