//! The token under which this server calls somebody: as given, or in a file that others keep fresh.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// How long what was read of a file counts, as client-go's: a minute, less what a request may take.
const KEPT: Duration = Duration::from_secs(50);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum BearerError {
    /// The file can't be read.
    #[error("failed to read token file {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nothing is in it.
    #[error("read empty token from file {0:?}")]
    Empty(PathBuf),
}

/// A token. What a file holds goes before what was given besides, as long as it can be read.
pub struct Bearer {
    given: Option<String>,
    file: Option<PathBuf>,
    read: Mutex<Option<(String, Instant)>>,
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bearer").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Bearer {
    /// Of a token and a file, of which either may be missing.
    ///
    /// # Errors
    /// When there is a file only, and no token in it.
    pub fn new(given: Option<String>, file: Option<PathBuf>) -> Result<Self, BearerError> {
        let read = match (&given, &file) {
            (None, Some(path)) => Some((content(path.clone(), std::fs::read_to_string(path))?, Instant::now())),
            _ => None,
        };
        Ok(Self { given, file, read: Mutex::new(read) })
    }

    /// The token of now.
    pub async fn token(&self, now: Instant) -> Option<String> {
        let Some(path) = &self.file else { return self.given.clone() };
        if let Some((token, since)) = &*self.read.lock()
            && now.saturating_duration_since(*since) < KEPT
        {
            return Some(token.clone());
        }
        let found = tokio::fs::read_to_string(path).await;
        match content(path.clone(), found) {
            Ok(token) => {
                *self.read.lock() = Some((token.clone(), now));
                Some(token)
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the token of a webhook could not be read anew");
                let before = self.read.lock().as_ref().map(|(token, _)| token.clone());
                before.or_else(|| self.given.clone())
            }
        }
    }
}

fn content(path: PathBuf, found: std::io::Result<String>) -> Result<String, BearerError> {
    let text = found.map_err(|source| BearerError::Read { path: path.clone(), source })?;
    match text.trim() {
        "" => Err(BearerError::Empty(path)),
        token => Ok(token.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_read_anew_after_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(matches!(Bearer::new(None, Some(path.clone())), Err(BearerError::Read { .. })));
        std::fs::write(&path, " \n").unwrap();
        assert!(matches!(Bearer::new(None, Some(path.clone())), Err(BearerError::Empty(_))));
        std::fs::write(&path, "first\n").unwrap();
        let bearer = Bearer::new(None, Some(path.clone())).unwrap();
        let now = Instant::now();
        std::fs::write(&path, "second\n").unwrap();
        assert_eq!(bearer.token(now).await.as_deref(), Some("first"));
        let later = now + KEPT;
        assert_eq!(bearer.token(later).await.as_deref(), Some("second"));
        std::fs::remove_file(&path).unwrap();
        let later = later + KEPT;
        assert_eq!(bearer.token(later).await.as_deref(), Some("second"), "what was read last counts on");
        std::fs::write(&path, "third").unwrap();
        assert_eq!(bearer.token(later).await.as_deref(), Some("third"), "and is not waited for a minute");
        assert!(!format!("{bearer:?}").contains("third"));
    }

    #[tokio::test]
    async fn a_file_goes_before_a_token_that_stands_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let (given, now) = (Some("given".to_owned()), Instant::now());
        let bearer = Bearer::new(given.clone(), Some(path.clone())).unwrap();
        assert_eq!(bearer.token(now).await, given, "there is no file yet");
        std::fs::write(&path, "of the file").unwrap();
        assert_eq!(bearer.token(now).await.as_deref(), Some("of the file"));
        assert_eq!(Bearer::new(None, None).unwrap().token(now).await, None);
        assert_eq!(Bearer::new(given.clone(), None).unwrap().token(now).await, given);
    }
}
