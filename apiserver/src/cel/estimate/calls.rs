//! What calls cost at most, and how large their results get.

use super::{Cost, Entry, Estimator, Node, PER_CHAR, UNKNOWN, pattern_cost};
use crate::cel::{
    ast::{Expr, ExprKind, Literal},
    charge,
    types::{OPTIONAL, Type},
};

/// A call of one signature.
pub(super) struct Call<'c, 'a> {
    pub function: &'c str,
    pub overload: &'c str,
    pub target: Option<&'a Expr>,
    pub args: &'a [Expr],
    pub costs: &'c [Cost],
    pub all: Cost,
}

type Estimate = (Cost, Option<Cost>);

/// How long the patterns of formats are taken to be.
const FORMAT_PATTERN: f64 = 128.0;
/// How long the names of formats are taken to be.
const MAX_FORMAT_BYTES: u64 = 64;
/// Functions that always cost the same.
const FIXED: [&str; 30] = [
    "serviceAccount",
    "path",
    "group",
    "resource",
    "subresource",
    "namespace",
    "name",
    "allowed",
    "reason",
    "error",
    "errored",
    "masked",
    "prefixLength",
    "family",
    "isUnspecified",
    "isLoopback",
    "isLinkLocalMulticast",
    "isLinkLocalUnicast",
    "sign",
    "asInteger",
    "isInteger",
    "asApproximateFloat",
    "isGreaterThan",
    "isLessThan",
    "compareTo",
    "add",
    "sub",
    "major",
    "minor",
    "patch",
];

impl<'a> Estimator<'a> {
    pub(super) fn function(&mut self, expr: &Expr, call: &Call<'_, 'a>) -> Estimate {
        if let Some((cost, size)) = self.library(call) {
            return (cost.plus(call.all), size);
        }
        self.standard(expr, call)
    }

    fn arg(&mut self, call: &Call<'_, 'a>, at: usize) -> Cost {
        call.args.get(at).map_or(UNKNOWN, |arg| self.size_or_unknown(arg))
    }

    fn target(&mut self, call: &Call<'_, 'a>) -> Option<Cost> {
        call.target.map(|target| self.size_or_unknown(target))
    }

    /// Kubernetes' own libraries.
    fn library(&mut self, call: &Call<'_, 'a>) -> Option<Estimate> {
        let read = |size: Cost| Some((size.scaled(PER_CHAR), None));
        match call.function {
            "check" => Some((Cost::fixed(charge::AUTHORIZATION), None)),
            name if FIXED.contains(&name) => Some((Cost::fixed(1), None)),
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => self.over_list(call),
            "url" if call.args.len() == 1 => read(self.arg(call, 0)),
            "lowerAscii" | "upperAscii" | "substring" | "trim" => {
                let size = self.target(call)?;
                Some((size.scaled(PER_CHAR), Some(size)))
            }
            "replace" => self.replace(call),
            "split" => self.split(call),
            "join" => self.join_texts(call),
            "find" | "findAll" => {
                let size = self.target(call)?;
                let cost = pattern_cost(size, self.arg(call, 0));
                Some((cost, Some(Cost { min: 0, max: size.max })))
            }
            "ip" | "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" if call.target.is_none() => {
                read(self.arg(call, 0))
            }
            "ip.isCanonical" => Some((self.arg(call, 0).scaled(2.0 * PER_CHAR), None)),
            "ip" => Some((Cost::fixed(1), None)),
            "containsIP" | "containsCIDR" => {
                let bytes = Cost { min: 4, max: 16 };
                let mut cost = bytes.plus(bytes).scaled(PER_CHAR);
                if call.function == "containsCIDR" {
                    cost = cost.plus(bytes.scaled(PER_CHAR)).plus(Cost::fixed(1));
                }
                if call.overload.ends_with("_string") {
                    cost = cost.plus(self.arg(call, 0).scaled(PER_CHAR));
                }
                Some((cost, None))
            }
            "sets.contains" | "sets.equivalent" | "sets.intersects" => {
                let cost = self.arg(call, 0).times(self.arg(call, 1));
                let twice = if call.function == "sets.equivalent" { 2 } else { 1 };
                Some((cost.times(Cost::fixed(twice)).plus(Cost::fixed(1)), None))
            }
            "validate" if call.target.is_some() => {
                let text = self.arg(call, 0).scaled(PER_CHAR);
                Some((text.scaled(FORMAT_PATTERN * charge::PER_PATTERN_CHAR), None))
            }
            "format" if call.target.is_some() => {
                let size = self.target(call)?;
                Some((size.scaled(PER_CHAR), None))
            }
            "slice" | "flatten" | "sort" | "@sortByAssociatedKeys" | "lists.range" | "reverse" | "distinct" => {
                self.arranged(call)
            }
            "semver" | "isSemver" => read(self.arg(call, 0)),
            "_==_" => self.equality(call),
            _ => None,
        }
    }

    /// Things of the libraries are told apart at once, by `==` alone: of `!=` upstream knows nothing.
    fn equality(&self, call: &Call<'_, 'a>) -> Option<Estimate> {
        let [left, right] = call.args else { return None };
        let (left, right) = (self.ty(left), self.ty(right));
        match left {
            Type::Opaque(OPTIONAL, _) => None,
            Type::Opaque(..) if left != right => None,
            Type::Opaque("kubernetes.NamedFormat", _) => {
                Some((Cost { min: 1, max: MAX_FORMAT_BYTES }.scaled(PER_CHAR), None))
            }
            Type::Opaque(..) => Some((Cost::fixed(1), None)),
            _ => None,
        }
    }

    /// What makes a list of another.
    fn arranged(&mut self, call: &Call<'_, 'a>) -> Option<Estimate> {
        let number = |at: usize, unknown: u64| match call.args.get(at).map(|arg| &arg.kind) {
            Some(ExprKind::Literal(Literal::Int(number))) => u64::try_from(*number).unwrap_or(0),
            _ => unknown,
        };
        let made = |factor: f64, size: Cost| {
            let cost = size.scaled(factor).plus(Cost::fixed(charge::LIST_CALL));
            Some((cost, Some(size)))
        };
        let pairs = |overload: &str, size: Cost| {
            let text = overload.starts_with("list_string_") || overload.starts_with("list_bytes_");
            made(if text { 2.0 + PER_CHAR } else { 2.0 }, size.times(size))
        };
        match call.overload {
            "list_slice" => {
                let size = self.target(call)?;
                made(1.0, Cost::fixed(number(1, size.max).wrapping_sub(number(0, 0))))
            }
            "lists_range" => made(1.0, Cost::fixed(number(0, u64::MAX))),
            "list_reverse" => made(1.0, self.target(call)?),
            "list_flatten" => made(1.0, self.target(call)?),
            "list_flatten_int" => {
                #[expect(clippy::cast_precision_loss, reason = "a factor of an estimate")]
                let depth = number(0, u64::MAX) as f64;
                made(depth, self.target(call)?)
            }
            "list_distinct" => {
                let size = self.target(call)?;
                made(2.0, size.times(size))
            }
            overload if overload.ends_with("_sort") => {
                let size = self.target(call)?;
                pairs(overload, size)
            }
            overload if overload.ends_with("_sortByAssociatedKeys") => {
                let size = self.arg(call, 0);
                pairs(overload, size)
            }
            _ => None,
        }
    }

    fn over_list(&mut self, call: &Call<'_, 'a>) -> Option<Estimate> {
        let target = call.target?;
        let node = self.node(target);
        let size = node.size.unwrap_or(UNKNOWN);
        let Type::List(of) = &node.ty else { return Some((size.scaled(PER_CHAR), None)) };
        let mut each = Cost::fixed(1);
        if matches!(**of, Type::String | Type::Bytes) {
            each = each.plus(self.item_size(&node).scaled(PER_CHAR));
        }
        Some((size.times(each), None))
    }

    fn item_size(&self, list: &Node) -> Cost {
        if list.path.is_empty() {
            return UNKNOWN;
        }
        let mut path = list.path.clone();
        path.push("@items".into());
        self.size_at(&path).unwrap_or(UNKNOWN)
    }

    fn replace(&mut self, call: &Call<'_, 'a>) -> Option<Estimate> {
        let (size, from, to) = (self.target(call)?, self.arg(call, 0), self.arg(call, 1));
        let parts = |size: u64, of: u64| size.div_ceil(of.max(1));
        let (mut times, mut kept) = (Cost::default(), Cost::default());
        if from.min == 0 {
            times.max = size.max.saturating_add(1);
            kept.max = size.max;
        } else if to.max <= from.min {
            kept.max = size.max;
        } else {
            times.max = parts(size.max, from.min);
        }
        if from.max == 0 {
            times.min = size.min.saturating_add(1);
            kept.min = size.min;
        } else if from.max <= to.min {
            kept.min = size.min;
        } else {
            times.min = parts(size.min, from.max);
        }
        Some((size.scaled(2.0 * PER_CHAR), Some(times.times(to).plus(kept))))
    }

    fn split(&mut self, call: &Call<'_, 'a>) -> Option<Estimate> {
        let size = self.target(call)?;
        let limit = call.args.get(1).and_then(|limit| match &limit.kind {
            ExprKind::Literal(Literal::Int(limit)) => u64::try_from(*limit).ok(),
            _ => None,
        });
        Some((size.scaled(2.0 * PER_CHAR), Some(Cost { min: 0, max: limit.unwrap_or(size.max) })))
    }

    fn join_texts(&mut self, call: &Call<'_, 'a>) -> Option<Estimate> {
        let node = self.node(call.target?);
        let items = node.size.unwrap_or(UNKNOWN);
        let mut size = items.times(self.item_size(&node));
        if !call.args.is_empty() {
            let between = Cost { min: items.min.saturating_sub(1), max: items.max.saturating_sub(1) };
            size = size.plus(self.arg(call, 0).times(between));
        }
        Some((size.scaled(PER_CHAR), Some(size)))
    }

    /// What the language itself has.
    fn standard(&mut self, expr: &Expr, call: &Call<'_, 'a>) -> Estimate {
        match (call.overload, call.costs) {
            ("starts_with_string" | "ends_with_string", _) => (self.read(call, 0), None),
            ("string_to_bytes", _) => {
                let size = self.arg(call, 0);
                (self.read(call, 0), Some(Cost { min: size.min, max: size.max.saturating_mul(4) }))
            }
            ("bytes_to_string", _) => {
                let size = self.arg(call, 0);
                (self.read(call, 0), Some(Cost { min: size.min / 4, max: size.max }))
            }
            ("strings_quote", _) => {
                let size = self.arg(call, 0);
                let quoted =
                    Cost { min: size.min.saturating_add(2), max: size.max.saturating_mul(2).saturating_add(2) };
                (self.read(call, 0), Some(quoted))
            }
            ("in_list", _) => (self.arg(call, 1).plus(call.all), None),
            ("matches_string", _) => {
                let text = self.target(call).unwrap_or(UNKNOWN);
                (pattern_cost(text, self.arg(call, 0)).plus(call.all), None)
            }
            ("contains_string", _) => {
                let text = self.target(call).unwrap_or(UNKNOWN).scaled(PER_CHAR);
                (text.times(self.arg(call, 0).scaled(PER_CHAR)).plus(call.all), None)
            }
            ("logical_or" | "logical_and", [left, right]) => (Cost { min: left.min, max: left.plus(*right).max }, None),
            ("conditional", [condition, truthy, falsy]) => {
                let size = self.arg(call, 1).union(self.arg(call, 2));
                if let [_, truthy, falsy] = call.args {
                    self.keep_entry(expr, Entry::union(self.entry(truthy), self.entry(falsy)));
                }
                (condition.plus(truthy.union(*falsy)), Some(size))
            }
            ("add_string" | "add_bytes" | "add_list", _) => {
                let size = self.arg(call, 0).plus(self.arg(call, 1));
                if let [first, second] = call.args {
                    self.keep_entry(expr, Entry::union(self.entry(first), self.entry(second)));
                }
                let cost = if call.overload == "add_list" { Cost::fixed(1) } else { size.scaled(PER_CHAR) };
                (cost.plus(call.all), Some(size))
            }
            (overload, _) if compares_contents(overload) => {
                let smaller = self.arg(call, 0).max.min(self.arg(call, 1).max);
                let cost = Cost { min: u64::from(smaller > 0), max: smaller };
                (cost.scaled(PER_CHAR).plus(call.all), None)
            }
            _ => (Cost::fixed(1).plus(call.all), None),
        }
    }

    fn read(&mut self, call: &Call<'_, 'a>, at: usize) -> Cost {
        self.arg(call, at).scaled(PER_CHAR).plus(call.all)
    }

    fn keep_entry(&mut self, expr: &Expr, entry: Option<Entry>) {
        if let Some(entry) = entry {
            self.entries.insert(expr.id, entry);
        }
    }
}

fn compares_contents(overload: &str) -> bool {
    matches!(overload, "equals" | "not_equals")
        || ["less_", "greater_"].into_iter().any(|start| overload.starts_with(start))
            && ["_string", "_bytes"].into_iter().any(|end| overload.ends_with(end))
}
