//! The inventory as a CycloneDX 1.5 document in JSON: the same bytes for the same image, always.

use std::collections::BTreeSet;

use cyclonedx_bom::external_models::date_time::DateTime;
use cyclonedx_bom::external_models::spdx::{SpdxExpression, SpdxIdentifier};
use cyclonedx_bom::external_models::uri::Purl;
use cyclonedx_bom::models::bom::{Bom, SpecVersion, UrnUuid};
use cyclonedx_bom::models::component::{Classification, Component, Components};
use cyclonedx_bom::models::hash::{Hash, HashAlgorithm, HashValue, Hashes};
use cyclonedx_bom::models::license::{License, LicenseChoice, Licenses};
use cyclonedx_bom::models::metadata::Metadata;
use cyclonedx_bom::models::property::{Properties, Property};
use cyclonedx_bom::models::tool::Tools;
use uuid::Uuid;

use super::{Inventory, InventoryError, Origin, Package};
use crate::{Digest, Image};

/// Renders the inventory of `image`.
///
/// # Errors
/// If the encoder fails.
pub fn render(image: &Image, inventory: &Inventory) -> Result<Vec<u8>, InventoryError> {
    let write = |e: Box<dyn std::error::Error + Send + Sync>| InventoryError::Write(e);
    let distro = inventory.os.as_ref();
    let mut components = Vec::with_capacity(inventory.packages.len() + inventory.files.len() + 1);
    if let Some(os) = distro {
        let version = os.version_id.as_deref().unwrap_or_default();
        let mut component = component(Classification::OperatingSystem, &os.id, version, format!("os:{}", os.id));
        component.description = os.pretty_name.as_deref().map(Into::into);
        components.push(component);
    }
    let mut seen = BTreeSet::new();
    for package in &inventory.packages {
        let purl = purl(package, inventory);
        // Two entries of one package (a database twice) still need names of their own.
        let copies = (1..).map(|n| if n == 1 { purl.clone() } else { format!("{purl}#{n}") });
        let reference = copies.into_iter().find(|name| seen.insert(name.clone())).unwrap_or_default();
        components.push(package_component(package, purl, reference));
    }
    for (path, _, digest) in &inventory.files {
        let name = match std::str::from_utf8(path.as_bytes()) {
            Ok(text) if !text.contains(char::is_control) => format!("/{text}"),
            _ => format!("/{}", path.as_bytes().escape_ascii()),
        };
        let mut component = component(Classification::File, &name, "", format!("file:{name}"));
        component.hashes = Some(sha256(digest));
        components.push(component);
    }
    let bom = Bom {
        version: 1,
        serial_number: Some(UrnUuid::from(Uuid::new_v5(&Uuid::NAMESPACE_OID, image.manifest.bytes()))),
        metadata: Some(metadata(image)),
        components: Some(Components(components)),
        services: None,
        external_references: None,
        dependencies: None,
        compositions: None,
        properties: None,
        vulnerabilities: None,
        signature: None,
        annotations: None,
        formulation: None,
        spec_version: SpecVersion::V1_5,
    };
    let mut pretty = Vec::new();
    bom.output_as_json_v1_5(&mut pretty).map_err(|e| write(e.into()))?;
    // The writer indents; nobody reads ten thousand files by eye, and it is half of the bytes.
    let value: serde_json::Value = serde_json::from_slice(&pretty).map_err(|e| write(e.into()))?;
    serde_json::to_vec(&value).map_err(|e| write(e.into()))
}

/// The package URL of a package (package-url specification, types `deb` and `apk`).
pub(crate) fn purl(package: &Package, inventory: &Inventory) -> String {
    let (kind, default) = match package.origin {
        Origin::Dpkg => ("deb", "debian"),
        Origin::Apk => ("apk", "alpine"),
    };
    let os = inventory.os.as_ref();
    let vendor = os.map_or(default, |os| os.id.as_str());
    let mut qualifiers = Vec::new();
    if !package.architecture.is_empty() {
        qualifiers.push(format!("arch={}", encode(&package.architecture)));
    }
    if let Some((os, version)) = os.and_then(|os| Some((os, os.version_id.as_ref()?))) {
        qualifiers.push(format!("distro={}-{}", encode(&os.id), encode(version)));
    }
    if let Some((source, version)) = &package.source {
        let version = version.as_ref().map(|v| format!("@{v}")).unwrap_or_default();
        qualifiers.push(format!("upstream={}", encode(&format!("{source}{version}"))));
    }
    let name = encode(&package.name.to_lowercase());
    let qualifiers = if qualifiers.is_empty() { String::new() } else { format!("?{}", qualifiers.join("&")) };
    format!("pkg:{kind}/{}/{name}@{}{qualifiers}", encode(&vendor.to_lowercase()), encode(&package.version))
}

/// Percent-encoding as package URLs have it: all but unreserved characters and the colon.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn package_component(package: &Package, purl: String, reference: String) -> Component {
    let mut component = component(Classification::Library, &package.name, &package.version, reference);
    component.purl = purl.parse::<Purl>().ok();
    let licenses: Vec<LicenseChoice> = package.licenses.iter().map(|l| license(l)).collect();
    // One expression, or any number of licences: the format allows no mixture.
    let expressions = licenses.iter().filter(|l| !l.is_license()).count();
    component.licenses = match (licenses.len(), expressions) {
        (0, _) => None,
        (1, _) | (_, 0) => Some(Licenses(licenses)),
        _ => Some(Licenses(package.licenses.iter().map(|l| LicenseChoice::license(l)).collect())),
    };
    component
}

fn license(text: &str) -> LicenseChoice {
    if SpdxIdentifier::try_from(text.to_owned()).is_ok() {
        return LicenseChoice::License(License::license_id(text));
    }
    match SpdxExpression::try_from(text.to_owned()) {
        Ok(_) => LicenseChoice::expression(text),
        Err(_) => LicenseChoice::license(text),
    }
}

fn metadata(image: &Image) -> Metadata {
    let digest = image.manifest.to_string();
    let mut subject = component(Classification::Container, &digest, &digest, format!("image:{digest}"));
    subject.hashes = Some(sha256(&image.manifest));
    let mut properties = vec![
        Property::new("martello:image:platform", &image.platform),
        Property::new("martello:image:config", &image.config_digest.to_string()),
    ];
    for layer in &image.layers {
        properties.push(Property::new("martello:image:diffId", &layer.diff_id.to_string()));
    }
    subject.properties = Some(Properties(properties));
    let version = env!("CARGO_PKG_VERSION");
    let tool = component(Classification::Application, "martello-scanner", version, "tool:martello-scanner".to_owned());
    let created = image.created.as_ref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    Metadata {
        timestamp: created.and_then(|at| DateTime::try_from(martello_api::clock::rfc3339_seconds(at)).ok()),
        tools: Some(Tools::Object { services: None, components: Some(Components(vec![tool])) }),
        component: Some(subject),
        ..Metadata::default()
    }
}

fn component(kind: Classification, name: &str, version: &str, reference: String) -> Component {
    let mut component = Component::new(kind, name, version, Some(reference));
    if version.is_empty() {
        component.version = None;
    }
    component
}

fn sha256(digest: &Digest) -> Hashes {
    Hashes(vec![Hash { alg: HashAlgorithm::SHA_256, content: HashValue(digest.hex()) }])
}
