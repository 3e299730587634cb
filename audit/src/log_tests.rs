use std::{fs, io::Write as _, path::PathBuf};

use martello_api::{
    attributes::{Attributes, ResourceTarget, Target},
    identity::User,
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{Damage, Finding, Report, VerifyError, files::segments, tail, verify};

struct TestKey(ring::hmac::Key);

impl Authenticator for TestKey {
    fn mac(&self, message: &[u8]) -> [u8; 32] {
        ring::hmac::sign(&self.0, message).as_ref().try_into().unwrap()
    }

    fn verify_mac(&self, message: &[u8], mac: &[u8]) -> bool {
        ring::hmac::verify(&self.0, message, mac).is_ok()
    }
}

/// Shifts the bytes by the number: enough to see that records are sealed and bound to their place.
struct TestCipher;

impl RecordCipher for TestCipher {
    fn seal(&self, number: u64, plaintext: &[u8]) -> Result<Vec<u8>, String> {
        Ok(plaintext.iter().map(|byte| byte.wrapping_add(number as u8 + 1)).collect())
    }

    fn open(&self, number: u64, sealed: &[u8]) -> Result<Vec<u8>, String> {
        Ok(sealed.iter().map(|byte| byte.wrapping_sub(number as u8 + 1)).collect())
    }
}

fn key(byte: u8) -> Arc<TestKey> {
    Arc::new(TestKey(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[byte; 32])))
}

fn keys() -> Keys {
    Keys { authenticator: key(1), cipher: None }
}

fn now() -> Timestamp {
    "2026-01-02T03:04:05.678901Z".parse().unwrap()
}

fn event(name: &str) -> Event {
    let target = ResourceTarget { resource: "secrets".into(), name: name.into(), ..ResourceTarget::default() };
    let user = Arc::new(User::authenticated("jane", ["devs"]));
    let attributes = Attributes { user, verb: "get".into(), target: Target::Resource(target) };
    Event::received(name.to_owned(), &attributes, "/api/v1/secrets", now())
}

fn open(directory: &Path, segment_bytes: u64) -> (Log, Opened) {
    let config = Config { segment_bytes, ..Config::default() };
    Log::open(directory, &keys(), &config, now()).unwrap()
}

/// A log of `count` records in segments of this size, closed.
async fn written(count: u64, segment_bytes: u64) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), segment_bytes);
    for number in 1..=count {
        log.record(&event(&format!("s{number}"))).unwrap();
        log.flush().await.unwrap();
    }
    directory
}

fn check(directory: &Path) -> Result<Report, VerifyError> {
    verify(directory, key(1).as_ref())
}

fn found(directory: &Path) -> Finding {
    match check(directory) {
        Err(VerifyError::Found(finding)) => finding,
        other => panic!("{other:?}"),
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    segments(directory).unwrap().into_iter().map(|first| crate::files::segment_path(directory, first)).collect()
}

#[tokio::test]
async fn what_was_recorded_is_there_in_order_and_verifies() {
    let directory = tempfile::tempdir().unwrap();
    let (log, opened) = open(directory.path(), 1 << 20);
    assert_eq!(opened, Opened { last_record: 0, gap: None });
    log.record(&event("a")).unwrap();
    let pending = log.begin(event("b")).await.unwrap();
    pending.close(201, "", &[("authorization.k8s.io/decision", "allow")], now()).await.unwrap();
    drop(log);
    let entries = tail(directory.path(), 10, None).unwrap();
    let stages: Vec<_> = entries
        .iter()
        .map(|entry| {
            let event = entry.event.as_ref().unwrap();
            (entry.number, event["auditID"].as_str().unwrap(), event["stage"].as_str().unwrap())
        })
        .collect();
    assert_eq!(stages, [(1, "a", "RequestReceived"), (2, "b", "RequestReceived"), (3, "b", "ResponseComplete")]);
    let last = entries[2].event.as_ref().unwrap();
    assert_eq!(last["responseStatus"]["code"], 201);
    assert_eq!(last["requestReceivedTimestamp"], "2026-01-02T03:04:05.678901Z");
    assert_eq!(last["annotations"]["authorization.k8s.io/decision"], "allow");
    assert_eq!(tail(directory.path(), 1, None).unwrap()[0].number, 3);
    assert_eq!(check(directory.path()).unwrap(), Report { records: 3, segments: 1, ..Report::default() });
}

#[tokio::test]
async fn a_log_goes_on_after_a_restart_and_over_several_files() {
    let directory = written(7, 900).await;
    let (log, opened) = open(directory.path(), 900);
    assert_eq!(opened, Opened { last_record: 7, gap: None });
    log.record(&event("later")).unwrap();
    drop(log);
    let report = check(directory.path()).unwrap();
    assert!(report.records == 8 && report.segments > 2, "{report:?}");
    assert_eq!(tail(directory.path(), 100, None).unwrap().len(), 8);
}

#[tokio::test]
async fn one_changed_byte_anywhere_is_found_and_its_record_named() {
    let directory = written(6, 900).await;
    for file in files(directory.path()) {
        let original = fs::read(&file).unwrap();
        let first: u64 = file.file_stem().unwrap().to_str().unwrap().strip_prefix("audit-").unwrap().parse().unwrap();
        let mut line = 0;
        for place in 0..original.len() {
            let mut changed = original.clone();
            changed[place] ^= 1;
            fs::write(&file, &changed).unwrap();
            let finding = found(directory.path());
            let record = if line == 0 { first } else { first + line - 1 };
            assert_eq!((finding.record, &finding.file), (record, &file), "byte {place}: {finding}");
            line += u64::from(original[place] == b'\n');
        }
        fs::write(&file, &original).unwrap();
    }
    check(directory.path()).unwrap();
}

#[tokio::test]
async fn removed_moved_and_cut_records_are_found() {
    let directory = written(5, 1 << 20).await;
    let file = files(directory.path()).remove(0);
    let original = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = original.lines().collect();
    let put =
        |lines: &[&str]| fs::write(&file, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    for gone in 1..=5 {
        let mut left = lines.clone();
        left.remove(gone);
        put(&left);
        assert_eq!(found(directory.path()).record, gone as u64);
        put(&lines[..gone]);
        assert_eq!(found(directory.path()).record, gone as u64);
        assert_eq!(found(directory.path()).damage, Damage::CutOff { last: 5 });
        assert!(Log::open(directory.path(), &keys(), &Config::default(), now()).is_err());
    }
    let mut moved = lines.clone();
    moved.swap(2, 3);
    put(&moved);
    assert_eq!(found(directory.path()).record, 2);
}

#[tokio::test]
async fn records_that_were_written_anew_with_fitting_hashes_do_not_fit_the_head() {
    let directory = written(3, 1 << 20).await;
    let file = files(directory.path()).remove(0);
    let original = fs::read(&file).unwrap();
    let header = original.split_inclusive(|&byte| byte == b'\n').next().unwrap();
    let mut forged = header.to_vec();
    let mut chain = crate::Chain::default();
    for name in ["s1", "forged", "s3"] {
        chain.append(&serde_json::to_vec(&event(name)).unwrap(), &mut forged);
    }
    fs::write(&file, forged).unwrap();
    assert_eq!(found(directory.path()).damage, Damage::Rewritten { earliest: 1 });
}

#[tokio::test]
async fn a_missing_file_a_missing_head_and_a_foreign_key_are_found() {
    let directory = written(6, 900).await;
    let second = files(directory.path()).remove(1);
    let kept = fs::read(&second).unwrap();
    fs::remove_file(&second).unwrap();
    assert!(matches!(found(directory.path()).damage, Damage::FileMissing { .. }));
    fs::write(&second, kept).unwrap();
    assert!(
        matches!(verify(directory.path(), key(2).as_ref()), Err(VerifyError::Found(finding)) if finding.damage == Damage::HeadForged)
    );
    fs::remove_file(directory.path().join("head")).unwrap();
    assert_eq!(found(directory.path()).damage, Damage::HeadMissing);
    assert!(matches!(Log::open(directory.path(), &keys(), &Config::default(), now()), Err(LogError::Damaged(_))));
}

#[tokio::test]
async fn a_log_whose_files_are_all_gone_is_not_begun_anew() {
    let directory = written(3, 1 << 20).await;
    for file in files(directory.path()) {
        fs::remove_file(file).unwrap();
    }
    assert_eq!(found(directory.path()).damage, Damage::CutOff { last: 3 });
    assert!(matches!(Log::open(directory.path(), &keys(), &Config::default(), now()), Err(LogError::Damaged(_))));
}

#[test]
fn an_event_tells_whether_the_request_failed() {
    for (code, status) in [(200, ""), (302, ""), (400, "Failure"), (404, "Failure"), (500, "Failure")] {
        let completed = event("a").completed(code, "Why", now()).response_status.unwrap();
        assert_eq!((completed.status.as_str(), completed.code), (status, code));
    }
}

#[tokio::test]
async fn a_file_to_which_somebody_else_adds_stops_the_log() {
    let directory = written(1, 1 << 20).await;
    let (log, _) = open(directory.path(), 1 << 20);
    let file = files(directory.path()).remove(0);
    fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"more\n").unwrap();
    assert!(matches!(log.begin(event("x")).await.err(), Some(LogError::Unwritable(why)) if why.contains("changed")));
}

#[tokio::test]
async fn a_file_that_is_removed_or_changed_while_it_is_written_stops_the_log() {
    let directory = written(1, 1 << 20).await;
    let (log, _) = open(directory.path(), 1 << 20);
    let file = files(directory.path()).remove(0);
    let moved = directory.path().join("elsewhere");
    fs::rename(&file, &moved).unwrap();
    fs::copy(&moved, &file).unwrap();
    assert!(matches!(log.begin(event("x")).await.err(), Some(LogError::Unwritable(why)) if why.contains("replaced")));
    assert!(log.record(&event("y")).is_err() && log.health().is_err());
    // Once the file is back, the log goes on with what it had promised.
    fs::rename(&moved, &file).unwrap();
    let mut progress = log.inner.shared.progress.subscribe();
    progress.wait_for(|progress| progress.failure.is_none()).await.unwrap();
    log.record(&event("z")).unwrap();
    drop(log);
    assert_eq!(check(directory.path()).unwrap().records, 3);
}

#[tokio::test]
async fn an_encrypted_log_shows_nothing_without_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let keys = Keys { authenticator: key(1), cipher: Some(Arc::new(TestCipher)) };
    let (log, _) = Log::open(directory.path(), &keys, &Config::default(), now()).unwrap();
    log.record(&event("hidden")).unwrap();
    drop(log);
    assert!(!fs::read_to_string(files(directory.path()).remove(0)).unwrap().contains("jane"));
    assert!(tail(directory.path(), 1, None).unwrap()[0].event.is_err());
    let entries = tail(directory.path(), 1, Some(&TestCipher)).unwrap();
    assert_eq!(entries[0].event.as_ref().unwrap()["objectRef"]["name"], "hidden");
    check(directory.path()).unwrap();
}

#[tokio::test]
async fn an_abandoned_change_leaves_a_record_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), 1 << 20);
    drop(log.begin(event("x")).await.unwrap());
    drop(log);
    let entries = tail(directory.path(), 1, None).unwrap();
    assert_eq!(entries[0].event.as_ref().unwrap()["stage"], "Panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_changes_all_get_their_records() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), 40_000);
    let mut tasks = Vec::new();
    for task in 0..16 {
        let log = log.clone();
        tasks.push(tokio::spawn(async move {
            for number in 0..20 {
                let pending = log.begin(event(&format!("{task}-{number}"))).await.unwrap();
                pending.close(200, "", &[], now()).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    drop(log);
    let report = check(directory.path()).unwrap();
    assert!(report.records == 640 && report.segments > 3, "{report:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// A crash leaves the head behind the file, and the file cut or scribbled on anywhere after what the head knows.
    #[test]
    fn a_torn_end_is_closed_off_reported_and_does_not_hide_anything(
        before in 0_u64..4, after in 1_u64..4, cut in 0.0_f64..1.0, scribble in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let directory = runtime.block_on(written(before, 1 << 20));
        let head = fs::read(directory.path().join("head")).unwrap();
        let file = files(directory.path()).remove(0);
        let known = fs::read(&file).unwrap().len();
        runtime.block_on(async {
            let (log, _) = open(directory.path(), 1 << 20);
            for number in 0..after {
                log.record(&event(&format!("lost{number}"))).unwrap();
            }
            log.flush().await.unwrap();
        });
        fs::write(directory.path().join("head"), head).unwrap();
        let mut bytes = fs::read(&file).unwrap();
        bytes.truncate(known + ((bytes.len() - known) as f64 * cut) as usize);
        bytes.extend_from_slice(&scribble);
        fs::write(&file, &bytes).unwrap();

        let crashed = check(directory.path()).unwrap();
        prop_assert!(crashed.records >= before);
        let (log, opened) = open(directory.path(), 1 << 20);
        prop_assert_eq!(opened.gap.is_some(), crashed.torn_tail_bytes > 0);
        log.record(&event("later")).unwrap();
        drop(log);
        let report = check(directory.path()).unwrap();
        prop_assert_eq!(report.gaps.len(), usize::from(opened.gap.is_some()));
        prop_assert_eq!(report.records, crashed.records + 1 + report.gaps.len() as u64);
        prop_assert_eq!(report.torn_tail_bytes, 0);
    }
}

#[tokio::test]
async fn a_record_of_any_size_leaves_the_log_verifiable() {
    let directory = tempfile::tempdir().unwrap();
    let keys = Keys { authenticator: key(1), cipher: Some(Arc::new(TestCipher)) };
    let (log, _) = Log::open(directory.path(), &keys, &Config::default(), now()).unwrap();
    // Everything that others choose, as long as they like, and each character as long as JSON makes it.
    let long = "\u{1}".repeat(300_000);
    let mut large = event("a");
    large.user = Arc::new(User {
        uid: Some(long.clone()),
        extra: [(long.clone(), vec![long.clone()])].into(),
        ..User::authenticated(long.clone(), (0..20_000).map(|number| format!("group-{number}")))
    });
    large.impersonated_user = Some(Arc::clone(&large.user));
    large.request_uri.clone_from(&long);
    large.user_agent.clone_from(&long);
    if let Some(object) = large.object_ref.as_mut() {
        object.name.clone_from(&long);
        object.subresource.clone_from(&long);
    }
    let large = (0..2_000).fold(large, |event, number| event.annotated(&format!("{number}{long}"), &long));
    assert_eq!(large.annotations.len(), crate::event::MAX_ANNOTATIONS);
    let decided = event("d").annotated("decision", "allow").annotated("decision", "forbid");
    assert_eq!(decided.annotations["decision"], "allow", "nobody takes back what is told");
    log.record(&large).unwrap();
    // The longest that is recorded as it is, to the byte.
    let mut longest = event("b");
    let bare = serde_json::to_vec(&longest).unwrap().len();
    longest.request_uri.push_str(&"x".repeat(MAX_EVENT_BYTES - bare));
    log.record(&longest).unwrap();
    log.record(&event("c")).unwrap();
    log.flush().await.unwrap();
    drop(log);
    assert_eq!(check(directory.path()).unwrap().records, 3);
    let entries = tail(directory.path(), 10, Some(&TestCipher)).unwrap();
    let [shortened, whole, after] = entries.as_slice() else { panic!("{}", entries.len()) };
    let shortened = shortened.event.as_ref().unwrap();
    assert_eq!(shortened["auditID"], "a");
    assert!(shortened["annotations"]["audit.martello.dev/shortened"].is_string(), "{shortened}");
    assert_eq!(whole.event.as_ref().unwrap()["requestURI"].as_str().unwrap().len(), longest.request_uri.len());
    assert_eq!(after.event.as_ref().unwrap()["auditID"], "c");
}
