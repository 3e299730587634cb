use super::*;
use serde_json::{Value, json};

fn read(text: &str) -> Value {
    parse(text.as_bytes()).unwrap_or_else(|why| panic!("{text:?}: {why}")).value.into_value()
}

fn why(text: &str) -> String {
    parse(text.as_bytes()).map(|read| read.value).unwrap_err()
}

#[test]
fn yaml_is_read_like_json() {
    assert_eq!(
        read("a: 1\nb: [x, \"1\", null, true, 1.5]\nc:\n  d: |\n    text\n1: z\n"),
        json!({"a": 1, "b": ["x", "1", null, true, 1.5], "c": {"d": "text\n"}, "1": "z"})
    );
    assert_eq!(read("a:\n- b\n-\n- - c\n  - d: e\n    f:\n"), json!({"a": ["b", null, ["c", {"d": "e", "f": null}]]}));
    assert_eq!(read("? a\n: b\n? c\n"), json!({"a": "b", "c": null}));
    assert_eq!(read("{a, b: , ? c : d}"), json!({"a": null, "b": null, "c": "d"}));
    assert_eq!(read("[x: w, ? z]"), json!([{"x": "w"}, {"z": null}]));
}

#[test]
fn json_is_read_as_yaml_reads_it() {
    for text in [
        r#"{"a": 1, "b": ["x", "1", null, true, 1.5, -0, 1e3, 9007199254740993, 1.0, 1e-7, 1e25], "c": {}, "d": [], "1": "z\n\""}"#,
        "{\"a\":\n {\"b\": \"é😀 # no comment: {}\"},\t\"n\":18446744073709551615}\n",
        r#"{"a": "", "b": " x ", "c": "yes", "d": "0644", "e": "<<", "f": "~"}"#,
    ] {
        assert_eq!(as_json(text).unwrap(), {
            let mut value = as_yaml(text.as_bytes()).unwrap().value;
            // The order of keys is not what this is about.
            if let (Raw::Map(entries), Some(Raw::Map(own))) = (&mut value, as_json(text)) {
                entries.sort_by_key(|(key, _)| own.iter().position(|(other, _)| other == key));
            }
            value
        });
    }
    for text in [
        "{a: 1}",
        r#"{"a": 1, "a": 2}"#,
        r#"{"a": "\u0041"}"#,
        r#"{"a": "\/"}"#,
        "{\"a\"\n: 1}",
        "{\"a\": 1}\n---\n{}",
        "{\"a\": \"\u{7f}\"}",
        "a: 1",
    ] {
        assert!(as_json(text).is_none(), "{text}");
    }
    assert_eq!(why(r#"{"a": "\/"}"#), "yaml: found unknown escape character");
    assert_eq!(why("{\"a\"\n: 1}"), "yaml: line 1: did not find expected ',' or '}'");
    assert_eq!(why(&format!("{{\"{}\": 1}}", "k".repeat(1030))), "yaml: did not find expected ',' or '}'");
}

#[test]
fn scalars_are_what_yaml_1_1_says() {
    for (text, value) in [
        ("y", json!(true)),
        ("Off", json!(false)),
        ("~", json!(null)),
        ("", json!(null)),
        ("0644", json!(420)),
        ("0o17", json!(15)),
        ("0x1F", json!(31)),
        ("0b11", json!(3)),
        ("1_000", json!(1000)),
        ("-0", json!(0)),
        ("+7", json!(7)),
        ("08", json!(8)),
        ("1e3", json!(1000)),
        (".5", json!(0.5)),
        ("5.", json!(5)),
        ("1e400", json!("1e400")),
        ("1:30", json!("1:30")),
        ("18446744073709551615", json!(18_446_744_073_709_551_615.0)),
        ("2001-01-01", json!("2001-01-01")),
        ("<<", json!("<<")),
        ("!!str 5", json!("5")),
        ("!other 5", json!("5")),
        ("! 5", json!("5")),
        ("!!float 1", json!(1)),
        ("!!binary aGk=", json!("hi")),
        ("!!timestamp 2001-1-2t3:4:5Z", json!("2001-1-2t3:4:5Z")),
        ("\"a\\\n   b\\x41\\u00e9\"", json!("abAé")),
        ("'it''s\n\n  so'", json!("it's\nso")),
        (">-\n  a\n  b\n\n  c\n", json!("a b\nc")),
        ("|+\n  a\n\n", json!("a\n\n")),
        ("|2\n    a\n", json!("  a\n")),
    ] {
        assert_eq!(read(&format!("k: {text}")).get("k"), Some(&value), "{text:?}");
    }
    assert_eq!(read("{1.5: a, yes: b, 0x10: c, 1e20: d}"), json!({"1.5": "a", "true": "b", "16": "c", "1e+20": "d"}));
}

#[test]
fn what_scalars_can_not_be_is_told() {
    for (text, told) in [
        ("k: !!int x", "yaml: cannot decode !!str `x` as a !!int"),
        ("k: !!null 1", "yaml: cannot decode !!int `1` as a !!null"),
        ("k: !!binary '*'", "yaml: !!binary value contains invalid base64 data"),
        ("k: .nan", "json: unsupported value: NaN"),
        ("k: -.inf", "json: unsupported value: -Inf"),
        ("~: [1, a]", "unsupported map key of type: %!s(<nil>), key: <nil>, value: []interface {}{1, \"a\"}"),
        ("{{a: }: b}", "yaml: invalid map key: map[interface {}]interface {}{\"a\":interface {}(nil)}"),
    ] {
        assert_eq!(why(text), told);
    }
}

#[test]
fn a_key_given_twice_is_noted_with_the_line_of_its_value_and_the_last_wins() {
    let yaml = parse(b"data:\n  k: \"1\"\n  k:\n    \"2\"\n1: a\n1: b\n").unwrap();
    assert_eq!(yaml.duplicates, ["line 4: key \"k\" already set in map", "line 6: key 1 already set in map"]);
    assert_eq!(yaml.value.into_value(), json!({"data": {"k": "2"}, "1": "b"}));
}

#[test]
fn aliases_are_followed_and_maps_merged_in_order() {
    assert_eq!(
        read("a: &x {p: 1, q: 2}\nb: *x\nc: {p: 0, <<: *x, q: 3}"),
        json!({
            "a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 2}, "c": {"p": 1, "q": 3}
        })
    );
    assert_eq!(read("{<<: [{a: 1}, {a: 2, b: 2}]}"), json!({"a": 1, "b": 2}));
    assert_eq!(why("<<: 5"), "yaml: map merge requires map or sequence of maps as the value");
    assert_eq!(why("a: *x"), "yaml: unknown anchor 'x' referenced");
    assert_eq!(why("a: &x [*x]"), "yaml: anchor 'x' value contains itself");
    let bomb = (1..9).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, level| {
        let items = vec![format!("*a{}", level - 1); 9].join(",");
        format!("{text}a{level}: &a{level} [{items}]\n")
    });
    assert_eq!(why(&bomb), "yaml: document contains excessive aliasing");
    let long = format!("a: &a {}\nb: [{}]", "x".repeat(1 << 20), vec!["*a"; 90].join(","));
    assert_eq!(why(&long), "yaml: document contains excessive aliasing");
}

#[test]
fn malformed_yaml_is_refused_as_upstreams_reader_words_it() {
    for (text, why) in [
        ("apiVersion: v1\nkind: [ConfigMap\n", "yaml: line 2: did not find expected ',' or ']'"),
        ("a: [b", "yaml: line 1: did not find expected ',' or ']'"),
        ("{a: 1", "yaml: line 1: did not find expected ',' or '}'"),
        ("a: b: c", "yaml: mapping values are not allowed in this context"),
        ("key: value\n  other: x\n", "yaml: line 2: mapping values are not allowed in this context"),
        ("a:\n\t- b", "yaml: line 2: found character that cannot start any token"),
        ("a: @x", "yaml: found character that cannot start any token"),
        ("a: 1\nb: 'x\n", "yaml: line 3: found unexpected end of stream"),
        ("a: 1\nb: ]", "yaml: line 1: did not find expected node content"),
        ("a: 1\n- b", "yaml: line 1: did not find expected key"),
        ("a: 1\nb\n", "yaml: line 3: could not find expected ':'"),
        ("- a\nb: 1", "yaml: line 1: did not find expected '-' indicator"),
        ("a: !e!x 1", "yaml: found undefined tag handle"),
        ("%YAML 1.2\n---\na: 1", "yaml: found incompatible YAML document"),
        ("a: \"\\q\"", "yaml: found unknown escape character"),
        ("a: |\n \tx\n", "yaml: line 2: found a tab character where an indentation space is expected"),
        ("a: \u{7}", "yaml: control characters are not allowed"),
    ] {
        assert_eq!(self::why(text), why, "{text:?}");
    }
    assert_eq!(parse(b"a: \xff").unwrap_err(), "yaml: invalid leading UTF-8 octet");
    assert_eq!(parse(b"a: \xc3").unwrap_err(), "yaml: incomplete UTF-8 octet sequence");
    assert_eq!(why(&"[".repeat(300)), "yaml: exceeded max depth of 256");
}

#[test]
fn only_the_first_document_is_read() {
    for text in
        ["a: 1\n---\nb: 2\n", "---\na: 1\n--- x\n", "# c\n---\na: 1\n...\njunk: [", "a: 1", "\u{feff}a: 1", "{a: 1} x"]
    {
        assert_eq!(read(text), json!({"a": 1}), "{text:?}");
    }
    assert_eq!(read("---\n---\na: 1\n"), Value::Null);
    let wide: Vec<u8> = [0xff, 0xfe].into_iter().chain("a: 1".encode_utf16().flat_map(u16::to_le_bytes)).collect();
    assert_eq!(parse(&wide).unwrap().value.into_value(), json!({"a": 1}));
}

#[test]
fn what_aliases_make_deep_is_refused() {
    use std::fmt::Write as _;
    let links = |link: &dyn Fn(usize) -> String| {
        (1..1000).fold("- &a0 {k: v}\n".to_owned(), |mut text, place| {
            writeln!(text, "- {}", link(place)).unwrap();
            text
        })
    };
    let filler = format!("- [{}x]\n", "x,".repeat(60_000));
    for link in
        [&(|place: usize| format!("&a{place} [*a{}]", place - 1)) as &dyn Fn(usize) -> String, &|place: usize| {
            format!("&a{place} {{<<: *a{}}}", place - 1)
        }]
    {
        assert_eq!(why(&format!("{filler}{}", links(link))), "yaml: exceeded max depth of 256");
    }
}

#[test]
fn many_directives_take_no_more_time_each() {
    use std::fmt::Write as _;
    let mut text = String::new();
    for place in 0..60_000 {
        writeln!(text, "%TAG !e{place}! x:{place}").unwrap();
    }
    assert_eq!(read(&format!("{text}--- a")), json!("a"));
}

#[test]
fn nothing_that_is_sent_becomes_many_times_as_much() {
    let prefix = "p".repeat(1000);
    let tree = nodes::parse(format!("%TAG ! {prefix}\n---\n[!a x, !b y]").as_bytes()).unwrap();
    let tags: Vec<usize> = tree.nodes.iter().map(|node| node.tag.len()).collect();
    assert_eq!(tags, [0, 64, 64], "each node would keep a prefix as long as the body");
    let merges = format!("- &a {{{}}}\n- {{{}}}", "<<: [], ".repeat(2000), "<<: *a, ".repeat(2000));
    assert_eq!(why(&merges), "yaml: document contains excessive aliasing");
    assert_eq!(why(&format!("[{}]", "x,".repeat(900_000))), "yaml: more than 800000 nodes");
}
