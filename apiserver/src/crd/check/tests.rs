use super::*;

fn faults(schema: &Value, value: &Value, old: Option<&Value>) -> Vec<String> {
    let mut causes = Vec::new();
    check(&Rules::of(schema), value, old, "", &mut causes);
    causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

fn in_spec(schema: Value) -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": schema}}}})
}

#[test]
fn faults_are_told_in_upstreams_words() {
    let cases = [
        (
            json!({"type": "string"}),
            json!(1),
            r#"spec.a: Invalid value: "integer": spec.a in body must be of type string: "integer""#,
        ),
        (
            json!({"type": "integer"}),
            json!(true),
            r#"spec.a: Invalid value: "boolean": spec.a in body must be of type integer: "boolean""#,
        ),
        (json!({"type": "string", "maxLength": 2}), json!("abc"), "spec.a: Too long: may not be more than 2 bytes"),
        (
            json!({"type": "string", "minLength": 2}),
            json!("a"),
            r#"spec.a: Invalid value: "a": spec.a in body should be at least 2 chars long"#,
        ),
        (
            json!({"type": "string", "pattern": "^b"}),
            json!("a"),
            r#"spec.a: Invalid value: "a": spec.a in body should match '^b'"#,
        ),
        (
            json!({"type": "integer", "maximum": 2}),
            json!(3),
            "spec.a: Invalid value: 3: spec.a in body should be less than or equal to 2",
        ),
        (
            json!({"type": "integer", "minimum": 2, "exclusiveMinimum": true}),
            json!(2),
            "spec.a: Invalid value: 2: spec.a in body should be greater than 2",
        ),
        (json!({"type": "array", "maxItems": 1}), json!([1, 2]), "spec.a: Too many: 2: must have at most 1 item"),
        (
            json!({"type": "object", "minProperties": 1}),
            json!({}),
            "spec.a: Invalid value: 0: spec.a in body should have at least 1 properties",
        ),
        (
            json!({"type": "string", "format": "date"}),
            json!("x"),
            r#"spec.a: Invalid value: "x": spec.a in body must be of type date: "x""#,
        ),
        (
            json!({"type": "integer", "enum": [1, 2]}),
            json!(3),
            r#"spec.a: Unsupported value: 3: supported values: "1", "2""#,
        ),
        (json!({"type": "object", "required": ["c"]}), json!({}), "spec.a.c: Required value"),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            r#"spec.a: Invalid value: "boolean": spec.a in body must be of type integer,string: "boolean""#,
        ),
    ];
    for (schema, value, expected) in cases {
        assert_eq!(faults(&in_spec(schema), &json!({"spec": {"a": value}}), None), [expected]);
    }
    assert_eq!(
        faults(&in_spec(json!({"type": "integer"})), &json!({"spec": {"a": 1.5}}), None),
        [
            r#"spec.a: Invalid value: "number": spec.a in body must be of type integer: "number""#,
            r#"<nil>: Invalid value: "": Checked value must be of type integer (default format) in spec.a"#
        ]
    );
}

#[test]
fn alternatives_tell_of_the_one_that_came_closest() {
    let one_of = json!({"type": "object", "oneOf": [{"required": ["x"]}, {"required": ["y"]}]});
    assert_eq!(
        faults(&in_spec(one_of), &json!({"spec": {"a": {"x": 1, "y": 1}}}), None),
        [
            r#"<nil>: Invalid value: "": "spec.a" must validate one and only one schema (oneOf). Found 2 valid alternatives"#
        ]
    );
    let any_of = json!({"type": "object", "anyOf": [{"required": ["x"]}]});
    assert_eq!(
        faults(&in_spec(any_of), &json!({"spec": {"a": {}}}), None),
        [r#"<nil>: Invalid value: "": "spec.a" must validate at least one schema (anyOf)"#, "spec.a.x: Required value"]
    );
}

#[test]
fn what_was_wrong_before_is_tolerated_as_long_as_it_stays() {
    let schema = in_spec(json!({"type": "string", "maxLength": 2}));
    let old = json!({"spec": {"a": "bad"}});
    assert!(faults(&schema, &json!({"spec": {"a": "bad", "b": 1}}), Some(&old)).is_empty());
    assert_eq!(faults(&schema, &json!({"spec": {"a": "worse"}}), Some(&old)).len(), 1);
}

#[test]
fn numbers_are_compared_as_go_compares_them() {
    let cases: [(Value, Value, &[&str]); 8] = [
        (json!({"type": "number", "minimum": 1.5}), json!(1), &[]),
        (
            json!({"type": "number", "minimum": 1.5}),
            json!(1.25),
            &["spec.a: Invalid value: 1.25: spec.a in body should be greater than or equal to 1.5"],
        ),
        (
            json!({"type": "number", "minimum": 1e20, "maximum": 1e21}),
            json!(0),
            &["spec.a: Invalid value: 0: spec.a in body should be less than or equal to -9223372036854775808"],
        ),
        (
            json!({"type": "integer", "multipleOf": 3}),
            json!(i64::MAX),
            &["spec.a: Invalid value: 9223372036854775807: spec.a in body should be a multiple of 3"],
        ),
        (
            json!({"type": "integer", "minimum": 1.5}),
            json!(1),
            &[
                "<nil>: Invalid value: \"\": Minimum boundary value must be of type integer (default format) in spec.a",
                "spec.a: Invalid value: 1: spec.a in body should be greater than or equal to 1.5",
            ],
        ),
        (
            json!({"type": "number", "maximum": 2e6}),
            json!(2_000_000.5),
            &["spec.a: Invalid value: 2.0000005e+06: spec.a in body should be less than or equal to 2e+06"],
        ),
        (json!({"type": "number", "enum": [1, 2.5]}), json!(1.5), &[]),
        (json!({"type": "number", "multipleOf": 0.1}), json!(0.7), &[]),
    ];
    for (schema, value, expected) in cases {
        assert_eq!(faults(&in_spec(schema), &json!({"spec": {"a": value}}), None), expected);
    }
}

#[test]
fn too_many_properties_do_not_hide_what_is_wrong_with_them() {
    let schema = json!({"type": "object", "maxProperties": 1, "additionalProperties": {"type": "string"}});
    assert_eq!(
        faults(&in_spec(schema), &json!({"spec": {"a": {"x": 1, "y": "<"}}}), None),
        [
            "spec.a: Too many: 2: must have at most 1 item",
            r#"spec.a.x: Invalid value: "integer": spec.a.x in body must be of type string: "integer""#
        ]
    );
}

#[test]
fn what_is_told_of_a_million_faults_is_bounded() {
    let values: Vec<String> = (0..1000).map(|at| format!("value-{at}")).collect();
    let required: Vec<String> = values.iter().take(100).cloned().collect();
    for (items, item) in [
        (json!({"type": "string", "enum": values}), json!("none")),
        (json!({"type": "object", "required": required}), json!({})),
        (json!({"type": "object", "anyOf": [{"required": required}, {"required": ["x"]}]}), json!({})),
    ] {
        let list = Value::from(vec![item; 100_000]);
        let told = faults(&in_spec(json!({"type": "array", "items": items})), &json!({"spec": {"a": list}}), None);
        let bytes: usize = told.iter().map(String::len).sum();
        assert!(!told.is_empty() && bytes < 2 * MAX_TOLD_BYTES, "{bytes}");
    }
}

#[test]
fn what_is_wrong_counts_whatever_was_found_before() {
    // Values that fit leave nothing behind, however many alternatives were tried.
    let ways = json!([{"pattern": "^a"}, {"pattern": "^x"}, {"maxLength": 1}]);
    let fields = json!({
        "a": {"type": "array", "items": {"type": "string", "anyOf": ways}},
        "b": {"type": "string", "enum": ["good"]},
    });
    let schema = in_spec(json!({"type": "object", "properties": fields}));
    let value = json!({"spec": {"a": {"a": vec!["x"; 100_000], "b": "bad"}}});
    assert_eq!(faults(&schema, &value, None), [r#"spec.a.b: Unsupported value: "bad": supported values: "good""#]);
    // An alternative that fills all room leaves the next one to be judged.
    let items = |pattern: &str| json!({"properties": {"a": {"items": {"pattern": pattern}}}});
    let list = json!({"type": "array", "items": {"type": "string"}});
    for ways in ["anyOf", "oneOf"] {
        let schema = in_spec(json!({"type": "object", "properties": {"a": list}, ways: [items("^a"), items("^b")]}));
        let told = faults(&schema, &json!({"spec": {"a": {"a": vec!["x"; 60_000]}}}), None);
        assert!(!told.is_empty(), "{ways}");
        assert!(faults(&schema, &json!({"spec": {"a": {"a": vec!["b"; 60_000]}}}), None).is_empty(), "{ways}");
    }
}

#[test]
fn what_fits_another_alternative_does_not_count_as_wrong_however_often() {
    let values: Vec<String> = (0..20).map(|at| at.to_string().repeat(2000)).collect();
    let list = |items: Value| in_spec(json!({"type": "array", "items": items}));
    let other = json!({"enum": values});
    for items in [
        json!({"type": "string", "anyOf": [other, {"maxLength": 9}]}),
        json!({"type": "string", "oneOf": [other, {"minLength": 12}, {"maxLength": 9}]}),
        json!({"type": "string", "not": other}),
    ] {
        // Far more words are found for the alternative that fails than are ever told.
        let mut spec = json!({"spec": {"a": vec!["x"; 120]}});
        assert!(faults(&list(items.clone()), &spec, None).is_empty());
        spec["spec"]["a"][119] = json!(values[7]);
        let last = json!({"type": "string", "allOf": [items, {"maxLength": 3}]});
        assert!(!faults(&list(last), &spec, None).is_empty(), "the last one is looked at");
    }
    let before = json!({"spec": {"a": {"x": vec!["x"; 120], "y": "x"}}});
    let mut after = before.clone();
    after["spec"]["a"]["y"] = json!("z");
    let fields = json!({"x": {"type": "array", "items": other}, "y": {"type": "string", "enum": ["x"]}});
    let told = faults(&in_spec(json!({"type": "object", "properties": fields})), &after, Some(&before));
    assert_eq!(
        told,
        [r#"spec.a.y: Unsupported value: "z": supported values: "x""#],
        "what was wrong before is tolerated"
    );
}

#[test]
fn the_edges_of_rules_have_words_of_their_own() {
    for (schema, value, told) in [
        (json!({"type": "string", "maxLength": 1}), json!("ab"), "spec.a: Too long: may not be more than 1 byte"),
        (json!({"type": "array", "maxItems": -1}), json!([1]), "spec.a: Too many: 1: has too many items"),
        (
            json!({"type": "number", "maximum": 2, "exclusiveMaximum": true}),
            json!(2),
            "spec.a: Invalid value: 2: spec.a in body should be less than 2",
        ),
        (
            json!({"type": "integer", "multipleOf": -3}),
            json!(3),
            "spec.a: Invalid value: -3: factor MultipleOf declared for spec.a must be positive: -3",
        ),
        (
            json!({"type": "number", "format": "float"}),
            json!(1e300),
            r#"<nil>: Invalid value: "": Checked value must be of type number with format float in spec.a"#,
        ),
        (
            json!({"type": "string", "nullable": true, "enum": ["a", null]}),
            Value::Null,
            r#"spec.a: Unsupported value: null: supported values: "a", "null""#,
        ),
    ] {
        assert_eq!(faults(&in_spec(schema), &json!({"spec": {"a": value}}), None), [told]);
    }
    let ways = json!({"type": "string", "anyOf": [{"pattern": "^a"}, {"pattern": "^b"}]});
    let told = faults(&in_spec(ways), &json!({"spec": {"a": "x"}}), None);
    let first = r#"spec.a: Invalid value: "x": spec.a in body should match '^a'"#;
    assert_eq!(told.last().map(String::as_str), Some(first), "of two that are as close the first is told of");
    let all = json!({"type": "string", "allOf": [{"pattern": "^a"}, {"pattern": "^b"}]});
    let told = faults(&in_spec(all), &json!({"spec": {"a": "x"}}), None);
    let none = r#"<nil>: Invalid value: "": "spec.a" must validate all the schemas (allOf). None validated"#;
    assert!(told.iter().any(|told| told == none), "{told:?}");
    let open = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let told = faults(&open, &json!({"x": 1}), None);
    assert_eq!(told, [r#"x: Invalid value: "integer": .x in body must be of type string: "integer""#]);
}
