//! Lists, maps and objects that an expression builds.

use std::sync::Arc;

use super::{Evaluator, Outcome};
use crate::cel::{
    ast::{FieldInit, ListItem, MapEntry},
    meter::EvalError,
    value::{Entries, Map, Object, Value},
};

const LIST_COST: u64 = 10;
const MAP_COST: u64 = 30;
const OBJECT_COST: u64 = 40;

impl<'a> Evaluator<'_, 'a> {
    pub(super) fn list(&mut self, items: &'a [ListItem]) -> Outcome<'a> {
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            match self.eval(&item.value)? {
                Value::Optional(value) if item.optional => list.extend(value.map(|value| (*value).clone())),
                _ if item.optional => {
                    return Err(EvalError::runtime("cannot initialize optional list element from non-optional value"));
                }
                value => list.push(value),
            }
        }
        self.meter.charge(LIST_COST)?;
        let list = list.into();
        self.walkable(&list)?;
        Ok(list)
    }

    pub(super) fn map(&mut self, entries: &'a [MapEntry]) -> Outcome<'a> {
        let mut made = Entries::default();
        for entry in entries {
            let key = self.eval(&entry.key)?;
            let value = match self.eval(&entry.value)? {
                Value::Optional(None) if entry.optional => continue,
                Value::Optional(Some(value)) if entry.optional => (*value).clone(),
                value => value,
            };
            if !made.put(key, value) {
                return Err(EvalError::runtime("unsupported or repeated key in a map"));
            }
        }
        self.meter.charge(MAP_COST)?;
        let map = Value::Map(Map::Made(Arc::new(made)));
        self.walkable(&map)?;
        Ok(map)
    }

    pub(super) fn object(&mut self, name: &Arc<str>, fields: &'a [FieldInit]) -> Outcome<'a> {
        let mut made = Vec::with_capacity(fields.len());
        for field in fields {
            let value = match self.eval(&field.value)? {
                Value::Optional(None) if field.optional => continue,
                Value::Optional(Some(value)) if field.optional => (*value).clone(),
                value => value,
            };
            made.push((Arc::clone(&field.field), value));
        }
        self.meter.charge(OBJECT_COST)?;
        let object = Value::Object(Arc::new(Object { name: Arc::clone(name), fields: made }));
        self.walkable(&object)?;
        Ok(object)
    }
}
