//! Users of identity providers: what was read of whom and when, and how long their tokens take.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use ring::digest::{SHA256, digest};

/// Upper bounds of the buckets of a token's check, in seconds, as upstream's.
const LATENCIES: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

type Since = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    status: &'static str,
    apiserver_id_hash: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConfigLabels {
    apiserver_id_hash: String,
    hash: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FetchLabels {
    result: &'static str,
    jwt_issuer_hash: String,
    apiserver_id_hash: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeySetLabels {
    jwt_issuer_hash: String,
    apiserver_id_hash: String,
    hash: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    result: &'static str,
    jwt_issuer_hash: String,
}

/// The figures of identity providers. Clones share them.
#[derive(Clone)]
pub struct Figures {
    reloads: Family<ReloadLabels, Counter>,
    reloaded: Family<ReloadLabels, Since>,
    config: Family<ConfigLabels, Gauge>,
    fetched: Family<FetchLabels, Since>,
    keys: Family<KeySetLabels, Gauge>,
    tokens: Family<TokenLabels, Histogram>,
    /// The labels of what is told with a hash: one for each provider, and one for the file.
    told: Arc<Mutex<(Option<ConfigLabels>, Vec<KeySetLabels>)>>,
}

impl Figures {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let figures = Self {
            reloads: Family::default(),
            reloaded: Family::default(),
            config: Family::default(),
            fetched: Family::default(),
            keys: Family::default(),
            tokens: Family::new_with_constructor(|| Histogram::new(LATENCIES)),
            told: Arc::default(),
        };
        let of_file = |what: &str| format!("apiserver_authentication_config_controller_{what}");
        let of_tokens = |what: &str| format!("apiserver_authentication_jwt_authenticator_{what}");
        let help = "Changes of the authentication configuration's file, by whether they were taken";
        registry.register(of_file("automatic_reloads"), help, figures.reloads.clone());
        let help = "When the authentication configuration's file was last taken, or refused";
        registry.register(of_file("automatic_reload_last_timestamp_seconds"), help, figures.reloaded.clone());
        let help = "The hash of the authentication configuration that is in force";
        registry.register(of_file("last_config_info"), help, figures.config.clone());
        let help = "When the keys of an identity provider were last fetched, or could not be";
        registry.register(of_tokens("jwks_fetch_last_timestamp_seconds"), help, figures.fetched.clone());
        let help = "The hash of the keys of an identity provider";
        registry.register(of_tokens("jwks_fetch_last_key_set_info"), help, figures.keys.clone());
        let help = "Time that the check of a provider's token took";
        registry.register(of_tokens("latency_seconds"), help, figures.tokens.clone());
        figures
    }

    /// Those of the server with this name.
    #[must_use]
    pub fn of_server(&self, name: &str) -> Record {
        Record { figures: self.clone(), server: hash(name.as_bytes()) }
    }
}

/// Where one server writes its figures.
#[derive(Clone)]
pub struct Record {
    figures: Figures,
    server: String,
}

impl Record {
    /// The file changed, and was taken or not.
    pub fn reloaded(&self, taken: bool, now: Timestamp) {
        let labels = ReloadLabels { status: ended(taken), apiserver_id_hash: self.server.clone() };
        self.figures.reloads.get_or_create(&labels).inc();
        self.figures.reloaded.get_or_create(&labels).set(seconds(now));
    }

    /// What the file holds that is in force.
    pub fn config(&self, text: &str) {
        let labels = ConfigLabels { apiserver_id_hash: self.server.clone(), hash: hash(text.as_bytes()) };
        let mut told = self.figures.told.lock();
        if let Some(before) = told.0.replace(labels.clone()) {
            self.figures.config.remove(&before);
        }
        self.figures.config.get_or_create(&labels).set(1);
    }

    /// The keys of a provider were fetched, or could not be.
    pub fn fetched(&self, issuer: &str, keys: Option<&[u8]>, now: Timestamp) {
        let issuer = hash(issuer.as_bytes());
        self.figures.fetched.get_or_create(&self.fetch(&issuer, keys.is_some())).set(seconds(now));
        let Some(keys) = keys else { return };
        let labels = KeySetLabels { hash: hash(keys), jwt_issuer_hash: issuer, apiserver_id_hash: self.server.clone() };
        let mut told = self.figures.told.lock();
        self.forget_keys(&mut told.1, &labels.jwt_issuer_hash);
        self.figures.keys.get_or_create(&labels).set(1);
        told.1.push(labels);
    }

    /// A provider is none any more.
    pub fn forget(&self, issuer: &str) {
        let issuer = hash(issuer.as_bytes());
        for done in [true, false] {
            self.figures.fetched.remove(&self.fetch(&issuer, done));
        }
        self.forget_keys(&mut self.figures.told.lock().1, &issuer);
    }

    /// A provider's token was checked.
    pub fn checked(&self, issuer: &str, known: bool, took: Duration) {
        let labels = TokenLabels { result: ended(known), jwt_issuer_hash: hash(issuer.as_bytes()) };
        self.figures.tokens.get_or_create(&labels).observe(took.as_secs_f64());
    }

    fn fetch(&self, issuer: &str, done: bool) -> FetchLabels {
        FetchLabels { result: ended(done), jwt_issuer_hash: issuer.to_owned(), apiserver_id_hash: self.server.clone() }
    }

    fn forget_keys(&self, told: &mut Vec<KeySetLabels>, issuer: &str) {
        told.retain(|labels| {
            let stays = labels.jwt_issuer_hash != issuer;
            if !stays {
                self.figures.keys.remove(labels);
            }
            stays
        });
    }
}

const fn ended(well: bool) -> &'static str {
    if well { "success" } else { "failure" }
}

fn seconds(now: Timestamp) -> f64 {
    now.as_duration().as_secs_f64()
}

/// As upstream writes what is not to be told in a label itself.
fn hash(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return String::new();
    }
    let digits = digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("sha256:{digits}")
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn what_is_told_with_a_hash_is_told_once() {
        let mut registry = Registry::default();
        let record = Figures::register(&mut registry).of_server("us");
        let lines = |registry: &Registry, name: &str| {
            let mut text = String::new();
            encode(&mut text, registry).unwrap();
            text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect::<Vec<_>>()
        };
        record.config("a");
        record.config("b");
        let config = lines(&registry, "apiserver_authentication_config_controller_last_config_info{");
        // printf b | sha256sum
        let hash = "sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d";
        assert!(config.len() == 1 && config[0].contains(hash), "{config:?}");
        let now = Timestamp::from_second(1_000).unwrap();
        record.fetched("https://a", Some(b"1"), now);
        record.fetched("https://a", Some(b"2"), now);
        record.fetched("https://b", None, now);
        let keys = "apiserver_authentication_jwt_authenticator_jwks_fetch_last_key_set_info{";
        assert_eq!(lines(&registry, keys).len(), 1);
        let times = "apiserver_authentication_jwt_authenticator_jwks_fetch_last_timestamp_seconds{";
        assert!(lines(&registry, times).iter().all(|line| line.ends_with(" 1000.0")), "{:?}", lines(&registry, times));
        record.forget("https://a");
        assert_eq!((lines(&registry, keys).len(), lines(&registry, times).len()), (0, 1));
        record.reloaded(false, now);
        record.reloaded(false, now);
        let reloads = lines(&registry, "apiserver_authentication_config_controller_automatic_reloads_total{");
        assert!(reloads.len() == 1 && reloads[0].contains("status=\"failure\"") && reloads[0].ends_with(" 2"));
    }
}
