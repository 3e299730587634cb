//! Those who know users that this cluster does not: identity providers and a webhook for tokens.

use std::path::Path;

use jiff::Timestamp;
use martello_pki::oidc::claimed_issuer;

use super::{
    config::{Anonymous, AuthenticationConfiguration, ConfigError},
    credentials::Accepted,
    oidc::Authenticator,
    webhook::{Settings, TokenWebhook, WebhookConfigError},
};

/// All of them.
#[derive(Default)]
pub struct Foreign {
    providers: Vec<Authenticator>,
    anonymous: Option<Anonymous>,
    webhook: Option<TokenWebhook>,
}

/// Why they can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum ForeignConfigError {
    /// The file of providers can't be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The webhook's file is wrong.
    #[error(transparent)]
    Webhook(#[from] WebhookConfigError),
}

impl Foreign {
    /// Of the file of identity providers, and of the webhook's kubeconfig.
    pub fn read(
        providers: Option<&Path>,
        webhook: Option<&Path>,
        settings: Settings,
    ) -> Result<Self, ForeignConfigError> {
        let mut foreign = Self::default();
        if let Some(path) = providers {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ForeignConfigError::Read { path: path.display().to_string(), source })?;
            let config = AuthenticationConfiguration::read(&text)?;
            foreign.anonymous = config.anonymous;
            for (index, provider) in config.jwt.into_iter().enumerate() {
                foreign.providers.push(Authenticator::new(provider, index)?);
            }
        }
        foreign.webhook = webhook.map(|path| TokenWebhook::read(path, settings)).transpose()?;
        Ok(foreign)
    }

    /// Whether a request without credentials to this path is let in as nobody. It reaches health and version at most then,
    /// whatever the configuration says.
    #[must_use]
    pub fn lets_in_anonymous(&self, path: &str) -> bool {
        self.anonymous.as_ref().is_none_or(|anonymous| anonymous.lets_in(path))
    }

    /// Whom a provider takes the bearer of a token for; none if the token is of no provider. `own` is for whom this server's
    /// users are, `wanted` for whom the token must be.
    pub(super) async fn of_provider(
        &self,
        token: &str,
        own: &[String],
        wanted: &[String],
        now: Timestamp,
    ) -> Option<Result<Accepted, String>> {
        if self.providers.is_empty() {
            return None;
        }
        let issuer = claimed_issuer(token)?;
        let provider = self.providers.iter().find(|provider| provider.issuer() == issuer)?;
        let audiences: Vec<String> = own.iter().filter(|one| wanted.contains(one)).cloned().collect();
        if audiences.is_empty() {
            return Some(Err(format!("the token is for {own:?} only")));
        }
        let user = provider.user(token, now).await;
        Some(user.map(|user| Accepted { user, audiences }).map_err(|error| error.to_string()))
    }

    /// Whom the webhook takes the bearer of a token for; none if there is no webhook, or it does not know the token.
    pub(super) async fn of_webhook(
        &self,
        token: &str,
        own: &[String],
        wanted: &[String],
        now: Timestamp,
    ) -> Option<Result<Accepted, String>> {
        let answered = self.webhook.as_ref()?.user(token, (own, wanted), now).await;
        answered.transpose().map(|known| known.map(|known| Accepted::clone(&known)))
    }
}
