//! Who keeps the root key of this server.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use martello_kms::{KeyFile, Passphrase, RootKeyProvider, SecretBytes};
use zeroize::Zeroizing;

/// A passphrase is a line of text.
const MAX_PASSPHRASE_BYTES: u64 = 4096;

/// The custody that was asked for: a key file, unless a passphrase is given.
pub fn provider(key_file: PathBuf, passphrase_file: Option<&Path>) -> anyhow::Result<Box<dyn RootKeyProvider>> {
    let Some(path) = passphrase_file else {
        return Ok(Box::new(KeyFile::new(key_file)));
    };
    let mut text = Zeroizing::new(Vec::new());
    let what = || format!("read the passphrase from {}", path.display());
    if path.as_os_str() == "-" {
        std::io::stdin().lock().take(MAX_PASSPHRASE_BYTES).read_to_end(&mut text).with_context(what)?;
    } else {
        let file = std::fs::File::open(path).with_context(what)?;
        file.take(MAX_PASSPHRASE_BYTES).read_to_end(&mut text).with_context(what)?;
    }
    while text.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        text.pop();
    }
    if text.is_empty() {
        bail!("the passphrase in {} is empty", path.display());
    }
    Ok(Box::new(Passphrase::new(SecretBytes::new(text.to_vec()))))
}
