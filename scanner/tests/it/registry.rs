//! A real registry on the loopback interface: honest, lying, closed, and behind TLS.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use martello_scanner::credentials::{Credentials, Origin};
use martello_scanner::registry::RegistryConfig;
use martello_scanner::{Config, Digest, Image, Images, PullPolicy};
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;

use crate::fixture::{Built, Tar, arch};

/// `user` with the password `hunter2`.
const HTPASSWD: &str = "user:$2b$04$20iYXtAqYUZ3aaP3auNqWOOdL8TKmpsgS9290xq1d4.oDiPIgX5/a\n";

struct Registry {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
    authority: Option<Vec<u8>>,
}

impl Registry {
    fn start(login: bool, tls: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            at("data")
        );
        let mut authority = None;
        if tls {
            let made =
                rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
            std::fs::write(at("cert"), made.cert.pem()).unwrap();
            std::fs::write(at("key"), made.signing_key.serialize_pem()).unwrap();
            config += &format!("  tls: {{certificate: {}, key: {}}}\n", at("cert"), at("key"));
            authority = Some(made.cert.pem().into_bytes());
        }
        if login {
            std::fs::write(at("htpasswd"), HTPASSWD).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", at("htpasswd"));
        }
        std::fs::write(at("config.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", &at("config.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the Debian package docker-registry is needed");
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the registry does not start");
            std::thread::yield_now();
        }
        Self { child, dir, port, authority }
    }

    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn config(&self) -> Config {
        let plain_http = if self.authority.is_some() { Vec::new() } else { vec![self.host()] };
        let extra_authorities_pem = self.authority.clone().into_iter().collect();
        Config { registry: RegistryConfig { plain_http, extra_authorities_pem }, ..Config::default() }
    }

    async fn push(&self, built: &Built, tag: &str, auth: &RegistryAuth) {
        let client = pusher();
        let target: oci_client::Reference = format!("{}/team/app:{tag}", self.host()).parse().unwrap();
        client.auth(&target, auth, oci_client::RegistryOperation::Push).await.unwrap();
        for blob in built.layers.iter().map(|(_, blob)| blob).chain([&built.config]) {
            client.push_blob(&target, blob.clone(), &Digest::of(blob).to_string()).await.unwrap();
        }
        let kind = http::HeaderValue::from_static("application/vnd.oci.image.manifest.v1+json");
        client.push_manifest_raw(&target, built.manifest.clone(), kind).await.unwrap();
    }

    /// Where the registry itself keeps a blob.
    fn data(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.dir.path().join("data/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(&hex).join("data")
    }

    async fn pull(&self, store: &Path, tag: &str, credentials: &Credentials) -> Result<Image, martello_scanner::Error> {
        let images = Images::open(store, self.config()).unwrap();
        let reference = format!("{}/team/app{tag}", self.host()).parse().unwrap();
        images.ensure(&reference, PullPolicy::Always, credentials).await.map(|ensured| ensured.image)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The client that pushes what is to be pulled.
fn pusher() -> Client {
    rustls::crypto::ring::default_provider().install_default().ok();
    Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() })
}

fn built() -> Built {
    Built::new(&[Tar::default().file("f", vec![b'x'; 100_000]).end(), Tar::default().file("g", "second").end()])
}

#[tokio::test]
async fn images_are_pulled_by_tag_digest_and_index() {
    let registry = Registry::start(false, false);
    let built = built();
    registry.push(&built, "1", &RegistryAuth::Anonymous).await;
    let index = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": built.digest().to_string(), "size": built.manifest.len(),
            "platform": { "os": "linux", "architecture": arch() },
        }],
    }))
    .unwrap();
    let client = pusher();
    let target: oci_client::Reference = format!("{}/team/app:multi", registry.host()).parse().unwrap();
    client.auth(&target, &RegistryAuth::Anonymous, oci_client::RegistryOperation::Push).await.unwrap();
    let kind = http::HeaderValue::from_static("application/vnd.oci.image.index.v1+json");
    client.push_manifest_raw(&target, index.clone(), kind).await.unwrap();

    for tag in
        [":1".to_owned(), format!("@{}", built.digest()), ":multi".to_owned(), format!("@{}", Digest::of(&index))]
    {
        let store = tempfile::tempdir().unwrap();
        let image = registry.pull(store.path(), &tag, &Credentials::none()).await.unwrap();
        assert_eq!(image.manifest, built.digest(), "{tag}");
        let images = Images::open(store.path(), registry.config()).unwrap();
        assert!(images.verdict(&image.manifest).is_ok());
        let pinned = format!("{}/team/app{tag}", registry.host()).parse().unwrap();
        assert!(images.ensure(&pinned, PullPolicy::Never, &Credentials::none()).await.is_ok(), "{tag}");
    }
    let store = tempfile::tempdir().unwrap();
    let error = registry.pull(store.path(), ":missing", &Credentials::none()).await.unwrap_err();
    assert!(error.explain().contains("does not have"), "{}", error.explain());
    assert_eq!(error.reason(), "ErrImagePull");
}

#[tokio::test]
async fn bytes_that_do_not_match_their_digest_are_refused() {
    let registry = Registry::start(false, false);
    let built = built();
    registry.push(&built, "1", &RegistryAuth::Anonymous).await;
    let layer = registry.data(&Digest::of(&built.layers[0].1));
    let honest = std::fs::read(&layer).unwrap();
    let mut lie = honest.clone();
    lie[50] ^= 1;
    for (bytes, reason) in
        [(lie, "does not have the expected bytes"), (honest[..honest.len() / 2].to_vec(), "instead of")]
    {
        std::fs::write(&layer, bytes).unwrap();
        let store = tempfile::tempdir().unwrap();
        let error = registry.pull(store.path(), ":1", &Credentials::none()).await.unwrap_err();
        assert!(error.explain().contains(reason), "{}", error.explain());
        assert!(Images::open(store.path(), registry.config()).unwrap().list().unwrap().is_empty());
    }
    std::fs::write(&layer, honest).unwrap();
    let store = tempfile::tempdir().unwrap();
    assert!(registry.pull(store.path(), ":1", &Credentials::none()).await.is_ok());
}

#[tokio::test]
async fn a_closed_registry_opens_to_the_right_login_only() {
    let registry = Registry::start(true, false);
    let login = RegistryAuth::Basic("user".to_owned(), "hunter2".to_owned());
    registry.push(&built(), "1", &login).await;
    let credentials = |passwords: &[&str]| {
        let mut credentials = Credentials::none();
        for (n, password) in passwords.iter().enumerate() {
            let key = if n == 0 { format!("{}/team", registry.host()) } else { registry.host() };
            let json = serde_json::json!({ "auths": { key: { "username": "user", "password": password } } });
            credentials.add_dockerconfigjson(&serde_json::to_vec(&json).unwrap(), None).unwrap();
        }
        credentials
    };
    let store = tempfile::tempdir().unwrap();
    for closed in [Credentials::none(), credentials(&["wrong"])] {
        let error = registry.pull(store.path(), ":1", &closed).await.unwrap_err();
        assert!(error.explain().contains("imagePullSecrets"), "{}", error.explain());
        assert!(!error.explain().contains("wrong"), "{}", error.explain());
    }
    // The first matching login is wrong, the second one right.
    assert!(registry.pull(store.path(), ":1", &credentials(&["wrong", "hunter2"])).await.is_ok());
}

#[tokio::test]
async fn an_image_on_the_node_is_for_those_whom_its_registry_would_give_it_to() {
    let registry = Registry::start(true, false);
    let login = RegistryAuth::Basic("user".to_owned(), "hunter2".to_owned());
    let built = built();
    registry.push(&built, "1", &login).await;
    let secret = |name: &str, password: &str| {
        let mut credentials = Credentials::none();
        let json = serde_json::json!({"auths": {registry.host(): {"username": "user", "password": password}}});
        let origin = Origin { namespace: "shop".into(), name: name.into(), uid: name.into() };
        credentials.add_dockerconfigjson(json.to_string().as_bytes(), Some(&origin)).unwrap();
        credentials
    };
    let dir = tempfile::tempdir().unwrap();
    let images = Images::open(dir.path(), registry.config()).unwrap();
    let named = |tag: &str| format!("{}/team/app{tag}", registry.host()).parse().unwrap();
    let (tag, digest) = (named(":1"), named(&format!("@{}", built.digest())));
    let (own, copy, none) = (secret("own", "hunter2"), secret("copy", "hunter2"), Credentials::none());
    assert!(images.ensure(&tag, PullPolicy::IfNotPresent, &own).await.unwrap().pulled);
    for reference in [&tag, &digest] {
        for credentials in [&own, &copy] {
            assert!(images.is_here(reference, credentials).unwrap());
            let ensured = images.ensure(reference, PullPolicy::IfNotPresent, credentials).await.unwrap();
            assert!(!ensured.pulled && ensured.image.manifest == built.digest());
            assert!(images.ensure(reference, PullPolicy::Never, credentials).await.is_ok());
        }
        for credentials in [&none, &secret("other", "wrong")] {
            assert!(!images.is_here(reference, credentials).unwrap());
            let error = images.ensure(reference, PullPolicy::Never, credentials).await.unwrap_err();
            assert_eq!(error.reason(), "ErrImageNeverPull");
            let error = images.ensure(reference, PullPolicy::IfNotPresent, credentials).await.unwrap_err();
            assert_eq!(error.reason(), "ErrImagePull");
            assert!(error.explain().contains("denied"), "{}", error.explain());
        }
    }
    // Another registry may not vouch for it.
    let elsewhere = format!("127.0.0.1:1/team/app@{}", built.digest()).parse().unwrap();
    assert!(images.ensure(&elsewhere, PullPolicy::Never, &own).await.is_err());
    // Whoever has the node may open it to all.
    images.import(built.archive("example.com/free:1").as_slice(), None).unwrap();
    assert!(images.ensure(&tag, PullPolicy::Never, &none).await.is_ok());
}

#[tokio::test]
async fn tls_needs_a_known_authority_and_plain_http_needs_naming() {
    let registry = Registry::start(false, true);
    let store = tempfile::tempdir().unwrap();
    let reference = format!("{}/team/app:1", registry.host()).parse().unwrap();
    let unknown = Images::open(store.path(), Config::default()).unwrap();
    let error = unknown.ensure(&reference, PullPolicy::Always, &Credentials::none()).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryUnavailable", "{}", error.explain());
    let error = registry.pull(store.path(), ":1", &Credentials::none()).await.unwrap_err();
    assert!(error.explain().contains("does not have"), "{}", error.explain());
    let plain = RegistryConfig { plain_http: vec!["registry.example.com".to_owned()], ..RegistryConfig::default() };
    assert!(Images::open(store.path(), Config { registry: plain, ..Config::default() }).is_err());
}
