//! Constant parts of an expression, which are worked out once, before it is run: they cost nothing then, and one that can't be
//! worked out keeps the expression from being run at all.

use super::{
    ast::{Expr, ExprKind, Literal},
    check::{Checked, Fixed, Reference},
    eval,
};

/// Conversions of one constant are worked out.
const CONVERSIONS: [&str; 10] =
    ["bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"];

/// Marks what is constant; the error is why the expression can't be made ready to run.
pub(super) fn mark(checked: &mut Checked) -> Result<(), String> {
    let mut marks = vec![Fixed::No; checked.fixed.len()];
    let outcome = Marker { checked, marks: &mut marks }.mark(&checked.root);
    checked.fixed = marks;
    outcome
}

struct Marker<'c, 'm> {
    checked: &'c Checked,
    marks: &'m mut Vec<Fixed>,
}

impl Marker<'_, '_> {
    fn mark(&mut self, expr: &Expr) -> Result<(), String> {
        for child in expr.children() {
            self.mark(child)?;
        }
        let fixed = self.fixed(expr)?;
        if let Some(mark) = usize::try_from(expr.id).ok().and_then(|at| self.marks.get_mut(at)) {
            *mark = fixed;
        }
        Ok(())
    }

    fn is_constant(&self, expr: &Expr) -> bool {
        usize::try_from(expr.id).ok().and_then(|at| self.marks.get(at)) == Some(&Fixed::Constant)
    }

    fn fixed(&self, expr: &Expr) -> Result<Fixed, String> {
        let constant = match &expr.kind {
            ExprKind::Literal(_) => true,
            ExprKind::Ident(_) | ExprKind::Select { test: false, .. } => {
                matches!(self.checked.reference(expr), Reference::Type(_))
            }
            ExprKind::List(items) => items.iter().all(|item| self.is_constant(&item.value)),
            ExprKind::Map(entries) => {
                entries.iter().all(|entry| self.is_constant(&entry.key) && self.is_constant(&entry.value))
            }
            ExprKind::Call { function, target, args } => return self.call(expr, function, target.is_some(), args),
            _ => false,
        };
        Ok(if constant { Fixed::Constant } else { Fixed::No })
    }

    fn call(&self, expr: &Expr, function: &str, member: bool, args: &[Expr]) -> Result<Fixed, String> {
        match (function, args) {
            (name, [arg]) if !member && CONVERSIONS.contains(&name) && self.is_constant(arg) => {
                eval::constant(self.checked, expr).map_err(|error| error.message.to_string())?;
                Ok(Fixed::Constant)
            }
            ("find" | "findAll", [Expr { kind: ExprKind::Literal(Literal::String(text)), .. }, ..]) if member => {
                crate::pattern::compile(text).map(|_| Fixed::No)
            }
            ("@in", [_, list]) if self.is_constant(list) && self.is_in_list(expr) => Ok(match &list.kind {
                ExprKind::List(items) if items.is_empty() => Fixed::Constant,
                ExprKind::List(items) if items.iter().all(|item| is_plain(&item.value)) => Fixed::Call,
                _ => Fixed::No,
            }),
            _ => Ok(Fixed::No),
        }
    }

    fn is_in_list(&self, expr: &Expr) -> bool {
        matches!(self.checked.reference(expr), Reference::Function(_, meant) if meant.as_slice() == ["in_list"])
    }
}

/// Whether it is found at once among others, by what it is.
fn is_plain(expr: &Expr) -> bool {
    matches!(&expr.kind, ExprKind::Literal(literal) if !matches!(literal, Literal::Bytes(_) | Literal::Null))
}
