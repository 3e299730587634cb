//! What a client is told of the certificate and key of a Secret for TLS, in the words of Go's `tls.X509KeyPair`.

use martello_pki::blocks::{Block, blocks};
use rustls::{
    Error, InconsistentKeys, SignatureAlgorithm,
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};

const KEY_LABEL: &str = "PRIVATE KEY";
const MALFORMED_KEY: &str = "tls: failed to parse private key";
/// Kinds of public keys by their object identifiers, as certificates have them.
const KINDS: [(&[u8], SignatureAlgorithm); 3] = [
    (&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1], SignatureAlgorithm::RSA),
    (&[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1], SignatureAlgorithm::ECDSA),
    (&[6, 3, 0x2b, 0x65, 0x70], SignatureAlgorithm::ED25519),
];

/// What is wrong with a certificate and a key, both in PEM. Keys of kinds that are not known here are let be.
#[must_use]
pub(super) fn fault(certificate: &[u8], key: &[u8]) -> Option<String> {
    let (certificate, key) = match (first_certificate(certificate), first_key(key)) {
        (Err(why), _) | (_, Err(why)) => return Some(why),
        (Ok(certificate), Ok(key)) => (certificate, key),
    };
    let told = malformed(&certificate).or_else(|| mismatch(certificate, &key))?;
    Some(told.to_owned())
}

fn first_certificate(text: &[u8]) -> Result<Vec<u8>, String> {
    let (found, others): (Vec<Block>, Vec<Block>) =
        blocks(text).into_iter().partition(|block| block.label == "CERTIFICATE");
    if let Some(first) = found.into_iter().next() {
        return Ok(first.contents);
    }
    let what = "in certificate input";
    Err(match others.as_slice() {
        [] => format!("tls: failed to find any PEM data {what}"),
        [only] if only.label.ends_with(KEY_LABEL) => format!(
            "tls: failed to find certificate PEM data {what}, but did find a private key; PEM inputs may have been switched"
        ),
        _ => format!(
            "tls: failed to find \"CERTIFICATE\" PEM block {what} after skipping PEM blocks of the following types: {}",
            labels(&others)
        ),
    })
}

fn first_key(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut skipped = Vec::new();
    for block in blocks(text) {
        if block.label == KEY_LABEL || block.label.ends_with(" PRIVATE KEY") {
            return Ok(block.contents);
        }
        skipped.push(block);
    }
    Err(match skipped.as_slice() {
        [] => "tls: failed to find any PEM data in key input".to_owned(),
        [only] if only.label == "CERTIFICATE" => {
            "tls: found a certificate rather than a key in the PEM for the private key".to_owned()
        }
        _ => format!(
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the following types: {}",
            labels(&skipped)
        ),
    })
}

fn labels(blocks: &[Block]) -> String {
    let labels: Vec<&str> = blocks.iter().map(|block| block.label.as_str()).collect();
    format!("[{}]", labels.join(" "))
}

fn malformed(certificate: &[u8]) -> Option<&'static str> {
    let Some((inner, rest)) = sequence(certificate) else { return Some("x509: malformed certificate") };
    if sequence(inner).is_none() {
        return Some("x509: malformed tbs certificate");
    }
    (!rest.is_empty()).then_some("x509: trailing data")
}

fn mismatch(certificate: Vec<u8>, key: &[u8]) -> Option<&'static str> {
    let known = KINDS.iter().find(|(oid, _)| certificate.windows(oid.len()).any(|part| part == *oid));
    let Ok(key) = PrivateKeyDer::try_from(key) else { return Some(MALFORMED_KEY) };
    let key = any_supported_type(&key).ok()?;
    if known.is_some_and(|(_, kind)| *kind != key.algorithm()) {
        return Some("tls: private key type does not match public key type");
    }
    match CertifiedKey::new(vec![CertificateDer::from(certificate)], key).keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Some("tls: private key does not match public key")
        }
        _ => None,
    }
}

/// What is in a sequence of DER that comes first, and what follows it.
fn sequence(der: &[u8]) -> Option<(&[u8], &[u8])> {
    const SEQUENCE: u8 = 0x30;
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        // Four bytes are as many as Go reads.
        let (length, rest) = rest.split_at_checked(count).filter(|_| (1..=4).contains(&count))?;
        (length.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)), rest)
    };
    (tag == SEQUENCE).then(|| rest.split_at_checked(length)).flatten()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    fn block(label: &str, contents: &[u8]) -> String {
        let contents = base64::engine::general_purpose::STANDARD.encode(contents);
        format!("-----BEGIN {label}-----\n{contents}\n-----END {label}-----\n")
    }

    fn told(certificate: &str, key: &str) -> String {
        fault(certificate.as_bytes(), key.as_bytes()).unwrap_or_default()
    }

    #[test]
    fn what_is_not_there_is_told_of() {
        let (certificate, key) = (block("CERTIFICATE", &[0x30, 2, 0x30, 0]), block("EC PRIVATE KEY", &[1]));
        assert_eq!(told("b", "b"), "tls: failed to find any PEM data in certificate input");
        assert_eq!(told(&certificate, "b"), "tls: failed to find any PEM data in key input");
        assert!(told(&key, &certificate).ends_with("but did find a private key; PEM inputs may have been switched"));
        assert!(told(&certificate, &certificate).starts_with("tls: found a certificate rather than a key"));
        assert!(told(&block("A", &[]).repeat(2), &key).ends_with("following types: [A A]"));
    }

    #[test]
    fn what_does_not_parse_is_told_of() {
        let key = block("PRIVATE KEY", &[1]);
        let parsed = |der: &[u8]| told(&block("CERTIFICATE", der), &key);
        assert_eq!(parsed(&[1, 2, 3]), "x509: malformed certificate");
        assert_eq!(parsed(&[0x30, 1, 5]), "x509: malformed tbs certificate");
        assert_eq!(parsed(&[0x30, 2, 0x30, 0, 9]), "x509: trailing data");
        assert_eq!(parsed(&[0x30, 2, 0x30, 0]), MALFORMED_KEY);
    }
}
