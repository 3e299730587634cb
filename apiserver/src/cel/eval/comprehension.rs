//! Comprehensions: walks over lists and maps, and what they carry.

use super::{Evaluator, Outcome, error, sound};
use crate::cel::{
    ast::{ACCUMULATOR, Expr, Fold},
    check::Reference,
    functions, limits,
    meter::EvalError,
    unfit,
    value::{List, Map, Value},
};

impl<'a> Evaluator<'_, 'a> {
    pub(super) fn fold(&mut self, fold: &'a Fold) -> Outcome<'a> {
        let range = self.eval(&fold.range)?;
        let init = self.eval(&fold.init);
        let floor = self.scopes.len();
        self.scopes.push((&fold.accu, init));
        let walked = match &range {
            Value::List(list) => self.walk_list(fold, list),
            Value::Map(map) => self.walk_map(fold, map),
            _ if fold.iter2.is_some() => {
                Err(EvalError::runtime(format!("unsupported comprehension range type: {}", unfit::go_name(&range))))
            }
            _ => Err(EvalError::runtime(format!("got '{}', expected iterable type", unfit::go_name(&range)))),
        };
        self.scopes.truncate(floor + 1);
        let result = walked.and_then(|()| self.eval(&fold.result));
        self.scopes.truncate(floor);
        self.walkable(result.as_ref().unwrap_or(&Value::Null))?;
        result
    }

    fn walk_list(&mut self, fold: &'a Fold, list: &List<'a>) -> Result<(), EvalError> {
        for (at, item) in list.iter().enumerate() {
            let going = match &fold.iter2 {
                Some(iter2) => {
                    let at = Value::Int(i64::try_from(at).unwrap_or(i64::MAX));
                    self.turn(fold, at, Some((iter2, item)))?
                }
                None => self.turn(fold, item, None)?,
            };
            if !going {
                break;
            }
        }
        Ok(())
    }

    fn walk_map(&mut self, fold: &'a Fold, map: &Map<'a>) -> Result<(), EvalError> {
        for (key, value) in map.entries() {
            let second = fold.iter2.as_ref().map(|iter2| (&**iter2, value));
            if !self.turn(fold, key, second)? {
                break;
            }
        }
        Ok(())
    }

    /// One turn of a walk; false ends it.
    fn turn(
        &mut self,
        fold: &'a Fold,
        first: Value<'a>,
        second: Option<(&'a str, Value<'a>)>,
    ) -> Result<bool, EvalError> {
        self.meter.step(1)?;
        let floor = self.scopes.len();
        self.scopes.push((&fold.iter, sound(first)));
        if let Some((name, value)) = second {
            self.scopes.push((name, sound(value)));
        }
        let going = matches!(self.eval(&fold.condition)?, Value::Bool(true));
        if going {
            let step = self.eval(&fold.step);
            if let Err(error) = &step
                && error.is_final()
            {
                return Err(error.clone());
            }
            if let Some((_, accu)) = floor.checked_sub(1).and_then(|at| self.scopes.get_mut(at)) {
                *accu = step;
            }
        }
        self.scopes.truncate(floor);
        Ok(going)
    }

    /// Adds to what a walk carries, without copying what was carried before.
    pub(super) fn accumulate(&mut self, expr: &'a Expr, accu: &'a Expr, args: &'a [Expr]) -> Outcome<'a> {
        let Reference::Function(function, _) = self.reference(expr) else {
            return Err(EvalError::runtime("no such overload"));
        };
        self.meter.charge(1)?;
        if let Some((_, Err(error))) = self.scopes.iter().rev().find(|(own, _)| *own == ACCUMULATOR) {
            return Err(error.clone());
        }
        let mut added = Vec::with_capacity(args.len());
        for arg in args.iter().skip(1) {
            added.push(self.eval(arg)?);
        }
        let place = self.scopes.iter_mut().rev().find(|(own, _)| *own == ACCUMULATOR);
        let carried = match place {
            Some((_, value)) => std::mem::replace(value, Ok(Value::Null))?,
            None => self.eval(accu)?,
        };
        if !matches!(carried, Value::List(_) | Value::Map(_)) {
            added.insert(0, carried);
            return self.apply(function, None, &added);
        }
        self.meter.step(1)?;
        self.meter.charge(1)?;
        let more = match added.as_slice() {
            [Value::List(more)] => more.len(),
            [Value::Map(more)] => more.len(),
            _ => 1,
        };
        self.meter.build(limits::items_bytes(more))?;
        match functions::grow(carried, added) {
            Ok(grown) => grown.map_err(|fault| error(function, &[], fault)),
            Err(all) => (function.run)(&all).map_err(|fault| error(function, &all, fault)),
        }
    }
}
