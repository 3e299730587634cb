//! Words of refusals and of errors, as upstream says them.

use serde_json::json;

use super::*;

/// The result as text, what is said instead, or why it is refused.
fn told(source: &str) -> String {
    let data = json!({"i": 3, "f": 0.5, "l": [1, 2], "m": {"a": 1}, "none": null, "s": "abc"});
    let program = match Environment::admission(&Declarations::default()).compile(source) {
        Ok(program) => program,
        Err(issues) => return format!("compilation failed: {issues}"),
    };
    if let Some(why) = program.unready() {
        return format!("program instantiation failed: {why}");
    }
    let mut bindings = Bindings::new();
    bindings.set("object", Value::view(&data, None));
    match program.evaluate(&bindings, Budget { limit: PER_CALL_LIMIT, deadline: None }).result {
        Ok(value) => value.to_json().map_or_else(|error| error, |json| json.to_string()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn each_operand_of_a_logical_operator_is_refused_by_itself() {
    assert_eq!(
        told("1 && 'a'"),
        "compilation failed: ERROR: <input>:1:1: expected type 'bool' but found 'int'\n | 1 && 'a'\n | ^\n\
         ERROR: <input>:1:6: expected type 'bool' but found 'string'\n | 1 && 'a'\n | .....^"
    );
}

#[test]
fn operators_say_whether_the_first_value_or_the_second_does_not_fit() {
    for (source, words) in [
        ("object.none < 1", "no such overload: _<_"),
        ("object.i < 'a'", "no such overload"),
        ("object.m + 1", "no such overload: _+_"),
        ("object.f % 2", "no such overload: _%_"),
        ("object.s * 2", "no such overload"),
        ("-object.l", "no such overload: -_"),
        ("!object.i", "no such overload"),
        ("size(object.i) == 1", "no such overload: size"),
        ("object.i.matches('a')", "no such overload"),
        ("object.i.matches(object.s)", "no such overload: matches"),
        ("object.i.find(object.s) == ''", "no such overload: find(int, string)"),
        ("quantity('1') != object.i", "true"),
        ("object.l[1.5] == 1", "unsupported index value 1.5 in list"),
        ("int(object.m) == 1", "no such overload: int(map)"),
        ("quantity('1') == object.i", "no such overload"),
        ("object.i && object.missing", "no such overload"),
        ("object.missing && object.i", "no such key: missing"),
        ("has(object.l.x)", "unsupported index type 'string' in list"),
        ("object.i.all(x, true)", "got 'types.Int', expected iterable type"),
        ("object.s.all(i, x, true)", "unsupported comprehension range type: types.String"),
    ] {
        assert_eq!(told(source), words, "{source}");
    }
}

#[test]
fn constants_that_can_not_be_converted_keep_an_expression_from_being_run() {
    for (source, words) in [
        ("int(dyn('a')) == 1", "type conversion error from 'string' to 'int'"),
        ("uint(-1) == 1u", "unsigned integer overflow"),
        ("string(dyn([1])) == ''", "no such overload: string(list)"),
    ] {
        assert_eq!(told(source), format!("program instantiation failed: {words}"), "{source}");
    }
}

#[test]
fn constants_cost_nothing() {
    let environment = Environment::admission(&Declarations::default());
    for (source, cost) in [("[1, 2] == [1, 2]", 1), ("1 in [1, 2]", 0), ("type(1) == int", 1), ("b'a' in [b'a']", 1)] {
        let program = environment.compile(source).unwrap();
        let evaluated = program.evaluate(&Bindings::new(), Budget { limit: PER_CALL_LIMIT, deadline: None });
        assert_eq!(evaluated.cost, cost, "{source}");
    }
}

#[test]
fn null_is_held_against_what_may_be_null() {
    assert_eq!(told("null == timestamp('2024-01-01T00:00:00Z')"), "false");
    assert_eq!(told("[optional.of(1), optional.none()].unwrapOpt() == [1] && [1, 2].last().value() == 2"), "true");
    assert_eq!(told("[].first().hasValue() || optional.unwrap([optional.of(1)]) != [1]"), "false");
}

#[test]
fn a_number_may_have_a_sign_behind_a_negation() {
    assert!(
        told("!-1").starts_with(
            "compilation failed: ERROR: <input>:1:1: found no matching overload for '!_' applied to '(int)'"
        )
    );
}

/// Once, such types referred to themselves, and looking at them had no end.
#[test]
fn items_of_a_type_yet_unknown_may_be_filtered_by_themselves() {
    for source in ["[].filter(x, x)", "{}.filter(x, x)", "[].filter(x, [x] == x)", "[[]].map(x, x + [x])"] {
        assert!(!told(source).is_empty(), "{source}");
    }
}

#[test]
fn lists_are_cut_laid_flat_and_sorted() {
    for (source, words) in [
        ("[1, 2, 3].slice(1, 3)", "[2,3]"),
        ("[1, 2].slice(0, 3)", "cannot slice(0, 3), list is length 2"),
        ("[[1], [2, 3]].flatten()", "[1,2,3]"),
        ("object.i.flatten()", "no such overload: int.flatten()"),
        ("[3, 1, 2].sort()", "[1,2,3]"),
        ("object.m.keys.sortBy(x, x)", "no such key: keys"),
        ("['ccc', 'a', 'bb'].sortBy(x, size(x))", "[\"a\",\"bb\",\"ccc\"]"),
        ("[1, 2, 1].distinct()", "[1,2]"),
        ("[1, 2].reverse()", "[2,1]"),
        ("lists.range(3)", "[0,1,2]"),
        ("lists.range(1000000000000).size()", "operation cancelled: lists.range would make more than 1000000 items"),
    ] {
        assert_eq!(told(source), words, "{source}");
    }
}

#[test]
fn what_is_mixed_is_told_after_the_types_fit() {
    assert!(told("[1, dyn('a')]").ends_with("1:8: expected type 'int' but found 'dyn'\n | [1, dyn('a')]\n | .......^"));
    assert_eq!(told("'%s %d'.format(['a', 1])"), "\"a 1\"");
    assert!(told("[[1], [2, [3]]] in [[1]]").contains("applied to '(list(list(dyn)), list(list(int)))'"));
}

#[test]
fn paths_are_counted_once() {
    let data = json!({"i": 1, "l": [1, 2], "on": true});
    let environment = Environment::admission(&Declarations::default());
    for (source, cost) in [
        ("[1][0]", 2),
        ("object.l[object.i]", 4),
        ("object.on ? object.i : 2", 3),
        ("[1].exists_one(x, object.i == x)", 8),
    ] {
        let program = environment.compile(source).unwrap();
        let mut bindings = Bindings::new();
        bindings.set("object", Value::view(&data, None));
        let evaluated = program.evaluate(&bindings, Budget { limit: PER_CALL_LIMIT, deadline: None });
        assert_eq!(evaluated.cost, cost, "{source}");
    }
}
