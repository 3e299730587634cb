//! `AuthenticationConfiguration` (`apiserver.config.k8s.io`): which identity providers are trusted, and what their claims mean.

use serde::Deserialize;

/// The file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthenticationConfiguration {
    api_version: String,
    kind: String,
    /// Identity providers.
    #[serde(default)]
    pub jwt: Vec<Provider>,
    /// Requests without credentials.
    #[serde(default)]
    pub anonymous: Option<Anonymous>,
}

/// Requests without credentials.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Anonymous {
    /// Whether there are any.
    pub enabled: bool,
}

/// An identity provider.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Provider {
    /// Who it is.
    pub issuer: Issuer,
    /// What must hold of a token's claims.
    #[serde(default)]
    pub claim_validation_rules: Vec<ClaimRule>,
    /// What the claims mean.
    pub claim_mappings: Mappings,
    /// What must hold of the user that comes out.
    #[serde(default)]
    pub user_validation_rules: Vec<Expression>,
}

/// Who a provider is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Issuer {
    /// What tokens call it.
    pub url: String,
    /// Where it tells of its keys, if not at the usual place.
    #[serde(default)]
    pub discovery_url: String,
    /// Authorities of its certificate, in PEM.
    #[serde(default)]
    pub certificate_authority: String,
    /// For whom its tokens must be.
    pub audiences: Vec<String>,
    /// `MatchAny` where there are several audiences.
    #[serde(default)]
    pub audience_match_policy: String,
}

/// A claim that must have a value, or an expression.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClaimRule {
    /// The claim.
    pub claim: String,
    /// Its value.
    pub required_value: String,
    /// An expression instead.
    pub expression: String,
    /// What is said when it does not hold.
    pub message: String,
}

/// An expression that must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Expression {
    /// It.
    pub expression: String,
    /// What is said when it does not hold.
    pub message: String,
}

/// What claims mean.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mappings {
    /// The user's name.
    pub username: Mapping,
    /// The user's groups.
    #[serde(default)]
    pub groups: Mapping,
    /// The user's UID.
    #[serde(default)]
    pub uid: Mapping,
    /// Further facts.
    #[serde(default)]
    pub extra: Vec<Extra>,
}

/// A claim, with a prefix where names are to be told apart; or an expression.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Mapping {
    /// The claim.
    pub claim: String,
    /// What is put before its value; must be given where there is a claim.
    pub prefix: Option<String>,
    /// An expression instead.
    pub expression: String,
}

/// A further fact.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Extra {
    /// Its name.
    pub key: String,
    /// The expression of its value.
    pub value_expression: String,
}

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not YAML of this form.
    #[error("the authentication configuration can't be read: {0}")]
    Read(String),
    /// Something in it is wrong.
    #[error("the authentication configuration: {path}: {why}")]
    Invalid {
        /// Where.
        path: String,
        /// What.
        why: String,
    },
}

const VERSIONS: [&str; 3] =
    ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];
/// Most providers, as upstream's.
const MAX_PROVIDERS: usize = 64;
const BOTH: &str = "claim and expression can't both be set";
const EMAIL: &str = "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression";

impl AuthenticationConfiguration {
    /// Reads a file.
    pub fn read(yaml: &str) -> Result<Self, ConfigError> {
        let read: Self = serde_saphyr::from_str(yaml).map_err(|error| ConfigError::Read(error.to_string()))?;
        read.check()?;
        Ok(read)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |path: String, why: &str| Err(ConfigError::Invalid { path, why: why.to_owned() });
        if self.kind != "AuthenticationConfiguration" || !VERSIONS.contains(&self.api_version.as_str()) {
            return invalid("kind".to_owned(), &format!("{} of {} is not known", self.kind, self.api_version));
        }
        if self.jwt.len() > MAX_PROVIDERS {
            return invalid("jwt".to_owned(), &format!("must have at most {MAX_PROVIDERS} items"));
        }
        if self.anonymous.as_ref().is_some_and(|anonymous| !anonymous.enabled) {
            return invalid("anonymous".to_owned(), "requests without credentials are always let in as nobody");
        }
        for (index, provider) in self.jwt.iter().enumerate() {
            let path = |field: &str| format!("jwt[{index}].{field}");
            if let Some((field, why)) = provider.fault() {
                return invalid(path(&field), why);
            }
            if self.jwt.iter().take(index).any(|other| other.issuer.url == provider.issuer.url) {
                return invalid(path("issuer.url"), "duplicate value");
            }
        }
        Ok(())
    }
}

impl Provider {
    fn fault(&self) -> Option<(String, &'static str)> {
        let found = |field: &str, why: &'static str| Some((field.to_owned(), why));
        let issuer = &self.issuer;
        if !issuer.url.starts_with("https://") || issuer.url.contains(['?', '#', '@']) {
            return found("issuer.url", "must be https://host[:port][/path]");
        }
        if !issuer.discovery_url.is_empty() && !issuer.discovery_url.starts_with("https://") {
            return found("issuer.discoveryURL", "must be https://host[:port][/path]");
        }
        if issuer.certificate_authority.is_empty() {
            return found(
                "issuer.certificateAuthority",
                "is required: this server trusts no authority of the public web",
            );
        }
        if issuer.audiences.iter().all(String::is_empty) {
            return found("issuer.audiences", "at least one is required");
        }
        if issuer.audiences.len() > 1 && issuer.audience_match_policy != "MatchAny" {
            return found("issuer.audienceMatchPolicy", "must be MatchAny for multiple audiences");
        }
        let maps = &self.claim_mappings;
        for (name, mapping) in [("username", &maps.username), ("groups", &maps.groups), ("uid", &maps.uid)] {
            let field = format!("claimMappings.{name}");
            if !mapping.expression.is_empty() && (!mapping.claim.is_empty() || mapping.prefix.is_some()) {
                return Some((field, BOTH));
            }
            if name != "uid" && !mapping.claim.is_empty() && mapping.prefix.is_none() {
                return Some((field, "prefix is required when claim is set; it may be an empty string"));
            }
        }
        if maps.username.claim.is_empty() && maps.username.expression.is_empty() {
            return found("claimMappings.username", "claim or expression is required");
        }
        if self.claim_validation_rules.iter().any(|rule| rule.claim.is_empty() == rule.expression.is_empty()) {
            return found("claimValidationRules", "either claim or expression must be set, and not both");
        }
        if maps.extra.iter().any(|extra| extra.key.is_empty() || extra.key.to_lowercase() != extra.key) {
            return found(
                "claimMappings.extra",
                "key must be a lowercase domain-prefix path (such as example.org/foo)",
            );
        }
        let expressions = std::iter::once(&maps.username.expression)
            .chain(maps.extra.iter().map(|extra| &extra.value_expression))
            .chain(self.claim_validation_rules.iter().map(|rule| &rule.expression));
        let verifies = expressions.into_iter().any(|text| text.contains("email_verified"));
        if maps.username.expression.contains("claims.email") && !verifies {
            return found("claimMappings.username.expression", EMAIL);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(username: &str) -> Result<AuthenticationConfiguration, ConfigError> {
        AuthenticationConfiguration::read(&format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer:\n    url: https://idp.example.com\n    audiences: [k]\n    certificateAuthority: pem\n  claimMappings:\n    username: {username}\n"
        ))
    }

    #[test]
    fn a_provider_says_what_its_claims_mean() {
        let good = read("{claim: sub, prefix: 'idp:'}").unwrap();
        assert_eq!(good.jwt[0].claim_mappings.username.prefix.as_deref(), Some("idp:"));
        assert!(read("{claim: sub}").unwrap_err().to_string().contains("prefix is required"));
        assert!(read("{expression: claims.sub}").is_ok());
        assert!(read("{expression: claims.sub, claim: sub}").unwrap_err().to_string().contains("both"));
        assert!(read("{expression: claims.email}").unwrap_err().to_string().contains("email_verified"));
        assert!(matches!(read("{claims: sub}"), Err(ConfigError::Read(_))));
    }
}
