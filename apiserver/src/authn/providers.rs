//! Identity providers as their file says, which is read anew when it changes: what can't be used leaves things as they were.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use martello_api::{clock, status::Cause};
use parking_lot::RwLock;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    config::{Anonymous, AuthenticationConfiguration, ConfigError},
    oidc::Authenticator,
};
use crate::metrics::authentication::Record;

/// How often the file is looked at: it is small, and an administrator waits for it.
const LOOK: Duration = Duration::from_secs(1);
/// How long new providers may take to tell their keys, and how long is waited before what failed is tried again; as upstream's.
const RETRY: Duration = Duration::from_secs(60);

/// The providers of a file.
pub struct Providers {
    all: Vec<Arc<Authenticator>>,
    anonymous: Option<Anonymous>,
    end: CancellationToken,
    /// Once nobody uses them, they are not asked for keys any more.
    _unused: DropGuard,
}

impl Providers {
    /// Of a file's text.
    pub fn read(text: &str) -> Result<Self, ConfigError> {
        let config = AuthenticationConfiguration::read(text)?;
        let mut all = Vec::with_capacity(config.jwt.len());
        for (index, provider) in config.jwt.into_iter().enumerate() {
            all.push(Arc::new(Authenticator::new(provider, index)?));
        }
        let end = CancellationToken::new();
        Ok(Self { all, anonymous: config.anonymous, _unused: end.clone().drop_guard(), end })
    }

    /// None, and what holds where there is no file.
    #[must_use]
    pub fn none() -> Self {
        let end = CancellationToken::new();
        Self { all: Vec::new(), anonymous: None, _unused: end.clone().drop_guard(), end }
    }

    /// The one that signs tokens under this name.
    #[must_use]
    pub fn of(&self, issuer: &str) -> Option<&Arc<Authenticator>> {
        self.all.iter().find(|provider| provider.issuer() == issuer)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a request without credentials to this path is let in as nobody.
    #[must_use]
    pub fn lets_in_anonymous(&self, path: &str) -> bool {
        self.anonymous.as_ref().is_none_or(|anonymous| anonymous.lets_in(path))
    }

    /// Has each asked for its keys from now on.
    pub fn begin(&self, record: &Record) {
        for provider in &self.all {
            let (provider, record, end) = (Arc::clone(provider), record.clone(), self.end.clone());
            tokio::spawn(async move { provider.keep_fresh(record, end).await });
        }
    }

    async fn known(&self) {
        join_all(self.all.iter().map(|provider| provider.known())).await;
    }

    fn unknown(&self) -> Vec<String> {
        let unknown = self.all.iter().filter(|provider| !provider.is_known());
        unknown.map(|provider| provider.issuer().to_owned()).collect()
    }
}

/// Why a changed file is not taken.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    /// It can't be read.
    #[error("read {path:?}: {why}")]
    Read { path: PathBuf, why: String },
    /// It is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Some providers in it can't be asked.
    #[error("these identity providers did not tell their keys in time: {0:?}")]
    Unknown(Vec<String>),
    /// It changed again.
    #[error("the file changed again while its identity providers were asked for their keys")]
    Superseded,
}

/// Who keeps the providers as the file says.
pub struct Follower {
    path: PathBuf,
    /// What was read of the file that need not be looked at again: it is in force, or will never be.
    seen: String,
    current: Arc<RwLock<Arc<Providers>>>,
    anonymous: Option<Anonymous>,
}

impl Follower {
    /// Of the file, of which `text` was read; what it says goes where others see it.
    #[must_use]
    pub fn new(path: &Path, text: String, current: Arc<RwLock<Arc<Providers>>>) -> Self {
        let anonymous = current.read().anonymous.clone();
        Self { path: path.to_owned(), seen: text, current, anonymous }
    }

    /// Follows the file until `end`.
    pub async fn run(mut self, record: Record, end: CancellationToken) {
        record.config(&self.seen);
        let mut tried: Option<(Result<String, String>, Instant)> = None;
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let found = self.look().await;
            if found.as_ref() == Ok(&self.seen) {
                tried = None;
                continue;
            }
            if tried.as_ref().is_some_and(|(what, when)| *what == found && when.elapsed() < RETRY) {
                continue;
            }
            tried = Some((found.clone(), Instant::now()));
            let taken = match found {
                Ok(text) => self.take(text, &record).await,
                Err(why) => Err(ReloadError::Read { path: self.path.clone(), why }),
            };
            record.reloaded(taken.is_ok(), clock::now());
            match taken {
                Ok(()) => {
                    record.config(&self.seen);
                    tracing::info!(path = %self.path.display(), "the authentication configuration was read anew");
                }
                Err(error) => tracing::error!(%error, "the authentication configuration stays as it was"),
            }
        }
    }

    async fn look(&self) -> Result<String, String> {
        tokio::fs::read_to_string(&self.path).await.map_err(|error| error.to_string())
    }

    /// Waits until the file holds something else.
    async fn differs(&self, text: &str) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.look().await.is_ok_and(|found| found != text) {
                return;
            }
        }
    }

    async fn take(&mut self, text: String, record: &Record) -> Result<(), ReloadError> {
        let next = match self.read(&text) {
            Ok(next) => next,
            Err(error) => {
                self.seen = text;
                return Err(error.into());
            }
        };
        next.begin(record);
        tokio::select! {
            () = next.known() => {}
            () = tokio::time::sleep(RETRY) => return Err(ReloadError::Unknown(next.unknown())),
            () = self.differs(&text) => return Err(ReloadError::Superseded),
        }
        let next = Arc::new(next);
        let before = std::mem::replace(&mut *self.current.write(), Arc::clone(&next));
        for gone in before.all.iter().filter(|gone| next.of(gone.issuer()).is_none()) {
            record.forget(gone.issuer());
        }
        self.seen = text;
        Ok(())
    }

    /// Who is let in without credentials is said once: whoever relies on it need not watch the file.
    fn read(&self, text: &str) -> Result<Providers, ConfigError> {
        let next = Providers::read(text)?;
        if next.anonymous != self.anonymous {
            let why = "changed from initial configuration file";
            return Err(ConfigError::Faults(vec![Cause::forbidden("anonymous", why)]));
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";

    #[test]
    fn who_is_let_in_without_credentials_stays_as_it_was() {
        let first = format!("{HEAD}anonymous: {{enabled: false}}\n");
        let current = Arc::new(RwLock::new(Arc::new(Providers::read(&first).unwrap())));
        let follower = Follower::new(Path::new("file"), first.clone(), current);
        assert!(follower.read(&first).is_ok());
        for other in ["", "anonymous: {enabled: true}", "anonymous: {enabled: true, conditions: [{path: /livez}]}"] {
            let told = follower.read(&format!("{HEAD}{other}\n")).err().unwrap().to_string();
            assert!(told.ends_with("anonymous: Forbidden: changed from initial configuration file"), "{told}");
        }
    }
}
