//! Pod security: which pods a namespace takes, decided by Cedar policies on facts that are derived from the pod.
//!
//! A namespace without the label `pod-security.kubernetes.io/enforce` has this cluster's default level, which refuses what
//! nodes without privileges could not run or should not: privileged containers, host namespaces, hostPath volumes, host
//! ports, capabilities beyond the baseline's, unconfined seccomp or AppArmor. The label asks for another level by name:
//! `baseline`, `restricted`, or the weaker `privileged`.

mod facts;
mod words;

use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
    sync::LazyLock,
};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityId, EntityTypeName, EntityUid, PolicySet, Request,
    RestrictedExpression,
};
use serde_json::Value;

use self::facts::Facts;

/// Beginning of the labels by which a namespace asks for its levels.
pub const LABEL_PREFIX: &str = "pod-security.kubernetes.io/";

/// The newest minor version of the standards; what is asked for beyond it counts as it.
const LATEST: u16 = 36;

const POLICIES: &str = include_str!("pod-security.cedar");

/// How much is refused: the further down, the more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    Privileged,
    /// What this cluster refuses where nothing was asked for.
    Default,
    /// Known ways out of a container.
    Baseline,
    /// All but current practice of hardening.
    Restricted,
}

/// The levels of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Pods beyond it are refused.
    pub enforce: Asked,
    /// Whoever writes pods or workloads beyond it is warned.
    pub warn: Option<Asked>,
    /// Pods and workloads beyond it are noted in the audit log.
    pub audit: Option<Asked>,
}

/// A level, and the version of the standards as the label gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The level.
    pub level: Level,
    /// For instance `latest` or `v1.36`.
    pub version: String,
}

impl Asked {
    /// Minor version of the standards; that of today unless an older one is asked for.
    fn minor(&self) -> u16 {
        self.version
            .strip_prefix("v1.")
            .and_then(|minor| minor.parse().ok())
            .map_or(LATEST, |minor: u16| minor.min(LATEST))
    }
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why the pod is refused, if it is: what stands after `pods "x" is forbidden: `.
    pub refusal: Option<String>,
    /// Texts of warnings.
    pub warnings: Vec<String>,
    /// Annotations for the audit log.
    pub annotations: Vec<(&'static str, String)>,
}

/// A level's policies could not be evaluated; nothing is admitted then.
#[derive(Clone, Debug, thiserror::Error)]
#[error("evaluating the pod security policies: {0}")]
struct Broken(String);

impl Levels {
    /// The levels that the labels of a namespace ask for. To enforce what is no level counts as `restricted`.
    #[must_use]
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Self {
        let version = |mode: &str| labels.get(&format!("{LABEL_PREFIX}{mode}-version"));
        let asked = |mode: &str, otherwise: Level| {
            let level = match labels.get(&format!("{LABEL_PREFIX}{mode}"))?.as_str() {
                "privileged" => Level::Privileged,
                "baseline" => Level::Baseline,
                "restricted" => Level::Restricted,
                _ => otherwise,
            };
            Some(Asked { level, version: version(mode).cloned().unwrap_or_else(|| "latest".to_owned()) })
        };
        let default = || Asked { level: Level::Default, version: String::new() };
        let enforce = asked("enforce", Level::Restricted).unwrap_or_else(default);
        // Unless asked otherwise, the author of a workload learns at once what its pods would meet.
        let warn = asked("warn", Level::Privileged).unwrap_or_else(|| Asked {
            version: version("warn").filter(|_| enforce.level != Level::Default).unwrap_or(&enforce.version).clone(),
            ..enforce.clone()
        });
        Self { warn: Some(warn), audit: asked("audit", Level::Privileged), enforce }
    }

    /// What is wrong with a label of a namespace, if it is one of ours and says nothing that is known.
    #[must_use]
    pub fn label_error(key: &str, value: &str) -> Option<&'static str> {
        let mode = key.strip_prefix(LABEL_PREFIX)?;
        match mode {
            "enforce" | "warn" | "audit" => (!matches!(value, "privileged" | "baseline" | "restricted"))
                .then_some("must be one of privileged, baseline, restricted"),
            "enforce-version" | "warn-version" | "audit-version" => {
                let minor = value.strip_prefix("v1.").unwrap_or_default();
                let is_version = value == "latest"
                    || (minor == "0" || !minor.starts_with('0'))
                        && minor.parse::<u16>().is_ok()
                        && !minor.starts_with('+');
                (!is_version).then_some("must be \"latest\" or \"v1.x\"")
            }
            _ => None,
        }
    }

    /// As [`Levels::of_labels`], from a Namespace object.
    #[must_use]
    pub fn of_namespace(namespace: &Value) -> Self {
        let labels = namespace.pointer("/metadata/labels").and_then(Value::as_object);
        let labels = labels.into_iter().flatten().filter(|(key, _)| key.starts_with(LABEL_PREFIX));
        let labels = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        Self::of_labels(&labels.collect())
    }
}

/// Judges a pod that `user` writes to `namespace`.
#[must_use]
pub fn judge_pod(user: &str, namespace: &str, pod: &Value, levels: &Levels) -> Verdict {
    let mut verdict = Verdict::default();
    if let Some(violations) = violations(&levels.enforce, user, namespace, pod) {
        verdict.refusal = Some(refusal(&levels.enforce, &violations));
    }
    mention(&mut verdict, user, namespace, pod, levels);
    let enforced = match levels.enforce.level {
        Level::Default => "default".to_owned(),
        level => format!("{}:{}", name(level), levels.enforce.version),
    };
    verdict.annotations.push(("pod-security.kubernetes.io/enforce-policy", enforced));
    verdict
}

/// Judges the pods of a workload (Deployment, Job and so on) by its template: it is never refused, since its pods will be.
#[must_use]
pub fn judge_template(user: &str, namespace: &str, template: &Value, levels: &Levels) -> Verdict {
    let mut verdict = Verdict::default();
    mention(&mut verdict, user, namespace, template, levels);
    verdict
}

/// Warnings for whoever asks for another level of a namespace: which of its pods are beyond it. Nothing is said where the
/// level was only relaxed.
#[must_use]
pub fn judge_change(namespace: &str, pods: &[Value], new: &Asked, old: &Asked) -> Vec<String> {
    let relaxed = new.version == old.version && new.level <= old.level;
    if new == old || relaxed || matches!(new.level, Level::Privileged | Level::Default) {
        return Vec::new();
    }
    // By what is violated: the first pod, and how many there are.
    let mut found: BTreeMap<String, (&str, usize)> = BTreeMap::new();
    for pod in pods {
        if let Some(violations) = violations(new, "", namespace, pod) {
            let what: Vec<String> = violations.into_iter().map(|one| one.headline).collect();
            let first = pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            found.entry(what.join(", ")).or_insert((first, 0)).1 += 1;
        }
    }
    if found.is_empty() {
        return Vec::new();
    }
    let mut told: Vec<String> = found
        .into_iter()
        .map(|(what, (pod, count))| match count {
            1 => format!("{pod}: {what}"),
            2 => format!("{pod} (and 1 other pod): {what}"),
            more => format!("{pod} (and {} other pods): {what}", more - 1),
        })
        .collect();
    told.sort_unstable();
    let level = format!("{}:{}", name(new.level), new.version);
    told.insert(
        0,
        format!("existing pods in namespace {namespace:?} violate the new PodSecurity enforce level {level:?}"),
    );
    told
}

/// Adds warnings and annotations. Whoever is refused is not warned besides.
fn mention(verdict: &mut Verdict, user: &str, namespace: &str, pod: &Value, levels: &Levels) {
    let found = |asked: &Asked| {
        let violations = violations(asked, user, namespace, pod)?;
        Some(match asked.level {
            Level::Default => format!("would violate Martello pod security: {}", with_policies(&violations)),
            level => {
                format!("would violate PodSecurity \"{}:{}\": {}", name(level), asked.version, joined(&violations))
            }
        })
    };
    if let Some(text) = levels.audit.as_ref().and_then(found) {
        verdict.annotations.push(("pod-security.kubernetes.io/audit-violations", text));
    }
    if verdict.refusal.is_none() {
        verdict.warnings.extend(levels.warn.as_ref().and_then(found));
    }
}

/// A policy that refuses, and what it found.
struct Violation {
    policy: String,
    headline: String,
    detail: String,
}

fn refusal(asked: &Asked, violations: &[Violation]) -> String {
    match asked.level {
        Level::Default => format!(
            "violates Martello pod security: {}; change the manifest, or have the namespace labeled \
             {LABEL_PREFIX}enforce=privileged, which admits pods that nodes without privileges may not be able to run",
            with_policies(violations)
        ),
        level => format!("violates PodSecurity \"{}:{}\": {}", name(level), asked.version, joined(violations)),
    }
}

fn joined(violations: &[Violation]) -> String {
    let texts: Vec<String> = violations.iter().map(|one| format!("{} ({})", one.headline, one.detail)).collect();
    texts.join(", ")
}

fn with_policies(violations: &[Violation]) -> String {
    let text = |one: &Violation| format!("{} ({}, policy {:?})", one.headline, one.detail, one.policy);
    violations.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Privileged => "privileged",
        Level::Default => "default",
        Level::Baseline => "baseline",
        Level::Restricted => "restricted",
    }
}

/// What the level's policies refuse; `None` if nothing. A policy that errs refuses.
fn violations(asked: &Asked, user: &str, namespace: &str, pod: &Value) -> Option<Vec<Violation>> {
    let facts = Facts::of(pod, asked.minor());
    let ids = match refusing(asked, user, namespace, &facts) {
        Ok(ids) => ids,
        Err(error) => {
            let detail = error.to_string();
            return Some(vec![Violation { policy: String::new(), headline: "no decision".to_owned(), detail }]);
        }
    };
    let violation = |id: String| {
        let (headline, detail) = words::words(&id, &facts).unwrap_or(("policy", id.clone()));
        Violation { policy: id, headline: headline.to_owned(), detail }
    };
    (!ids.is_empty()).then(|| ids.into_iter().map(violation).collect())
}

/// The policies of a level.
struct LevelPolicies {
    policies: PolicySet,
    /// Their ids, in the order of the file, each with the minor versions for which it counts.
    order: Vec<(String, Range<u16>)>,
}

struct Loaded {
    default: LevelPolicies,
    baseline: LevelPolicies,
    restricted: LevelPolicies,
    authorizer: Authorizer,
    user: EntityTypeName,
    namespace: EntityTypeName,
    create: EntityUid,
}

static LOADED: LazyLock<Result<Loaded, Broken>> = LazyLock::new(|| {
    let broken = |cause: &dyn std::fmt::Display| Broken(cause.to_string());
    Ok(Loaded {
        default: level_policies("default")?,
        baseline: level_policies("baseline")?,
        restricted: level_policies("restricted")?,
        authorizer: Authorizer::new(),
        user: "User".parse().map_err(|error| broken(&error))?,
        namespace: "Namespace".parse().map_err(|error| broken(&error))?,
        create: "Action::\"create\"".parse().map_err(|error| broken(&error))?,
    })
});

fn level_policies(level: &str) -> Result<LevelPolicies, Broken> {
    let all = crate::builtin::load("pod-security.cedar", POLICIES).map_err(|error| Broken(error.to_string()))?;
    let mut policies = PolicySet::new();
    let mut order = Vec::new();
    for policy in all.policies() {
        let Some(versions) = policy.annotation("levels").and_then(|levels| versions(levels, level)) else { continue };
        let id = policy.id().to_string();
        let at = POLICIES.find(&format!("@id(\"{id}\")")).unwrap_or(POLICIES.len());
        order.push((at, id, versions));
        policies.add(policy.clone()).map_err(|error| Broken(error.to_string()))?;
    }
    order.sort_unstable_by_key(|(at, ..)| *at);
    Ok(LevelPolicies { policies, order: order.into_iter().map(|(_, id, versions)| (id, versions)).collect() })
}

/// The minor versions for which a policy counts at `level`, by its annotation; `None` if for none.
fn versions(levels: &str, level: &str) -> Option<Range<u16>> {
    let condition = levels.split(',').find_map(|one| one.strip_prefix(level))?;
    if condition.is_empty() {
        return Some(0..u16::MAX);
    }
    let bound = |sign: &str| condition.strip_prefix(sign)?.parse().ok();
    bound(">=").map(|since| since..u16::MAX).or_else(|| bound("<").map(|until| 0..until))
}

fn refusing(asked: &Asked, user: &str, namespace: &str, facts: &Facts) -> Result<Vec<String>, Broken> {
    let loaded = LOADED.as_ref().map_err(Clone::clone)?;
    let policies = match asked.level {
        Level::Privileged => return Ok(Vec::new()),
        Level::Default => &loaded.default,
        Level::Baseline => &loaded.baseline,
        Level::Restricted => &loaded.restricted,
    };
    let uid = |entity_type: &EntityTypeName, id: &str| {
        EntityUid::from_type_name_and_id(entity_type.clone(), EntityId::new(id))
    };
    let pod = RestrictedExpression::new_record(facts.to_sets()).map_err(|error| Broken(error.to_string()))?;
    let context = Context::from_pairs([("pod".to_owned(), pod)]).map_err(|error| Broken(error.to_string()))?;
    let (principal, resource) = (uid(&loaded.user, user), uid(&loaded.namespace, namespace));
    let request = Request::new(principal, loaded.create.clone(), resource, context, None)
        .map_err(|error| Broken(error.to_string()))?;
    let response = loaded.authorizer.is_authorized(&request, &policies.policies, &Entities::empty());
    if let Some(error) = response.diagnostics().errors().next() {
        return Err(Broken(error.to_string()));
    }
    if response.decision() == Decision::Allow {
        return Ok(Vec::new());
    }
    let found: HashSet<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    if found.is_empty() {
        return Err(Broken("no policy permits anything".to_owned()));
    }
    let minor = asked.minor();
    let counts = |(id, versions): &&(String, Range<u16>)| found.contains(id) && versions.contains(&minor);
    Ok(policies.order.iter().filter(counts).map(|(id, _)| id.clone()).collect())
}

impl Facts {
    /// As Cedar sees them: `pod-security.cedarschema` holds the same names.
    fn to_sets(&self) -> Vec<(String, RestrictedExpression)> {
        fn set<'a>(name: &str, values: impl IntoIterator<Item = &'a String>) -> (String, RestrictedExpression) {
            let values = values.into_iter().map(|value| RestrictedExpression::new_string(value.clone()));
            (name.to_owned(), RestrictedExpression::new_set(values))
        }
        vec![
            set("allImages", &self.all_images),
            set("capabilitiesAdded", &self.capabilities_added),
            set("capabilitiesBeyondBaseline", &self.beyond_baseline.1),
            set("capabilitiesBeyondRestricted", &self.beyond_restricted.1),
            set("containersKeepingCapabilities", &self.keeping_capabilities),
            set("containersThatMayEscalate", &self.may_escalate),
            set("containersThatProbeHosts", &self.probed_hosts.0),
            set("containersWithHostPorts", &self.host_ports.0),
            set("containersWithUnmaskedProc", &self.unmasked_proc.0),
            set("containersWithUnmaskedProcOfHostUsers", self.unmasked_proc_of_host_users()),
            set("forbiddenAppArmorProfiles", self.app_armor.1.iter().chain(&self.app_armor_annotations)),
            set("forbiddenSelinuxOptions", &self.selinux),
            set("hostNamespaces", &self.host_namespaces),
            set("hostPathVolumes", &self.host_path_volumes),
            set("hostProcess", &self.host_process),
            set("mayRunAsRoot", self.says_root.iter().chain(&self.silent_on_root)),
            set("privilegedContainers", &self.privileged),
            set("restrictedVolumes", &self.restricted_volumes.0),
            set("runsAsUserZero", &self.user_zero),
            set("sysctlsBeyondBaseline", &self.sysctls_beyond_baseline),
            set("sysctlsOfTheNode", &self.sysctls_of_the_node),
            set("unconfinedSeccomp", &self.seccomp_unconfined),
            set("withoutSeccomp", self.without_seccomp()),
        ]
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
