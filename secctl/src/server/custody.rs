//! Who keeps the root key of this server.

use std::io::Read as _;

use anyhow::{Context as _, bail};
use martello_kms::{KeyFile, Passphrase, RootKeyProvider, SecretBytes};
use zeroize::Zeroizing;

use super::Flags;

/// A passphrase is a line of text.
const MAX_PASSPHRASE_BYTES: u64 = 4096;

/// The custody that the settings ask for: a key file, unless a passphrase is given.
pub fn provider(flags: &Flags) -> anyhow::Result<Box<dyn RootKeyProvider>> {
    let Some(path) = &flags.passphrase_file else {
        return Ok(Box::new(KeyFile::new(flags.root_key_path())));
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
