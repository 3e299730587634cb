//! Those who know users that this cluster does not: identity providers and a webhook for tokens.

use std::{path::Path, sync::Arc};

use jiff::Timestamp;
use martello_pki::oidc::claimed_issuer;
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use super::{
    config::ConfigError,
    credentials::Accepted,
    providers::{Follower, Providers},
    webhook::{Settings, TokenWebhook, WebhookConfigError},
};
use crate::metrics::authentication::Record;

/// All of them.
pub struct Foreign {
    providers: Arc<RwLock<Arc<Providers>>>,
    /// Who follows the file of providers, once that has begun.
    follower: Mutex<Option<Follower>>,
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
        let (mut all, mut follower) = (Providers::none(), None);
        let text = providers.map(|path| {
            let text = std::fs::read_to_string(path);
            text.map_err(|source| ForeignConfigError::Read { path: path.display().to_string(), source })
        });
        let text = text.transpose()?;
        if let Some(text) = &text {
            all = Providers::read(text)?;
        }
        let current = Arc::new(RwLock::new(Arc::new(all)));
        if let (Some(path), Some(text)) = (providers, text) {
            follower = Some(Follower::new(path, text, Arc::clone(&current)));
        }
        let webhook = webhook.map(|path| TokenWebhook::read(path, settings)).transpose()?;
        Ok(Self { providers: current, follower: Mutex::new(follower), webhook })
    }

    /// Asks the providers for their keys, and follows their file, until `end`.
    pub(crate) fn begin(&self, record: &Record, end: &CancellationToken) {
        let Some(follower) = self.follower.lock().take() else { return };
        self.providers.read().begin(record);
        tokio::spawn(follower.run(record.clone(), end.clone()));
    }

    fn current(&self) -> Arc<Providers> {
        Arc::clone(&self.providers.read())
    }

    /// Whether a request without credentials to this path is let in as nobody. It reaches health and version at most then,
    /// whatever the configuration says.
    #[must_use]
    pub fn lets_in_anonymous(&self, path: &str) -> bool {
        self.current().lets_in_anonymous(path)
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
        let providers = self.current();
        if providers.is_empty() {
            return None;
        }
        let issuer = claimed_issuer(token)?;
        let provider = providers.of(&issuer)?;
        let audiences: Vec<String> = own.iter().filter(|one| wanted.contains(one)).cloned().collect();
        if audiences.is_empty() {
            return Some(Err(format!("the token is for {own:?} only")));
        }
        let user = provider.user(token, now).await;
        Some(user.map(|user| Accepted { user, audiences, secret: None }).map_err(|error| error.to_string()))
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
