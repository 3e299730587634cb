//! Archives as the common tools write them.

use martello_scanner::credentials::Credentials;
use martello_scanner::{Digest, PullPolicy, Reference};

use crate::fixture::{Built, Tar, arch, gzip, open};

fn layer() -> Vec<u8> {
    Tar::default().dir("bin", 0o755).file("bin/true", "#!/bin/sh\n").end()
}

#[tokio::test]
async fn an_imported_image_is_found_judged_and_described() {
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let built = Built::new(&[layer()]);
    images.import(gzip(&built.archive("docker.io/library/myapp:1.2.0")).as_slice(), None).unwrap();

    let reference: Reference = "myapp:1.2.0".parse().unwrap();
    for policy in [PullPolicy::IfNotPresent, PullPolicy::Never] {
        let image = images.ensure(&reference, policy, &Credentials::none()).await.unwrap().image;
        assert_eq!(image.manifest, built.digest());
        assert_eq!(image.config.user, "10001");
        assert_eq!(image.config.exposed_ports, ["3000/tcp"]);
        assert_eq!(image.layers[0].diff_id, Digest::of(&layer()));
        assert_eq!(image.layers[0].chain_id, image.layers[0].diff_id);
        assert_eq!(images.verdict(&image.manifest).unwrap().diff_ids, [image.layers[0].diff_id]);
    }
    let pinned = format!("myapp@{}", built.digest()).parse().unwrap();
    assert!(images.ensure(&pinned, PullPolicy::Never, &Credentials::none()).await.is_ok());
    let missing = "myapp:9".parse().unwrap();
    let error = images.ensure(&missing, PullPolicy::Never, &Credentials::none()).await.unwrap_err();
    assert_eq!(error.reason(), "ErrImageNeverPull");
}

#[test]
fn docker_archives_get_the_same_manifest_every_time() {
    let config = serde_json::json!({
        "architecture": arch(), "os": "linux", "config": { "Cmd": ["/bin/true"] },
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&layer()).to_string(), Digest::of(&layer()).to_string()] },
    });
    let saved = serde_json::json!([{
        "Config": "c.json", "RepoTags": ["app:1", "team/app:2"], "Layers": ["1/layer.tar", "2/layer.tar"],
    }]);
    let archive = Tar::default()
        .file("1/layer.tar", layer())
        .symlink("2/layer.tar", "../1/layer.tar")
        .file("c.json", serde_json::to_vec(&config).unwrap())
        .file("manifest.json", serde_json::to_vec(&saved).unwrap())
        .end();
    let mut manifests = Vec::new();
    for _ in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let listed = open(dir.path()).import(archive.as_slice(), None).unwrap();
        let names: Vec<String> = listed[0].references.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["docker.io/library/app:1", "docker.io/team/app:2"]);
        manifests.push(listed[0].image.manifest);
    }
    assert_eq!(manifests[0], manifests[1]);
}

#[test]
fn an_index_leads_to_this_platforms_manifest() {
    let built = Built::new(&[layer()]);
    let manifest = |digest: Digest, size: usize, architecture: &str| {
        serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest.to_string(), "size": size,
            "platform": { "os": "linux", "architecture": architecture },
        })
    };
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            manifest(Digest::of(b"elsewhere"), 9, "s390x"),
            manifest(built.digest(), built.manifest.len(), arch()),
        ],
    });
    let index = serde_json::to_vec(&index).unwrap();
    let outer = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "digest": Digest::of(&index).to_string(), "size": index.len(),
            "annotations": { "org.opencontainers.image.ref.name": "1.0" },
        }],
    });
    let mut tar = Tar::default().file("index.json", serde_json::to_vec(&outer).unwrap());
    for blob in [&index, &built.manifest, &built.config, &built.layers[0].1] {
        tar = tar.file(&format!("blobs/sha256/{}", Digest::of(blob).hex()), blob);
    }
    let archive = tar.end();
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let error = images.import(archive.as_slice(), None).unwrap_err().explain();
    assert!(error.contains("no name"), "{error}");
    let name = "example.com/app:1.0".parse().unwrap();
    let listed = images.import(archive.as_slice(), Some(&name)).unwrap();
    assert_eq!(listed[0].image.manifest, built.digest());
    assert_eq!(listed[0].references, [name]);
}

#[test]
fn what_is_no_image_archive_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let nothing_for_us = br#"{"schemaVersion":2,"manifests":[]}"#;
    for (archive, reason) in [
        (b"not a tar file".to_vec(), "reading the image archive failed"),
        (Tar::default().file("readme", "x").end(), "neither an OCI layout nor a docker archive"),
        (Tar::default().file("index.json", "{").end(), "malformed"),
        (Tar::default().file("index.json", nothing_for_us).end(), "no image for linux/"),
        (Tar::default().file("manifest.json", "[{}]").end(), "malformed"),
    ] {
        let said = images.import(archive.as_slice(), None).unwrap_err().explain();
        assert!(said.contains(reason), "expected {reason:?} in: {said}");
    }
}

#[test]
fn removing_the_last_name_removes_everything() {
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let built = Built::new(&[layer()]);
    for name in ["example.com/a:1", "example.com/a:2"] {
        images.import(built.archive(name).as_slice(), None).unwrap();
    }
    assert_eq!(images.list().unwrap()[0].references.len(), 2);
    assert!(images.remove(&"example.com/a:1".parse().unwrap()).unwrap());
    assert!(images.verdict(&built.digest()).is_ok());
    assert!(!images.remove(&"example.com/a:1".parse().unwrap()).unwrap());
    assert!(images.remove(&"example.com/a:2".parse().unwrap()).unwrap());
    assert!(images.verdict(&built.digest()).is_err());
    for part in ["blobs/sha256", "inventories", "verdicts", "tmp"] {
        assert_eq!(std::fs::read_dir(dir.path().join(part)).unwrap().count(), 0, "{part}");
    }
}
