//! Hostile layers are refused, and the reason names the entry.

use martello_scanner::Config;
use martello_scanner::layers::Limits;
use proptest::prelude::*;

use crate::fixture::{Built, Tar, gzip, open, refusal};

fn refused(tar: Tar, reason: &str) {
    let said = refusal(&[tar.end()], Config::default());
    assert!(said.contains(reason), "expected {reason:?} in: {said}");
}

fn refused_over(lower: Tar, upper: Tar, reason: &str) {
    let said = refusal(&[lower.end(), upper.end()], Config::default());
    assert!(said.contains(reason), "expected {reason:?} in: {said}");
}

fn limited(tar: Tar, limits: Limits, reason: &str) {
    let said = refusal(&[tar.end()], Config { limits, ..Config::default() });
    assert!(said.contains(reason), "expected {reason:?} in: {said}");
}

#[test]
fn names_that_climb_or_are_absolute_are_refused() {
    refused(Tar::default().file("../x", "x"), "climbs by '..'");
    refused(Tar::default().file("a/../../x", "x"), "climbs by '..'");
    refused(Tar::default().file("/etc/passwd", "x"), "absolute name");
    refused(Tar::default().pax(&[("path", b"../x")]).file("ok", "x"), "climbs by '..'");
    refused(Tar::default().pax(&[("path", b"a\0b")]).file("ok", "x"), "NUL byte");
    refused(Tar::default().entry(b'L', b"@LongLink", b"", 0, b"../../x\0").file("ok", "x"), "climbs by '..'");
    refused(Tar::default().pax(&[("path", &[b'a'; 300])]).file("ok", "x"), "longer than 255");
    refused(Tar::default().pax(&[("path", &b"abc/".repeat(2000))]).file("ok", "x"), "longer than 4095");
}

#[test]
fn links_lead_nowhere_outside() {
    let file = || Tar::default().file("f", "x");
    refused(file().hardlink("l", "/etc/passwd"), "absolute name");
    refused(file().hardlink("l", "../f"), "climbs by '..'");
    refused(file().hardlink("l", "missing"), "not in its layer");
    refused(file().hardlink("f", "f"), "hard link to itself");
    refused(Tar::default().dir("d", 0o755).hardlink("l", "d"), "hard link to a directory");
    refused_over(file(), Tar::default().hardlink("l", "f"), "not in its layer");
    refused(Tar::default().symlink("l", "/etc").file("l/passwd", "x"), "symbolic link of its own layer");
    refused(Tar::default().symlink("l", "..").file("l/passwd", "x"), "symbolic link of its own layer");
    refused(file().file("f/below", "x"), "no directory");
    refused(file().symlink("f", "/etc"), "two different things");
    refused(Tar::default().symlink("f", "/etc/passwd").file("f", "x"), "two different things");
    refused_over(
        Tar::default().symlink("a", "b").symlink("b", "a"),
        Tar::default().file("a/x", "x"),
        "40 symbolic links",
    );
}

#[test]
fn devices_sparse_files_and_unknown_types_are_refused() {
    refused(Tar::default().entry(b'3', b"dev/null", b"", 0o666, b""), "device nodes");
    refused(Tar::default().entry(b'4', b"dev/sda", b"", 0o666, b""), "device nodes");
    refused(Tar::default().entry(b'S', b"f", b"", 0o666, b""), "sparse");
    refused(Tar::default().pax(&[("GNU.sparse.major", b"1")]).file("f", ""), "sparse");
    refused(Tar::default().entry(b'Z', b"f", b"", 0o666, b""), "unknown entry type");
    refused(Tar::default().entry(b'5', b"d", b"", 0o755, b"content"), "only a regular file may have content");
    refused(Tar::default().file(".", "x"), "must be a directory");
}

#[test]
fn whiteout_tricks_are_refused() {
    let lower = || Tar::default().file("f", "x");
    for (name, reason) in [
        (".wh.", "whiteout of nothing"),
        (".wh..", "whiteout of nothing"),
        (".wh...", "whiteout of nothing"),
        (".wh..wh.f", "whiteout of a whiteout"),
        (".wh..wh.plnk", "whiteout of a whiteout"),
        (".wh.f/x", "a directory bears a whiteout's name"),
    ] {
        refused_over(lower(), Tar::default().file(name, ""), reason);
    }
    refused_over(lower(), Tar::default().dir(".wh.f", 0o755), "empty file");
    refused_over(lower(), Tar::default().symlink(".wh.f", "x"), "empty file");
    refused_over(lower(), Tar::default().file(".wh.f", "content"), "empty file");
    for attribute in ["SCHILY.xattr.user.overlay.redirect", "SCHILY.xattr.trusted.overlay.opaque"] {
        refused(Tar::default().pax(&[(attribute, b"/etc")]).dir("d", 0o755), "steer the overlay");
    }
}

#[test]
fn extensions_with_two_readings_are_refused() {
    refused(Tar::default().pax(&[("path", b"a"), ("path", b"b")]).file("f", ""), "stands twice");
    refused(Tar::default().pax(&[("size", b"1024")]).file("f", "x"), "size differs");
    refused(Tar::default().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("f", ""), "two extensions");
    refused(
        Tar::default().entry(b'L', b"L", b"", 0, b"a\0").pax(&[("path", b"b")]).file("f", ""),
        "name it differently",
    );
    refused(Tar::default().pax(&[("path", b"a")]), "describes no entry");
    refused(Tar::default().pax(&[("uid", b"4294967295")]).file("f", ""), "is no id");
    refused(Tar::default().entry(b'x', b"pax", b"", 0, &vec![b'1'; 2 << 20]).file("f", ""), "are allowed");
}

#[test]
fn bombs_and_floods_pass_limits() {
    let zeros = vec![0; 8 << 20];
    let ratio = Limits { ratio_floor_bytes: 1 << 20, ..Limits::default() };
    limited(Tar::default().file("bomb", &zeros), ratio, "come out of each compressed byte");
    let total = Limits { total_bytes: 4 << 20, ..Limits::default() };
    limited(Tar::default().file("big", &zeros), total, "more bytes than an image may have");
    let file = Limits { file_bytes: 1 << 20, ..Limits::default() };
    limited(Tar::default().file("big", &zeros), file, "a file may have");
    let entries = Limits { entries: 20, ..Limits::default() };
    let many = (0..30).fold(Tar::default(), |tar, n| tar.file(&format!("f{n}"), ""));
    limited(many, entries, "more than 20 entries");
}

#[test]
fn false_diff_ids_and_broken_streams_are_refused() {
    let layer = Tar::default().file("f", "x").end();
    let other = martello_scanner::Digest::of(b"other").to_string();
    let kind = || "application/vnd.oci.image.layer.v1.tar+gzip".to_owned();
    let whole = gzip(&layer);
    for (blob, reason) in [
        (whole.clone(), "configuration says"),
        (whole[..whole.len() / 2].to_vec(), "reading the layer's tar stream failed"),
        (b"no gzip at all".to_vec(), "reading the layer's tar stream failed"),
        (gzip(&layer[..600]), "reading the layer's tar stream failed"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let archive = Built::with(vec![(kind(), blob)], std::slice::from_ref(&other)).archive("x.y/z:1");
        let said = open(dir.path()).import(archive.as_slice(), None).unwrap_err().explain();
        assert!(said.contains(reason), "expected {reason:?} in: {said}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_layers_never_panic(at in 0_usize..4096, byte in any::<u8>(), length in 0_usize..4096) {
        let mut layer = Tar::default().dir("d", 0o755).file("d/f", "content").symlink("l", "d").hardlink("h", "d/f")
            .pax(&[("path", b"long"), ("mtime", b"1.5")]).file("f", "x").file("d/.wh.f", "").end();
        layer.truncate(length.max(512));
        if let Some(target) = layer.get_mut(at) {
            *target = byte;
        }
        let dir = tempfile::tempdir().unwrap();
        let archive = Built::new(&[layer]).archive("x.y/z:1");
        drop(open(dir.path()).import(archive.as_slice(), None));
    }

    #[test]
    fn damaged_archives_never_panic(at in 0_usize..8192, byte in any::<u8>()) {
        let mut archive = Built::new(&[Tar::default().file("f", "x").end()]).archive("x.y/z:1");
        let at = at % archive.len();
        archive[at] = byte;
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).import(archive.as_slice(), None));
    }
}
