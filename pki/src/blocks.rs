//! PEM as Go reads it, and what holds for a bundle of certificates to be trusted, in upstream's words.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

const START: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// One block of PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What it says it is.
    pub label: String,
    /// Whether there are headers in it.
    pub has_headers: bool,
    /// What it holds.
    pub contents: Vec<u8>,
}

/// The blocks of a text; what is between them, and what only looks like one, is passed over.
#[must_use]
pub fn blocks(text: &[u8]) -> Vec<Block> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = start_of(rest) {
        match block(start) {
            Some((block, after)) => {
                found.push(block);
                rest = after;
            }
            None => rest = line(start).1,
        }
    }
    found
}

/// What follows the next line that begins a block.
fn start_of(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text;
    loop {
        if let Some(after) = rest.strip_prefix(START) {
            return Some(after);
        }
        let at = rest.iter().position(|byte| *byte == b'\n')?;
        rest = rest.get(at + 1..)?;
    }
}

/// The block whose label `text` begins with, and what follows it.
fn block(text: &[u8]) -> Option<(Block, &[u8])> {
    let (first, mut rest) = line(text);
    let label = first.strip_suffix(DASHES)?;
    let mut has_headers = false;
    loop {
        let (next, after) = line(rest);
        if rest.is_empty() || !next.contains(&b':') {
            break;
        }
        has_headers = true;
        rest = after;
    }
    if rest.is_empty() {
        return None;
    }
    let (body, ended) = if !has_headers && rest.starts_with(END) {
        (&[][..], rest.get(END.len()..)?)
    } else {
        let wanted: Vec<u8> = [b"\n", END].concat();
        let at = rest.windows(wanted.len()).position(|window| window == wanted)?;
        (rest.get(..at)?, rest.get(at + wanted.len()..)?)
    };
    let (last, after) = line(ended);
    if last.strip_prefix(label) != Some(DASHES) {
        return None;
    }
    let letters: Vec<u8> = body.iter().filter(|byte| !b" \t\r\n".contains(byte)).copied().collect();
    let contents = STANDARD.decode(letters).ok()?;
    Some((Block { label: String::from_utf8_lossy(label).into_owned(), has_headers, contents }, after))
}

/// The first line, without white space at its end, and what follows it.
fn line(text: &[u8]) -> (&[u8], &[u8]) {
    let (first, rest) = match text.iter().position(|byte| *byte == b'\n') {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default()),
        None => (text, &[][..]),
    };
    (first.trim_ascii_end(), rest)
}

/// What is wrong with a bundle: each block is the certificate of an authority, there is at least one, and each only once.
#[must_use]
pub fn bundle_faults(bundle: &[u8]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut places: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
    let mut order = Vec::new();
    for (index, block) in blocks(bundle).into_iter().enumerate() {
        match anchor_fault(&block) {
            Some(fault) => faults.push(format!("entry {index} {fault}")),
            None => {
                let known = places.entry(block.contents.clone()).or_default();
                if known.is_empty() {
                    order.push(block.contents);
                }
                known.push(index.to_string());
            }
        }
    }
    if !faults.is_empty() {
        return faults;
    }
    if order.is_empty() {
        return vec!["at least one trust anchor must be provided".to_owned()];
    }
    let repeated = order.iter().filter_map(|contents| places.get(contents)).filter(|places| places.len() > 1);
    repeated.map(|places| format!("duplicate trust anchor (indices [{}])", places.join(" "))).collect()
}

fn anchor_fault(block: &Block) -> Option<String> {
    if block.label != "CERTIFICATE" {
        return Some(format!("has bad block type: {}", block.label));
    }
    if block.has_headers {
        return Some("has PEM block headers".to_owned());
    }
    match X509Certificate::from_der(&block.contents) {
        Ok(([], certificate)) => match certificate.basic_constraints() {
            Ok(Some(constraints)) if constraints.value.ca => None,
            Ok(_) => Some("does not have the CA bit set".to_owned()),
            Err(_) => Some("has invalid basic constraints".to_owned()),
        },
        _ => Some("does not parse as X.509".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn certificate(is_ca: IsCa) -> String {
        let mut params = CertificateParams::default();
        params.is_ca = is_ca;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn authority() -> String {
        certificate(IsCa::Ca(BasicConstraints::Unconstrained))
    }

    #[test]
    fn a_bundle_holds_authorities_and_each_once() {
        let (one, two) = (authority(), authority());
        assert_eq!(bundle_faults(format!("words\n{one}more words\n{two}").as_bytes()), Vec::<String>::new());
        assert_eq!(bundle_faults(b"words"), ["at least one trust anchor must be provided"]);
        assert_eq!(bundle_faults(format!("{one}{two}{one}").as_bytes()), ["duplicate trust anchor (indices [0 2])"]);
        let leaf = certificate(IsCa::NoCa);
        assert_eq!(bundle_faults(format!("{leaf}{one}{one}").as_bytes()), ["entry 0 does not have the CA bit set"]);
    }

    #[test]
    fn a_bundle_holds_nothing_but_certificates() {
        let key = "-----BEGIN KEY-----\nAAAA\n-----END KEY-----\n";
        let odd = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let headed = "-----BEGIN CERTIFICATE-----\nA: b\n\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(
            bundle_faults(format!("{key}{odd}{headed}").as_bytes()),
            ["entry 0 has bad block type: KEY", "entry 1 does not parse as X.509", "entry 2 has PEM block headers"]
        );
    }

    #[test]
    fn what_only_looks_like_a_block_is_passed_over() {
        let good = "-----BEGIN A-----\nAAAA\n-----END A-----";
        for odd in ["-----BEGIN A-----\nAA\n", "-----BEGIN A----\nAAAA\n-----END A-----\n", "x-----BEGIN A-----\n"] {
            let found = blocks(format!("{odd}{good}").as_bytes());
            assert_eq!(found.len(), 1, "{odd}");
        }
        assert_eq!(blocks(b"-----BEGIN A-----\nAAAA\n-----END B-----\n"), []);
        assert_eq!(blocks(b"-----BEGIN A-----\n-----END A-----\n").len(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "(-----(BEGIN|END) [AB]-----|[\\nA: =-])*") {
            drop(bundle_faults(&bytes));
            drop(blocks(text.as_bytes()));
        }
    }
}
