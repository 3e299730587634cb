//! What an expression costs at most, before there are values: upstream's way of counting, by which rules are refused.

use std::{collections::HashMap, sync::Arc};

use super::{
    ast::{ACCUMULATOR, Expr, ExprKind, Fold, Literal},
    charge::{self, PER_CHAR, PER_PATTERN_CHAR},
    check::{Checked, Reference},
    schema::Schema,
    types::Type,
};

mod calls;

/// A range of costs, or of sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// At least.
    pub min: u64,
    /// At most.
    pub max: u64,
}

/// Sizes nobody knows.
const UNKNOWN: Cost = Cost { min: 0, max: u64::MAX };

impl Cost {
    /// Exactly this.
    #[must_use]
    pub const fn fixed(cost: u64) -> Self {
        Self { min: cost, max: cost }
    }

    fn plus(self, other: Self) -> Self {
        Self { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    fn times(self, other: Self) -> Self {
        Self { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    fn scaled(self, factor: f64) -> Self {
        Self { min: charge::scaled(self.min, factor), max: charge::scaled(self.max, factor) }
    }

    fn union(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// Sizes of what a list or map holds.
#[derive(Clone, Copy, Debug)]
struct Entry {
    list: bool,
    key: Cost,
    value: Cost,
}

impl Entry {
    fn union(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        let (a, b) = (a?, b?);
        Some(Self { list: a.list, key: a.key.union(b.key), value: a.value.union(b.value) })
    }
}

type Path = Vec<Arc<str>>;

/// A variable of a walk or a binding.
struct Local {
    name: Arc<str>,
    path: Path,
    size: Option<Cost>,
    entry: Option<Entry>,
}

/// Estimates the cost of an expression whose variables `self` and `oldSelf` are as the schema says.
pub(super) fn estimate(checked: &Checked, root: Option<&Arc<Schema>>) -> Cost {
    let mut estimator = Estimator {
        checked,
        root,
        paths: HashMap::new(),
        locals: Vec::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
    };
    estimator.cost(&checked.root)
}

struct Estimator<'a> {
    checked: &'a Checked,
    root: Option<&'a Arc<Schema>>,
    paths: HashMap<u32, Path>,
    locals: Vec<Local>,
    sizes: HashMap<u32, Cost>,
    entries: HashMap<u32, Entry>,
}

/// An operand as estimates see it.
struct Node {
    path: Path,
    ty: Type,
    size: Option<Cost>,
}

impl<'a> Estimator<'a> {
    fn cost(&mut self, expr: &'a Expr) -> Cost {
        match &expr.kind {
            ExprKind::Literal(_) => Cost::default(),
            ExprKind::Ident(name) => {
                let path = self.local(name).map_or_else(|| vec![Arc::clone(name)], |local| local.path.clone());
                self.paths.insert(expr.id, path);
                Cost::fixed(1)
            }
            ExprKind::Select { operand, test: true, .. } => self.cost(operand),
            ExprKind::Select { operand, field, test: false } => {
                let mut sum = self.cost(operand);
                if matches!(self.ty(operand), Type::Map(..) | Type::Object(_) | Type::Param(_)) {
                    sum = sum.plus(Cost::fixed(1));
                }
                let mut path = self.path(operand);
                path.push(Arc::clone(field));
                self.paths.insert(expr.id, path);
                sum
            }
            ExprKind::Call { function, target, args } => self.call(expr, function, target.as_deref(), args),
            ExprKind::List(items) => self.list(expr, items.iter().map(|item| &item.value)),
            ExprKind::Map(entries) => {
                let mut sum = Cost::default();
                let empty = if entries.is_empty() { 0 } else { u64::MAX };
                let mut entry =
                    Entry { list: false, key: Cost { min: empty, max: 0 }, value: Cost { min: empty, max: 0 } };
                for own in entries {
                    sum = sum.plus(self.cost(&own.key)).plus(self.cost(&own.value));
                    entry.key = entry.key.union(self.size_or_unknown(&own.key));
                    entry.value = entry.value.union(self.size_or_unknown(&own.value));
                }
                self.entries.insert(expr.id, entry);
                sum.plus(Cost::fixed(30))
            }
            ExprKind::Struct { fields, .. } => {
                let sum = fields.iter().fold(Cost::default(), |sum, field| sum.plus(self.cost(&field.value)));
                sum.plus(Cost::fixed(40))
            }
            ExprKind::Fold(fold) if is_binding(fold) => self.binding(expr, fold),
            ExprKind::Fold(fold) => self.fold(expr, fold),
        }
    }

    fn list(&mut self, expr: &Expr, items: impl ExactSizeIterator<Item = &'a Expr>) -> Cost {
        let mut sum = Cost::default();
        let mut value = Cost { min: if items.len() == 0 { 0 } else { u64::MAX }, max: 0 };
        for item in items {
            sum = sum.plus(self.cost(item));
            value = value.union(self.size_or_unknown(item));
        }
        self.entries.insert(expr.id, Entry { list: true, key: Cost::fixed(1), value });
        sum.plus(Cost::fixed(10))
    }

    fn binding(&mut self, expr: &'a Expr, fold: &'a Fold) -> Cost {
        let sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        self.push_local(&fold.accu, &fold.init);
        let sum = sum.plus(self.cost(&fold.result));
        self.locals.pop();
        self.copy_sizes(expr, &fold.result);
        sum
    }

    fn fold(&mut self, expr: &'a Expr, fold: &'a Fold) -> Cost {
        let sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        self.push_local(&fold.accu, &fold.init);
        let floor = self.locals.len();
        let list = self.ranges_over_list(&fold.range);
        match &fold.iter2 {
            Some(iter2) => {
                self.push_iter(&fold.iter, &fold.range, if list { "@indices" } else { "@keys" }, false);
                self.push_iter(iter2, &fold.range, if list { "@items" } else { "@values" }, true);
            }
            None => self.push_iter(&fold.iter, &fold.range, if list { "@items" } else { "@keys" }, list),
        }
        let turn = self.cost(&fold.condition).plus(self.cost(&fold.step));
        self.locals.truncate(floor);
        let sum = sum.plus(self.cost(&fold.result));
        self.locals.truncate(floor.saturating_sub(1));
        let turns = self.size_or_unknown(&fold.range);
        match &fold.init.kind {
            ExprKind::Literal(_) => {
                let size = self.size(&fold.init);
                self.set_size(expr, size);
            }
            ExprKind::List(_) | ExprKind::Map(_) => {
                self.set_size(expr, Some(turns));
                if let Some(entry) = self.entry(&fold.step) {
                    self.entries.insert(expr.id, entry);
                }
            }
            _ => {}
        }
        sum.plus(turns.times(turn))
    }

    fn ranges_over_list(&self, range: &Expr) -> bool {
        match self.entry(range) {
            Some(entry) => entry.list,
            None => matches!(self.ty(range), Type::List(_)),
        }
    }

    fn push_iter(&mut self, name: &Arc<str>, range: &Expr, part: &str, value: bool) {
        let size = self.entry(range).map(|entry| if value { entry.value } else { entry.key });
        let mut path = self.path(range);
        path.push(part.into());
        self.locals.push(Local { name: Arc::clone(name), path, size, entry: None });
    }

    fn push_local(&mut self, name: &Arc<str>, init: &Expr) {
        let local =
            Local { name: Arc::clone(name), path: self.path(init), size: self.size(init), entry: self.entry(init) };
        self.locals.push(local);
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|local| *local.name == *name)
    }

    fn ty(&self, expr: &Expr) -> &Type {
        usize::try_from(expr.id).ok().and_then(|at| self.checked.types.get(at)).unwrap_or(&Type::Dyn)
    }

    fn path(&self, expr: &Expr) -> Path {
        if let Some(local) = expr.ident().and_then(|name| self.local(name)) {
            return local.path.clone();
        }
        self.paths.get(&expr.id).cloned().unwrap_or_default()
    }

    fn node(&mut self, expr: &Expr) -> Node {
        let mut path = self.path(expr);
        if path.first().is_some_and(|first| **first == *ACCUMULATOR) {
            path.clear();
        }
        Node { path, ty: self.ty(expr).clone(), size: self.size(expr) }
    }

    fn set_size(&mut self, expr: &Expr, size: Option<Cost>) {
        if let Some(size) = size {
            self.sizes.insert(expr.id, size);
        }
    }

    fn copy_sizes(&mut self, to: &Expr, from: &Expr) {
        let size = self.size(from);
        self.set_size(to, size);
        if let Some(entry) = self.entry(from) {
            self.entries.insert(to.id, entry);
        }
    }

    fn entry(&self, expr: &Expr) -> Option<Entry> {
        let own = self.entries.get(&expr.id).copied();
        own.or_else(|| self.local(expr.ident()?)?.entry)
    }

    fn size_or_unknown(&mut self, expr: &Expr) -> Cost {
        self.size(expr).unwrap_or(UNKNOWN)
    }

    fn size(&mut self, expr: &Expr) -> Option<Cost> {
        if let Some(size) = self.sizes.get(&expr.id) {
            return Some(*size);
        }
        let known = match &expr.kind {
            ExprKind::Literal(Literal::String(text)) => Some(text.chars().count()),
            ExprKind::Literal(Literal::Bytes(data)) => Some(data.len()),
            ExprKind::Literal(_) => Some(1),
            ExprKind::List(items) => Some(items.len()),
            ExprKind::Map(entries) => Some(entries.len()),
            _ => None,
        };
        if let Some(size) = known {
            return Some(Cost::fixed(size as u64));
        }
        if let Some(size) = self.size_at(&self.path(expr)) {
            self.sizes.insert(expr.id, size);
            return Some(size);
        }
        if self.ty(expr).is_scalar() {
            return Some(Cost::fixed(1));
        }
        expr.ident().and_then(|name| self.local(name)).and_then(|local| local.size)
    }

    /// What the schema says of what is reached by a path. In rules, a path begins at the schema whatever its variable: what a
    /// list in the expression holds is taken to be as large as `self`, as upstream does.
    fn size_at(&self, path: &[Arc<str>]) -> Option<Cost> {
        let (variable, rest) = path.split_first()?;
        let mut schema = Arc::clone(self.root.filter(|root| root.is_of(variable))?);
        for part in rest {
            schema = match &**part {
                "@items" | "@values" => Arc::clone(schema.item()?),
                "@keys" => {
                    schema.item()?;
                    return (part == rest.last()?).then(|| Cost { min: 0, max: schema.longest_key() });
                }
                name => match schema.bounded_entry() {
                    Some(entry) => Arc::clone(entry),
                    None => schema.field(name)?.schema,
                },
            };
        }
        Some(Cost { min: 0, max: schema.max_elements().unwrap_or(0) })
    }

    fn call(&mut self, expr: &'a Expr, name: &str, target: Option<&'a Expr>, args: &'a [Expr]) -> Cost {
        if let ("dyn", [arg]) = (name, args) {
            let cost = self.cost(arg).plus(Cost::fixed(1));
            self.copy_sizes(expr, arg);
            return cost;
        }
        let costs: Vec<Cost> = args.iter().map(|arg| self.cost(arg)).collect();
        let all = costs.iter().fold(Cost::default(), |sum, cost| sum.plus(*cost));
        let at = usize::try_from(expr.id).ok();
        let Some(Reference::Function(function, overloads)) = at.and_then(|at| self.checked.references.get(at)) else {
            return if name == "_?._" { self.optional_select(expr, args).plus(all) } else { Cost::default() };
        };
        let mut sum = Cost::default();
        let mut on = None;
        if let Some(target) = target {
            on = Some(target).filter(|_| !function.name.contains('.'));
            sum = on.map_or(Cost::default(), |target| self.cost(target));
        }
        let mut own = Cost { min: u64::MAX, max: 0 };
        let mut result: Option<Cost> = None;
        for overload in overloads {
            let call = calls::Call { function: function.name, overload, target: on, args, costs: &costs, all };
            let (cost, size) = self.function(expr, &call);
            own = own.union(cost);
            if let Some(size) = size {
                result = Some(result.map_or(size, |known| known.union(size)));
            }
            if let ("index_list" | "index_map", Some(first)) = (*overload, args.first()) {
                result = self.entry(first).map(|entry| entry.value);
                let mut path = self.path(first);
                path.push(if *overload == "index_list" { "@items" } else { "@values" }.into());
                self.paths.insert(expr.id, path);
            }
            result = result.or_else(|| self.size(expr));
        }
        self.set_size(expr, result);
        sum.plus(own)
    }

    fn optional_select(&mut self, expr: &Expr, args: &[Expr]) -> Cost {
        let [operand, field] = args else { return Cost::default() };
        if let ExprKind::Literal(Literal::String(name)) = &field.kind {
            let mut path = self.path(operand);
            path.push(Arc::clone(name));
            self.paths.insert(expr.id, path);
        }
        Cost::fixed(1)
    }
}

/// What `cel.bind` and its like become: a walk over nothing.
fn is_binding(fold: &Fold) -> bool {
    let over_nothing = matches!(&fold.range.kind, ExprKind::List(items) if items.is_empty());
    over_nothing && matches!(fold.condition.kind, ExprKind::Literal(Literal::Bool(false))) && *fold.accu != *ACCUMULATOR
}

fn pattern_cost(text: Cost, pattern: Cost) -> Cost {
    text.plus(Cost::fixed(1)).scaled(PER_CHAR).times(pattern.scaled(PER_PATTERN_CHAR))
}
