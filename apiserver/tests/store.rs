//! What every backend of the store does, and what the durable one does besides.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use martello_apiserver::store::raft::RaftConfig;
use martello_apiserver::store::{
    Body, Cipher, CipherError, EventKind, Expect, Key, ListAt, MAX_COMMIT_BYTES, MemoryStore, Object, Op, Page, Pairs,
    RaftStore, Resource, Scope, Store, StoreError,
};
use ring_cipher::RingCipher;

#[path = "store_cipher/ring_cipher.rs"]
mod ring_cipher;

fn pods() -> Resource {
    Resource::new("", "pods")
}

fn key(path: &str) -> Key {
    Key::from_path(pods(), path.into())
}

fn object(content: &str) -> Object {
    let json = format!(r#"{{"metadata":{{"resourceVersion":""}},"content":"{content}"}}"#);
    let labels = [("app", content)].into_iter().collect();
    Object { uid: "uid".into(), labels, fields: Pairs::default(), body: Body::json(&Bytes::from(json)).unwrap() }
}

fn put(path: &str, content: &str, expect: Expect) -> Vec<Op> {
    vec![Op::Put { key: key(path), expect, object: object(content) }]
}

fn delete(path: &str, expect: Expect) -> Vec<Op> {
    vec![Op::Delete { key: key(path), expect }]
}

async fn open(dir: &Path) -> Result<RaftStore, StoreError> {
    RaftStore::open(RaftConfig::new(dir), Arc::new(RingCipher::new(7))).await
}

/// Everything that is asked of any backend.
async fn behaves(store: &dyn Store) {
    let start = store.progress().await.unwrap();
    let all = Scope::all(&pods());
    let mut watch = store.watch(&all, start).await.unwrap();
    let first = store.commit(put("a/x", "1", Expect::Absent)).await.unwrap();
    let entry = first.entries[0].clone().unwrap();
    assert_eq!(entry.bytes(), &format!(r#"{{"metadata":{{"resourceVersion":"{}"}},"content":"1"}}"#, first.revision));
    assert_eq!(entry.labels.get("app"), Some("1"));

    let refused = store.commit(put("a/x", "2", Expect::Absent)).await.unwrap_err();
    assert!(
        matches!(&refused, StoreError::Conflict { index: 0, current: Some(now) } if now.revision == first.revision)
    );
    let refused = store.commit(put("a/x", "2", Expect::Revision(first.revision + 1))).await.unwrap_err();
    assert!(matches!(refused, StoreError::Conflict { .. }));
    let refused = store.commit(delete("a/none", Expect::Any)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Conflict { current: None, .. }));

    let second = store.commit(put("a/x", "2", Expect::Revision(first.revision))).await.unwrap();
    assert!(second.revision > first.revision);
    let both = [put("b/y", "3", Expect::Absent), delete("a/x", Expect::Revision(first.revision))].concat();
    assert!(matches!(store.commit(both).await, Err(StoreError::Conflict { index: 1, .. })));
    assert!(store.get(&key("b/y")).await.unwrap().is_none(), "a refused commit does nothing at all");
    let both = [put("b/y", "3", Expect::Absent), delete("a/x", Expect::Revision(second.revision))].concat();
    let third = store.commit(both).await.unwrap();

    let mut told = Vec::new();
    while told.len() < 4 {
        told.extend(watch.next().await.unwrap().events);
    }
    let kinds: Vec<_> = told.iter().map(|event| (event.kind, event.entry.key.path().to_string())).collect();
    let path = str::to_owned;
    assert_eq!(
        kinds,
        [
            (EventKind::Added, path("a/x")),
            (EventKind::Modified, path("a/x")),
            (EventKind::Added, path("b/y")),
            (EventKind::Deleted, path("a/x"))
        ]
    );
    assert_eq!(told[3].entry.revision, third.revision);
    assert_eq!(told[3].previous.as_ref().unwrap().revision, second.revision);
    assert_eq!(watch.progress(), third.revision);

    lists(store, &all, first.revision, third.revision).await;
    compacts(store, &all, third.revision).await;
    refuses_what_is_too_large(store).await;
}

async fn lists(store: &dyn Store, all: &Scope, first: u64, last: u64) {
    let then = store.list(all, ListAt::Exact(first), Page::default()).await.unwrap();
    assert_eq!((then.revision, then.items.len(), then.items[0].revision), (first, 1, first));
    let now = store.list(all, ListAt::Latest, Page::default()).await.unwrap();
    assert_eq!((now.revision, now.items.len(), &**now.items[0].key.path()), (last, 1, "b/y"));
    for number in 0..5 {
        store.commit(put(&format!("c/{number}"), "p", Expect::Absent)).await.unwrap();
    }
    let space = Scope::namespace(&pods(), "c");
    let page = Page { limit: Some(2), after: None };
    let one = store.list(&space, ListAt::Latest, page).await.unwrap();
    assert_eq!((one.items.len(), one.remaining), (2, 3));
    store.commit(delete("c/4", Expect::Any)).await.unwrap();
    let page = Page { limit: Some(9), after: one.items.last().map(|entry| Arc::clone(entry.key.path())) };
    let two = store.list(&space, ListAt::Exact(one.revision), page).await.unwrap();
    assert_eq!((two.items.len(), two.remaining), (3, 0));
}

async fn compacts(store: &dyn Store, all: &Scope, before: u64) {
    let now = store.progress().await.unwrap();
    let oldest = store.compact(now).await.unwrap();
    assert_eq!(oldest, now);
    let late = store.list(all, ListAt::Exact(before), Page::default()).await.unwrap_err();
    assert!(matches!(late, StoreError::Compacted { wanted, oldest } if wanted == before && oldest == now));
    assert!(matches!(store.watch(all, before).await.map(drop), Err(StoreError::Compacted { .. })));
    assert!(store.watch(all, now).await.is_ok());
}

async fn refuses_what_is_too_large(store: &dyn Store) {
    let body = Body::Sealed(Bytes::from(vec![0; MAX_COMMIT_BYTES]));
    let ops = vec![Op::Put { key: key("a/big"), expect: Expect::Any, object: Object { body, ..object("") } }];
    assert!(matches!(store.commit(ops).await, Err(StoreError::TooLarge { .. })));
}

#[tokio::test]
async fn the_store_in_memory_behaves() {
    behaves(&MemoryStore::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_on_disk_behaves() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await.unwrap();
    behaves(&store).await;
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..4 {
        let store = open(dir.path()).await.unwrap();
        assert_eq!(store.progress().await.unwrap().max(last), store.progress().await.unwrap());
        for earlier in 0..round * 10 {
            let entry = store.get(&key(&format!("a/{earlier}"))).await.unwrap().unwrap();
            let json: serde_json::Value = serde_json::from_slice(entry.bytes()).unwrap();
            assert_eq!(json["metadata"]["resourceVersion"], entry.revision.to_string());
        }
        for number in round * 10..round * 10 + 10 {
            last = store.commit(put(&format!("a/{number}"), "x", Expect::Absent)).await.unwrap().revision;
        }
        if round % 2 == 1 {
            assert_eq!(store.snapshot().await.unwrap(), last);
            assert_eq!(store.status().log_bytes, 0);
        }
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_dropped_when_the_state_was_saved() {
    let dir = tempfile::tempdir().unwrap();
    let config = RaftConfig { save_log_bytes: 20_000, ..RaftConfig::new(dir.path()) };
    let store = RaftStore::open(config, Arc::new(RingCipher::new(7))).await.unwrap();
    let content = "x".repeat(1000);
    let mut saved = false;
    for number in 0..300 {
        store.commit(put(&format!("a/{}", number % 5), &content, Expect::Any)).await.unwrap();
        saved |= store.status().log_bytes < u64::try_from(number).unwrap() * 1000;
    }
    assert!(saved);
    let revision = store.progress().await.unwrap();
    store.close().await.unwrap();
    let store = open(dir.path()).await.unwrap();
    assert_eq!(store.status().objects, 5);
    assert_eq!(store.progress().await.unwrap(), revision);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn large_objects_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await.unwrap();
    for number in 0..20 {
        let content = format!("{number}").repeat(700_000);
        store.commit(put(&format!("a/{number}"), &content, Expect::Absent)).await.unwrap();
    }
    let blobs = dir.path().join("sled/blobs");
    assert_eq!(std::fs::read_dir(&blobs).unwrap().count(), 0, "sled would not sync these");
    store.close().await.unwrap();
    for _ in 0..2 {
        let store = open(dir.path()).await.unwrap();
        let entry = store.get(&key("a/7")).await.unwrap().unwrap();
        assert!(entry.bytes().len() > 700_000 && entry.bytes().ends_with(b"777\"}"));
        store.snapshot().await.unwrap();
        assert_eq!(std::fs::read_dir(&blobs).unwrap().count(), 0);
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_opens_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await.unwrap();
    store.commit(put("a/x", "hush-hush", Expect::Absent)).await.unwrap();
    store.close().await.unwrap();
    let refused = RaftStore::open(RaftConfig::new(dir.path()), Arc::new(RingCipher::new(8))).await;
    assert!(matches!(refused.map(drop), Err(StoreError::Damaged { what }) if what.contains("key")));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_on_disk_in_plaintext() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await.unwrap();
    store.commit(put("space-name/object-name", "hush-hush", Expect::Absent)).await.unwrap();
    store.snapshot().await.unwrap();
    store.commit(put("space-name/object-name", "hush-hush", Expect::Any)).await.unwrap();
    store.close().await.unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(dir.path().join("sled")).unwrap().chain(std::fs::read_dir(dir.path()).unwrap()) {
        let path = entry.unwrap().path();
        if path.is_file() {
            let content = std::fs::read(&path).unwrap();
            files += 1;
            for plain in [&b"hush-hush"[..], b"space-name", b"object-name", b"resourceVersion"] {
                assert!(!content.windows(plain.len()).any(|window| window == plain), "{}", path.display());
            }
        }
    }
    assert!(files >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_falls_behind_is_told_so() {
    let window = martello_apiserver::store::mvcc::Window { events: 4, ..Default::default() };
    let store = MemoryStore::new(window);
    let mut watch = store.watch(&Scope::all(&pods()), store.progress().await.unwrap()).await.unwrap();
    for _ in 0..9 {
        store.commit(put("a/x", "1", Expect::Any)).await.unwrap();
    }
    assert!(matches!(watch.next().await, Err(StoreError::Compacted { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_waits_for_its_revision() {
    let store = MemoryStore::default();
    let wanted = store.progress().await.unwrap() + 1;
    let reader = store.clone();
    let list =
        tokio::spawn(
            async move { reader.list(&Scope::all(&pods()), ListAt::NotOlderThan(wanted), Page::default()).await },
        );
    tokio::task::yield_now().await;
    store.commit(put("a/x", "1", Expect::Any)).await.unwrap();
    assert_eq!(list.await.unwrap().unwrap().items.len(), 1);
}

/// Takes a new key, or loses it, at any time.
struct Changing {
    keys: [RingCipher; 2],
    newest: AtomicUsize,
    lost: AtomicBool,
    forgotten: AtomicBool,
}

impl Changing {
    fn new() -> Arc<Self> {
        let keys = [RingCipher::new(1), RingCipher::new(2)];
        Arc::new(Self { keys, newest: 0.into(), lost: false.into(), forgotten: false.into() })
    }
}

impl Cipher for Changing {
    fn seal(&self, place: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, CipherError> {
        if self.lost.load(Ordering::SeqCst) {
            return Err(CipherError::Unavailable);
        }
        self.keys[self.newest.load(Ordering::SeqCst)].seal(place, plaintext)
    }

    fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CipherError> {
        let oldest = usize::from(self.forgotten.load(Ordering::SeqCst));
        let opened = self.keys[oldest..].iter().map(|key| key.open(place, sealed));
        opened.reduce(Result::or).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_key_can_be_forgotten_once_all_is_sealed_again() {
    let dir = tempfile::tempdir().unwrap();
    let cipher = Changing::new();
    let store = RaftStore::open(RaftConfig::new(dir.path()), Arc::clone(&cipher) as _).await.unwrap();
    store.commit(put("a/x", "1", Expect::Absent)).await.unwrap();
    store.snapshot().await.unwrap();
    store.commit(put("a/y", "2", Expect::Absent)).await.unwrap();
    cipher.newest.store(1, Ordering::SeqCst);
    store.reseal().await.unwrap();
    store.commit(put("a/z", "3", Expect::Absent)).await.unwrap();
    store.close().await.unwrap();
    cipher.forgotten.store(true, Ordering::SeqCst);
    let store = RaftStore::open(RaftConfig::new(dir.path()), cipher as _).await.unwrap();
    assert_eq!(store.status().objects, 3);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_is_not_acknowledged_and_stops_writing() {
    let dir = tempfile::tempdir().unwrap();
    let cipher = Changing::new();
    let store = RaftStore::open(RaftConfig::new(dir.path()), Arc::clone(&cipher) as _).await.unwrap();
    let good = store.commit(put("a/x", "1", Expect::Absent)).await.unwrap();
    cipher.lost.store(true, Ordering::SeqCst);
    assert!(matches!(store.commit(put("a/y", "2", Expect::Absent)).await, Err(StoreError::Unavailable { .. })));
    cipher.lost.store(false, Ordering::SeqCst);
    assert!(matches!(store.commit(put("a/z", "3", Expect::Absent)).await, Err(StoreError::Unavailable { .. })));
    assert!(store.status().failure.is_some());
    assert_eq!(store.get(&key("a/x")).await.unwrap().unwrap().revision, good.revision);
    assert!(store.get(&key("a/y")).await.unwrap().is_none());
    store.close().await.unwrap();
    let store = RaftStore::open(RaftConfig::new(dir.path()), cipher as _).await.unwrap();
    assert!(store.get(&key("a/x")).await.unwrap().is_some());
    store.commit(put("a/y", "2", Expect::Absent)).await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_opened_once_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await.unwrap();
    assert!(matches!(open(dir.path()).await.map(drop), Err(StoreError::Disk { .. })));
    store.close().await.unwrap();
}
