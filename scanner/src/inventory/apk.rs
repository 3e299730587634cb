//! Alpine's package database: `lib/apk/db/installed` (apk-v2 format).

use super::{InventoryError, MAX_PACKAGES, Origin, Package};

/// Longest field that is kept.
const MAX_FIELD: usize = 512;

/// Parses the packages: stanzas of `LETTER:VALUE` lines parted by empty lines.
pub(super) fn parse(path: &str, bytes: &[u8]) -> Result<Vec<Package>, InventoryError> {
    let bad = |why: &str| InventoryError::Database { path: format!("/{path}"), why: why.to_owned() };
    let text = std::str::from_utf8(bytes).map_err(|_| bad("it is not UTF-8"))?;
    let mut packages = Vec::new();
    let mut fields = Fields::default();
    // One empty line more ends the last stanza.
    for line in text.split('\n').chain([""]) {
        if line.is_empty() {
            if let Some(package) = std::mem::take(&mut fields).package().map_err(bad)? {
                packages.push(package);
            }
            if packages.len() > MAX_PACKAGES {
                return Err(InventoryError::TooManyPackages);
            }
            continue;
        }
        let (key, value) = line.split_once(':').ok_or_else(|| bad("a line has no key"))?;
        fields.set(key, value).map_err(bad)?;
    }
    Ok(packages)
}

#[derive(Default)]
struct Fields<'a> {
    any: bool,
    name: Option<&'a str>,
    version: Option<&'a str>,
    architecture: Option<&'a str>,
    license: Option<&'a str>,
    origin: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn set(&mut self, key: &str, value: &'a str) -> Result<(), &'static str> {
        self.any = true;
        let slot = match key {
            "P" => &mut self.name,
            "V" => &mut self.version,
            "A" => &mut self.architecture,
            "L" => &mut self.license,
            "o" => &mut self.origin,
            // Descriptions, dependencies and the list of files.
            _ => return Ok(()),
        };
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err("a stanza has a field twice"),
        }
    }

    fn package(self) -> Result<Option<Package>, &'static str> {
        if !self.any {
            return Ok(None);
        }
        let name = self.name.filter(|n| valid(n)).ok_or("a stanza names no proper package")?;
        let version = self.version.filter(|v| valid(v)).ok_or("a package has no proper version")?;
        let license = self.license.filter(|l| !l.is_empty() && l.len() <= MAX_FIELD && !l.contains(char::is_control));
        Ok(Some(Package {
            origin: Origin::Apk,
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: self.architecture.filter(|a| valid(a)).unwrap_or_default().to_owned(),
            source: self.origin.filter(|o| valid(o) && *o != name).map(|o| (o.to_owned(), None)),
            licenses: license.map(str::to_owned).into_iter().collect(),
        }))
    }
}

/// Names and versions hold letters, digits and a few signs.
fn valid(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_FIELD
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._~".contains(&b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn packages_are_read_with_their_licence_and_origin() {
        let text = "C:Q1x=\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\nF:lib\nR:ld-musl-x86_64.so.1\n\nP:libcrypto3\nV:3.3.1-r0\nA:x86_64\nL:Apache-2.0\no:openssl\n";
        let packages = parse("x", text.as_bytes()).unwrap();
        assert_eq!(packages.len(), 2);
        assert_eq!(packages[0].source, None);
        assert_eq!(packages[1].source, Some(("openssl".into(), None)));
        assert_eq!(packages[1].licenses, ["Apache-2.0"]);
    }

    #[test]
    fn damaged_databases_are_refused() {
        for bad in ["P:a\n", "V:1\n", "nonsense\n", "P:a\nP:b\nV:1\n", "P:a b\nV:1\n"] {
            assert!(parse("x", bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "([A-Za-z]:[\\PC]{0,10}\n|\n|\\PC{0,5}\n){0,12}") {
            drop(parse("x", text.as_bytes()));
        }
    }
}
