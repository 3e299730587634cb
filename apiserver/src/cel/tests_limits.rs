//! Limits: what an expression may cost, build and nest.

use serde_json::json;

use super::{
    tests::{all_true, budget, run},
    *,
};

#[test]
fn cost_ends_an_evaluation() {
    let numbers: Vec<serde_json::Value> = (0..2000).map(serde_json::Value::from).collect();
    let data = json!({ "list": numbers });
    let environment = Environment::admission(&Declarations::default());
    let program = environment.compile("object.list.all(x, object.list.all(y, x + y >= 0))").unwrap();
    let mut bindings = Bindings::new();
    bindings.set("object", Value::view(&data, None));
    let Evaluation { result, cost } = program.evaluate(&bindings, budget());
    let error = result.unwrap_err();
    assert_eq!(error.kind, ErrorKind::CostExceeded);
    assert_eq!(&*error.message, "operation cancelled: actual cost limit exceeded");
    assert!(cost > PER_CALL_LIMIT);
}

#[test]
fn gathering_many_elements_takes_linear_time() {
    let numbers: Vec<serde_json::Value> = (0..20_000).map(serde_json::Value::from).collect();
    let data = json!({ "list": numbers });
    let environment = Environment::admission(&Declarations::default());
    let program = environment.compile("object.list.map(x, x).filter(x, x > 5).size() == 19994").unwrap();
    let mut bindings = Bindings::new();
    bindings.set("object", Value::view(&data, None));
    let start = std::time::Instant::now();
    let result = program.evaluate(&bindings, budget()).result.unwrap();
    assert!(matches!(result, Value::Bool(true)));
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn nested_walks_over_unbounded_lists_are_estimated_too_costly() {
    let list = json!({"type": "array", "items": {"type": "array", "items": {"type": "string"}}});
    let schema = Schema::of(&list, false).unwrap();
    let environment = Environment::rules(schema, Old::None);
    let program = environment.compile("self.all(x, self.all(y, x.all(z, y.all(q, q == z))))").unwrap();
    assert!(program.estimate().max > 100 * RULE_ESTIMATE_LIMIT);
    let small = json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}});
    let schema = Schema::of(&small, false).unwrap();
    let program = Environment::rules(schema, Old::None).compile("self.a <= self.b").unwrap();
    assert_eq!(program.estimate(), Cost { min: 5, max: 5 });
}

/// A schema of a list or map of these, or of a text, with at most so many elements.
fn bounded(shape: &str, max: Option<u64>) -> serde_json::Value {
    let text = |max: Option<u64>| match max {
        Some(max) => json!({"type": "string", "maxLength": max}),
        None => json!({"type": "string"}),
    };
    let (holder, item) = shape.split_once(' ').unwrap_or((shape, ""));
    let item = match item {
        "list" => json!({"type": "array", "items": {"type": "number"}}),
        "text" => json!({"type": "string"}),
        "bounded" => text(max),
        "duration" | "date" | "date-time" => json!({"type": "string", "format": item}),
        "int-or-string" => json!({"x-kubernetes-int-or-string": true}),
        other => json!({ "type": other }),
    };
    let mut schema = match holder {
        "list" => json!({"type": "array", "items": item}),
        "map" => json!({"type": "object", "additionalProperties": item}),
        _ => return text(max),
    };
    if let Some(max) = max {
        schema[if holder == "list" { "maxItems" } else { "maxProperties" }] = max.into();
    }
    schema
}

#[test]
fn estimates_are_those_by_which_upstream_refuses_rules() {
    for (shape, rule, unbounded, max, limited) in [
        ("list number", "self.all(x, true)", 4_718_591, 10, 32),
        ("list text", "self.all(x, true)", 3_145_727, 20, 62),
        ("list boolean", "self.all(x, true)", 1_887_437, 5, 17),
        ("list list", "self.all(x, true)", 3_145_727, 100, 302),
        ("map number", "self.all(x, true)", 1_348_169, 10, 32),
        ("map text", "self.all(x, true)", 1_179_647, 3, 11),
        ("text", "self.contains('test')", 314_574, 10, 5),
        ("text", "self.startsWith('test')", 2, 15, 2),
        ("text", "size(self + 'hello') > size('hello')", 314_578, 4, 7),
        ("list number", "self[1] == 0.0", 2, 5000, 2),
        ("list text", "self[1] == self[1]", 314_577, 8, 314_577),
        ("text", "self.matches('x')", 314_574, 50, 22),
        ("text", "''.matches('(((((((((())))))))))[0-9]')", 7, 10, 7),
        ("text", "self.matches('')", 1, 100, 1),
        ("text", "self == 'x'", 2, 0, 1),
        ("list number", "self.all(x, x == 0.0)", 6_291_454, 3 * 1024 * 2048, 25_165_826),
        ("list int-or-string", "self.all(x, true)", 4_718_591, 10, 32),
        ("list int-or-string", "self[0] == 5", 3, 10, 3),
        ("list list", "self[0][0] == -1.0", 3, 51, 3),
        ("list duration", "self.all(x, true)", 2_359_295, 5, 17),
        ("list duration", "self[0].getHours() == 2", 4, 525, 4),
        ("list date", "self.all(x, true)", 725_936, 15, 47),
        ("list date-time", "self.all(x, true)", 428_963, 25, 77),
        ("text", "self.find('[0-9]+') == ''", 629_147, 10, 11),
        ("list bounded", "self.join(' ') == 'aa bb'", 329_853_068_905, 10, 43),
    ] {
        for (max, cost) in [(None, unbounded), (Some(max), limited)] {
            let schema = Schema::of(&bounded(shape, max), false).unwrap();
            let program = Environment::rules(schema, Old::None).compile(rule).unwrap();
            assert_eq!(program.estimate().max, cost, "{shape} {max:?}: {rule}");
        }
    }
    let schema = Schema::of(&bounded("list number", Some(10)), false).unwrap();
    let program = Environment::rules(schema, Old::None).compile("self.all(x, self.all(y, self.all(z, true)))").unwrap();
    assert_eq!(program.estimate().max, 3552);
}

/// As upstream's 1.36.4 library estimates.
#[test]
fn things_of_the_libraries_are_equal_at_once() {
    for (expression, cost) in [
        ("quantity('1') == quantity('2')", 3),
        ("ip('1.2.3.4') == ip('1.2.3.4')", 3),
        ("cidr('1.2.3.4/8') == cidr('1.2.3.4/8')", 3),
        ("semver('1.2.3') == semver('1.2.3')", 3),
        ("url('https://a') == url('https://b')", 3),
        ("format.dns1123Label() == format.uri()", 9),
        ("quantity('1') != quantity('2')", 1_844_674_407_370_955_266),
    ] {
        let schema = Schema::of(&json!({"type": "string"}), false).unwrap();
        let program = Environment::rules(schema, Old::None).compile(expression).unwrap();
        assert_eq!(program.estimate().max, cost, "{expression}");
    }
}

#[test]
fn a_small_stack_is_enough_for_the_deepest_expression() {
    let handle = std::thread::Builder::new().stack_size(1 << 20).spawn(|| {
        for source in [
            "(".repeat(48) + "1" + &")".repeat(48) + " == 1",
            "1".to_owned() + &" + 1".repeat(150) + " > 0",
            "[".repeat(48) + &"]".repeat(48) + " == []",
            "true ? true : ".repeat(48) + "true",
            format!("{}true{}", "[1].all(x, ".repeat(40), ")".repeat(40)),
        ] {
            let told = run(&source);
            assert!(["true", "false"].contains(&told.as_str()) || told.contains("recursion limit"), "{told}");
        }
    });
    handle.unwrap().join().unwrap();
}

/// The error of an expression over `object`.
fn failure(source: &str, object: &serde_json::Value) -> EvalError {
    let program = Environment::admission(&Declarations::default()).compile(source).unwrap();
    let mut bindings = Bindings::new();
    bindings.set("object", Value::view(object, None));
    program.evaluate(&bindings, budget()).result.unwrap_err()
}

/// `last` over `count` variables, each made of the one before.
fn chained(count: usize, first: &str, each: impl Fn(&str) -> String, last: impl Fn(&str) -> String) -> String {
    let mut source = last(&format!("v{count}"));
    for at in (1..=count).rev() {
        source = format!("cel.bind(v{at}, {}, {source})", each(&format!("v{}", at - 1)));
    }
    format!("cel.bind(v0, {first}, {source})")
}

#[test]
fn a_result_is_measured_before_it_is_made() {
    let long = "a".repeat(1_000_000);
    let object = json!({"long": long, "parts": vec!["x"; 1000]});
    for source in [
        "object.long.replace('', object.long)",
        "object.long.replace('a', object.long, 1000)",
        "object.parts.join(object.long)",
        "('%s' + '%s%s%s%s%s%s%s%s%s').format([object.long, object.long, object.long, object.long, object.long, \
         object.long, object.long, object.long, object.long, object.long])",
        "object.parts.map(part, part.replace('x', object.long)).size() > 0",
    ] {
        let error = failure(source, &object);
        assert_eq!(error.kind, ErrorKind::CostExceeded, "{source}: {error}");
        assert!(error.message.contains("bytes"), "{source}: {error}");
    }
    all_true(&["'abc'.replace('', '-') == '-a-b-c-' && ['a', 'b'].join('-') == 'a-b'"]);
}

#[test]
fn what_doubles_ends_early() {
    let none = json!({});
    let added = chained(40, "[1, 2]", |before| format!("{before} + {before}"), |last| format!("{last}.size() > 0"));
    let nested = chained(40, "[1, 2]", |before| format!("[{before}, {before}]"), |last| format!("{last} == {last}"));
    let mapped =
        chained(4, "object.l", |before| format!("object.l.map(x, {before})"), |last| format!("{last} == {last}"));
    let object = json!({"l": vec![1; 1000]});
    for (source, object) in [(added, &none), (nested, &none), (mapped, &object)] {
        let error = failure(&source, object);
        assert_eq!(error.kind, ErrorKind::CostExceeded, "{source}: {error}");
    }
    let shallow = chained(8, "[1]", |before| format!("{before} + {before}"), |last| format!("{last} == {last}"));
    assert_eq!(run(&shallow), "true");
}

#[test]
fn a_deadline_ends_an_evaluation() {
    let object = json!({"l": vec![1; 2000]});
    let program = Environment::admission(&Declarations::default());
    let program = program.compile("object.l.all(x, object.l.all(y, x == y))").unwrap();
    let mut bindings = Bindings::new();
    bindings.set("object", Value::view(&object, None));
    let over = std::time::Instant::now();
    let result = program.evaluate(&bindings, Budget { limit: u64::MAX, deadline: Some(over) }).result;
    assert_eq!(result.unwrap_err().kind, ErrorKind::Interrupted);
    assert!(Budget::of(1).deadline.is_some());
}

/// Every entry of it is worked out by asking for another.
struct Endless<'p>(&'p Program);

impl<'a> Lazy<'a> for Endless<'a> {
    fn get(&self, _: &str, meter: &Meter) -> Option<Result<Value<'a>, EvalError>> {
        let mut bindings = Bindings::new();
        bindings.set("object", Value::Map(Map::Lazy(std::sync::Arc::new(Self(self.0)))));
        Some(self.0.evaluate_on(&bindings, meter))
    }
}

#[test]
fn variables_within_variables_end_before_the_stack_does() {
    let program = Environment::admission(&Declarations::default());
    let program = program.compile("[[[[[[[[{'a': (true && object.next == 1) ? 1 : 2}.a]]]]]]]].size()").unwrap();
    let mut bindings = Bindings::new();
    bindings.set("object", Value::Map(Map::Lazy(std::sync::Arc::new(Endless(&program)))));
    let error = program.evaluate(&bindings, budget()).result.unwrap_err();
    assert_eq!(error.kind, ErrorKind::CostExceeded, "{error}");
    assert!(error.message.contains("nested too deeply"), "{error}");
}

#[test]
fn patterns_that_data_brings_are_compiled_within_bounds() {
    let long = json!({"l": (0..600).map(|at| format!("^x{at}{{1,9}}$")).collect::<Vec<_>>()});
    let program = Environment::admission(&Declarations::default());
    let program = program.compile("object.l.all(p, !'y'.matches(p))").unwrap();
    let mut bindings = Bindings::new();
    bindings.set("object", Value::view(&long, None));
    assert!(matches!(program.evaluate(&bindings, budget()).result, Ok(Value::Bool(true))));
    assert!(run("'a'.matches('(((a{100}){100}){100}){100}')").starts_with("refused"));
}
