//! What is wrong with the CEL rules of a schema: their words, their types, and what they may cost.

use martello_api::status::Cause;

use super::shown;
use crate::{
    cel::{self, Program},
    crd::{
        expressions::{is_embedded, rules_of},
        field_path,
    },
    registry::validation::field::Field,
};

const KEY: &str = "x-kubernetes-validations";
const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
/// Largest request: what is not bounded otherwise can't be larger.
const MAX_REQUEST_BYTES: u64 = 3 * 1024 * 1024;
/// How many of the costliest rules are named where all together cost too much.
const NAMED: usize = 4;
const ADVICE: &str = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)";

/// Checks the words of the rules that stand at `schema`.
pub fn words(schema: &Field<'_>, causes: &mut Vec<Cause>) {
    for rule in schema.items(KEY) {
        let (text, message) = (rule.at("rule"), rule.at("message"));
        let breaks = |text: &str| text.contains(['\n', '\r']);
        if text.text().trim().is_empty() {
            text.required("rule is not specified", causes);
        } else if !message.text().is_empty() && message.text().trim().is_empty() {
            message.invalid("must be non-empty if specified", causes);
        } else if breaks(message.text().trim()) {
            message.invalid("must not contain line breaks", causes);
        } else if breaks(text.text().trim()) && message.text().trim().is_empty() {
            message.required("message must be specified if rule contains line breaks", causes);
        }
        let expression = rule.at("messageExpression");
        if !expression.text().is_empty() && expression.text().trim().is_empty() {
            expression.required("messageExpression must be non-empty if specified", causes);
        }
        if let Some(reason) = rule.get("reason") {
            reason.one_of(&REASONS, causes);
        }
        let path = rule.at("fieldPath");
        if path.text().is_empty() {
            continue;
        }
        if path.text().trim().is_empty() {
            path.invalid("must be non-empty if specified", causes);
        }
        if breaks(path.text()) {
            path.invalid("must not contain line breaks", causes);
        }
        if field_path::find(schema.value, path.text(), true).is_err() {
            path.invalid("must be a valid path", causes);
        }
    }
}

/// How often a rule may run on one object; none where nothing bounds it.
#[derive(Clone, Copy, Debug)]
pub struct Reach(Option<u64>);

impl Reach {
    /// Of the root: once.
    #[must_use]
    pub fn root() -> Self {
        Self(Some(1))
    }

    /// Below something that occurs at most so many times.
    #[must_use]
    pub fn many(self, most: Option<i64>) -> Self {
        let most = most.and_then(|most| u64::try_from(most).ok());
        Self(self.0.zip(most).map(|(times, most)| times.saturating_mul(most)))
    }
}

/// What the rules of a schema may cost.
#[derive(Debug, Default)]
pub struct Costs {
    total: u64,
    /// The costliest, with their paths.
    largest: Vec<(u64, String)>,
}

impl Costs {
    fn add(&mut self, cost: u64, path: String) {
        self.total = self.total.saturating_add(cost);
        if cost > 0 {
            self.largest.push((cost, path));
            self.largest.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
            self.largest.truncate(NAMED);
        }
    }

    /// Complains where all rules together may cost too much.
    pub fn judge(&self, root: &Field<'_>, causes: &mut Vec<Cause>) {
        if self.total <= cel::TOTAL_ESTIMATE_LIMIT {
            return;
        }
        for (_, path) in &self.largest {
            let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            causes.push(Cause::forbidden(path.as_str(), why));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        root.forbidden(&too_costly(what, self.total, cel::TOTAL_ESTIMATE_LIMIT), causes);
    }
}

/// Compiles the rules that stand at a schema; `apart` is the list or map within which nothing can be told to be what it
/// was before.
pub fn check(
    schema: &Field<'_>,
    is_root: bool,
    reach: Reach,
    apart: Option<&str>,
    costs: &mut Costs,
    causes: &mut Vec<Cause>,
) {
    let given = schema.items(KEY);
    if given.is_empty() {
        return;
    }
    let Some(typed) = cel::Schema::of(schema.value, is_root || is_embedded(schema.value)) else {
        let why = "internal error: failed to retrieve type information for x-kubernetes-validations";
        causes.push(Cause::new("InternalError", schema.at(KEY).path, format!("Internal error: {why}")));
        return;
    };
    let times = reach.0.unwrap_or(MAX_REQUEST_BYTES / (typed.min_serialized_size() + 1));
    for (field, rule) in given.iter().zip(rules_of(schema.value, Some(&typed))) {
        let cost_of = |program: &Program| program.estimate().max.saturating_mul(times);
        let mut judge = |key: &str, what: &str, program: &Option<Result<Program, String>>| match program {
            None => {}
            Some(Err(why)) => causes.push(Cause::invalid(field.at(key).path, &shown::rule(field.value), why)),
            Some(Ok(program)) => {
                let cost = if key == "rule" { cost_of(program) } else { program.estimate().max };
                if cost > cel::RULE_ESTIMATE_LIMIT {
                    let why = too_costly(what, cost, cel::RULE_ESTIMATE_LIMIT);
                    causes.push(Cause::forbidden(field.at(key).path, &why));
                }
                costs.add(cost, field.at(key).path);
            }
        };
        judge("rule", "estimated rule cost", &rule.program);
        judge("messageExpression", "estimated messageExpression cost", &rule.message_program);
        let optional = field.at("optionalOldSelf");
        match apart {
            Some(apart) if rule.uses_old => {
                let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {apart}");
                field.at("rule").invalid(&why, causes);
            }
            _ if !rule.uses_old && !optional.value.is_null() => {
                optional.invalid("may not be set if oldSelf is not used in rule", causes);
            }
            _ => {}
        }
    }
}

fn too_costly(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        _ if factor > 100.0 => "more than 100x".to_owned(),
        _ if factor < 1.5 => format!("{factor:.6}x"),
        _ => format!("{factor:.1}x"),
    };
    format!("{what} exceeds budget by factor of {factor} {ADVICE}")
}
