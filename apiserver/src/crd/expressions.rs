//! `x-kubernetes-validations`: rules in CEL, compiled once per change of a definition and evaluated on every write.

use std::{collections::BTreeMap, sync::Arc};

use martello_api::status::Cause;
use serde_json::Value;

use super::field_path;
use crate::{
    cel::{self, Environment, Old, Program, Type},
    registry::object,
};

mod evaluate;

use evaluate::{Before, Run};

/// One rule, compiled.
#[derive(Debug)]
pub struct Rule {
    text: String,
    message: String,
    /// What builds the message, as it was written.
    message_text: String,
    reason: String,
    /// Below the value that the rule is on; empty for the value itself.
    field_path: String,
    optional_old: bool,
    /// Whether it looks at the old value: then it runs only where there is one.
    pub uses_old: bool,
    /// The rule, or why it can't be compiled; none where it is empty.
    pub program: Option<Result<Program, String>>,
    /// What builds the message.
    pub message_program: Option<Result<Program, String>>,
}

/// The rules of a schema, at this place and below.
#[derive(Debug)]
pub struct Expressions {
    rules: Vec<Rule>,
    schema: Option<Arc<cel::Schema>>,
    kind: String,
    fields: BTreeMap<String, Expressions>,
    others: Option<Box<Expressions>>,
    items: Option<Box<Expressions>>,
    /// By what the items of a list are told apart.
    keys: Option<Vec<String>>,
    /// A map whose values can't be told to be what they were before.
    atomic: bool,
}

/// Compiles the rules that stand at a schema itself.
#[must_use]
pub fn rules_of(schema: &Value, typed: Option<&Arc<cel::Schema>>) -> Vec<Rule> {
    let rules = object::list(schema, &["x-kubernetes-validations"]);
    rules.iter().map(|rule| Rule::compile(rule, schema, typed)).collect()
}

impl Rule {
    fn compile(rule: &Value, schema: &Value, typed: Option<&Arc<cel::Schema>>) -> Self {
        let text = |key: &str| object::text(rule, &[key]).to_owned();
        let optional_old = object::flag(rule, &["optionalOldSelf"]);
        let mut compiled = Self {
            text: text("rule"),
            message: text("message"),
            reason: text("reason"),
            message_text: text("messageExpression"),
            field_path: field_path::find(schema, &text("fieldPath"), true).map(|found| found.path).unwrap_or_default(),
            optional_old,
            uses_old: false,
            program: None,
            message_program: None,
        };
        let Some(typed) = typed.filter(|_| !compiled.text.trim().is_empty()) else { return compiled };
        let old = if optional_old { Old::Optional } else { Old::Same };
        let environment = Environment::rules(Arc::clone(typed), old);
        let program = match environment.compile(&compiled.text) {
            Err(issues) => Err(format!("compilation failed: {issues}")),
            Ok(program) if *program.output_type() != Type::Bool => {
                Err("cel expression must evaluate to a bool".to_owned())
            }
            Ok(program) => match program.unready() {
                None => Ok(program),
                Some(why) => Err(format!("program instantiation failed: {why}")),
            },
        };
        compiled.uses_old = program.as_ref().is_ok_and(|program| program.uses("oldSelf"));
        compiled.program = Some(program);
        if !compiled.message_text.trim().is_empty() {
            compiled.message_program = Some(match environment.compile(&compiled.message_text) {
                Err(issues) => Err(format!("messageExpression compilation failed: {issues}")),
                Ok(program) if *program.output_type() != Type::String => {
                    Err("messageExpression must evaluate to a string".to_owned())
                }
                Ok(program) => match program.unready() {
                    None => Ok(program),
                    Some(why) => Err(format!("messageExpression instantiation failed: {why}")),
                },
            });
        }
        compiled
    }

    /// As messages name it.
    fn shown(&self) -> &str {
        if self.message.is_empty() { self.text.trim() } else { self.message.trim() }
    }

    /// Where a fault is told, given where the value is.
    fn place(&self, path: &str) -> String {
        match (path.is_empty(), self.field_path.as_str()) {
            (true, "") => "<nil>".to_owned(),
            (true, below) => below.to_owned(),
            (false, "") => path.to_owned(),
            (false, below) => format!("{path}.{below}"),
        }
    }

    fn fixed_message(&self) -> String {
        if self.message.is_empty() {
            format!("failed rule: {}", self.text.trim())
        } else {
            self.message.trim().to_owned()
        }
    }
}

impl Expressions {
    /// Those of an `openAPIV3Schema`; none where it has no rule at all.
    #[must_use]
    pub fn of(schema: &Value) -> Option<Self> {
        Self::compile(schema, true)
    }

    /// Those of a schema within another.
    #[must_use]
    pub fn of_part(schema: &Value) -> Option<Self> {
        Self::compile(schema, false)
    }

    fn compile(schema: &Value, is_root: bool) -> Option<Self> {
        let below = |key: &str| {
            schema
                .get(key)
                .filter(|below| below.is_object())
                .and_then(|below| Self::compile(below, false))
                .map(Box::new)
        };
        let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let fields: BTreeMap<String, Self> =
            properties.filter_map(|(name, schema)| Some((name.clone(), Self::compile(schema, false)?))).collect();
        let (others, items) = (below("additionalProperties"), below("items"));
        let has_rules = !object::list(schema, &["x-kubernetes-validations"]).is_empty();
        if !has_rules && fields.is_empty() && others.is_none() && items.is_none() {
            return None;
        }
        let typed = has_rules.then(|| cel::Schema::of(schema, is_root || is_embedded(schema))).flatten();
        let keys = (object::text(schema, &["x-kubernetes-list-type"]) == "map").then(|| {
            let keys = object::list(schema, &["x-kubernetes-list-map-keys"]).iter().filter_map(Value::as_str);
            keys.map(str::to_owned).collect()
        });
        let rules = rules_of(schema, typed.as_ref());
        let kind = object::text(schema, &["type"]).to_owned();
        let map_type = object::text(schema, &["x-kubernetes-map-type"]);
        let atomic = !matches!(map_type, "" | "granular");
        Some(Self { rules, schema: typed, kind, fields, others, items, keys, atomic })
    }

    /// Evaluates the rules on an object. What failed before and did not change is only told.
    #[must_use]
    pub fn evaluate(&self, value: &Value, old: Option<&Value>) -> Outcome {
        let mut run = Run::new();
        run.value(self, value, Before { old, known: old, unchanged: false }, "");
        run.outcome
    }

    /// Evaluates the rules on a default, told as `path`: as one that was there before, and as a new one.
    #[must_use]
    pub fn evaluate_default(&self, value: &Value, path: &str) -> Vec<Cause> {
        let mut causes = Vec::new();
        for old in [Some(value), None] {
            if causes.is_empty() {
                let mut run = Run::new();
                run.value(self, value, Before { old, known: None, unchanged: false }, path);
                causes = run.outcome.causes;
            }
        }
        causes
    }
}

/// Whether a whole object stands here.
#[must_use]
pub fn is_embedded(schema: &Value) -> bool {
    object::flag(schema, &["x-kubernetes-embedded-resource"])
}

/// What the rules said.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What failed.
    pub causes: Vec<Cause>,
    /// What failed, but is tolerated, since it was so before.
    pub tolerated: Vec<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn evaluate(schema: &Value, value: &Value, old: Option<&Value>) -> (Vec<String>, Vec<String>) {
        let outcome = Expressions::of(schema).unwrap().evaluate(value, old);
        let causes = outcome.causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        (causes, outcome.tolerated)
    }

    fn on_spec(rules: Value) -> Value {
        let properties = json!({"a": {"type": "integer"}, "l": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 5}}});
        json!({"type": "object", "properties": {"spec": {
            "type": "object", "properties": properties, "x-kubernetes-validations": rules,
        }}})
    }

    #[test]
    fn a_failed_rule_tells_its_message_or_itself() {
        let schema = on_spec(json!([
            {"rule": "self.a < 5", "messageExpression": "'a is %d'.format([self.a])", "reason": "FieldValueForbidden", "fieldPath": ".a"},
            {"rule": "self.a != 9", "reason": "FieldValueDuplicate", "message": "nine"},
            {"rule": "self.a != 8"},
        ]));
        let failed = |a: i64| evaluate(&schema, &json!({"spec": {"a": a}}), None).0;
        assert_eq!(failed(9), ["spec.a: Forbidden: a is 9", "spec: Duplicate value"]);
        assert_eq!(failed(8), ["spec.a: Forbidden: a is 8", "spec: Invalid value: failed rule: self.a != 8"]);
        assert!(failed(1).is_empty());
    }

    #[test]
    fn what_is_told_of_many_faults_is_bounded_and_never_hides_a_new_one() {
        let message = "m".repeat(2000);
        let items =
            json!({"type": "string", "x-kubernetes-validations": [{"rule": "self == 'a'", "message": message}]});
        let properties = json!({"l": {"type": "array", "items": items}, "z": items});
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}});
        let object = |item: &str, z: &str| json!({"spec": {"l": vec![item; 5000], "z": z}});
        let (told, _) = evaluate(&schema, &object("b", "a"), None);
        let bytes: usize = told.iter().map(String::len).sum();
        assert!(!told.is_empty() && bytes < 5 * 1024 * 1024, "{bytes}");
        let (told, tolerated) = evaluate(&schema, &object("b", "b"), Some(&object("b", "a")));
        assert_eq!(told, [format!("spec.z: Invalid value: \"b\": {message}")]);
        assert!(tolerated.iter().map(String::len).sum::<usize>() < 5 * 1024 * 1024);
    }

    /// One search per item would take many minutes.
    #[test]
    fn long_sets_and_lists_by_keys_are_compared_without_a_search_per_item() {
        let rules = json!([{"rule": "self.s == oldSelf.s && (self.s + oldSelf.s).size() == self.s.size()"},
            {"rule": "self.m == oldSelf.m && (self.m + oldSelf.m).size() == self.m.size()"}]);
        let item = json!({"type": "object", "properties": {"k": {"type": "string"}, "n": {"type": "integer"}}});
        let properties = json!({
            "s": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": item},
        });
        let schema = json!({"type": "object", "properties": {"spec": {
            "type": "object", "properties": properties, "x-kubernetes-validations": rules,
        }}});
        let spec = |order: &mut dyn Iterator<Item = usize>| {
            let names: Vec<String> = order.map(|at| at.to_string()).collect();
            let items: Vec<Value> = names.iter().map(|name| json!({"k": name, "n": 1})).collect();
            json!({"spec": {"s": names, "m": items}})
        };
        let (old, new) = (spec(&mut (0..30_000)), spec(&mut (0..30_000).rev()));
        assert!(evaluate(&schema, &new, Some(&old)).0.is_empty());
        let mut other = new.clone();
        other["spec"]["m"][7]["n"] = json!(2);
        assert_eq!(evaluate(&schema, &other, Some(&old)).0.len(), 1);
    }

    #[test]
    fn a_rule_that_errs_refuses_the_object() {
        let schema = on_spec(json!([{"rule": "self.l[0] == 'x'"}]));
        assert_eq!(
            evaluate(&schema, &json!({"spec": {"l": []}}), None).0,
            ["spec: Invalid value: \"object\": index out of bounds: 0 evaluating rule: self.l[0] == 'x'"]
        );
    }

    #[test]
    fn transitions_need_an_old_value_and_what_did_not_change_is_tolerated() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "a": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "a is immutable"}]},
            "b": {"type": "integer", "x-kubernetes-validations": [{"rule": "self < 5", "message": "too large"}]},
        }}}});
        let old = json!({"spec": {"a": "x", "b": 7}});
        assert!(evaluate(&schema, &json!({"spec": {"a": "y"}}), None).0.is_empty());
        let (causes, tolerated) = evaluate(&schema, &json!({"spec": {"a": "y", "b": 7}}), Some(&old));
        assert_eq!(causes, ["spec.a: Invalid value: \"y\": a is immutable"]);
        assert_eq!(tolerated, ["spec.b: Invalid value: 7: too large"]);
    }

    #[test]
    fn items_are_tolerated_with_the_list_that_did_not_change() {
        let item = json!({"type": "string", "x-kubernetes-validations": [{"rule": "self != 'x'", "message": "no x"}]});
        let schema = json!({"type": "object", "properties": {"l": {"type": "array", "items": item}}});
        let old = json!({"l": ["x"]});
        let (causes, tolerated) = evaluate(&schema, &json!({"l": ["x"], "b": 1}), Some(&old));
        assert_eq!((causes.len(), tolerated), (0, vec!["l[0]: Invalid value: \"x\": no x".to_owned()]));
        assert_eq!(evaluate(&schema, &json!({"l": ["x", "y"]}), Some(&old)).0, ["l[0]: Invalid value: \"x\": no x"]);
    }

    #[test]
    fn values_of_an_atomic_map_have_no_old_value() {
        let value = json!({"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]});
        let mut schema = json!({"type": "object", "properties": {"m": {"type": "object", "properties": {"a": value}}}});
        let (new, old) = (json!({"m": {"a": "x"}}), json!({"m": {"a": "y"}}));
        assert_eq!(evaluate(&schema, &new, Some(&old)).0.len(), 1);
        schema["properties"]["m"]["x-kubernetes-map-type"] = json!("atomic");
        assert_eq!(evaluate(&schema, &new, Some(&old)).0.len(), 0);
    }

    #[test]
    fn a_default_is_held_against_the_rules() {
        let schema = json!({"type": "integer", "default": 7, "x-kubernetes-validations": [{"rule": "self < 5"}]});
        let causes = Expressions::of_part(&schema).unwrap().evaluate_default(&json!(7), "a.default");
        assert_eq!(causes[0].field, "a.default");
        assert_eq!(causes[0].message, "Invalid value: 7: failed rule: self < 5");
    }
}
