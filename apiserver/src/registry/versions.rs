//! Which versions of which groups are served: those that are stable, unless something else was asked for by name.

use std::collections::{BTreeMap, BTreeSet};

use martello_api::resource::Resource;

/// Stages that can be named instead of versions, in the order in which they count.
const STAGES: [(&str, Stage); 4] =
    [("api/all", Stage::All), ("api/ga", Stage::Stable), ("api/beta", Stage::Beta), ("api/alpha", Stage::Alpha)];

/// What the version of the core group is called.
const CORE: &str = "api/v1";
/// The group of our own, which stages are not about: machines join through it, and operators get their credentials.
const OWN_GROUP: &str = "martello.dev";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    All,
    Stable,
    Beta,
    Alpha,
}

/// What was asked for: names, and whether what they name is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeConfig(BTreeMap<String, bool>);

/// Why what was asked for can't be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeConfigError {
    /// No name of a stage, a version or a resource.
    #[error("{0:?} is none of api/all, api/ga, api/beta, api/alpha, GROUP/VERSION and GROUP/VERSION/RESOURCE")]
    Name(String),
    /// Neither true nor false.
    #[error("invalid value of {name}: {value:?} is neither true nor false")]
    Value {
        /// What it was given for.
        name: String,
        /// The value.
        value: String,
    },
    /// Nothing would be left.
    #[error("invalid key with only api/all=false: nothing would be served; name what is to be")]
    Nothing,
    /// No such group.
    #[error("unknown api groups {0}")]
    Group(String),
    /// The group has no such version.
    #[error("group version {0} that has not been registered")]
    Version(String),
    /// The version has no such resource.
    #[error("{0} is no resource of its version; resources are named in lower case and in plural")]
    Resource(String),
}

impl RuntimeConfig {
    /// Reads `NAME=true`, `NAME=false` and `NAME`, which means true; several may be joined by commas.
    pub fn parse(given: &[String]) -> Result<Self, RuntimeConfigError> {
        let mut found = BTreeMap::new();
        for one in given.iter().flat_map(|one| one.split(',')).map(str::trim).filter(|one| !one.is_empty()) {
            let (name, value) = one.split_once('=').unwrap_or((one, "true"));
            let value = match value.trim() {
                "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                value => return Err(RuntimeConfigError::Value { name: name.to_owned(), value: value.to_owned() }),
            };
            found.insert(full_name(name.trim()), value);
        }
        if found.len() == 1 && found.get("api/all") == Some(&false) {
            return Err(RuntimeConfigError::Nothing);
        }
        Ok(Self(found))
    }

    /// Whether every name is one of these resources, their versions or their stages.
    pub fn check<'r>(&self, known: impl Iterator<Item = &'r Resource>) -> Result<(), RuntimeConfigError> {
        let known: BTreeSet<(&str, &str, &str)> =
            known.map(|one| (&*one.gvk.group, &*one.gvk.version, &*one.plural)).collect();
        let names = self.0.keys().filter(|name| !STAGES.iter().any(|(stage, _)| stage == name));
        let mut unknown = Vec::new();
        for name in names {
            let (group, version, resource) = parts(name).ok_or_else(|| RuntimeConfigError::Name(name.clone()))?;
            let of_group = |(known, ..): &&(&str, &str, &str)| *known == group;
            if !known.iter().any(|one| of_group(&one)) {
                unknown.push(group);
            } else if !known.iter().any(|one| of_group(&one) && one.1 == version) {
                return Err(RuntimeConfigError::Version(format!("{group}/{version}")));
            } else if resource.is_some_and(|resource| !known.contains(&(group, version, resource))) {
                return Err(RuntimeConfigError::Resource(name.clone()));
            }
        }
        if unknown.is_empty() { Ok(()) } else { Err(RuntimeConfigError::Group(unknown.join(","))) }
    }

    /// Whether a resource is served; `by_default` is what holds where nothing was asked for.
    #[must_use]
    pub fn serves(&self, resource: &Resource, by_default: bool) -> bool {
        let gvk = &resource.gvk;
        let version = format!("{}/{}", gvk.group, gvk.version);
        let said = |name: &str| self.0.get(name).copied();
        let of_stage = || {
            if gvk.group == OWN_GROUP {
                return None;
            }
            let fits = |stage: Stage| stage == Stage::All || stage == stage_of(&gvk.version);
            STAGES.iter().rev().filter(|(_, stage)| fits(*stage)).find_map(|(name, _)| said(name))
        };
        said(&format!("{version}/{}", resource.plural))
            .or_else(|| said(&version))
            .or_else(of_stage)
            .unwrap_or(by_default)
    }
}

/// A name as versions and resources are called here: that of the core group has no group.
fn full_name(name: &str) -> String {
    let rest = name.strip_prefix(CORE).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    rest.map_or_else(|| name.to_owned(), |rest| format!("/v1{rest}"))
}

/// Group, version and, if there is one, the resource of a name.
fn parts(name: &str) -> Option<(&str, &str, Option<&str>)> {
    let mut parts = name.split('/');
    let (group, version) = (parts.next()?, parts.next()?);
    let resource = parts.next();
    (parts.next().is_none() && !version.is_empty()).then_some((group, version, resource))
}

fn stage_of(version: &str) -> Stage {
    match version {
        _ if version.contains("alpha") => Stage::Alpha,
        _ if version.contains("beta") => Stage::Beta,
        _ => Stage::Stable,
    }
}

#[cfg(test)]
mod tests {
    use martello_api::resource::GroupVersionKind;

    use super::*;

    fn config(given: &str) -> RuntimeConfig {
        RuntimeConfig::parse(&[given.to_owned()]).unwrap()
    }

    fn resource(version: &'static str, plural: &'static str) -> Resource {
        super::super::kind::resource("resource.k8s.io", version, "DeviceClass", plural).build()
    }

    #[test]
    fn the_narrowest_name_decides() {
        let (stable, beta) = (resource("v1", "deviceclasses"), resource("v1beta2", "deviceclasses"));
        for (given, served) in [
            ("", (true, false)),
            ("api/all=true", (true, true)),
            ("api/beta=true", (true, true)),
            ("api/alpha=true", (true, false)),
            ("api/all=true,api/beta=false", (true, false)),
            ("api/all=false,resource.k8s.io/v1", (true, false)),
            ("resource.k8s.io/v1beta2=true", (true, true)),
            ("resource.k8s.io/v1=false", (false, false)),
            ("resource.k8s.io/v1beta2/deviceclasses=true", (true, true)),
            ("resource.k8s.io/v1beta2=true,resource.k8s.io/v1beta2/deviceclasses=false", (true, false)),
        ] {
            let config = config(given);
            assert_eq!((config.serves(&stable, true), config.serves(&beta, false)), served, "{given}");
        }
    }

    #[test]
    fn the_core_group_is_called_api() {
        let pods = super::super::kind::resource("", "v1", "Pod", "pods").build();
        let stable = resource("v1", "deviceclasses");
        for (given, served) in [
            ("api/ga=false,api/v1=true", (true, false)),
            ("api/v1=false", (false, true)),
            ("api/v1/pods=false", (false, true)),
            ("api/v1=false,api/v1/pods=true", (true, true)),
        ] {
            let config = config(given);
            assert_eq!((config.serves(&pods, true), config.serves(&stable, true)), served, "{given}");
            assert_eq!(config.check([&pods, &stable].into_iter()), Ok(()), "{given}");
        }
    }

    #[test]
    fn stages_are_not_about_our_own_group() {
        let own = super::super::kind::resource("martello.dev", "v1alpha1", "JoinToken", "jointokens").build();
        for (given, served) in
            [("api/all=false,api/ga=true", true), ("api/alpha=false", true), ("martello.dev/v1alpha1=false", false)]
        {
            assert_eq!(config(given).serves(&own, true), served, "{given}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let known = [resource("v1", "deviceclasses"), resource("v1beta2", "deviceclasses")];
        let refused = |given: &str| config(given).check(known.iter()).unwrap_err().to_string();
        assert_eq!(refused("none.io/v1,other.io/v1=false"), "unknown api groups none.io,other.io");
        assert_eq!(refused("resource.k8s.io/v9"), "group version resource.k8s.io/v9 that has not been registered");
        assert!(refused("resource.k8s.io/v1/Devices").contains("no resource of its version"));
        assert!(refused("resource.k8s.io").contains("none of api/all"));
        assert_eq!(config("resource.k8s.io/v1beta2/deviceclasses,api/beta=false").check(known.iter()), Ok(()));
    }

    #[test]
    fn a_server_that_would_serve_nothing_does_not_start() {
        let parse = |given: &str| RuntimeConfig::parse(&[given.to_owned()]);
        assert_eq!(parse("api/all=false"), Err(RuntimeConfigError::Nothing));
        assert!(matches!(parse("api/beta=maybe"), Err(RuntimeConfigError::Value { .. })));
    }

    #[test]
    fn every_version_is_of_its_stage() {
        let stage = |version: &'static str| stage_of(&GroupVersionKind::new("g", version, "K").version);
        assert_eq!([stage("v1"), stage("v2beta1"), stage("v1alpha3")], [Stage::Stable, Stage::Beta, Stage::Alpha]);
    }
}
