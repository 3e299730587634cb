//! Expressions and what becomes of them.

use serde_json::json;

use super::*;

fn budget() -> Budget {
    Budget { limit: PER_CALL_LIMIT, deadline: None }
}

/// The result as text, or the error.
fn run(source: &str) -> String {
    let data = json!({
        "metadata": {"name": "web", "labels": {"app": "x"}},
        "spec": {"replicas": 3, "ratio": 0.5, "ports": [80, 443], "names": ["a", "b"], "on": true, "nothing": null},
    });
    let environment = Environment::admission(&Declarations::default());
    let program = match environment.compile(source) {
        Ok(program) => program,
        Err(issues) => return format!("refused: {issues}"),
    };
    let mut bindings = Bindings::new();
    bindings.set("object", Value::view(&data, None));
    match program.evaluate(&bindings, budget()).result {
        Ok(Value::Type(name)) => name.to_string(),
        Ok(Value::Optional(None)) => "none".to_owned(),
        Ok(value) => value.to_json().map_or_else(|error| error, |json| json.to_string()),
        Err(error) => format!("error: {error}"),
    }
}

#[track_caller]
fn all_true(sources: &[&str]) {
    for source in sources {
        assert_eq!(run(source), "true", "{source}");
    }
}

#[test]
fn the_language_does_what_it_should() {
    all_true(&[
        "1 + 2 * 3 == 7 && 7 % 4 == 3 && -7 / 2 == -3",
        "dyn(1) == 1.0 && 1u < 2 && 2.5 > 2u",
        "object.metadata.name == 'web' && object['metadata'].labels.app == 'x'",
        "object.spec.replicas == 3 && object.spec.ratio == 0.5",
        "has(object.spec.replicas) && !has(object.spec.missing)",
        "object.spec.nothing == null && 'spec' in object && 80 in object.spec.ports",
        "object.spec.ports.all(p, p > 0) && object.spec.ports.exists(p, p == 443)",
        "object.spec.ports.exists_one(p, p == 80) && object.spec.ports.map(p, p + 1) == [81, 444]",
        "object.spec.ports.filter(p, p > 100).size() == 1 && [1, 2, 3].map(x, x > 1, x * x) == [4, 9]",
        "object.metadata.labels.all(k, k == 'app') && {'a': 1}.exists(k, k == 'a')",
        "type(1) == int && type('a') == string && type([]) == list && type(null) == null_type",
        "timestamp('2024-01-02T03:04:05Z').getFullYear() == 2024",
        "timestamp('2024-01-02T03:04:05Z').getHours('+01:00') == 4",
        "duration('90m').getHours() == 1 && duration('1h') + duration('30m') == duration('90m')",
        "timestamp('2024-01-01T00:00:00Z') + duration('24h') == timestamp('2024-01-02T00:00:00Z')",
        "string(duration('90s')) == '90s' && string(1.5) == '1.5' && int('7') == 7",
        "size('héllo') == 5 && b'abc'.size() == 3 && bytes('a') == b'a'",
        "dyn(1) == 1 && dyn('a') != 1 && (false || true) && !(true && false)",
        "false && object.nothing.at.all == 1 ? false : true",
        "[1, 2].exists(x, x / 0 == 1 || true)",
        "{'a': 1, 'b': 2}.a == 1 && {1: 'x'}[1] == 'x' && {1: 'x'}[dyn(1u)] == 'x'",
    ]);
}

#[test]
fn libraries_do_what_they_should() {
    all_true(&[
        "'a,b,c'.split(',') == ['a', 'b', 'c'] && ['a', 'b'].join('-') == 'a-b'",
        "'abc'.split('') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c']",
        "'hello'.substring(1, 3) == 'el' && 'hello'.indexOf('l') == 2 && 'hello'.lastIndexOf('l') == 3",
        "'tacocat'.replace('c', 'x') == 'taxoxat' && ' a '.trim() == 'a' && 'aB'.upperAscii() == 'AB'",
        "'%s is %d, %.2f %x'.format([dyn('a'), 3, 1.5, 255]) == 'a is 3, 1.50 ff'",
        "'%s'.format([[dyn(1), 'a', null]]) == '[1, \"a\", null]' && '%s'.format([{'k': 1.5}]) == '{\"k\":1.500000}' && strings.quote('a\"b') == '\"a\\\\\"b\"'",
        "'abc123'.matches('[0-9]+') && 'abc123'.find('[0-9]+') == '123' && '1 2 3'.findAll('[0-9]', 2) == ['1', '2']",
        "[1, 2, 3].sum() == 6 && [3, 1].min() == 1 && ['a', 'b'].max() == 'b' && [1, 2].isSorted()",
        "['a', 'b', 'a'].indexOf('a') == 0 && ['a', 'b', 'a'].lastIndexOf('a') == 2",
        "sets.contains([1, 2, 3], [1]) && sets.equivalent([1, 1], [1]) && !sets.intersects([1], [2])",
        "quantity('1Gi').isGreaterThan(quantity('500Mi')) && quantity('1.5').add(quantity('500m')).asInteger() == 2",
        "isQuantity('1k') && !isQuantity('x') && quantity('50k').compareTo(quantity('50000')) == 0",
        "ip('127.0.0.1').isLoopback() && ip('::1').family() == 6 && isIP('1.2.3.4') && !isIP('1.2.3')",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')",
        "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('10.0.0.0/8').prefixLength() == 8",
        "url('https://a.b:80/c?d=e').getHost() == 'a.b:80' && url('https://a.b/c?d=e').getQuery() == {'d': ['e']}",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && isSemver('v1', true) && semver('1.2.3').minor() == 2",
        "!format.dns1123Label().validate('a-b').hasValue() && format.named('uuid').value().validate('x').hasValue()",
        "optional.of(1).orValue(2) == 1 && optional.none().orValue(2) == 2 && object.?spec.?missing.orValue('d') == 'd'",
        "object.spec.?replicas.optMap(r, r + 1).value() == 4 && {?'a': optional.none()} == {}",
        "[?optional.of(1), ?optional.none()] == [1] && object.spec.ports[?5].hasValue() == false",
        "[1, 2].all(i, v, i + 1 == v) && {'a': 1}.transformList(k, v, k + string(v)) == ['a1']",
        "{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v * 2) == {'b': 4} && cel.bind(x, 3, x * x) == 9",
        "{'a': 'b'}.transformMapEntry(k, v, {v: k}) == {'b': 'a'}",
        "[[1, 2], [3]].all(x, x.all(y, y > 0)) && [1, 2, 3].map(x, [x].map(y, y * 2)) == [[2], [4], [6]]",
    ]);
}

#[test]
fn errors_are_those_of_upstream() {
    for (source, error) in [
        ("object.data.a == 'x'", "error: no such key: data"),
        ("object.spec.ports[7] == 1", "error: index out of bounds: 7"),
        ("1 / 0 == 1", "error: division by zero"),
        ("1 % 0 == 1", "error: modulus by zero"),
        ("9223372036854775807 + 1 == 0", "error: integer overflow"),
        ("0u - 1u == 0u", "error: unsigned integer overflow"),
        ("object.spec.replicas < 'a'", "error: no such overload"),
        ("object.metadata.name.startsWith(object.spec.replicas)", "error: no such overload"),
        ("int(object.metadata.name) == 1", "error: type conversion error from 'string' to 'int'"),
        (
            "timestamp(object.metadata.name) == timestamp(0)",
            "error: type conversion error from 'string' to 'google.protobuf.Timestamp'",
        ),
        ("bool(object.metadata.name)", "error: type conversion error from 'string' to 'bool'"),
        (
            "object.metadata.name.find('(' + object.metadata.name) == ''",
            "error: Illegal regex: error parsing regexp: missing closing ): `(web`",
        ),
        (
            "ip(object.metadata.name).family() == 4",
            "error: IP Address \"web\" parse error during conversion from string: ParseAddr(\"web\"): unable to parse IP",
        ),
        ("cidr('10.0.0.0/8').containsIP(object.metadata.name)", "error: no such overload"),
        ("optional.none().value() == 1", "error: optional.none() dereference"),
        ("object.metadata.name.foo == 1", "error: no such key: foo"),
    ] {
        assert_eq!(run(source), error, "{source}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_place() {
    for (source, issue) in [
        ("foo == 1", "1:1: undeclared reference to 'foo' (in container '')"),
        ("object.foo(1)", "1:11: undeclared reference to 'foo' (in container '')"),
        ("1 == 'a'", "1:3: found no matching overload for '_==_' applied to '(int, string)'"),
        ("'a'.startsWith(1)", "1:15: found no matching overload for 'startsWith' applied to 'string.(int)'"),
        ("size(1)", "1:5: found no matching overload for 'size' applied to '(int)'"),
        ("request.foo", "1:8: undefined field 'foo'"),
        ("variables.x", "1:10: undefined field 'x'"),
        ("[1, 'a']", "1:5: expected type 'int' but found 'string'"),
        ("'a'.b", "1:4: type 'string' does not support field selection"),
        (
            "'abc'.all(x, x)",
            "1:1: expression of type 'string' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        ("'a'.matches('(')", "1:13: invalid matches argument"),
        ("duration('x') == duration('1s')", "1:10: invalid duration argument"),
        ("[1].all(x, x)", "1:12: expected type 'bool' but found 'int'"),
        ("Object{}", "1:7: undeclared reference to 'Object' (in container '')"),
    ] {
        let told = run(source);
        let first = told.lines().next().unwrap_or_default();
        assert_eq!(first, format!("refused: ERROR: <input>:{issue}"), "{source}");
    }
}

#[test]
fn results_have_the_types_that_are_asked_for() {
    let environment = Environment::admission(&Declarations::default());
    let refused = |source: &str, wanted: &[Type]| environment.compile_as(source, wanted).unwrap_err().to_string();
    assert_eq!(refused("1 + 1", &[Type::Bool]), "must evaluate to bool but got int");
    let wanted = [Type::String, Type::Null];
    assert_eq!(refused("[1]", &wanted), "must evaluate to one of [string null_type] but got list(int)");
    assert_eq!(environment.compile("object.x").unwrap().output_type().to_string(), "dyn");
    assert!(environment.compile_as("object.x == 1", &[Type::Bool]).is_ok());
}

#[test]
fn a_schema_gives_types_and_readings() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "integer"}, "b": {"type": "number"}, "when": {"type": "string", "format": "date-time"},
        "namespace": {"type": "string"}, "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "port": {"x-kubernetes-int-or-string": true}, "x-y": {"type": "boolean"},
    }});
    let data = json!({"a": 1, "b": 2, "when": "2024-01-01T00:00:00Z", "namespace": "n", "set": ["a", "b"], "port": 80, "x-y": true});
    let schema = Schema::of(&schema, false).unwrap();
    let environment = Environment::rules(schema.clone(), Old::Optional);
    for source in [
        "self.a < self.b && type(self.b) == double",
        "self.when < timestamp('2025-01-01T00:00:00Z')",
        "self.__namespace__ == 'n' && self.x__dash__y",
        "self.set == ['b', 'a'] && self.port == 80 && type(self.port) == int",
        "!oldSelf.hasValue() && !has(self.missing) == false || true",
        "oldSelf.orValue(self).a == 1",
    ] {
        let program = environment.compile(source).unwrap_or_else(|issues| {
            assert!(source.contains("missing"), "{issues}");
            environment.compile("true").unwrap()
        });
        let mut bindings = Bindings::new();
        bindings.set("self", Value::view(&data, Some(&schema)));
        bindings.set("oldSelf", Value::optional(None));
        let result = program.evaluate(&bindings, budget()).result.unwrap();
        assert!(matches!(result, Value::Bool(true)), "{source}");
    }
    assert!(environment.compile("self.nothing").unwrap_err().to_string().contains("undefined field 'nothing'"));
    assert!(environment.compile("oldSelf.hasValue()").unwrap().uses("oldSelf"));
    assert!(!environment.compile("self.a > 0").unwrap().uses("oldSelf"));
}

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
fn places_in_texts_are_counted_in_characters_and_found_in_one_pass() {
    all_true(&[
        "'héllo'.indexOf('l') == 2 && 'héllo'.lastIndexOf('l') == 3 && 'héllo'.lastIndexOf('l', 2) == 2",
        "'héllo'.indexOf('l', 3) == 3 && 'héllo'.indexOf('h', 1) == -1 && 'héllo'.indexOf('') == 0",
        "'héllo'.indexOf('', 3) == 3 && 'héllo'.lastIndexOf('') == 5 && 'héllo'.lastIndexOf('', 2) == 2",
        "'aaa'.lastIndexOf('aa', 1) == 1 && 'aaa'.lastIndexOf('aa', 0) == 0 && 'ééé'.lastIndexOf('éé', 0) == 0",
        "'a'.indexOf('abc') == -1 && 'a'.lastIndexOf('abc') == -1 && 'héllo'.lastIndexOf('h', 4) == 0",
    ]);
    all_true(&[
        "'abc'.indexOf('a', 4) == -1 && 'abc'.lastIndexOf('a', 30) == -1 && ''.indexOf('a') == -1",
        "'abc'.indexOf('', 7) == 7 && 'abc'.lastIndexOf('', 9) == 9",
    ]);
    assert_eq!(run("'abc'.indexOf('a', -1)"), "error: index out of range: -1");
    assert_eq!(run("'abc'.lastIndexOf('a', -2)"), "error: index out of range: -2");
    let object = json!({"text": "a".repeat(400_000), "wanted": format!("{}b", "a".repeat(200_000))});
    let program = Environment::admission(&Declarations::default());
    let program =
        program.compile("object.text.indexOf(object.wanted) + object.text.lastIndexOf(object.wanted)").unwrap();
    let mut bindings = Bindings::new();
    bindings.set("object", Value::view(&object, None));
    assert!(matches!(program.evaluate(&bindings, budget()).result, Ok(Value::Int(-2))));
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

#[test]
fn constants_that_no_function_can_read_keep_a_program_from_being_made_ready() {
    let environment = Environment::admission(&Declarations::default());
    let why = |source: &str| environment.compile(source).unwrap().unready();
    assert_eq!(
        why("object.metadata.name.find('(') == ''").as_deref(),
        Some("error parsing regexp: missing closing ): `(`")
    );
    assert_eq!(why("true || int('x') == 1").as_deref(), Some("type conversion error from 'string' to 'int'"));
    assert_eq!(why("int('1') == 1 && bool('t') && object.metadata.name.find('a') == ''"), None);
    assert_eq!(
        environment.compile_as("int('x') == 1", &[Type::Bool]).err().map(|error| error.to_string()).as_deref(),
        Some("program instantiation failed: type conversion error from 'string' to 'int'")
    );
}

#[test]
fn numbers_are_written_as_in_english() {
    all_true(&[
        "'%.2f'.format([12345.678]) == '12,345.68' && '%f'.format([-0.5]) == '-0.500000'",
        "'%e'.format([1052.032911275]) == '1.052033\u{202f}×\u{202f}10⁰³' && '%.1e'.format([0.05]) == '5.0\u{202f}×\u{202f}10⁻⁰²'",
        "'%f'.format([double('Infinity')]) == '∞' && '%x %X %o %b'.format([dyn('a'), 255, 8, true]) == '61 FF 10 1'",
    ]);
}

#[test]
fn what_can_not_be_written_is_told_when_a_constant_text_is_compiled() {
    for (source, issue) in [
        (
            "'%d'.format(['x']) == ''",
            "1:14: error during formatting: decimal clause can only be used on integers, was given string",
        ),
        (
            "'%.1f'.format([1]) == ''",
            "1:16: error during formatting: fixed-point clause can only be used on doubles, was given int",
        ),
        ("'%s %s'.format(['x']) == ''", "1:15: index 1 out of range"),
        ("'%s'.format(['x', 'y']) == ''", "1:12: too many arguments supplied to string.format (expected 1, got 2)"),
        ("'a %'.format([]) == ''", "1:13: unexpected end of string"),
        ("'%z'.format([1]) == ''", "1:12: could not parse formatting clause: unrecognized formatting clause \"z\""),
        (
            "'%b'.format([[1]]) == ''",
            "1:14: error during formatting: only integers and bools can be formatted as binary, was given list",
        ),
    ] {
        let told = run(source);
        let first = told.lines().next().unwrap_or_default();
        assert_eq!(first, format!("refused: ERROR: <input>:{issue}"), "{source}");
    }
    all_true(&["'%d %%'.format([dyn(1)]) == '1 %' && '%s'.format([['a']]) == '[\"a\"]'"]);
    assert_eq!(
        run("'%d'.format([dyn('x')]) == ''"),
        "error: error during formatting: decimal clause can only be used on integers, was given string"
    );
}
