//! The root key in a file outside of the data directory, readable by its owner only.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{Boot, CustodyError, KeyringSeal, RootKeyProvider};
use crate::file::{self, FileError};
use crate::secret::{Key, RootKey};

/// What the file's one line begins with.
const PREFIX: &str = "martello-root-key-v1 ";
/// The line is 66 bytes; a little room for blanks that an editor adds.
const MAX_FILE_BYTES: u64 = 256;
/// Permission bits of group and others.
const OTHERS: u32 = 0o077;
/// Permission bits with which group and others could replace the file.
const OTHERS_WRITE: u32 = 0o022;

/// Custody by a file. The file is made on the first boot.
#[derive(Clone, Debug)]
pub struct KeyFile {
    /// Where the file is.
    pub path: PathBuf,
}

impl KeyFile {
    /// Custody by the file at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn create(&self) -> Result<RootKey, CustodyError> {
        let key = Key::random()?;
        let encoded = Zeroizing::new(STANDARD.encode(key.expose()));
        let line = Zeroizing::new(format!("{PREFIX}{}\n", encoded.as_str()));
        file::write_new(&self.path, line.as_bytes())?;
        tracing::info!(path = %self.path.display(), "made a root key; back it up, the data can't be read without it");
        Ok(RootKey::new(key))
    }

    fn read(&self, file: File) -> Result<RootKey, CustodyError> {
        let bytes = Zeroizing::new(file::read_limited(file, &self.path, MAX_FILE_BYTES)?);
        parse(&bytes).map_err(|why| CustodyError::Malformed { path: self.path.clone(), why })
    }

    fn not_read(&self, source: io::Error) -> CustodyError {
        FileError::Read { path: self.path.clone(), source }.into()
    }

    /// The directory of the file, which is made if it is missing, free of symbolic links.
    fn directory(&self) -> Result<PathBuf, CustodyError> {
        let parent = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        file::create_private_dir(parent)?;
        let directory = fs::canonicalize(parent).map_err(|source| self.not_read(source))?;
        let mode = fs::metadata(&directory).map_err(|source| self.not_read(source))?.permissions().mode();
        if mode & OTHERS_WRITE != 0 {
            let fix = format!("chmod go-w {}", directory.display());
            return Err(CustodyError::Unsafe { path: directory, why: "others may write to it", fix });
        }
        Ok(directory)
    }

    fn check(&self, metadata: &Metadata) -> Result<(), CustodyError> {
        let refuse = |why, fix| Err(CustodyError::Unsafe { path: self.path.clone(), why, fix });
        if !metadata.is_file() {
            return refuse("it is not a plain file", format!("ls -l {}", self.path.display()));
        }
        if metadata.permissions().mode() & OTHERS != 0 {
            return refuse("group or others may use it", format!("chmod 600 {}", self.path.display()));
        }
        let own = fs::metadata("/proc/self").map_err(|source| self.not_read(source))?.uid();
        if metadata.uid() != own {
            return refuse("it belongs to another user", format!("chown {own} {}", self.path.display()));
        }
        Ok(())
    }
}

impl RootKeyProvider for KeyFile {
    fn name(&self) -> &'static str {
        "key-file"
    }

    fn unlock(&self, data_dir: &Path, boot: Boot) -> Result<Box<dyn KeyringSeal>, CustodyError> {
        let directory = self.directory()?;
        let data = fs::canonicalize(data_dir).map_err(|source| self.not_read(source))?;
        if directory.starts_with(&data) {
            return Err(CustodyError::InsideDataDir { path: self.path.clone(), data_dir: data });
        }
        // A link could lead into the data directory, or to a file of someone else.
        match fs::symlink_metadata(&self.path) {
            Ok(metadata) => self.check(&metadata)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return match boot {
                    Boot::First => Ok(Box::new(self.create()?)),
                    Boot::Later => Err(CustodyError::Missing { path: self.path.clone(), data_dir: data }),
                };
            }
            Err(error) => return Err(self.not_read(error)),
        }
        let file = File::open(&self.path).map_err(|source| self.not_read(source))?;
        self.check(&file.metadata().map_err(|source| self.not_read(source))?)?;
        Ok(Box::new(self.read(file)?))
    }
}

fn parse(bytes: &[u8]) -> Result<RootKey, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
    let encoded = text.trim().strip_prefix(PREFIX.trim_end()).ok_or("it does not begin with martello-root-key-v1")?;
    let decoded = Zeroizing::new(STANDARD.decode(encoded.trim()).map_err(|_| "its key is not base64")?);
    Key::from_slice(&decoded).map(RootKey::new).ok_or("its key is not 256 bits long")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Setup {
        _root: tempfile::TempDir,
        data: PathBuf,
        keys: PathBuf,
    }

    fn setup() -> Setup {
        let root = tempfile::tempdir().unwrap();
        let (data, keys) = (root.path().join("data"), root.path().join("keys"));
        fs::create_dir(&data).unwrap();
        Setup { data, keys, _root: root }
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_first_boot_makes_a_private_file_and_later_ones_read_it() {
        let setup = setup();
        let provider = KeyFile::new(setup.keys.join("root.key"));
        let wrapped = provider.unlock(&setup.data, Boot::First).unwrap().wrap(b"keyring").unwrap();
        let opened = provider.unlock(&setup.data, Boot::Later).unwrap().unwrap(&wrapped).unwrap();
        assert_eq!(opened.as_slice(), b"keyring");
        assert_eq!(fs::metadata(&provider.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&setup.keys).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_missing_key_is_not_made_again_once_there_is_a_keyring() {
        let setup = setup();
        let provider = KeyFile::new(setup.keys.join("root.key"));
        let refused = provider.unlock(&setup.data, Boot::Later).err().unwrap();
        assert!(matches!(refused, CustodyError::Missing { .. }), "{refused}");
        assert!(!provider.path.exists());
    }

    #[test]
    fn a_key_inside_the_data_directory_is_refused_even_through_a_link() {
        let setup = setup();
        let inside = KeyFile::new(setup.data.join("sub/root.key"));
        assert!(matches!(inside.unlock(&setup.data, Boot::First), Err(CustodyError::InsideDataDir { .. })));
        std::os::unix::fs::symlink(&setup.data, &setup.keys).unwrap();
        let linked = KeyFile::new(setup.keys.join("root.key"));
        assert!(matches!(linked.unlock(&setup.data, Boot::First), Err(CustodyError::InsideDataDir { .. })));
    }

    #[test]
    fn a_key_that_others_can_read_or_replace_is_refused() {
        let setup = setup();
        let provider = KeyFile::new(setup.keys.join("root.key"));
        provider.unlock(&setup.data, Boot::First).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            chmod(&provider.path, mode);
            let refused = provider.unlock(&setup.data, Boot::Later).err().unwrap();
            assert!(refused.to_string().contains("chmod 600"), "{refused}");
        }
        chmod(&provider.path, 0o600);
        chmod(&setup.keys, 0o770);
        assert!(matches!(provider.unlock(&setup.data, Boot::Later), Err(CustodyError::Unsafe { .. })));
        chmod(&setup.keys, 0o755);
        assert!(provider.unlock(&setup.data, Boot::Later).is_ok());
    }

    #[test]
    fn a_link_in_place_of_the_file_is_refused() {
        let setup = setup();
        let real = KeyFile::new(setup.keys.join("root.key"));
        real.unlock(&setup.data, Boot::First).unwrap();
        let link = KeyFile::new(setup.keys.join("link.key"));
        std::os::unix::fs::symlink(&real.path, &link.path).unwrap();
        assert!(matches!(link.unlock(&setup.data, Boot::Later), Err(CustodyError::Unsafe { .. })));
    }

    #[test]
    fn a_file_that_holds_something_else_is_named() {
        let setup = setup();
        let provider = KeyFile::new(setup.keys.join("root.key"));
        fs::create_dir(&setup.keys).unwrap();
        for content in ["", "hello", "martello-root-key-v1 AAAA", "martello-root-key-v1 !!"] {
            fs::write(&provider.path, content).unwrap();
            chmod(&provider.path, 0o600);
            assert!(matches!(provider.unlock(&setup.data, Boot::Later), Err(CustodyError::Malformed { .. })));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            prop_assert!(parse(&bytes).is_err());
        }
    }
}
