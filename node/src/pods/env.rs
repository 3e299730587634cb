//! A container's environment: literals, references, services, and the expansion of `$(NAME)`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvFromSource, EnvVar, EnvVarSource, Pod, Secret, Service};

use super::downward::{self, Facts};

/// Why an environment can't be made; the texts are upstream's, because people search for them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// The object isn't there.
    #[error("{kind} {name:?} not found")]
    NoObject {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The object has no such key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Namespace of the pod.
        namespace: String,
        /// Name of the object.
        name: String,
        /// The missing key.
        key: String,
    },
    /// A field of the pod or container can't be shown.
    #[error(transparent)]
    Downward(#[from] downward::DownwardError),
    /// A value isn't text, or names a source that this node doesn't know.
    #[error("environment variable {name:?}: {why}")]
    Unusable {
        /// Name of the variable.
        name: String,
        /// Why.
        why: &'static str,
    },
}

/// The objects that environments and volumes of a pod refer to; absent names were looked up and not found.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// ConfigMaps by name.
    pub config_maps: BTreeMap<String, ConfigMap>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Secret>,
    /// Services of the pod's namespace.
    pub services: Vec<Service>,
    /// The Service `default/kubernetes`, through which pods reach the API server.
    pub api_service: Option<Service>,
}

/// Names of the objects that something refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// ConfigMaps.
    pub config_maps: BTreeSet<String>,
    /// Secrets.
    pub secrets: BTreeSet<String>,
}

/// Which objects the environment of `container` needs.
#[must_use]
pub fn references(container: &Container) -> References {
    let mut found = References::default();
    for source in container.env_from.iter().flatten() {
        found.config_maps.extend(source.config_map_ref.as_ref().map(|one| one.name.clone()));
        found.secrets.extend(source.secret_ref.as_ref().map(|one| one.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|one| one.value_from.as_ref()) {
        found.config_maps.extend(source.config_map_key_ref.as_ref().map(|one| one.name.clone()));
        found.secrets.extend(source.secret_key_ref.as_ref().map(|one| one.name.clone()));
    }
    found
}

/// The environment that the spec asks for, expanded, in order; a later variable of one name wins.
///
/// # Errors
/// If a reference that isn't optional leads nowhere.
pub fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    facts: &Facts<'_>,
) -> Result<Vec<(String, String)>, EnvError> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let links = pod.spec.as_ref().is_none_or(|spec| spec.enable_service_links != Some(false));
    let service_env = service_variables(sources, links);
    let mut made = Made::default();
    for source in container.env_from.iter().flatten() {
        for (name, value) in from_object(source, sources)? {
            made.set(name, value);
        }
    }
    for variable in container.env.iter().flatten() {
        let known = |name: &str| made.get(name).or_else(|| service_env.get(name).map(String::as_str));
        if let Some(value) = value(variable, pod, container, sources, facts, &namespace, &known)? {
            made.set(variable.name.clone(), value);
        }
    }
    let mut all: Vec<(String, String)> = service_env.into_iter().filter(|(name, _)| made.get(name).is_none()).collect();
    all.extend(made.list);
    Ok(all)
}

#[derive(Default)]
struct Made {
    list: Vec<(String, String)>,
}

impl Made {
    fn get(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: String, value: String) {
        match self.list.iter_mut().find(|(own, _)| *own == name) {
            Some(entry) => entry.1 = value,
            None => self.list.push((name, value)),
        }
    }
}

fn from_object(source: &EnvFromSource, sources: &Sources) -> Result<Vec<(String, String)>, EnvError> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let mut pairs = Vec::new();
    if let Some(reference) = &source.config_map_ref {
        match sources.config_maps.get(&reference.name) {
            Some(map) => pairs.extend(map.data.clone().unwrap_or_default()),
            None if reference.optional == Some(true) => {}
            None => return Err(EnvError::NoObject { kind: "configmap", name: reference.name.clone() }),
        }
    }
    if let Some(reference) = &source.secret_ref {
        match sources.secrets.get(&reference.name) {
            Some(secret) => {
                for (key, value) in secret.data.iter().flatten() {
                    pairs.push((key.clone(), text(key, &value.0)?));
                }
            }
            None if reference.optional == Some(true) => {}
            None => return Err(EnvError::NoObject { kind: "secret", name: reference.name.clone() }),
        }
    }
    let named = pairs.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value));
    Ok(named.filter(|(name, _)| is_variable_name(name)).collect())
}

/// What a variable's name may hold; keys that can't be names are left out, as upstream does.
#[must_use]
pub fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| (' '..='~').contains(&c) && c != '=')
}

fn text(name: &str, bytes: &[u8]) -> Result<String, EnvError> {
    let unusable = |why| EnvError::Unusable { name: name.to_owned(), why };
    let value = std::str::from_utf8(bytes).map_err(|_| unusable("the value is not UTF-8 text"))?;
    if value.contains('\0') {
        return Err(unusable("the value holds a zero byte"));
    }
    Ok(value.to_owned())
}

fn value<'a>(
    variable: &EnvVar,
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    facts: &Facts<'_>,
    namespace: &str,
    known: &dyn Fn(&str) -> Option<&'a str>,
) -> Result<Option<String>, EnvError> {
    let Some(source) = &variable.value_from else {
        return Ok(Some(expand(variable.value.as_deref().unwrap_or_default(), known)));
    };
    if let Some(field) = &source.field_ref {
        return Ok(Some(downward::field(pod, &field.field_path, facts)?));
    }
    if let Some(field) = &source.resource_field_ref {
        return Ok(Some(downward::resource(pod, Some(container), field, facts)?));
    }
    keyed(&variable.name, source, sources, namespace)
}

fn keyed(
    variable: &str,
    source: &EnvVarSource,
    sources: &Sources,
    namespace: &str,
) -> Result<Option<String>, EnvError> {
    let no_key = |kind, name: &str, key: &str| EnvError::NoKey {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        key: key.to_owned(),
    };
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional == Some(true);
        let Some(map) = sources.config_maps.get(&reference.name) else {
            let missing = EnvError::NoObject { kind: "configmap", name: reference.name.clone() };
            return if optional { Ok(None) } else { Err(missing) };
        };
        return match map.data.as_ref().and_then(|data| data.get(&reference.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(no_key("ConfigMap", &reference.name, &reference.key)),
        };
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional == Some(true);
        let Some(secret) = sources.secrets.get(&reference.name) else {
            let missing = EnvError::NoObject { kind: "secret", name: reference.name.clone() };
            return if optional { Ok(None) } else { Err(missing) };
        };
        return match secret.data.as_ref().and_then(|data| data.get(&reference.key)) {
            Some(value) => text(variable, &value.0).map(Some),
            None if optional => Ok(None),
            None => Err(no_key("Secret", &reference.name, &reference.key)),
        };
    }
    let why =
        "this node knows no such source; use a value, fieldRef, resourceFieldRef, configMapKeyRef or secretKeyRef";
    Err(EnvError::Unusable { name: variable.to_owned(), why })
}

/// Replaces `$(NAME)` by its value; an unknown name stays as it is, `$$` stands for `$`.
#[must_use]
pub fn expand<'a>(text: &str, known: &dyn Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|open| open.split_once(')')) {
            match known(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The variables that name the Services of the namespace, as Docker links once did.
#[must_use]
pub fn service_variables(sources: &Sources, links: bool) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let own = sources.services.iter().filter(|_| links);
    for service in sources.api_service.iter().chain(own) {
        add_service(service, &mut variables);
    }
    variables
}

fn add_service(service: &Service, variables: &mut BTreeMap<String, String>) {
    let (Some(name), Some(spec)) = (&service.metadata.name, &service.spec) else { return };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { return };
    let prefix = variable_part(name);
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    variables.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        let number = port.port;
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{number}", protocol.to_lowercase());
        if index == 0 {
            variables.insert(format!("{prefix}_SERVICE_PORT"), number.to_string());
            variables.insert(format!("{prefix}_PORT"), url.clone());
        }
        if let Some(own) = port.name.as_deref().filter(|own| !own.is_empty()) {
            variables.insert(format!("{prefix}_SERVICE_PORT_{}", variable_part(own)), number.to_string());
        }
        let link = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
        variables.insert(format!("{link}_PROTO"), protocol.to_lowercase());
        variables.insert(format!("{link}_PORT"), number.to_string());
        variables.insert(format!("{link}_ADDR"), ip.to_owned());
        variables.insert(link, url);
    }
}

fn variable_part(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(value: serde_json::Value) -> Container {
        serde_json::from_value(value).unwrap()
    }

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web-0", "namespace": "shop", "uid": "u1", "labels": {"app": "web"}},
            "spec": {"nodeName": "n1", "serviceAccountName": "web", "containers": []},
        }))
        .unwrap()
    }

    fn sources() -> Sources {
        let mut sources = Sources::default();
        let map = json!({"metadata": {"name": "cfg"}, "data": {"a": "1", "b.c": "2"}});
        sources.config_maps.insert("cfg".into(), serde_json::from_value(map).unwrap());
        let secret = json!({"metadata": {"name": "db"}, "data": {"password": "cGFzc3dvcmQ=", "raw": "/w=="}});
        sources.secrets.insert("db".into(), serde_json::from_value(secret).unwrap());
        let service = json!({"metadata": {"name": "my-web"}, "spec": {"clusterIP": "10.96.0.9", "ports": [
            {"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]}});
        sources.services.push(serde_json::from_value(service).unwrap());
        sources
    }

    fn made(value: serde_json::Value) -> Result<BTreeMap<String, String>, EnvError> {
        let facts = Facts::default();
        environment(&pod(), &container(value), &sources(), &facts).map(|list| list.into_iter().collect())
    }

    #[test]
    fn values_expand_from_what_was_defined_before() {
        let env = made(json!({"name": "c", "env": [
            {"name": "A", "value": "x"},
            {"name": "B", "value": "$(A)-$(MISSING)-$$(A)-$A-$("},
            {"name": "C", "value": "$(MY_WEB_SERVICE_HOST)"},
        ]}))
        .unwrap();
        assert_eq!(env["B"], "x-$(MISSING)-$(A)-$A-$(");
        assert_eq!(env["C"], "10.96.0.9");
    }

    #[test]
    fn secrets_config_maps_and_fields_are_read() {
        let env = made(json!({"name": "c",
            "envFrom": [{"prefix": "CFG_", "configMapRef": {"name": "cfg"}}, {"secretRef": {"name": "no", "optional": true}}],
            "env": [
            {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "NO", "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "zz", "optional": true}}},
        ]}))
        .unwrap();
        assert_eq!(env["DB_PASSWORD"], "password");
        assert_eq!((env["POD"].as_str(), env["APP"].as_str()), ("web-0", "web"));
        assert_eq!((env["CFG_a"].as_str(), env["CFG_b.c"].as_str()), ("1", "2"));
        assert!(!env.contains_key("NO"));
    }

    #[test]
    fn missing_objects_and_keys_are_told_as_upstream_tells_them() {
        let one = |from: serde_json::Value| {
            made(json!({"name": "c", "env": [{"name": "X", "valueFrom": from}]})).unwrap_err().to_string()
        };
        assert_eq!(one(json!({"secretKeyRef": {"name": "no", "key": "k"}})), "secret \"no\" not found");
        assert_eq!(one(json!({"configMapKeyRef": {"name": "no", "key": "k"}})), "configmap \"no\" not found");
        assert_eq!(one(json!({"secretKeyRef": {"name": "db", "key": "k"}})), "couldn't find key k in Secret shop/db");
        assert!(one(json!({"secretKeyRef": {"name": "db", "key": "raw"}})).contains("not UTF-8"));
    }

    #[test]
    fn services_are_named_in_the_environment() {
        let variables = service_variables(&sources(), true);
        let text: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            text,
            [
                "MY_WEB_PORT=tcp://10.96.0.9:80",
                "MY_WEB_PORT_53_UDP=udp://10.96.0.9:53",
                "MY_WEB_PORT_53_UDP_ADDR=10.96.0.9",
                "MY_WEB_PORT_53_UDP_PORT=53",
                "MY_WEB_PORT_53_UDP_PROTO=udp",
                "MY_WEB_PORT_80_TCP=tcp://10.96.0.9:80",
                "MY_WEB_PORT_80_TCP_ADDR=10.96.0.9",
                "MY_WEB_PORT_80_TCP_PORT=80",
                "MY_WEB_PORT_80_TCP_PROTO=tcp",
                "MY_WEB_SERVICE_HOST=10.96.0.9",
                "MY_WEB_SERVICE_PORT=80",
                "MY_WEB_SERVICE_PORT_DNS=53",
                "MY_WEB_SERVICE_PORT_HTTP=80",
            ]
        );
        assert!(service_variables(&sources(), false).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn text_without_a_reference_stays(text in "[^$]{0,60}") {
            proptest::prop_assert_eq!(expand(&text, &|_| Some("!")), text);
        }

        #[test]
        fn any_text_expands(text in "[$()A-C]{0,60}") {
            proptest::prop_assert!(expand(&text, &|name| (name == "A").then_some("$(B)")).len() <= 4 * text.len());
        }
    }
}
