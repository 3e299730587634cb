//! Debian's package database: `status` and `status.d` (deb-control(5)), and licences from copyright files.

use std::collections::BTreeSet;

use super::{InventoryError, MAX_PACKAGES, Origin, Package};

/// Longest field that is kept: names and versions are far shorter.
const MAX_FIELD: usize = 512;
/// Licences kept for one package.
const MAX_LICENSES: usize = 32;

/// Parses the stanzas of a database. With `by_status`, only packages that are installed (with or without
/// their configuration done) count, and a stanza must say so.
pub(super) fn parse(path: &str, bytes: &[u8], by_status: bool) -> Result<Vec<Package>, InventoryError> {
    let bad = |why: &str| InventoryError::Database { path: format!("/{path}"), why: why.to_owned() };
    let text = std::str::from_utf8(bytes).map_err(|_| bad("it is not UTF-8"))?;
    let mut packages = Vec::new();
    for stanza in stanzas(text) {
        let stanza = Stanza::parse(stanza).ok_or_else(|| bad("a line is neither a field nor a continuation"))?;
        let name = stanza.name.ok_or_else(|| bad("a stanza names no package"))?;
        if !valid_name(name) {
            return Err(bad(&format!("{:?} is no package name", shown(name))));
        }
        if by_status {
            let status = stanza.status.ok_or_else(|| bad("a package has no status"))?;
            // "want flag status": these states leave no files, or configuration only.
            if status.ends_with(" not-installed") || status.ends_with(" config-files") {
                continue;
            }
        }
        let version = stanza.version.ok_or_else(|| bad(&format!("package {:?} has no version", shown(name))))?;
        if !valid_version(version) {
            return Err(bad(&format!("package {:?} has a malformed version", shown(name))));
        }
        packages.push(Package {
            origin: Origin::Dpkg,
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: stanza.architecture.filter(|a| valid_name(a)).unwrap_or_default().to_owned(),
            source: stanza.source.and_then(source),
            licenses: Vec::new(),
        });
        if packages.len() > MAX_PACKAGES {
            return Err(InventoryError::TooManyPackages);
        }
    }
    Ok(packages)
}

/// The licences that a machine-readable copyright file (DEP 5) names, sorted.
pub fn licenses(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    if !text.lines().take(20).any(|line| line.starts_with("Format:")) {
        return Vec::new();
    }
    let names = text.lines().filter_map(|line| line.strip_prefix("License:")).map(str::trim);
    let names = names.filter(|name| !name.is_empty() && name.len() <= 100 && !name.contains(char::is_control));
    names.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().take(MAX_LICENSES).collect()
}

fn stanzas(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let (stanza, after) = rest.split_once("\n\n").unwrap_or((rest, ""));
            rest = after;
            if !stanza.trim().is_empty() {
                return Some(stanza.trim_matches('\n'));
            }
        }
    })
}

#[derive(Default)]
struct Stanza<'a> {
    name: Option<&'a str>,
    status: Option<&'a str>,
    version: Option<&'a str>,
    architecture: Option<&'a str>,
    source: Option<&'a str>,
}

impl<'a> Stanza<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut stanza = Self::default();
        for line in text.split('\n') {
            if line.starts_with([' ', '\t']) || line.starts_with('#') {
                continue;
            }
            let (key, value) = line.split_once(':')?;
            let slot = match key.to_ascii_lowercase().as_str() {
                "package" => &mut stanza.name,
                "status" => &mut stanza.status,
                "version" => &mut stanza.version,
                "architecture" => &mut stanza.architecture,
                "source" => &mut stanza.source,
                _ => continue,
            };
            // The first one counts for nobody else: a doubled field has two readings.
            if slot.replace(value.trim()).is_some() {
                return None;
            }
        }
        Some(stanza)
    }
}

/// `name` or `name (version)`.
fn source(field: &str) -> Option<(String, Option<String>)> {
    let (name, version) = match field.split_once('(') {
        Some((name, version)) => (name.trim(), version.trim().strip_suffix(')').filter(|v| valid_version(v))),
        None => (field, None),
    };
    valid_name(name).then(|| (name.to_owned(), version.map(str::to_owned)))
}

fn valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_FIELD
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b))
}

fn valid_version(version: &str) -> bool {
    !version.is_empty()
        && version.len() <= MAX_FIELD
        && version.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.~:_".contains(&b))
}

fn shown(name: &str) -> String {
    name.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STATUS: &str = "Package: busybox-static\nStatus: install ok installed\nArchitecture: amd64\nSource: busybox (1:1.35.0-4)\nVersion: 1:1.35.0-4+b1\nDescription: shell\n many tools\n .\n more\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n";

    #[test]
    fn installed_packages_are_found_and_removed_ones_are_not() {
        let packages = parse("x", STATUS.as_bytes(), true).unwrap();
        assert_eq!(packages.len(), 1);
        assert_eq!(packages[0].version, "1:1.35.0-4+b1");
        assert_eq!(packages[0].source, Some(("busybox".into(), Some("1:1.35.0-4".into()))));
    }

    #[test]
    fn damaged_databases_are_refused() {
        for bad in [
            "Package: a\nStatus: install ok installed\n",
            "Package: a b\nStatus: install ok installed\nVersion: 1\n",
            "Version: 1\n",
            "nonsense\n",
            "Package: a\nPackage: b\nStatus: install ok installed\nVersion: 1\n",
            "Package: a\nVersion: 1\n",
        ] {
            assert!(parse("x", bad.as_bytes(), true).is_err(), "{bad}");
        }
        assert!(parse("x", b"\xff", true).is_err());
    }

    #[test]
    fn licences_come_from_machine_readable_files_only() {
        let text = b"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: GPL-2\n\nFiles: x\nLicense: BSD-3-clause\n";
        assert_eq!(licenses(text), ["BSD-3-clause", "GPL-2"]);
        assert!(licenses(b"This is prose.\nLicense: maybe\n").is_empty());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "([A-Za-z]{1,9}: ?[\\PC]{0,10}\n| x\n|\n){0,12}") {
            drop(parse("x", text.as_bytes(), true));
            drop(parse("x", text.as_bytes(), false));
            drop(licenses(text.as_bytes()));
        }
    }
}
