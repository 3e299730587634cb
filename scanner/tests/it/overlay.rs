//! Unpacked layers, stacked by overlayfs inside an unprivileged user namespace, show the image's tree.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use martello_scanner::unpack::{Owners, unpack};

use crate::fixture::{Tar, imported, open};

fn layers() -> Vec<Vec<u8>> {
    let lower = Tar::default()
        .dir("./", 0o755)
        .dir("./usr/", 0o755)
        .dir("./usr/lib/", 0o711)
        .file("./usr/lib/old", "old")
        .symlink("./lib", "usr/lib")
        .dir("./tmp/", 0o1777)
        .file("./gone", "gone")
        .dir("./closed/", 0o500)
        .file("./closed/secret", "lower")
        .dir("./replaced/", 0o755)
        .file("./replaced/lower", "x")
        .entry(b'0', b"./suid", b"", 0o4755, b"suid")
        .entry(b'6', b"./pipe", b"", 0o600, b"");
    let middle = Tar::default()
        .file("lib/through-link", "new")
        .file("tmp/implicit", "x")
        .file(".wh.gone", "")
        .dir("closed", 0o500)
        .file("closed/.wh..wh..opq", "")
        .file("closed/upper", "upper")
        .hardlink("closed/linked", "closed/upper")
        .file(".wh.replaced", "")
        .file("replaced/upper", "y")
        .pax(&[("SCHILY.xattr.user.note", b"kept"), ("SCHILY.xattr.security.capability", b"dropped")])
        .file("noted", "n");
    let upper = Tar::default().dir("gone", 0o755).file("gone/again", "again").file("usr/lib/old", "newer");
    vec![lower.end(), middle.end(), upper.end()]
}

/// What the image's tree must look like, wherever it is mounted.
fn check_tree(root: &Path) {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mode = |path: &str| std::fs::symlink_metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
    let names = |path: &str| {
        let mut names: Vec<String> = std::fs::read_dir(root.join(path))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("."), ["closed", "gone", "lib", "noted", "pipe", "replaced", "suid", "tmp", "usr"]);
    assert_eq!(read("usr/lib/through-link"), "new");
    assert_eq!(read("usr/lib/old"), "newer");
    assert_eq!(std::fs::read_link(root.join("lib")).unwrap(), Path::new("usr/lib"));
    assert_eq!((mode("tmp"), mode("usr/lib"), mode("suid"), mode("closed")), (0o1777, 0o711, 0o4755, 0o500));
    assert_eq!(names("closed"), ["linked", "upper"]);
    assert_eq!(names("gone"), ["again"]);
    assert_eq!(names("replaced"), ["upper"]);
    let metadata = |path: &str| std::fs::symlink_metadata(root.join(path)).unwrap();
    assert_eq!(metadata("closed/upper").ino(), metadata("closed/linked").ino());
    assert_eq!(metadata("noted").mtime(), 1_700_000_000);
    assert!(metadata("pipe").file_type().is_fifo());
}

#[test]
fn overlayfs_in_a_user_namespace_shows_the_images_tree() {
    let dir = tempfile::Builder::new().tempdir_in("/var/tmp").unwrap();
    let image = imported(&open(&dir.path().join("store")), &layers());
    std::fs::write(dir.path().join("image.json"), serde_json::to_vec(&image).unwrap()).unwrap();
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "overlay::inside_the_namespace", "--ignored", "--nocapture"])
        .env("MARTELLO_TEST_DIR", dir.path())
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
#[ignore = "run by overlayfs_in_a_user_namespace_shows_the_images_tree"]
fn inside_the_namespace() {
    let Ok(dir) = std::env::var("MARTELLO_TEST_DIR") else { return };
    let dir = Path::new(&dir);
    let image: martello_scanner::Image =
        serde_json::from_slice(&std::fs::read(dir.join("image.json")).unwrap()).unwrap();
    let limits = martello_scanner::layers::Limits::default();
    let unpacked = unpack(&image.layers, &dir.join("layers"), &limits, Owners::AsInLayer).unwrap();
    assert_eq!(unpacked.made, 3);
    let again = unpack(&image.layers, &dir.join("layers"), &limits, Owners::AsInLayer).unwrap();
    assert_eq!((again.made, &again.directories), (0, &unpacked.directories));
    // A layer whose directory is lost is made again, and only that one.
    std::fs::remove_dir_all(&unpacked.directories[2]).unwrap();
    std::fs::create_dir_all(dir.join("layers/.unpacking-leftover/x")).unwrap();
    assert_eq!(unpack(&image.layers, &dir.join("layers"), &limits, Owners::AsInLayer).unwrap().made, 1);
    assert!(!dir.join("layers/.unpacking-leftover").exists());

    let lower: Vec<_> = unpacked.directories.iter().rev().map(|d| d.to_str().unwrap()).collect();
    for name in ["upper", "work", "root"] {
        std::fs::create_dir(dir.join(name)).unwrap();
    }
    let show = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let options = format!("userxattr,lowerdir={},upperdir={},workdir={}", lower.join(":"), show("upper"), show("work"));
    let mounted = Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(show("root")).status();
    assert!(mounted.unwrap().success());
    check_tree(&dir.join("root"));
    let mut note = [0; 16];
    let length = rustix::fs::getxattr(dir.join("root/noted"), "user.note", &mut note).unwrap();
    assert_eq!(&note[..length], b"kept");
    let unmounted = Command::new("umount").arg(show("root")).status();
    assert!(unmounted.unwrap().success());
    // The work directory belongs to the kernel until now, and is closed to the outside.
    std::fs::set_permissions(dir.join("work/work"), std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn an_id_beyond_the_namespace_is_a_clear_error() {
    let dir = tempfile::Builder::new().tempdir_in("/var/tmp").unwrap();
    let huge = Tar::default().pax(&[("uid", b"4000000000")]).file("f", "x").end();
    let image = imported(&open(&dir.path().join("store")), &[huge]);
    std::fs::write(dir.path().join("image.json"), serde_json::to_vec(&image).unwrap()).unwrap();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "overlay::inside_the_namespace_with_a_foreign_id", "--ignored", "--nocapture"])
        .env("MARTELLO_TEST_DIR", dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("4000000000"), "{said}");
}

#[test]
#[ignore = "run by an_id_beyond_the_namespace_is_a_clear_error"]
fn inside_the_namespace_with_a_foreign_id() {
    let Ok(dir) = std::env::var("MARTELLO_TEST_DIR") else { return };
    let dir = Path::new(&dir);
    let image: martello_scanner::Image =
        serde_json::from_slice(&std::fs::read(dir.join("image.json")).unwrap()).unwrap();
    let limits = martello_scanner::layers::Limits::default();
    let error = unpack(&image.layers, &dir.join("layers"), &limits, Owners::AsInLayer).unwrap_err();
    println!("{}", martello_scanner::explain(&error));
    assert!(unpack(&image.layers, &dir.join("layers"), &limits, Owners::Caller).is_ok());
}
