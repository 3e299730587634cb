//! What default roles and bindings lost, or what a newer version of the server adds to them.

use serde_json::Value;

/// While this annotation says `true`, a default object is kept up.
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// `present` with the rules and subjects of the default object `wanted` that it lacks; none where it lacks none, or is
/// not to be kept up. What it has besides stays.
#[must_use]
pub fn repaired(present: &Value, wanted: &Value) -> Option<Value> {
    let annotations = present.pointer("/metadata/annotations")?;
    if annotations.get(AUTO_UPDATE).and_then(Value::as_str) != Some("true") {
        return None;
    }
    let mut repaired = present.clone();
    if present.get("aggregationRule").is_none_or(Value::is_null) {
        add(&mut repaired, wanted, "rules", covers);
    }
    add(&mut repaired, wanted, "subjects", |has, subject| has.iter().any(|own| same_subject(own, subject)));
    (repaired != *present).then_some(repaired)
}

fn add(object: &mut Value, wanted: &Value, key: &str, has: impl Fn(&[Value], &Value) -> bool) {
    let list = |value: &Value| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut all = list(object);
    let lacking: Vec<Value> = list(wanted).into_iter().filter(|one| !has(&all, one)).collect();
    if let Some(fields) = object.as_object_mut().filter(|_| !lacking.is_empty()) {
        all.extend(lacking);
        fields.insert(key.to_owned(), Value::Array(all));
    }
}

fn same_subject(a: &Value, b: &Value) -> bool {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    ["kind", "name", "namespace"].iter().all(|key| text(a, key) == text(b, key))
}

fn texts<'a>(rule: &'a Value, key: &str) -> Vec<&'a str> {
    rule.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether `rules` together allow all that `rule` does.
fn covers(rules: &[Value], rule: &Value) -> bool {
    let has = |own: &Value, key: &str, one: &str| texts(own, key).iter().any(|text| *text == "*" || *text == one);
    texts(rule, "verbs").iter().all(|verb| {
        let paths = texts(rule, "nonResourceURLs");
        let on_paths = paths
            .iter()
            .all(|path| rules.iter().any(|own| has(own, "verbs", verb) && has(own, "nonResourceURLs", path)));
        let groups = texts(rule, "apiGroups");
        on_paths
            && groups.iter().all(|group| {
                texts(rule, "resources").iter().all(|resource| {
                    let allows = |own: &Value, name: Option<&str>| {
                        let names = texts(own, "resourceNames");
                        has(own, "verbs", verb)
                            && has(own, "apiGroups", group)
                            && has(own, "resources", resource)
                            && (names.is_empty() || name.is_some_and(|name| names.contains(&name)))
                    };
                    let names = texts(rule, "resourceNames");
                    if names.is_empty() {
                        rules.iter().any(|own| allows(own, None))
                    } else {
                        names.iter().all(|name| rules.iter().any(|own| allows(own, Some(*name))))
                    }
                })
            })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn role(update: &str, rules: Value) -> Value {
        json!({"metadata": {"name": "r", "annotations": {AUTO_UPDATE: update}}, "rules": rules})
    }

    #[test]
    fn a_role_gets_back_what_it_lacks_and_keeps_what_it_has() {
        let rule = |verbs: Value, resource: &str| json!({"verbs": verbs, "apiGroups": [""], "resources": [resource]});
        let wanted = role("true", json!([rule(json!(["get", "list"]), "pods"), rule(json!(["get"]), "nodes")]));
        let own = rule(json!(["*"]), "secrets");
        let present = role("true", json!([rule(json!(["list"]), "pods"), rule(json!(["get"]), "pods"), own]));
        let repaired = repaired(&present, &wanted).unwrap();
        assert_eq!(repaired["rules"].as_array().unwrap().len(), 4);
        assert_eq!(repaired["rules"][3], rule(json!(["get"]), "nodes"));
        assert_eq!(super::repaired(&repaired, &wanted), None);
        assert_eq!(super::repaired(&role("false", json!([])), &wanted), None);
    }

    #[test]
    fn a_binding_gets_its_subjects_back() {
        let subject = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "a"});
        let wanted = json!({"subjects": [subject]});
        let present = json!({"metadata": {"annotations": {AUTO_UPDATE: "true"}}});
        assert_eq!(repaired(&present, &wanted).unwrap()["subjects"], json!([subject]));
        let names = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"]});
        let any = json!({"verbs": ["get"], "apiGroups": ["*"], "resources": ["configmaps"]});
        assert!(covers(std::slice::from_ref(&any), &names) && !covers(&[names], &any));
    }
}
