//! What users extend the API with: definitions of kinds, expressions, paths, and schedules.

use std::{hint::black_box, sync::LazyLock};

use jiff::tz::TimeZone;
use martello_api::{
    cron::Schedule,
    schema::{apply_defaults, decode_value},
};
use martello_apiserver::{
    cel::{Bindings, Budget, Declarations, Environment, Value as Operand},
    crd::{check::check, definition::Definition, jsonpath::JsonPath},
};
use serde_json::{Value, json};

use super::{NOW, text};

static OBJECT: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "metadata": {"name": "web", "labels": {"app": "x"}},
        "spec": {"replicas": 3, "ratio": 0.5, "ports": [80, 443], "names": ["a", "b"], "on": true, "nothing": null},
    })
});

/// Less than a request gets, so that debug builds are done in time too.
const COST: u64 = 20_000;

/// Expressions in CEL: compiled, estimated and evaluated within their budget.
pub fn expression(bytes: &[u8]) {
    static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| Environment::admission(&Declarations::default()));
    let Ok(program) = ENVIRONMENT.compile(&text(bytes)) else { return };
    black_box(program.estimate());
    let mut bindings = Bindings::new();
    bindings.set("object", Operand::view(&OBJECT, None));
    let evaluation = program.evaluate(&bindings, Budget { limit: COST, deadline: None });
    if let Ok(value) = evaluation.result {
        drop(value.to_json());
    }
}

/// Definitions of custom kinds, and an object behind the line `---`.
pub fn custom_resource(bytes: &[u8]) {
    let text = text(bytes);
    let (definition, object) = text.split_once("\n---\n").unwrap_or((&text, "{}"));
    let Ok(definition) = serde_json::from_str::<Value>(definition) else { return };
    let definition = Definition::compile(&definition);
    let object: Value = serde_json::from_str(object).unwrap_or_default();
    for version in &definition.versions {
        black_box(definition.resource(version));
        let Ok(decoded) = decode_value(&version.table, object.clone()) else { continue };
        let mut value = decoded.value;
        apply_defaults(&version.table, &mut value);
        let mut causes = Vec::new();
        check(&version.rules, &value, Some(&object), "", &mut causes);
        for (_, path) in &version.selectable {
            drop(path.find(&value));
        }
    }
}

/// Paths into objects, of columns and selectable fields.
pub fn json_path(bytes: &[u8]) {
    if let Ok(path) = JsonPath::parse(&text(bytes)) {
        drop(path.find(&OBJECT));
    }
}

/// Schedules of CronJobs: the next time is later, if there is one.
pub fn schedule(bytes: &[u8]) {
    let Ok(schedule) = Schedule::parse(&text(bytes)) else { return };
    let mut after = NOW;
    for _ in 0..3 {
        let Some(next) = schedule.next(after, &TimeZone::UTC) else { return };
        assert!(next > after, "{next} is not after {after}");
        after = next;
    }
}
