//! Rules, evaluated on an object, its old form beside it.

use std::time::Instant;

use martello_api::status::Cause;
use serde_json::{Value, json};

use super::{Expressions, Outcome, Rule};
use crate::{
    cel::{self, Bindings, Budget, ErrorKind, EvalError},
    crd::{check::MAX_TOLD_BYTES, correlate::Former},
};

/// Longest message that a rule may build.
const MAX_MESSAGE_BYTES: usize = 5 * 1024;
const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// One evaluation of all rules on an object.
pub(super) struct Run {
    /// What may still be spent, and until when.
    left: u64,
    deadline: Option<Instant>,
    stopped: bool,
    /// Bytes of what failed, and of what is tolerated.
    told: usize,
    pub(super) outcome: Outcome,
}

/// What is known of a value as it was before.
#[derive(Clone, Copy)]
pub(super) struct Before<'v> {
    /// What rules see as `oldSelf`.
    pub(super) old: Option<&'v Value>,
    /// What tells whether it changed.
    pub(super) known: Option<&'v Value>,
    /// Whether what holds it did not change, which tells where nothing is known of the value itself.
    pub(super) unchanged: bool,
}

impl<'v> Before<'v> {
    /// Whether the value is what it was.
    fn same(&self, value: &Value) -> bool {
        self.known.map_or(self.unchanged, |known| known == value)
    }

    /// The same of a field; `unchanged`: of the object that holds it.
    fn field(&self, unchanged: bool, name: &str, atomic: bool) -> Self {
        fn below<'v>(of: Option<&'v Value>, name: &str) -> Option<&'v Value> {
            of.and_then(|of| of.get(name))
        }
        Self { old: below(self.old, name).filter(|_| !atomic), known: below(self.known, name), unchanged }
    }
}

impl Run {
    pub(super) fn new() -> Self {
        let Budget { limit: left, deadline } = Budget::of(cel::RUNTIME_BUDGET);
        Self { left, deadline, stopped: false, told: 0, outcome: Outcome::default() }
    }

    pub(super) fn value(&mut self, at: &Expressions, value: &Value, before: Before<'_>, path: &str) {
        if value.is_null() {
            return;
        }
        self.rules(at, value, before, path);
        match value {
            Value::Array(items) => self.items(at, value, items, before, path),
            Value::Object(map) => {
                let unchanged = before.same(value);
                for (name, below) in map {
                    if self.stopped {
                        return;
                    }
                    let before = before.field(unchanged, name, at.atomic);
                    match (at.fields.get(name), &at.others) {
                        (Some(of), _) if path.is_empty() => self.value(of, below, before, name),
                        (Some(of), _) => self.value(of, below, before, &format!("{path}.{name}")),
                        (None, Some(of)) => self.value(of, below, before, &format!("{path}[{name}]")),
                        (None, None) => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn items(&mut self, at: &Expressions, list: &Value, items: &[Value], before: Before<'_>, path: &str) {
        let Some(below) = &at.items else { return };
        let keys = at.keys.as_deref();
        let old = keys.and_then(|keys| Former::of(keys, before.old));
        let known = keys.and_then(|keys| Former::of(keys, before.known));
        let unchanged = before.same(list);
        for (index, item) in items.iter().enumerate() {
            if self.stopped {
                return;
            }
            let before = Before {
                old: old.as_ref().and_then(|former| former.of_item(item)),
                known: known.as_ref().and_then(|former| former.of_item(item)),
                unchanged,
            };
            self.value(below, item, before, &format!("{path}[{index}]"));
        }
    }

    fn rules(&mut self, at: &Expressions, value: &Value, before: Before<'_>, path: &str) {
        let old = before.old.filter(|old| !old.is_null());
        let field = if path.is_empty() { "<nil>" } else { path };
        let kind = json!(at.kind);
        for rule in &at.rules {
            if self.stopped {
                return;
            }
            let program = match &rule.program {
                None => continue,
                Some(Err(why)) => {
                    let why = format!("rule compile error: {why}");
                    self.fail(Cause::invalid(field, &kind, &why));
                    continue;
                }
                Some(Ok(program)) => program,
            };
            if rule.uses_old && old.is_none() && !rule.optional_old {
                continue;
            }
            if self.left == 0 {
                self.fail(Cause::invalid(field, &kind, OUT_OF_BUDGET));
                self.stopped = true;
                return;
            }
            let bindings = bindings(at, rule, value, old);
            let budget = Budget { limit: cel::PER_CALL_LIMIT, deadline: self.deadline };
            let evaluated = program.evaluate(&bindings, budget);
            if evaluated.cost > self.left {
                self.fail(Cause::invalid(field, &kind, OUT_OF_BUDGET));
                self.stopped = true;
                return;
            }
            self.left -= evaluated.cost;
            match evaluated.result {
                Ok(cel::Value::Bool(true)) => {}
                Ok(_) => {
                    let cause = match self.message(rule, &bindings) {
                        Ok(message) => failed(at, rule, value, path, &message),
                        Err(why) => {
                            self.stopped = true;
                            Cause::invalid(rule.place(path), &kind, &why)
                        }
                    };
                    if !rule.uses_old && before.same(value) {
                        self.tolerate(&cause);
                    } else {
                        self.fail(cause);
                    }
                }
                Err(error) => {
                    self.stopped |= is_out_of_means(&error);
                    let why = broken(&error, rule.shown());
                    self.fail(Cause::invalid(field, &kind, &why));
                }
            }
        }
    }

    /// A fault refuses the object. Once so much is wrong that no more can be told, no more is looked for.
    fn fail(&mut self, cause: Cause) {
        self.told += size_of::<Cause>() + cause.field.len() + cause.message.len();
        self.stopped |= self.told > MAX_TOLD_BYTES;
        self.outcome.causes.push(cause);
    }

    /// What was so before is told as far as there is room, and all rules run on: a new fault may come.
    fn tolerate(&mut self, cause: &Cause) {
        if self.told <= MAX_TOLD_BYTES {
            self.told += cause.field.len() + cause.message.len();
            self.outcome.tolerated.push(format!("{}: {}", cause.field, cause.message));
        }
    }

    /// The message that the rule builds; the fixed one where it builds none that can be shown. Fails where it costs too
    /// much.
    fn message<'v>(&mut self, rule: &'v Rule, bindings: &Bindings<'v>) -> Result<String, String> {
        let Some(Ok(program)) = &rule.message_program else { return Ok(rule.fixed_message()) };
        let evaluated = program.evaluate(bindings, Budget { limit: cel::PER_CALL_LIMIT, deadline: self.deadline });
        if evaluated.cost > self.left {
            return Err(
                "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run"
                    .to_owned(),
            );
        }
        self.left -= evaluated.cost;
        let built = match &evaluated.result {
            Ok(value) => value.as_str().map(|text| text.trim().to_owned()),
            Err(error) if is_out_of_means(error) => {
                return Err(format!(
                    "no further validation rules will be run due to call cost exceeds limit for messageExpression: {:?}",
                    rule.message_text
                ));
            }
            Err(_) => None,
        };
        let fits = |text: &String| !text.is_empty() && text.len() <= MAX_MESSAGE_BYTES && !text.contains('\n');
        Ok(built.filter(fits).unwrap_or_else(|| rule.fixed_message()))
    }
}

/// Whether an evaluation ended since it took too much.
fn is_out_of_means(error: &EvalError) -> bool {
    matches!(error.kind, ErrorKind::CostExceeded | ErrorKind::Interrupted)
}

/// What is told of a rule that came to no result.
fn broken(error: &EvalError, rule: &str) -> String {
    let why = &error.message;
    match error.kind {
        ErrorKind::CostExceeded | ErrorKind::Interrupted => {
            format!("'{why}': no further validation rules will be run due to call cost exceeds limit for rule: {rule}")
        }
        ErrorKind::Runtime if why.starts_with("no such overload") => format!(
            "'{why}': call arguments did not match a supported operator, function or macro signature for rule: {rule}"
        ),
        ErrorKind::Runtime => format!("{why} evaluating rule: {rule}"),
    }
}

fn failed(at: &Expressions, rule: &Rule, value: &Value, path: &str, message: &str) -> Cause {
    let field = rule.place(path);
    // Lists and objects are too large to be shown.
    let shown = match at.kind.as_str() {
        "array" | "object" => String::new(),
        _ => format!(" {value}:"),
    };
    match rule.reason.as_str() {
        "FieldValueRequired" => Cause::required(field, message),
        "FieldValueForbidden" => Cause::forbidden(field, message),
        "FieldValueDuplicate" => {
            let shown = shown.strip_suffix(':').map(|shown| format!(":{shown}")).unwrap_or_default();
            Cause::new("FieldValueDuplicate", field, format!("Duplicate value{shown}"))
        }
        _ => Cause::new("FieldValueInvalid", field, format!("Invalid value:{shown} {message}")),
    }
}

fn bindings<'v>(at: &'v Expressions, rule: &Rule, value: &'v Value, old: Option<&'v Value>) -> Bindings<'v> {
    let view = |json: &'v Value| cel::Value::view(json, at.schema.as_deref());
    let mut bindings = Bindings::new();
    bindings.set("self", view(value));
    match (old, rule.optional_old) {
        (old, true) => bindings.set("oldSelf", cel::Value::optional(old.map(view))),
        (Some(old), false) => bindings.set("oldSelf", view(old)),
        (None, false) => {}
    }
    bindings
}
