//! Expressions and what becomes of them.

use serde_json::json;

use super::*;

pub(super) fn budget() -> Budget {
    Budget { limit: PER_CALL_LIMIT, deadline: None }
}

/// The result as text, or the error.
pub(super) fn run(source: &str) -> String {
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
pub(super) fn all_true(sources: &[&str]) {
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
