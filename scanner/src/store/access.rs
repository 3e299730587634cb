//! Who may start an image that is on the node already.
//!
//! Whoever pulls an image shows the registry who they are; what is on the node must not be open to those whom the
//! registry would turn away. So a record is kept, for each manifest, of how it came here: with which pull secrets, and
//! of which repository. What was imported, or pulled without a login, is open to all.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;

use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::{Adding, Store, StoreError, io_error, read_bounded};
use crate::credentials::{Credentials, Login, Origin};
use crate::{Digest, Reference};

/// Largest record: a thousand repositories or logins of some hundred bytes.
const MAX_RECORD: u64 = 1 << 20;

/// Logins that are kept of one repository; the oldest goes first, and its pods ask the registry again.
const MOST_LOGINS: usize = 256;

/// Rounds that make each guess of a password from a stolen record costly (NIST SP 800-132), and a look at a login that
/// isn't known yet some hundredths of a second.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(99_999);

/// How a manifest came here. None at all means that it was here before records were kept.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    /// Whoever has the node brought it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    imported: bool,
    /// Salt of the hashes.
    #[serde(default)]
    salt: String,
    /// By name without tag and digest.
    #[serde(default)]
    repositories: BTreeMap<String, Access>,
}

/// Who may use what came from a repository.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Access {
    /// The registry gave it to somebody without a login.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    anonymous: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    logins: Vec<Known>,
}

/// A login that the registry gave it to.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    /// The Secret that it's from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
    /// Salted hash of the login itself.
    hash: String,
}

impl Store {
    /// Whether who has these credentials may use an image that is here under this name, without a question to its
    /// registry: by a Secret that it was pulled with, whatever that holds now, or by the same login in another one.
    ///
    /// # Errors
    /// If the records can't be read or written.
    pub fn admits(
        &self,
        manifest: &Digest,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<bool, StoreError> {
        let Some(record) = self.read_record(manifest)? else { return Ok(true) };
        let access = record.repositories.get(&reference.name());
        if record.imported || access.is_some_and(|access| access.anonymous) {
            return Ok(true);
        }
        let Some(access) = access else { return Ok(false) };
        let logins: Vec<&Login> = credentials.matching(reference).collect();
        let same_secret = |login: &&Login| {
            let mut known = access.logins.iter();
            login.origin().is_some() && known.any(|known| known.origin.as_ref() == login.origin())
        };
        if logins.iter().any(same_secret) {
            return Ok(true);
        }
        let known = |login: &&&Login| {
            let hash = record.hash(login);
            access.logins.iter().any(|known| known.hash == hash)
        };
        match logins.iter().find(known) {
            None => Ok(false),
            // From now on it's known by its Secret, which costs less.
            Some(login) => self.record_pull(manifest, reference, Some(login)).map(|()| true),
        }
    }

    /// Takes note that a registry gave an image to who has this login, or to anybody. Before the image gets its name.
    ///
    /// # Errors
    /// If the record can't be read or written.
    pub(crate) fn record_pull(
        &self,
        manifest: &Digest,
        reference: &Reference,
        login: Option<&Login>,
    ) -> Result<(), StoreError> {
        self.change_record(manifest, |record| {
            let salt = match login {
                Some(_) if record.salt.is_empty() => new_salt()?,
                _ => record.salt.clone(),
            };
            record.salt = salt;
            let known = login.map(|login| Known { origin: login.origin().cloned(), hash: record.hash(login) });
            let access = record.repositories.entry(reference.name()).or_default();
            match known {
                None => *access = Access { anonymous: true, logins: Vec::new() },
                Some(_) if access.anonymous => {}
                Some(known) => {
                    access.logins.retain(|one| match &known.origin {
                        Some(origin) => one.origin.as_ref() != Some(origin),
                        None => one.origin.is_some() || one.hash != known.hash,
                    });
                    access.logins.push(known);
                    let surplus = access.logins.len().saturating_sub(MOST_LOGINS);
                    access.logins.drain(..surplus);
                }
            }
            Ok(())
        })
    }

    /// Takes note that whoever has the node brought an image.
    ///
    /// # Errors
    /// If the record can't be read or written.
    pub(crate) fn record_import(&self, _adding: &Adding, manifest: &Digest) -> Result<(), StoreError> {
        self.change_record(manifest, |record| {
            record.imported = true;
            Ok(())
        })
    }

    fn record_path(&self, manifest: &Digest) -> PathBuf {
        self.dir.join("access").join(format!("{}.json", manifest.hex()))
    }

    /// One that can't be understood admits nobody.
    fn read_record(&self, manifest: &Digest) -> Result<Option<Record>, StoreError> {
        let path = self.record_path(manifest);
        match read_bounded(&path, MAX_RECORD) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%manifest, %error, "the record of who may use an image is damaged: its registry is asked");
                Record::default()
            }))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("reading", &path)(error)),
        }
    }

    fn change_record(
        &self,
        manifest: &Digest,
        change: impl FnOnce(&mut Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let lock = self.lock_file(".access.lock")?;
        lock.lock().map_err(io_error("locking", &self.dir))?;
        let mut record = self.read_record(manifest)?.unwrap_or_default();
        change(&mut record)?;
        let path = self.record_path(manifest);
        let bytes = serde_json::to_vec_pretty(&record).map_err(|e| io_error("encoding", &path)(e.into()))?;
        self.publish(&path, &bytes)
    }
}

impl Record {
    fn hash(&self, login: &Login) -> String {
        let mut hash = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, self.salt.as_bytes(), &login.secret(), &mut hash);
        hex::encode(hash)
    }
}

fn new_salt() -> Result<String, StoreError> {
    let mut salt = [0; 16];
    let failed = |_| io_error("making a salt for", &PathBuf::from("access"))(io::Error::other("no random bytes"));
    SystemRandom::new().fill(&mut salt).map_err(failed)?;
    Ok(hex::encode(salt))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &[u8] = b"manifest";

    fn secret(name: &str, uid: &str, password: &str) -> Credentials {
        let mut credentials = Credentials::none();
        let json = serde_json::json!({"auths": {"r.io": {"username": "u", "password": password}}}).to_string();
        let origin = Origin { namespace: "shop".into(), name: name.into(), uid: uid.into() };
        credentials.add_dockerconfigjson(json.as_bytes(), Some(&origin)).unwrap();
        credentials
    }

    struct Place {
        _dir: tempfile::TempDir,
        store: Store,
        manifest: Digest,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).unwrap();
            Self { _dir: dir, store, manifest: Digest::of(MANIFEST) }
        }

        fn pulled(&self, name: &str, credentials: &Credentials) {
            let reference: Reference = name.parse().unwrap();
            let login = credentials.matching(&reference).next();
            self.store.record_pull(&self.manifest, &reference, login).unwrap();
        }

        fn admits(&self, name: &str, credentials: &Credentials) -> bool {
            self.store.admits(&self.manifest, &name.parse().unwrap(), credentials).unwrap()
        }

        fn text(&self) -> String {
            std::fs::read_to_string(self.store.record_path(&self.manifest)).unwrap()
        }
    }

    #[test]
    fn what_was_pulled_with_a_login_is_for_who_has_it() {
        let place = Place::new();
        let own = secret("own", "1", "hunter2");
        assert!(place.admits("r.io/a:1", &Credentials::none()), "it was here before records were kept");
        place.pulled("r.io/a:1", &own);
        assert!(place.admits("r.io/a:1", &own) && place.admits("r.io/a:other", &own));
        assert!(!place.admits("r.io/a:1", &Credentials::none()));
        assert!(!place.admits("r.io/a:1", &secret("other", "2", "guess")));
        assert!(!place.admits("r.io/b:1", &own), "another repository decides for itself");
        assert!(place.admits("r.io/a:1", &secret("own", "1", "changed")), "the same Secret");
        assert!(!place.admits("r.io/a:1", &secret("own", "3", "changed")), "a new Secret of that name");
        assert!(place.admits("r.io/a:1", &secret("copy", "4", "hunter2")), "the same login");
        assert!(place.admits("r.io/a:1", &secret("copy", "4", "later")), "it's known from then on");
        assert!(!place.text().contains("hunter2"));
    }

    #[test]
    fn what_anybody_may_pull_is_for_all() {
        let place = Place::new();
        place.pulled("r.io/a:1", &secret("own", "1", "p"));
        place.pulled("r.io/a:2", &Credentials::none());
        assert!(place.admits("r.io/a:1", &Credentials::none()));
        place.pulled("r.io/a:1", &secret("own", "1", "p"));
        assert!(place.admits("r.io/a:1", &Credentials::none()), "and stays so");
        assert!(!place.text().contains("logins"));
    }

    #[test]
    fn what_was_imported_is_for_all_under_every_name() {
        let place = Place::new();
        place.pulled("r.io/a:1", &secret("own", "1", "p"));
        place.store.record_import(&place.store.adding().unwrap(), &place.manifest).unwrap();
        assert!(place.admits("r.io/a:1", &Credentials::none()) && place.admits("x.y/z:1", &Credentials::none()));
    }

    #[test]
    fn a_damaged_record_admits_nobody_and_is_mended_by_a_pull() {
        let place = Place::new();
        let own = secret("own", "1", "p");
        place.pulled("r.io/a:1", &own);
        std::fs::write(place.store.record_path(&place.manifest), "{\"imported\": maybe").unwrap();
        assert!(!place.admits("r.io/a:1", &own));
        place.pulled("r.io/a:1", &own);
        assert!(place.admits("r.io/a:1", &own));
    }

    #[test]
    fn logins_without_end_are_not_kept() {
        let place = Place::new();
        let access = (0..MOST_LOGINS).map(|number| {
            let origin = Origin { namespace: "n".into(), name: number.to_string(), uid: "u".into() };
            Known { origin: Some(origin), hash: String::new() }
        });
        let access = Access { anonymous: false, logins: access.collect() };
        let record =
            Record { salt: "s".into(), repositories: [("r.io/a".to_owned(), access)].into(), ..Record::default() };
        std::fs::write(place.store.record_path(&place.manifest), serde_json::to_vec(&record).unwrap()).unwrap();
        place.pulled("r.io/a:1", &secret("own", "1", "p"));
        let record = place.store.read_record(&place.manifest).unwrap().unwrap();
        let logins = &record.repositories["r.io/a"].logins;
        let names = |at: usize| logins[at].origin.as_ref().unwrap().name.as_str();
        assert_eq!((logins.len(), names(0), names(MOST_LOGINS - 1)), (MOST_LOGINS, "1", "own"));
    }
}
