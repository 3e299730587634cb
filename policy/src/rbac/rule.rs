//! One rule of a role, without the options of the wire format.

use martello_api::{attributes::Target, k8s_openapi::api::rbac::v1::PolicyRule};

/// A rule: which verbs on which resources or paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule {
    /// Verbs; `*` stands for all.
    pub verbs: Vec<String>,
    /// API groups; `*` stands for all, the empty string for the core group.
    pub api_groups: Vec<String>,
    /// `pods`, `pods/log`, `*` for everything, `*/scale` for one subresource of everything.
    pub resources: Vec<String>,
    /// Names the rule is limited to; none stands for all.
    pub resource_names: Vec<String>,
    /// Paths; a trailing `*` stands for any rest.
    pub non_resource_urls: Vec<String>,
}

impl Rule {
    /// Verbs on resources of API groups.
    #[must_use]
    pub fn on_resources(api_groups: &[&str], resources: &[&str], verbs: &[&str]) -> Self {
        Self { verbs: owned(verbs), api_groups: owned(api_groups), resources: owned(resources), ..Self::default() }
    }

    /// Verbs on paths.
    #[must_use]
    pub fn on_paths(paths: &[&str], verbs: &[&str]) -> Self {
        Self { verbs: owned(verbs), non_resource_urls: owned(paths), ..Self::default() }
    }

    /// The same rule, for these names only.
    #[must_use]
    pub fn named(mut self, names: &[&str]) -> Self {
        self.resource_names = owned(names);
        self
    }

    /// Whether the rule's Cedar policy is worth evaluating: false only if it cannot match. Verb and name are not looked at.
    pub(crate) fn concerns(&self, target: &Target) -> bool {
        match target {
            Target::Path(_) => !self.non_resource_urls.is_empty(),
            Target::Resource(target) => {
                self.api_groups.iter().any(|group| group == "*" || *group == target.group)
                    && self.resources.iter().any(|resource| {
                        resource.starts_with('*') || is_combined(resource, &target.resource, &target.subresource)
                    })
            }
        }
    }
}

/// Whether `text` is `resource` or, with a subresource, `resource/subresource`.
fn is_combined(text: &str, resource: &str, subresource: &str) -> bool {
    match text.strip_prefix(resource) {
        Some("") => subresource.is_empty(),
        Some(rest) => !subresource.is_empty() && rest.strip_prefix('/') == Some(subresource),
        None => false,
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

impl From<&PolicyRule> for Rule {
    fn from(rule: &PolicyRule) -> Self {
        Self {
            verbs: rule.verbs.clone(),
            api_groups: rule.api_groups.clone().unwrap_or_default(),
            resources: rule.resources.clone().unwrap_or_default(),
            resource_names: rule.resource_names.clone().unwrap_or_default(),
            non_resource_urls: rule.non_resource_urls.clone().unwrap_or_default(),
        }
    }
}

impl From<&Rule> for PolicyRule {
    fn from(rule: &Rule) -> Self {
        let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        Self {
            verbs: rule.verbs.clone(),
            api_groups: some(&rule.api_groups),
            resources: some(&rule.resources),
            resource_names: some(&rule.resource_names),
            non_resource_urls: some(&rule.non_resource_urls),
        }
    }
}
