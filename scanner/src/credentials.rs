//! Credentials for registries from image pull secrets, matched as Kubernetes documents it for
//! `dockerconfigjson`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::Reference;

/// Largest document; a Secret holds 1 MiB at most.
const MAX_DOCUMENT: usize = 1 << 20;

/// Longest pattern of a label that matches anything; a label of a host's name has 63 bytes at most.
const MAX_GLOB: usize = 255;

/// The logins of a pod's image pull secrets.
#[derive(Clone, Default)]
pub struct Credentials(Vec<(Pattern, Login)>);

/// A user name and a password; never shown.
#[derive(Clone)]
pub struct Login {
    username: String,
    password: Zeroizing<String>,
    origin: Option<Arc<Origin>>,
}

/// The Secret that a login is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: another Secret of the same name is another one.
    pub uid: String,
}

/// Why a pull secret is of no use. No variant carries a value from it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CredentialsError {
    /// It is larger than a Secret can be.
    #[error("the pull secret is larger than 1 MiB")]
    TooLarge,
    /// It is no JSON of the expected shape.
    #[error("the pull secret is no docker configuration; expected {{\"auths\": {{REGISTRY: …}}}}")]
    Malformed,
    /// One of its logins can't be decoded.
    #[error("the pull secret's login for {0:?} can't be decoded")]
    Login(String),
}

impl Credentials {
    /// No logins.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds the logins of a `.dockerconfigjson` value, and where they are from.
    ///
    /// # Errors
    /// If the value is malformed; nothing is added then.
    pub fn add_dockerconfigjson(&mut self, json: &[u8], origin: Option<&Origin>) -> Result<(), CredentialsError> {
        #[derive(Deserialize)]
        struct Document {
            auths: BTreeMap<String, Auth>,
        }
        bounded(json)?;
        let document: Document = serde_json::from_slice(json).map_err(|_| CredentialsError::Malformed)?;
        self.add(document.auths, origin)
    }

    /// Adds the logins of a `.dockercfg` value, the older form without `auths`.
    ///
    /// # Errors
    /// If the value is malformed; nothing is added then.
    pub fn add_dockercfg(&mut self, json: &[u8], origin: Option<&Origin>) -> Result<(), CredentialsError> {
        bounded(json)?;
        self.add(serde_json::from_slice(json).map_err(|_| CredentialsError::Malformed)?, origin)
    }

    fn add(&mut self, auths: BTreeMap<String, Auth>, origin: Option<&Origin>) -> Result<(), CredentialsError> {
        let origin = origin.cloned().map(Arc::new);
        let mut added = Vec::with_capacity(auths.len());
        for (registry, auth) in auths {
            let pattern = Pattern::parse(&registry);
            let login = auth.login().ok_or(CredentialsError::Login(registry))?;
            added.push((pattern, Login { origin: origin.clone(), ..login }));
        }
        self.0.extend(added);
        // The most specific first, as a longer one sorts behind its prefix.
        self.0.sort_by(|(a, _), (b, _)| b.cmp(a));
        Ok(())
    }

    /// The logins that apply to a reference, in the order in which they are to be tried.
    pub fn matching<'a>(&'a self, reference: &'a Reference) -> impl Iterator<Item = &'a Login> {
        self.0.iter().filter(|(pattern, _)| pattern.matches(reference)).map(|(_, login)| login)
    }
}

impl Login {
    /// The user's name.
    pub(crate) fn username(&self) -> &str {
        &self.username
    }

    /// The Secret that it's from, where it is from one.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.origin.as_deref()
    }

    /// What tells it from every other login.
    pub(crate) fn secret(&self) -> Zeroizing<Vec<u8>> {
        // No user's name holds a zero, so no two logins look the same.
        Zeroizing::new([self.username.as_bytes(), &[0], self.password.as_bytes()].concat())
    }

    /// The password, for the registry's eyes only.
    pub(crate) fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({} logins, [redacted])", self.0.len())
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login([redacted])")
    }
}

#[derive(Deserialize)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Auth {
    fn login(self) -> Option<Login> {
        let engine = base64::engine::GeneralPurpose::new(
            &base64::alphabet::STANDARD,
            base64::engine::GeneralPurposeConfig::new()
                .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
        );
        let (auth, password) = (self.auth.map(Zeroizing::new), self.password.map(Zeroizing::new));
        if let Some(auth) = auth.filter(|a| !a.is_empty()) {
            let decoded = Zeroizing::new(engine.decode(auth.trim()).ok()?);
            let (username, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
            // Docker pads the password with NULs in its own files.
            let password = Zeroizing::new(password.trim_matches('\0').to_owned());
            return Some(Login { username: username.to_owned(), password, origin: None });
        }
        Some(Login { username: self.username?, password: password?, origin: None })
    }
}

/// Which images a login is for: `registry`, `registry/path`, `*.example.com:5000`, with or without scheme.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Pattern {
    host: String,
    port: Option<String>,
    path: String,
}

impl Pattern {
    fn parse(registry: &str) -> Self {
        let rest = registry.strip_prefix("https://").or_else(|| registry.strip_prefix("http://")).unwrap_or(registry);
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        // `https://index.docker.io/v1/` is how docker itself writes its default registry.
        let path = ["v1", "v2"]
            .iter()
            .find_map(|version| path.strip_prefix(version).filter(|rest| rest.is_empty() || rest.starts_with('/')))
            .unwrap_or(path);
        let (host, port) = split_port(host);
        Self { host: default_registry(host), port, path: path.trim_matches('/').to_owned() }
    }

    fn matches(&self, reference: &Reference) -> bool {
        let (host, port) = split_port(reference.registry());
        let (pattern, host) = (self.host.as_str(), default_registry(host));
        self.port == port
            && pattern.split('.').count() == host.split('.').count()
            && pattern
                .split('.')
                .zip(host.split('.'))
                .all(|(glob, label)| glob_matches(glob.as_bytes(), label.as_bytes()))
            && reference.repository().starts_with(&self.path)
    }
}

fn split_port(host: &str) -> (&str, Option<String>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (name, Some(port.to_owned()))
        }
        _ => (host, None),
    }
}

fn default_registry(host: &str) -> String {
    if host == "index.docker.io" { "docker.io".to_owned() } else { host.to_owned() }
}

/// `*` stands for any run of characters, `?` for one. Where a character doesn't fit, only the last `*` is made to
/// stand for one more, so that no pattern costs more than its length times the text's.
fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    if glob.len() > MAX_GLOB {
        return false;
    }
    let (mut rest, mut left) = (glob, text);
    // What follows the last `*`, and the text from behind what it stands for.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        match (rest, left) {
            ([], []) => return true,
            ([b'*', behind @ ..], _) => {
                star = Some((behind, left));
                rest = behind;
            }
            ([g, behind @ ..], [t, further @ ..]) if *g == b'?' || g == t => (rest, left) = (behind, further),
            _ => {
                let Some((behind, [_, further @ ..])) = star else { return false };
                star = Some((behind, further));
                (rest, left) = (behind, further);
            }
        }
    }
}

fn bounded(json: &[u8]) -> Result<(), CredentialsError> {
    if json.len() > MAX_DOCUMENT { Err(CredentialsError::TooLarge) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn users(config: &str, image: &str) -> Vec<String> {
        let mut credentials = Credentials::none();
        credentials.add_dockerconfigjson(config.as_bytes(), None).unwrap();
        let reference = image.parse().unwrap();
        credentials.matching(&reference).map(|login| login.username().to_owned()).collect()
    }

    #[test]
    fn logins_match_by_host_port_and_path() {
        let config = r#"{"auths":{
            "https://index.docker.io/v1/":{"username":"hub","password":"p"},
            "*.example.com":{"username":"glob","password":"p"},
            "registry.example.com":{"username":"host","password":"p"},
            "registry.example.com/team":{"username":"team","password":"p"},
            "localhost:5000":{"auth":"bG9jYWw6cDpx"}}}"#;
        assert_eq!(users(config, "nginx"), ["hub"]);
        assert_eq!(users(config, "registry.example.com/team/app:1"), ["team", "host", "glob"]);
        assert_eq!(users(config, "registry.example.com/other:1"), ["host", "glob"]);
        assert_eq!(users(config, "a.b.example.com/other:1"), Vec::<String>::new());
        assert_eq!(users(config, "localhost:5000/x"), ["local"]);
        assert_eq!(users(config, "localhost:5001/x"), Vec::<String>::new());
    }

    #[test]
    fn globs_match_runs_and_single_characters() {
        let matches = |glob: &str, text: &str| glob_matches(glob.as_bytes(), text.as_bytes());
        for (glob, text) in [
            ("", ""),
            ("*", ""),
            ("*", "abc"),
            ("a*", "a"),
            ("a*c", "abcbc"),
            ("*b*c", "abxbyc"),
            ("?b", "ab"),
            ("*?", "a"),
            ("**a", "ba"),
        ] {
            assert!(matches(glob, text), "{glob} {text}");
        }
        for (glob, text) in
            [("", "a"), ("a", ""), ("?", ""), ("*?", ""), ("a*c", "abcb"), ("*b*c", "acb"), ("ab", "abc"), ("?", "ab")]
        {
            assert!(!matches(glob, text), "{glob} {text}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_is_judged_soon() {
        let glob = format!("{}b.io", "*a".repeat(30));
        assert!(!glob_matches(glob.as_bytes(), format!("{}.io", "a".repeat(60)).as_bytes()));
        assert!(glob_matches(glob.as_bytes(), format!("{}b.io", "a".repeat(60)).as_bytes()));
    }

    #[test]
    fn a_pattern_longer_than_any_name_matches_nothing() {
        assert!(glob_matches("*".repeat(255).as_bytes(), b"a"));
        assert!(!glob_matches("*".repeat(256).as_bytes(), b"a"));
    }

    #[test]
    fn passwords_are_never_shown() {
        let mut credentials = Credentials::none();
        credentials.add_dockerconfigjson(br#"{"auths":{"a.b":{"auth":"dTpodW50ZXIy"}}}"#, None).unwrap();
        let reference = "a.b/c".parse().unwrap();
        let login = credentials.matching(&reference).next().unwrap();
        assert_eq!(login.password(), "hunter2");
        assert!(!format!("{credentials:?}{login:?}").contains("hunter2"));
        let error = credentials.add_dockerconfigjson(br#"{"auths":{"x":{"auth":"aHVudGVyMg"}}}"#, None).unwrap_err();
        assert_eq!(error, CredentialsError::Login("x".into()));
    }

    proptest! {
        #[test]
        fn patterns_never_panic(registry in "\\PC{0,40}", text in "\\PC{0,60}") {
            let _matched = Pattern::parse(&registry).matches(&"a.b:1/c".parse().unwrap());
            drop(Credentials::none().add_dockerconfigjson(text.as_bytes(), None));
        }
    }
}
