//! The image side as the scanner does it.

use std::time::Instant;

use futures::future::BoxFuture;
use martello_scanner::{
    self as scanner, Digest, Ensured, Reference, credentials::Credentials as Keys, gate::GateError, summary,
};

use super::{ImageError, Images, PullPolicy, Pulled, Ready, Request, RunConfig};

/// The scanner's images, as the agent asks for them.
#[derive(Clone, Debug)]
pub struct Scanned {
    images: scanner::Images,
}

impl Scanned {
    /// The agent's view of `images`.
    #[must_use]
    pub fn new(images: scanner::Images) -> Self {
        Self { images }
    }

    async fn fetch(&self, request: Request) -> Result<Ready, ImageError> {
        let reference = parse(&request.reference)?;
        let keys = keys(&request);
        let policy = match request.policy {
            PullPolicy::Always => scanner::PullPolicy::Always,
            PullPolicy::IfNotPresent => scanner::PullPolicy::IfNotPresent,
            PullPolicy::Never => scanner::PullPolicy::Never,
        };
        let begun = Instant::now();
        let ensured = self.images.ensure(&reference, policy, &keys).await;
        let Ensured { image, pulled } = ensured.map_err(|error| refused(&request.reference, &error))?;
        Ok(Ready {
            digest: image.manifest.to_string(),
            id: format!("{}@{}", reference.name(), image.manifest),
            pulled: pulled.then(|| Pulled { took: begun.elapsed(), bytes: image.size_bytes }),
            config: RunConfig {
                entrypoint: image.config.entrypoint,
                command: image.config.cmd,
                env: image.config.env.iter().map(|pair| split(pair)).collect(),
                directory: image.config.working_dir,
                user: image.config.user,
                stop_signal: image.config.stop_signal.filter(|signal| !signal.is_empty()),
            },
            layers: image.layers,
        })
    }

    async fn is_here(&self, reference: Reference, keys: Keys) -> bool {
        let images = self.images.clone();
        // Reads the store's index from disk, and may have to hash logins.
        let asked = tokio::task::spawn_blocking(move || images.is_here(&reference, &keys)).await;
        asked.is_ok_and(|here| here.unwrap_or(false))
    }

    async fn listed(&self) -> Vec<scanner::Listed> {
        let images = self.images.clone();
        // Reads the store's index from disk.
        let listed = tokio::task::spawn_blocking(move || images.list()).await;
        listed.ok().and_then(Result::ok).unwrap_or_default()
    }
}

fn parse(reference: &str) -> Result<Reference, ImageError> {
    let invalid =
        |why: scanner::ReferenceError| ImageError::Invalid { reference: reference.to_owned(), why: why.to_string() };
    reference.parse().map_err(invalid)
}

fn split(pair: &str) -> (String, String) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    (name.to_owned(), value.to_owned())
}

fn keys(request: &Request) -> Keys {
    let mut keys = Keys::none();
    for one in &request.credentials {
        // A secret that isn't well made is passed over: another one may fit.
        let added = match one.is_old {
            true => keys.add_dockercfg(&one.content, Some(&one.origin)),
            false => keys.add_dockerconfigjson(&one.content, Some(&one.origin)),
        };
        if let Err(error) = added {
            let (namespace, name) = (&one.origin.namespace, &one.origin.name);
            tracing::warn!(namespace, name, %error, "a pull secret can't be used");
        }
    }
    keys
}

fn refused(reference: &str, error: &scanner::Error) -> ImageError {
    match error.reason() {
        "ErrImageNeverPull" => ImageError::Never { reference: reference.to_owned() },
        super::NOT_INVENTORIED => ImageError::Refused(error.explain()),
        _ => ImageError::Pull(error.explain()),
    }
}

impl Images for Scanned {
    fn will_pull<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            match (request.policy, parse(&request.reference)) {
                (PullPolicy::Always, _) => true,
                (PullPolicy::IfNotPresent, Ok(reference)) => !self.is_here(reference, keys(request)).await,
                _ => false,
            }
        })
    }

    fn ensure(&self, request: Request) -> BoxFuture<'_, Result<Ready, ImageError>> {
        Box::pin(self.fetch(request))
    }

    fn verdict<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let digest: Digest = digest.parse().map_err(|_| format!("{digest:?} is not a digest"))?;
            let images = self.images.clone();
            // The first time it reads the inventory and checks it.
            let asked = tokio::task::spawn_blocking(move || images.verdict(&digest)).await;
            let verdict = asked.map_err(|error| error.to_string())?;
            verdict.map(drop).map_err(|error: GateError| crate::agent::checks::full(&error))
        })
    }

    fn inventory<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Option<serde_json::Value>> {
        Box::pin(async move {
            let manifest: Digest = digest.parse().ok()?;
            let verdict = self.images.verdict(&manifest).ok()?;
            let listed = self.listed().await;
            let own = listed.into_iter().find(|one| one.image.manifest == manifest);
            let references = own.map(|one| one.references).unwrap_or_default();
            Some(summary::to_object(&verdict, &references))
        })
    }

    fn list(&self) -> BoxFuture<'_, Vec<(Vec<String>, u64)>> {
        Box::pin(async move {
            let names = |one: &scanner::Listed| -> Vec<String> {
                let digests = one.references.iter().map(|name| format!("{}@{}", name.name(), one.image.manifest));
                let mut all: Vec<String> = digests.chain(one.references.iter().map(ToString::to_string)).collect();
                all.dedup();
                all
            };
            self.listed().await.iter().map(|one| (names(one), one.image.size_bytes)).collect()
        })
    }
}
