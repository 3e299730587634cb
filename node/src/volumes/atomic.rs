//! Files that change all at once: a directory with a `..data` link that is swapped, as upstream lays it out.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use super::{VolumeError, payload::Files};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Whether `dir` holds exactly `files` already (names and contents).
#[must_use]
pub fn holds(dir: &Path, files: &Files) -> bool {
    let data = dir.join(DATA);
    let Ok(present) = listing(&data) else { return false };
    if present.len() != files.len() {
        return false;
    }
    files.iter().all(|(path, file)| {
        present.contains(path) && fs::read(data.join(path)).is_ok_and(|content| content == file.content)
    })
}

/// Writes `files` into a new directory below `dir`, not visible yet. `stamp` makes its name unique.
///
/// # Errors
/// If a file can't be written.
pub fn stage(dir: &Path, files: &Files, stamp: &str) -> Result<PathBuf, VolumeError> {
    make_dir(dir)?;
    let staged = dir.join(format!("..{stamp}"));
    make_dir(&staged)?;
    for (path, file) in files {
        let target = staged.join(path);
        if let Some(parent) = target.parent() {
            make_dir(parent)?;
        }
        write(&target, &file.content, file.mode).map_err(|source| VolumeError::io("write", &target, source))?;
    }
    Ok(staged)
}

/// Makes a staged directory the visible one, and deletes what was visible before.
///
/// # Errors
/// If the links can't be changed.
pub fn publish(dir: &Path, staged: &Path, files: &Files) -> Result<(), VolumeError> {
    let old = fs::read_link(dir.join(DATA)).ok();
    let name = staged.file_name().unwrap_or_default();
    let fresh = dir.join(DATA_NEW);
    remove_link(&fresh)?;
    symlink(name, &fresh).map_err(|source| VolumeError::io("link", &fresh, source))?;
    fs::rename(&fresh, dir.join(DATA)).map_err(|source| VolumeError::io("swap the data link in", dir, source))?;
    let wanted: BTreeSet<&str> = files.keys().map(|path| path.split('/').next().unwrap_or_default()).collect();
    for name in &wanted {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link).map_err(|source| VolumeError::io("link", &link, source))?;
        }
    }
    for entry in fs::read_dir(dir).map_err(|source| VolumeError::io("list", dir, source))?.flatten() {
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if !text.starts_with("..") && !wanted.contains(text.as_ref()) {
            remove_link(&entry.path())?;
        }
    }
    match old.filter(|old| old.as_os_str() != name) {
        None => Ok(()),
        Some(old) => match fs::remove_dir_all(dir.join(&old)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(VolumeError::io("delete", &dir.join(old), error))
            }
            _ => Ok(()),
        },
    }
}

fn make_dir(dir: &Path) -> Result<(), VolumeError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o755)))
        .map_err(|source| VolumeError::io("make directory", dir, source))
}

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    use io::Write as _;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.set_permissions(fs::Permissions::from_mode(mode))
}

fn remove_link(path: &Path) -> Result<(), VolumeError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(VolumeError::io("remove link", path, error)),
        _ => Ok(()),
    }
}

/// The relative paths of all files below `dir`.
fn listing(dir: &Path) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(below) = todo.pop() {
        for entry in fs::read_dir(dir.join(&below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                todo.push(path);
            } else {
                found.insert(path.to_string_lossy().into_owned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::payload::File;

    fn files(list: &[(&str, &str)]) -> Files {
        let file = |text: &str| File { content: text.as_bytes().to_vec(), mode: 0o640 };
        list.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    fn put(dir: &Path, list: &[(&str, &str)], stamp: &str) {
        let files = files(list);
        let staged = stage(dir, &files, stamp).unwrap();
        publish(dir, &staged, &files).unwrap();
    }

    #[test]
    fn an_update_swaps_everything_at_once_and_leaves_nothing_old() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), &[("a", "1"), ("sub/b", "2")], "one");
        assert_eq!(fs::read_to_string(dir.path().join("sub/b")).unwrap(), "2");
        assert_eq!(fs::read_link(dir.path().join("a")).unwrap(), Path::new("..data/a"));
        assert!(holds(dir.path(), &files(&[("a", "1"), ("sub/b", "2")])));
        put(dir.path(), &[("a", "3"), ("c", "4")], "two");
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "3");
        let mut names: Vec<String> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["..data", "..two", "a", "c"]);
        assert!(!holds(dir.path(), &files(&[("a", "1")])));
    }

    #[test]
    fn files_have_their_modes() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), &[("a", "1")], "one");
        assert_eq!(fs::metadata(dir.path().join("a")).unwrap().permissions().mode() & 0o777, 0o640);
    }
}
