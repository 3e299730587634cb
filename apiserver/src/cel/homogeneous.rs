//! Whether what a list or a map is made of is of one type: told when an expression whose types fit is compiled.

use super::{
    ast::{Expr, ExprKind},
    check::Checked,
    source::Issues,
    types::Type,
};

/// Checks all lists and maps below `expr`. What is given to `format` may be mixed.
pub(super) fn check(expr: &Expr, checked: &Checked, issues: &mut Issues) {
    match &expr.kind {
        ExprKind::Call { function, .. } if **function == *"format" => return,
        ExprKind::List(items) => {
            let mut first = None;
            for item in items {
                if !fits(&mut first, &item.value, item.optional, checked, issues) {
                    break;
                }
            }
        }
        ExprKind::Map(entries) => {
            let (mut key, mut value) = (None, None);
            for entry in entries {
                fits(&mut key, &entry.key, false, checked, issues);
                fits(&mut value, &entry.value, entry.optional, checked, issues);
            }
        }
        _ => {}
    }
    expr.children().into_iter().for_each(|child| check(child, checked, issues));
}

/// Whether a part is of the type of the first, which it may be itself.
fn fits(first: &mut Option<Type>, part: &Expr, optional: bool, checked: &Checked, issues: &mut Issues) -> bool {
    let found = usize::try_from(part.id).ok().and_then(|at| checked.types.get(at)).unwrap_or(&Type::Dyn);
    let found = found.optional_of().filter(|_| optional).unwrap_or(found);
    match first {
        None => *first = Some(found.clone()),
        Some(wanted) if wanted == found => {}
        Some(wanted) => {
            issues.add(part.at, format!("expected type '{wanted}' but found '{found}'"));
            return false;
        }
    }
    true
}
