//! The few DER structures that `rcgen` can't write: a subject with several organizations, and the signed whole.
//!
//! Kubernetes puts a user's groups into the subject's organizations; `rcgen` keeps one value per attribute.

use x509_parser::prelude::{FromDer, X509Certificate};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const BIT_STRING: u8 = 0x03;
const OBJECT_ID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
/// Object id 2.5.4.3, `commonName`.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// Object id 2.5.4.10, `organizationName`.
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
/// The algorithm identifier of `ecdsa-with-SHA256` (RFC 5758 §3.2).
const ECDSA_WITH_SHA256: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// A distinguished name: organizations first, as other implementations write them, then the common name.
pub(crate) fn distinguished_name<'a>(common_name: &str, organizations: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut content: Vec<u8> = organizations.flat_map(|name| attribute(ORGANIZATION, name)).collect();
    content.extend(attribute(COMMON_NAME, common_name));
    tlv(SEQUENCE, &content)
}

/// The to-be-signed part of `certificate`; `None` if it is not a certificate.
pub(crate) fn tbs(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.tbs_certificate.as_ref().to_vec())
}

/// The to-be-signed part of `certificate`, with `subject` in the place of its own; `None` if it is not a certificate.
pub(crate) fn with_subject(certificate: &[u8], subject: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let tbs: &[u8] = parsed.tbs_certificate.as_ref();
    let own: &[u8] = parsed.tbs_certificate.subject.as_raw();
    let body = content(tbs)?;
    // Both are slices of the same bytes; where one lies in the other is the difference of their addresses.
    let start = own.as_ptr().addr().checked_sub(body.as_ptr().addr())?;
    let end = start.checked_add(own.len())?;
    let (before, after) = (body.get(..start)?, body.get(end..)?);
    Some(tlv(SEQUENCE, &[before, subject, after].concat()))
}

/// A certificate: what was signed, and its ECDSA signature in DER.
pub(crate) fn certificate(tbs: &[u8], signature: &[u8]) -> Vec<u8> {
    // The first byte of a bit string counts its unused bits.
    let signature = tlv(BIT_STRING, &[&[0], signature].concat());
    tlv(SEQUENCE, &[tbs, ECDSA_WITH_SHA256, &signature].concat())
}

fn attribute(oid: &[u8], value: &str) -> Vec<u8> {
    let pair = [tlv(OBJECT_ID, oid), tlv(UTF8_STRING, value.as_bytes())].concat();
    tlv(SET, &tlv(SEQUENCE, &pair))
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    out.push(tag);
    let length = content.len().to_be_bytes();
    let significant: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    match (content.len(), u8::try_from(significant.len())) {
        (0..=0x7f, _) | (_, Err(_)) => out.push(content.len() as u8),
        (_, Ok(bytes)) => {
            out.push(0x80 | bytes);
            out.extend_from_slice(&significant);
        }
    }
    out.extend_from_slice(content);
    out
}

/// What stands behind tag and length.
fn content(tlv: &[u8]) -> Option<&[u8]> {
    let (_tag, rest) = tlv.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let skip = if length & 0x80 == 0 { 0 } else { usize::from(length & 0x7f) };
    rest.get(skip..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use x509_parser::x509::X509Name;

    use super::*;

    proptest! {
        #[test]
        fn a_name_is_read_as_it_was_written(name in "\\PC{1,300}", groups in proptest::collection::vec("\\PC{1,200}", 0..5)) {
            let der = distinguished_name(&name, groups.iter().map(String::as_str));
            let (rest, parsed) = X509Name::from_der(&der).unwrap();
            prop_assert!(rest.is_empty());
            let names: Vec<&str> = parsed.iter_common_name().map(|value| value.as_str().unwrap()).collect();
            let organizations: Vec<&str> = parsed.iter_organization().map(|value| value.as_str().unwrap()).collect();
            prop_assert_eq!(names, [name.as_str()]);
            prop_assert_eq!(organizations, groups);
        }

        #[test]
        fn any_bytes_have_content_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            prop_assert!(content(&bytes).is_none_or(|inner| inner.len() < bytes.len()));
            prop_assert!(with_subject(&bytes, b"").is_none());
        }
    }
}
