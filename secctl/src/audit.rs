//! `secctl audit`: the trail of every request, verified and shown.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use martello_api::clock;
use martello_audit::VerifyError;
use martello_kms::Kms;
use serde_json::Value;

/// What to do with the trail.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Check that no record was edited, removed, moved or cut off; the exit status is 1 if one was.
    Verify(Place),
    /// Show the last records.
    Tail(Tail),
}

/// Where the trail and its keys are.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Place {
    #[command(flatten)]
    admin: crate::admin::Flags,
    /// File with the root key [default: the data directory's name with `.root-key`].
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    root_key_file: Option<PathBuf>,
    /// File with the passphrase that guards the keys instead of a key file; `-` reads it from standard input.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// What to show.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Tail {
    #[command(flatten)]
    place: Place,
    /// How many records.
    #[arg(long, short = 'n', default_value_t = 10, value_name = "COUNT")]
    count: usize,
    /// Whole events as JSON lines, instead of a line for people.
    #[arg(long)]
    json: bool,
}

impl Place {
    fn directory(&self) -> PathBuf {
        self.admin.data_dir.join(crate::server::AUDIT)
    }

    fn keys(&self) -> anyhow::Result<martello_audit::Keys> {
        let data_dir = &self.admin.data_dir;
        let key_file = self.root_key_file.clone().unwrap_or_else(|| crate::server::root_key_beside(data_dir));
        if !data_dir.join("kms").exists() {
            anyhow::bail!("{} holds no server's data; --data-dir says where it is", data_dir.display());
        }
        let custody = crate::server::custody::provider(key_file, self.passphrase_file.as_deref())?;
        let kms = Kms::open(data_dir, custody.as_ref(), clock::now()).context("open the keyring")?;
        crate::server::keys::audit_keys(&kms)
    }
}

/// Carries the command out.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Verify(place) => verify(&place),
        Command::Tail(flags) => tail(&flags).map(|()| ExitCode::SUCCESS),
    }
}

fn verify(place: &Place) -> anyhow::Result<ExitCode> {
    let keys = place.keys()?;
    match martello_audit::verify(&place.directory(), keys.authenticator.as_ref()) {
        Ok(report) => {
            println!("{} records in {} files: whole", report.records, report.segments);
            for gap in &report.gaps {
                println!("record {} closes off {} bytes that a crash left behind", gap.closed_by, gap.bytes);
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(VerifyError::Found(finding)) => {
            println!("TAMPERED: {finding}");
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error).context("verify the audit trail"),
    }
}

fn tail(flags: &Tail) -> anyhow::Result<()> {
    let keys = flags.place.keys()?;
    let entries = martello_audit::tail(&flags.place.directory(), flags.count, keys.cipher.as_deref())?;
    for entry in entries {
        match entry.event {
            Ok(event) if flags.json => println!("{}", escaped(&event.to_string())),
            Ok(event) => println!("{:>8}  {}", entry.number, line(&event)),
            Err(why) => println!("{:>8}  cannot be shown: {}", entry.number, escaped(&why)),
        }
    }
    Ok(())
}

/// `2026-…Z ResponseComplete admin create pods default/web 201 allow`, for people.
fn line(event: &Value) -> String {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or("");
    let resource = match (text("/objectRef/resource"), text("/objectRef/subresource")) {
        ("", _) => text("/requestURI").to_owned(),
        (resource, "") => resource.to_owned(),
        (resource, subresource) => format!("{resource}/{subresource}"),
    };
    let name = [text("/objectRef/namespace"), text("/objectRef/name")].join("/");
    let code = event.pointer("/responseStatus/code").map(ToString::to_string).unwrap_or_default();
    let decision = event.pointer("/annotations/authorization.k8s.io~1decision").and_then(Value::as_str).unwrap_or("");
    let words = [
        text("/stageTimestamp"),
        text("/stage"),
        text("/user/username"),
        text("/verb"),
        &resource,
        name.trim_matches('/'),
        &code,
        decision,
    ];
    escaped(&words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join(" "))
}

/// Text of others for a terminal: what would steer it, or turn the order of letters round, is shown as JSON writes it.
fn escaped(text: &str) -> String {
    let steers = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().fold(String::with_capacity(text.len()), |mut shown, letter| {
        if steers(letter) {
            shown.push_str(&format!("\\u{:04x}", u32::from(letter)));
        } else {
            shown.push(letter);
        }
        shown
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use martello_kms::{KeyFile, Passphrase, SecretBytes};

    use super::*;

    fn place(data_dir: &Path, passphrase_file: Option<PathBuf>) -> Place {
        let admin = crate::admin::Flags { data_dir: data_dir.to_owned() };
        Place { admin, root_key_file: None, passphrase_file }
    }

    #[test]
    fn a_name_in_the_trail_does_not_steer_the_terminal() {
        let event = serde_json::json!({"verb": "get", "user": {"username": "eve\u{1b}]0;x\u{7}\n\u{9b}2J\u{202e}"}});
        assert_eq!(line(&event), r"eve\u001b]0;x\u0007\u000a\u009b2J\u202e get");
        let again: Value = serde_json::from_str(&escaped(&event.to_string())).unwrap();
        assert_eq!(again, event);
    }

    #[test]
    fn the_trail_opens_with_the_custody_that_the_server_has() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let custody = Passphrase::new(SecretBytes::new(b"correct horse battery staple".to_vec()));
        drop(Kms::open(&data, &custody, clock::now()).unwrap());
        let file = |text: &str| {
            let path = folder.path().join(text.len().to_string());
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        assert!(place(&data, file("correct horse battery staple\n")).keys().is_ok());
        assert!(place(&data, file("another passphrase")).keys().is_err());
        assert!(place(&data, file("\n")).keys().is_err());

        let data = folder.path().join("with-key-file");
        std::fs::create_dir(&data).unwrap();
        drop(Kms::open(&data, &KeyFile::new(crate::server::root_key_beside(&data)), clock::now()).unwrap());
        assert!(place(&data, None).keys().is_ok());
    }
}
