//! Whether the values that a constant text writes are of the types that it can write: told when it is compiled.

use super::{
    ast::{Expr, ExprKind, Literal},
    functions::formatting,
    source::Issues,
    types::Type,
};

/// Checks all texts below `expr` that write a list given in place; `types` has the type of each node by its id.
pub(super) fn check(expr: &Expr, types: &[Type], issues: &mut Issues) {
    if let ExprKind::Call { function, target: Some(target), args } = &expr.kind
        && **function == *"format"
        && let ExprKind::Literal(Literal::String(pattern)) = &target.kind
        && let Some(ExprKind::List(items)) = args.first().map(|arg| &arg.kind)
    {
        let items: Vec<&Expr> = items.iter().map(|item| &item.value).collect();
        if let Err((at, why)) = fits(pattern, &items, types) {
            issues.add(at.unwrap_or(expr.at), why);
        }
    }
    expr.children().into_iter().for_each(|child| check(child, types, issues));
}

/// The first thing that does not fit, and where it stands if that is an item.
fn fits(pattern: &str, items: &[&Expr], types: &[Type]) -> Result<(), (Option<u32>, String)> {
    let mut next = 0;
    let mut chars = pattern.chars().peekable();
    while let Some(letter) = chars.next() {
        if letter != '%' || chars.next_if_eq(&'%').is_some() {
            continue;
        }
        if chars.peek().is_none() {
            return Err((None, "unexpected end of string".to_owned()));
        }
        let item = items.get(next).ok_or_else(|| (None, format!("index {next} out of range")))?;
        next += 1;
        let (clause, _) = formatting::clause(&mut chars).map_err(|why| (None, why))?;
        if let Some((at, given)) = misfit(clause, item, types) {
            return Err((Some(at), formatting::misfit(clause, &given)));
        }
    }
    if items.len() > next {
        let why = format!("too many arguments supplied to string.format (expected {next}, got {})", items.len());
        return Err((None, why));
    }
    Ok(())
}

/// The type of an item that can't be written so, and where it stands; parts of lists and maps are looked at for texts.
fn misfit(clause: char, item: &Expr, types: &[Type]) -> Option<(u32, String)> {
    let ty = usize::try_from(item.id).ok().and_then(|id| types.get(id)).unwrap_or(&Type::Dyn);
    let is_fit = match (clause, ty) {
        (_, Type::Dyn | Type::Error | Type::Param(_)) => true,
        ('s', Type::Any | Type::Object(_) | Type::Opaque(..)) => false,
        ('s', _) => true,
        ('d' | 'o', Type::Int | Type::Uint) => true,
        ('f' | 'e', Type::Double | Type::String) => true,
        ('b', Type::Int | Type::Uint | Type::Bool) => true,
        ('x' | 'X', Type::Int | Type::Uint | Type::String | Type::Bytes) => true,
        _ => false,
    };
    if !is_fit {
        let given = match ty {
            Type::List(_) => "list".to_owned(),
            Type::Map(..) => "map".to_owned(),
            Type::Type(_) => "type".to_owned(),
            Type::Opaque(name, _) => (*name).to_owned(),
            other => other.runtime_name(),
        };
        return Some((item.at, given));
    }
    let is_made = matches!(item.kind, ExprKind::List(_) | ExprKind::Map(_));
    if clause != 's' || !is_made {
        return None;
    }
    item.children().into_iter().find_map(|part| misfit(clause, part, types))
}
