//! Registries that answer with more than was asked for, or want the login where others can read it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use martello_scanner::credentials::Credentials;
use martello_scanner::registry::RegistryConfig;
use martello_scanner::{Config, Images, PullPolicy};

/// No document is as long as this, so nobody needs to send more.
const FAR_TOO_MUCH: u64 = 64 << 20;

/// How a registry answers: by the path, given its own address.
type Answers = fn(path: &str, host: &str) -> Answer;

enum Answer {
    /// This status and these header fields, and no body.
    Head(&'static str, String),
    /// A body without end.
    Endless,
}

/// A registry on the loopback interface; counts the bytes that it got rid of, and keeps the requests' heads.
struct Registry {
    host: String,
    sent: Arc<AtomicU64>,
    heads: Arc<std::sync::Mutex<String>>,
}

impl Registry {
    fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let registry = Self { host: host.clone(), sent: Arc::default(), heads: Arc::default() };
        let (sent, heads) = (Arc::clone(&registry.sent), Arc::clone(&registry.heads));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // One who hangs up has heard enough.
                serve(stream, answers, &host, &sent, &heads).ok();
            }
        });
        registry
    }

    /// What becomes of a pull from here, with the login `user` and `hunter2`.
    async fn pull(&self) -> String {
        let store = tempfile::tempdir().unwrap();
        let registry = RegistryConfig { plain_http: vec![self.host.clone()], ..RegistryConfig::default() };
        let images = Images::open(store.path(), Config { registry, ..Config::default() }).unwrap();
        let mut credentials = Credentials::none();
        let login = serde_json::json!({"auths": {&self.host: {"username": "user", "password": "hunter2"}}});
        credentials.add_dockerconfigjson(login.to_string().as_bytes(), None).unwrap();
        let reference = format!("{}/team/app:1", self.host).parse().unwrap();
        let error = images.ensure(&reference, PullPolicy::Always, &credentials).await.unwrap_err();
        error.explain()
    }
}

fn serve(
    stream: TcpStream,
    answers: Answers,
    host: &str,
    sent: &AtomicU64,
    heads: &std::sync::Mutex<String>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while reader.read_line(&mut head)? > 2 {}
    heads.lock().unwrap().push_str(&head);
    let path = head.split(' ').nth(1).unwrap_or_default();
    let mut writer = stream;
    match answers(path, host) {
        Answer::Head(status, fields) => {
            let length = if fields.contains("content-length") { "" } else { "content-length: 0\r\n" };
            write!(writer, "HTTP/1.1 {status}\r\n{fields}{length}connection: close\r\n\r\n")
        }
        Answer::Endless => {
            write!(writer, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
            let piece = vec![b' '; 64 << 10];
            while sent.load(Ordering::Relaxed) < FAR_TOO_MUCH {
                writer.write_all(&piece)?;
                sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            Ok(())
        }
    }
}

#[tokio::test]
async fn a_manifest_without_end_is_cut_off() {
    let registry = Registry::start(|_, _| Answer::Endless);
    let why = registry.pull().await;
    assert!(why.contains("the answer has more than"), "{why}");
    assert!(registry.sent.load(Ordering::Relaxed) < FAR_TOO_MUCH);
}

#[tokio::test]
async fn a_manifest_that_says_it_is_too_long_is_not_read() {
    let registry = Registry::start(|_, _| Answer::Head("200 OK", "content-length: 9999999999\r\n".to_owned()));
    let why = registry.pull().await;
    assert!(why.contains("the answer has more than"), "{why}");
}

#[tokio::test]
async fn a_token_without_end_is_cut_off() {
    let registry = Registry::start(|path, host| {
        if path.starts_with("/token") {
            return Answer::Endless;
        }
        Answer::Head("401 Unauthorized", format!("www-authenticate: Bearer realm=\"http://{host}/token\"\r\n"))
    });
    let why = registry.pull().await;
    assert!(why.contains("the answer has more than"), "{why}");
    assert!(registry.sent.load(Ordering::Relaxed) < FAR_TOO_MUCH);
}

#[tokio::test]
async fn the_login_is_not_sent_where_others_can_read_it() {
    let registry = Registry::start(|_, _| {
        let fields = "www-authenticate: Bearer realm=\"http://192.0.2.1/token\",service=\"x\"\r\n";
        Answer::Head("401 Unauthorized", fields.to_owned())
    });
    let why = registry.pull().await;
    assert!(why.contains("not reached over TLS"), "{why}");
    assert!(!registry.heads.lock().unwrap().to_lowercase().contains("authorization"));
}
