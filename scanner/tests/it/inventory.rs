//! Inventories: what is found is what runs, and the same image gives the same bytes.

use cyclonedx_bom::models::bom::{Bom, SpecVersion};
use cyclonedx_bom::validation::Validate;
use martello_scanner::Digest;
use martello_scanner::summary;

use crate::fixture::{Built, Tar, imported, open, refusal};

const STATUS: &str = "Package: busybox-static\nStatus: install ok installed\nArchitecture: amd64\nSource: busybox (1:1.35.0-4)\nVersion: 1:1.35.0-4+b1\n";
const COPYRIGHT: &str =
    "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: GPL-2.0-only\n";

fn debian() -> Vec<u8> {
    Tar::default()
        .file("usr/lib/os-release", "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n")
        .symlink("etc/os-release", "../usr/lib/os-release")
        .file("var/lib/dpkg/status", STATUS)
        .file("usr/share/doc/busybox-static/copyright", COPYRIGHT)
        .file("bin/busybox", "binary")
        .hardlink("bin/sh", "bin/busybox")
        .end()
}

fn alpine() -> Vec<u8> {
    Tar::default()
        .file("etc/os-release", "ID=alpine\nVERSION_ID=3.20.1\n")
        .file("lib/apk/db/installed", "P:libcrypto3\nV:3.3.1-r0\nA:x86_64\nL:Apache-2.0\no:openssl\n\n")
        .end()
}

fn sbom(layers: &[Vec<u8>]) -> serde_json::Value {
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let image = imported(&images, layers);
    let bytes = images.sbom(&image.manifest).unwrap();
    let bom = Bom::parse_from_json(bytes.as_slice()).unwrap();
    let validation = bom.validate_version(SpecVersion::V1_5);
    assert!(validation.passed(), "{validation:?}");
    serde_json::from_slice(&bytes).unwrap()
}

fn component<'a>(sbom: &'a serde_json::Value, name: &str) -> Option<&'a serde_json::Value> {
    sbom["components"].as_array().unwrap().iter().find(|c| c["name"] == name)
}

#[test]
fn debian_packages_and_files_are_found() {
    let sbom = sbom(&[debian()]);
    let package = component(&sbom, "busybox-static").unwrap();
    assert_eq!(
        package["purl"],
        "pkg:deb/debian/busybox-static@1:1.35.0-4%2Bb1?arch=amd64&distro=debian-12&upstream=busybox%401:1.35.0-4"
    );
    assert_eq!(package["licenses"][0]["license"]["id"], "GPL-2.0-only");
    assert_eq!(component(&sbom, "debian").unwrap()["type"], "operating-system");
    for name in ["/bin/busybox", "/bin/sh"] {
        assert_eq!(component(&sbom, name).unwrap()["hashes"][0]["content"], Digest::of(b"binary").hex());
    }
    assert_eq!(sbom["metadata"]["timestamp"], "2026-01-02T03:04:05Z");
    assert_eq!(sbom["metadata"]["component"]["version"], Built::new(&[debian()]).digest().to_string());
}

#[test]
fn alpine_packages_are_found() {
    let sbom = sbom(&[alpine()]);
    let package = component(&sbom, "libcrypto3").unwrap();
    assert_eq!(package["purl"], "pkg:apk/alpine/libcrypto3@3.3.1-r0?arch=x86_64&distro=alpine-3.20.1&upstream=openssl");
    assert_eq!(package["licenses"][0]["license"]["id"], "Apache-2.0");
}

#[test]
fn upper_layers_hide_and_replace_what_is_below() {
    let hidden = Tar::default().file("var/lib/dpkg/.wh.status", "").file("bin/busybox", "newer").end();
    let one = sbom(&[debian(), hidden]);
    assert!(component(&one, "busybox-static").is_none());
    assert_eq!(component(&one, "/bin/busybox").unwrap()["hashes"][0]["content"], Digest::of(b"newer").hex());
    assert_eq!(component(&one, "/bin/sh").unwrap()["hashes"][0]["content"], Digest::of(b"binary").hex());
    let opaque = Tar::default().file("bin/new", "n").file("bin/.wh..wh..opq", "").end();
    let two = sbom(&[debian(), opaque]);
    assert!(component(&two, "/bin/busybox").is_none() && component(&two, "/bin/new").is_some());
    let everything = Tar::default().file("kept", "k").file(".wh..wh..opq", "").end();
    let three = sbom(&[debian(), everything]);
    assert_eq!(three["components"].as_array().unwrap().len(), 1);
}

#[test]
fn the_same_image_gives_the_same_bytes() {
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        let images = open(dir.path());
        let image = imported(&images, &[debian(), alpine()]);
        (images.sbom(&image.manifest).unwrap(), images.verdict(&image.manifest).unwrap().sbom)
    };
    let (first, second) = (make(), make());
    assert_eq!(first, second);
    assert_eq!(Digest::of(&first.0), first.1);
}

#[test]
fn an_image_that_can_not_be_inventoried_is_refused() {
    for (path, content) in [
        ("var/lib/dpkg/status", "nonsense\n"),
        ("var/lib/dpkg/status.d/x", "Package: a\n"),
        ("lib/apk/db/installed", "P:a\n\n"),
    ] {
        let said = refusal(&[Tar::default().file(path, content).end()], martello_scanner::Config::default());
        assert!(said.contains("can't be inventoried") && said.contains(path), "{said}");
    }
    let elsewhere = Tar::default().file("x", STATUS).symlink("var/lib/dpkg/status", "/x").end();
    let said = refusal(&[elsewhere], martello_scanner::Config::default());
    assert!(said.contains("leads to a file elsewhere"), "{said}");
}

#[test]
fn the_published_object_names_packages_and_digests() {
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let image = imported(&images, &[debian()]);
    let verdict = images.verdict(&image.manifest).unwrap();
    let object = summary::to_object(&verdict, &images.list().unwrap()[0].references);
    assert_eq!(object["kind"], "ImageInventory");
    assert_eq!(object["metadata"]["name"], format!("sha256-{}", image.manifest.hex()));
    assert_eq!(object["spec"]["packageCount"], 1);
    assert_eq!(object["spec"]["distribution"], "debian 12");
    assert_eq!(object["spec"]["references"][0], "example.com/test:1");
    assert_eq!(object["spec"]["inventory"]["digest"], verdict.sbom.to_string());
}

#[test]
fn the_demos_images_name_their_debian_packages() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("{}/../docs/examples/images/build.sh", std::env::var("CARGO_MANIFEST_DIR").unwrap());
    let built = std::process::Command::new("sh").arg(script).arg(dir.path().join("built")).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let images = open(&dir.path().join("store"));
    let mut shared = None;
    for (file, name, port) in [
        ("myapp-1.2.0", "docker.io/library/myapp:1.2.0", Some("3000/tcp")),
        ("myapp-1.3.0", "docker.io/library/myapp:1.3.0", Some("3000/tcp")),
        ("encryption-service-v1.0", "docker.io/library/encryption-service:v1.0", Some("8443/tcp")),
        ("log-shipper-v1.0", "docker.io/library/log-shipper:v1.0", None),
    ] {
        let listed = images.import_file(&dir.path().join(format!("built/{file}.tar")), None).unwrap();
        assert_eq!(listed[0].references[0].to_string(), name);
        let image = &listed[0].image;
        assert_eq!(image.config.exposed_ports.first().map(String::as_str), port);
        assert_eq!(image.config.user, "10001:10001");
        let summary = &images.verdict(&image.manifest).unwrap().summary;
        assert_eq!((summary.package_count, summary.distribution.is_some()), (2, true));
        assert!(summary.packages.iter().any(|p| p.starts_with("pkg:deb/debian/busybox-static@")), "{summary:?}");
        // The base is one layer for all of them.
        let base = image.layers[0].digest;
        assert_eq!(*shared.get_or_insert(base), base);
    }
}
