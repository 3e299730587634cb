//! PEM as Go reads it, and what holds for a bundle of certificates to be trusted, in upstream's words.

use std::collections::BTreeMap;

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

const START: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"\n-----END ";
const DASHES: &[u8] = b"-----";
/// Go reads what letters are left over at the end, whatever their last bits are.
const LETTERS: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

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

/// The blocks of a text; what is between them, and what only looks like one, is passed over. Every step leaves an end behind
/// for good and looks at nothing before it again, so that all of them take as long as the text is.
#[must_use]
pub fn blocks(text: &[u8]) -> Vec<Block> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = split_at_end(rest) {
        match block(before, after) {
            Reading::Block(block) => {
                found.push(block);
                rest = line(after).1.unwrap_or_default();
            }
            Reading::None => rest = after,
            Reading::Nothing => break,
        }
    }
    found
}

/// What is before and after the next end; the line break before an end belongs to it.
fn split_at_end(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.windows(END.len()).position(|window| window == END)?;
    Some((text.get(..at)?, text.get(at + END.len()..)?))
}

/// What there is before an end.
enum Reading {
    /// A block.
    Block(Block),
    /// No block.
    None,
    /// No block, and nothing behind it is looked at.
    Nothing,
}

/// The block that ends between these two, and begins at the last start: others have no end of their own.
fn block(before: &[u8], after: &[u8]) -> Reading {
    let Some(at) = before.windows(START.len()).rposition(|window| window == START) else { return Reading::None };
    let (lead, started) = before.split_at(at);
    if lead.last().is_some_and(|byte| *byte != b'\n') {
        return Reading::None;
    }
    let (first, mut body) = line(started.get(START.len()..).unwrap_or_default());
    let first = if body.is_none() { ended(first) } else { first };
    let Some(label) = first.strip_suffix(DASHES) else { return Reading::None };
    let mut has_headers = false;
    while let Some(text) = body {
        let (next, behind) = line(text);
        if !next.contains(&b':') {
            break;
        }
        has_headers = true;
        body = behind;
    }
    if body.is_none() {
        // The end itself is taken for a header then.
        if line(after).0.contains(&b':') {
            return Reading::Nothing;
        }
        if has_headers {
            return Reading::None;
        }
    }
    let trailer = after.strip_prefix(label).and_then(|after| after.strip_prefix(DASHES));
    if trailer.is_none_or(|trailer| !line(trailer).0.is_empty()) {
        return Reading::None;
    }
    let body = body.unwrap_or_default();
    let letters: Vec<u8> = body.iter().filter(|byte| !b" \t\r\n".contains(byte)).copied().collect();
    match LETTERS.decode(letters) {
        Ok(contents) => {
            Reading::Block(Block { label: String::from_utf8_lossy(label).into_owned(), has_headers, contents })
        }
        Err(_) => Reading::None,
    }
}

/// The first line, without blanks at its end, and what follows it, if it ends at all.
fn line(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|byte| *byte == b'\n') {
        Some(at) => (ended(text.get(..at).unwrap_or_default()), text.get(at + 1..)),
        None => (without_blanks(text), None),
    }
}

/// A line that ends with a line break.
fn ended(line: &[u8]) -> &[u8] {
    without_blanks(line.strip_suffix(b"\r").unwrap_or(line))
}

fn without_blanks(mut line: &[u8]) -> &[u8] {
    while let [left @ .., b' ' | b'\t'] = line {
        line = left;
    }
    line
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

    #[test]
    fn starts_without_an_end_are_left_behind_at_once() {
        let starts = "-----BEGIN A-----\n".repeat(60_000);
        assert_eq!(blocks(starts.as_bytes()), []);
        let found = blocks(format!("{starts}AAAA\n-----END A-----\n{starts}").as_bytes());
        let block = Block { label: "A".to_owned(), has_headers: false, contents: vec![0; 3] };
        assert_eq!(found, [block]);
        assert_eq!(blocks("\n-----END A-----".repeat(60_000).as_bytes()), []);
    }

    #[test]
    fn blocks_are_told_as_by_go() {
        let count = |text: &str| blocks(text.as_bytes()).len();
        for (text, expected) in [
            ("-----BEGIN A-----\nAAAA\n-----END A-----", 1),
            ("-----BEGIN A-----\r\nAAAA\r\n-----END A-----\r\n", 1),
            ("-----BEGIN A----- \t\nAA AA\n-----END A----- \t\n", 1),
            ("-----BEGIN A-----\nAAAA\n-----END A----- x\n", 0),
            ("-----BEGIN A-----\nAAB=\n-----END A-----\n", 1),
            ("-----BEGIN A-----\nAAAA-----END A-----\n", 0),
            ("-----BEGIN A-----\nK: v\n\nAAAA\n-----END A-----\n", 1),
            ("-----BEGIN A-----\nK: v\n-----END A-----\n", 0),
            ("-----BEGIN A-----\nK: v\n\n-----END A-----\n", 1),
            ("-----BEGIN A:B-----\nAAAA\n-----END A:B-----\n", 1),
            ("-----BEGIN A:B-----\n-----END A:B-----\n-----BEGIN A-----\n-----END A-----\n", 0),
            ("x-----BEGIN A-----\n-----END A-----\n-----BEGIN A-----\n-----END A-----\n", 1),
        ] {
            assert_eq!(count(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "(-----(BEGIN|END) [AB]-----|[\\nA: =-])*") {
            drop(bundle_faults(&bytes));
            drop(blocks(text.as_bytes()));
        }
    }
}
