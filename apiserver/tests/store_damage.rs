//! Damage on disk is found at start and named; what can be answered for is never a guess.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use martello_apiserver::store::raft::RaftConfig;
use martello_apiserver::store::{
    Body, Expect, Key, ListAt, Object, Op, Page, Pairs, RaftStore, Resource, Scope, Store, StoreError,
};
use ring_cipher::RingCipher;
use tempfile::TempDir;

#[path = "store_cipher/ring_cipher.rs"]
mod ring_cipher;

/// A file to damage, relative to the store's directory.
const DATA: &str = "sled/db";

fn things() -> Resource {
    Resource::new("", "things")
}

async fn open(dir: &Path) -> Result<RaftStore, StoreError> {
    RaftStore::open(RaftConfig::new(dir), Arc::new(RingCipher::new(7))).await
}

async fn put(store: &RaftStore, number: u64) -> u64 {
    let json = format!(r#"{{"metadata":{{}},"number":{number},"text":"{}"}}"#, "x".repeat(500));
    let body = Body::json(&Bytes::from(json)).unwrap();
    let object = Object { uid: "uid".into(), labels: Pairs::default(), fields: Pairs::default(), body };
    let key = Key::new(&things(), "", &number.to_string());
    store.commit(vec![Op::Put { key, expect: Expect::Any, object }]).await.unwrap().revision
}

/// A closed store with objects in its saved state and objects in its log.
async fn written() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await.unwrap();
    for number in 0..20 {
        put(&store, number).await;
    }
    store.snapshot().await.unwrap();
    for number in 20..40 {
        put(&store, number).await;
    }
    store.close().await.unwrap();
    dir
}

async fn contents(store: &RaftStore) -> BTreeMap<String, Bytes> {
    let listed = store.list(&Scope::all(&things()), ListAt::Latest, Page::default()).await.unwrap();
    listed.items.iter().map(|entry| (entry.key.path().to_string(), entry.bytes().clone())).collect()
}

/// Changes the records under the store's feet, as sled's own checksums would not notice.
fn edit(dir: &Path, tree: &str, change: impl FnOnce(&sled::Tree)) {
    let db = sled::Config::new().path(dir.join("sled")).segment_size(4 * 1024 * 1024).open().unwrap();
    change(&db.open_tree(tree).unwrap());
    db.flush().unwrap();
}

fn keys(tree: &sled::Tree) -> Vec<sled::IVec> {
    tree.iter().keys().map(Result::unwrap).collect()
}

fn number(key: &[u8]) -> u64 {
    u64::from_be_bytes(key[..8].try_into().unwrap())
}

async fn damage(dir: &Path) -> String {
    match open(dir).await {
        Err(StoreError::Damaged { what }) => what,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it opened"),
    }
}

fn flip(tree: &sled::Tree, key: &[u8]) {
    let mut value = tree.get(key).unwrap().unwrap().to_vec();
    let middle = value.len() / 2;
    value[middle] ^= 1;
    tree.insert(key, value).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_log_record_is_named() {
    let dir = written().await;
    let mut changed = 0;
    edit(dir.path(), "log", |log| {
        let key = &keys(log)[7];
        changed = number(key);
        flip(log, key);
    });
    assert_eq!(damage(dir.path()).await, format!("log record {changed}: not sealed by this key for this place"));
}

#[tokio::test(flavor = "multi_thread")]
async fn exchanged_log_records_are_named() {
    let dir = written().await;
    let mut changed = 0;
    edit(dir.path(), "log", |log| {
        let keys = keys(log);
        let (one, other) = (log.get(&keys[3]).unwrap().unwrap(), log.get(&keys[4]).unwrap().unwrap());
        log.insert(&keys[3], other).unwrap();
        log.insert(&keys[4], one).unwrap();
        changed = number(&keys[3]);
    });
    assert!(damage(dir.path()).await.starts_with(&format!("log record {changed}: ")));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_log_records_are_named() {
    let dir = written().await;
    let mut last = 0;
    edit(dir.path(), "log", |log| {
        let keys = keys(log);
        last = number(&keys[keys.len() - 1]);
        for key in &keys[keys.len() - 3..] {
            log.remove(key).unwrap();
        }
    });
    let expected = format!("log records {} to {last} are missing, though they were written", last - 2);
    assert_eq!(damage(dir.path()).await, expected);
    let dir = written().await;
    edit(dir.path(), "log", |log| drop(log.remove(&keys(log)[2]).unwrap()));
    assert!(damage(dir.path()).await.contains("are missing, though they were written"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_cut_short_is_dropped() {
    let dir = written().await;
    let before = {
        let store = open(dir.path()).await.unwrap();
        let before = (contents(&store).await, store.progress().await.unwrap());
        store.close().await.unwrap();
        before
    };
    edit(dir.path(), "log", |log| {
        let last = number(&keys(log)[keys(log).len() - 1]);
        let mut key = [0; 10];
        key[..8].copy_from_slice(&(last + 1).to_be_bytes());
        // The length of what should be there, and not all of it.
        log.insert(key, [&60_000_u32.to_le_bytes()[..], &[7; 32_764]].concat()).unwrap();
    });
    for _ in 0..2 {
        let store = open(dir.path()).await.unwrap();
        assert_eq!((contents(&store).await, store.progress().await.unwrap()), before);
        store.close().await.unwrap();
    }
    let store = open(dir.path()).await.unwrap();
    put(&store, 77).await;
    store.close().await.unwrap();
    let store = open(dir.path()).await.unwrap();
    assert_eq!(contents(&store).await.len(), 41);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_image_is_named() {
    let dir = written().await;
    edit(dir.path(), "image", |image| flip(image, &keys(image)[0]));
    assert!(damage(dir.path()).await.starts_with("image record "));
    let dir = written().await;
    edit(dir.path(), "image", |image| drop(image.remove(&keys(image)[0]).unwrap()));
    assert!(damage(dir.path()).await.ends_with("it is missing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_damaged_mark_is_named() {
    let dir = written().await;
    std::fs::remove_file(dir.path().join("mark")).unwrap();
    assert!(damage(dir.path()).await.ends_with("mark is missing"));
    let dir = written().await;
    std::fs::write(dir.path().join("mark"), vec![0; 8192]).unwrap();
    assert!(damage(dir.path()).await.contains("high-water mark"));
    let dir = written().await;
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    assert!(damage(dir.path()).await.contains("all are missing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_index_of_sled_does_not_stop_a_start() {
    let dir = written().await;
    std::fs::write(dir.path().join("sled/snap.7FFFFFFFFFFFFFFF.generating"), b"half").unwrap();
    let store = open(dir.path()).await.unwrap();
    assert_eq!(contents(&store).await.len(), 40);
    store.close().await.unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_anywhere_is_found_or_harmless() {
    let dir = written().await;
    let store = open(dir.path()).await.unwrap();
    let expected = contents(&store).await;
    store.close().await.unwrap();
    let data = std::fs::read(dir.path().join(DATA)).unwrap();
    let used: Vec<_> = (0..data.len()).filter(|&at| data[at] != 0).collect();
    let (mut found, mut harmless) = (0, 0);
    for step in 0..80 {
        let at = used[used.len() * step / 80 + 5];
        let hurt = tempfile::tempdir().unwrap();
        copy(dir.path(), hurt.path());
        let mut bytes = data.clone();
        bytes[at] ^= 0x10;
        std::fs::write(hurt.path().join(DATA), bytes).unwrap();
        match open(hurt.path()).await {
            Ok(store) => {
                assert_eq!(contents(&store).await, expected, "a bit flipped at {at} changed what is served");
                store.close().await.unwrap();
                harmless += 1;
            }
            Err(StoreError::Damaged { .. } | StoreError::Disk { .. }) => found += 1,
            Err(other) => panic!("a bit flipped at {at}: {other}"),
        }
    }
    assert!(found > 0, "{found} found, {harmless} harmless");
}
