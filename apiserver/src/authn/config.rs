//! `AuthenticationConfiguration` (`apiserver.config.k8s.io`): which identity providers are trusted, and what their claims mean.

use martello_api::status::Cause;
use serde::Deserialize;

use super::rules;

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
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Anonymous {
    /// Whether there are any.
    pub enabled: bool,
    /// Where there are any; everywhere if this is empty.
    pub conditions: Vec<Condition>,
}

/// Where requests without credentials are let in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Condition {
    /// Path of the requests.
    pub path: String,
}

impl Anonymous {
    /// Whether a request without credentials to this path is let in.
    #[must_use]
    pub fn lets_in(&self, path: &str) -> bool {
        self.enabled && (self.conditions.is_empty() || self.conditions.iter().any(|condition| condition.path == path))
    }
}

/// An identity provider.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Provider {
    /// Who it is.
    pub issuer: Issuer,
    /// What must hold of a token's claims.
    pub claim_validation_rules: Vec<ClaimRule>,
    /// What the claims mean.
    pub claim_mappings: Mappings,
    /// What must hold of the user that comes out.
    pub user_validation_rules: Vec<Expression>,
}

/// Who a provider is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Issuer {
    /// What tokens call it.
    pub url: String,
    /// Where it tells of its keys, if not at the usual place.
    #[serde(rename = "discoveryURL")]
    pub discovery_url: String,
    /// Authorities of its certificate, in PEM.
    pub certificate_authority: String,
    /// For whom its tokens must be.
    pub audiences: Vec<String>,
    /// `MatchAny` where there are several audiences.
    pub audience_match_policy: String,
    /// Through which egress it is reached: this server has none.
    pub egress_selector_type: String,
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
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Mappings {
    /// The user's name.
    pub username: Mapping,
    /// The user's groups.
    pub groups: Mapping,
    /// The user's UID.
    pub uid: ClaimOrExpression,
    /// Further facts.
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

/// A claim or an expression.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClaimOrExpression {
    /// The claim.
    pub claim: String,
    /// An expression instead.
    pub expression: String,
}

/// A further fact.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
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
    /// What is in it breaks upstream's rules: all faults, with their paths.
    #[error("the authentication configuration: {}", rules::told(.0))]
    Faults(Vec<Cause>),
}

const VERSIONS: [&str; 3] =
    ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];

impl AuthenticationConfiguration {
    /// Reads a file.
    pub fn read(yaml: &str) -> Result<Self, ConfigError> {
        let read: Self = serde_saphyr::from_str(yaml).map_err(|error| ConfigError::Read(error.to_string()))?;
        if read.kind != "AuthenticationConfiguration" || !VERSIONS.contains(&read.api_version.as_str()) {
            let why = format!("{} of {} is not known", read.kind, read.api_version);
            return Err(ConfigError::Invalid { path: "kind".to_owned(), why });
        }
        let faults = rules::faults(&read);
        if faults.is_empty() { Ok(read) } else { Err(ConfigError::Faults(faults)) }
    }
}

/// The certificate of an authority.
#[cfg(test)]
pub(crate) const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\nMIIBdDCCARmgAwIBAgIUF1tkUd7CPHRveivkeC4xGJxFSFswCgYIKoZIzj0EAwIw\nDjEMMAoGA1UEAwwDaWRwMCAXDTI2MTEyMjEzMDUyN1oYDzIxMjYxMDI5MTMwNTI3\nWjAOMQwwCgYDVQQDDANpZHAwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARb9ntX\nIUsQ0gLhe0QvFjIe+oUvNrpy7oBxCD4veIOVV1bSUhQN5+xlGjPRu1C29cgvaEGU\nPSCC+DzLnrxV7CzLo1MwUTAdBgNVHQ4EFgQU0yzoSxdXpdejjM7HsQz/msOaDOww\nHwYDVR0jBBgwFoAU0yzoSxdXpdejjM7HsQz/msOaDOwwDwYDVR0TAQH/BAUwAwEB\n/zAKBggqhkjOPQQDAgNJADBGAiEAkRUVxaVjprBUxu6BxHSaOTqudDeKvKRv8no0\nlrGtHvYCIQCUbQkKQDVFGTDksdXvQYIO6dnjzYTIB/adEcurOe3OLw==\n-----END CERTIFICATE-----\n";

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";

    fn read(username: &str) -> Result<AuthenticationConfiguration, ConfigError> {
        AuthenticationConfiguration::read(&format!(
            "{HEAD}jwt:\n- issuer:\n    url: https://idp.example.com\n    audiences: [k]\n    certificateAuthority: {AUTHORITY:?}\n  claimMappings:\n    username: {username}\n"
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

    #[test]
    fn requests_without_credentials_are_let_in_where_the_file_says() {
        let lets_in = |anonymous: &str, path: &str| {
            let config = AuthenticationConfiguration::read(&format!("{HEAD}anonymous: {anonymous}\n")).unwrap();
            config.anonymous.is_none_or(|anonymous| anonymous.lets_in(path))
        };
        assert!(lets_in("{enabled: true}", "/version"));
        assert!(!lets_in("{enabled: false}", "/livez"));
        let health = "{enabled: true, conditions: [{path: /livez}, {path: /readyz}]}";
        assert!(lets_in(health, "/readyz"));
        assert!(!lets_in(health, "/version"));
        assert!(!lets_in(health, "/readyz/ping"));
    }
}
