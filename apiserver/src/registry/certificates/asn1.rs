//! What Go's reader of ASN.1 says of a request that it can't read: of the outermost value. What is wrong further within
//! is not told apart.

use martello_pki::request::in_pem;

/// The class, number and length of a value, and whether values are within it.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    class: u8,
    tag: u32,
    length: usize,
    is_compound: bool,
}

const SEQUENCE: u32 = 16;
/// What Go asks of the outermost value, as it prints that.
const ASKED: &str = "{optional:false explicit:false application:false private:false defaultValue:<nil> tag:<nil> stringType:0 timeType:0 set:false omitEmpty:false}";
/// Kinds of keys by their object identifiers, and what is said of a signature that is not theirs.
const SIGNATURES: [(&[u8], &str); 3] = [
    (&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1], "crypto/rsa: verification error"),
    (&[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1], "x509: ECDSA verification failure"),
    (&[6, 3, 0x2b, 0x65, 0x70], "x509: Ed25519 verification failure"),
];

/// Why a request in PEM can't be read, if it is for its outermost value.
#[must_use]
pub fn malformed(pem: &[u8]) -> Option<String> {
    fault(&in_pem(pem)?)
}

/// What is said of a request in PEM whose signature is not that of its key.
#[must_use]
pub fn unsigned(pem: &[u8]) -> Option<&'static str> {
    let der = in_pem(pem)?;
    let holds = |oid: &[u8]| der.windows(oid.len()).any(|part| part == oid);
    SIGNATURES.iter().find(|(oid, _)| holds(oid)).map(|(_, why)| *why)
}

fn syntax(why: &str) -> String {
    format!("asn1: syntax error: {why}")
}

fn structure(why: &str) -> String {
    format!("asn1: structure error: {why}")
}

fn fault(der: &[u8]) -> Option<String> {
    if der.is_empty() {
        return Some(syntax("sequence truncated"));
    }
    let (head, rest) = match head(der) {
        Ok(read) => read,
        Err(why) => return Some(why),
    };
    let Head { class, tag, length, is_compound } = head;
    if (class, tag, is_compound) != (0, SEQUENCE, true) {
        let at = der.len() - rest.len();
        let found = format!("{{class:{class} tag:{tag} length:{length} isCompound:{is_compound}}}");
        return Some(structure(&format!("tags don't match ({SEQUENCE} vs {found}) {ASKED} certificateRequest @{at}")));
    }
    match rest.len() {
        there if there < length => Some(syntax("data truncated")),
        there if there > length => Some(syntax("trailing data")),
        _ => None,
    }
}

fn head(der: &[u8]) -> Result<(Head, &[u8]), String> {
    let truncated = || syntax("truncated tag or length");
    let (first, mut rest) = der.split_first().ok_or_else(truncated)?;
    let mut tag = u32::from(first & 0x1f);
    if tag == 0x1f {
        (tag, rest) = large_tag(rest)?;
    }
    let (short, mut rest) = rest.split_first().ok_or_else(truncated)?;
    let mut length = usize::from(short & 0x7f);
    if short & 0x80 != 0 {
        let bytes = length;
        if bytes == 0 {
            return Err(syntax("indefinite length found (not DER)"));
        }
        length = 0;
        for _ in 0..bytes {
            let (byte, after) = rest.split_first().ok_or_else(truncated)?;
            rest = after;
            if length >= 1 << 23 {
                return Err(structure("length too large"));
            }
            length = length << 8 | usize::from(*byte);
            if length == 0 {
                return Err(structure("superfluous leading zeros in length"));
            }
        }
        if length < 0x80 {
            return Err(structure("non-minimal length"));
        }
    }
    Ok((Head { class: first >> 6, tag, length, is_compound: first & 0x20 != 0 }, rest))
}

/// A number that does not fit beside the class: seven bits in each byte.
fn large_tag(bytes: &[u8]) -> Result<(u32, &[u8]), String> {
    let mut tag = 0_u64;
    for (at, byte) in bytes.iter().enumerate() {
        if at == 5 {
            return Err(structure("base 128 integer too large"));
        }
        if at == 0 && *byte == 0x80 {
            return Err(syntax("integer is not minimally encoded"));
        }
        tag = tag << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return match u32::try_from(tag).ok().filter(|tag| i32::try_from(*tag).is_ok()) {
                None => Err(structure("base 128 integer too large")),
                Some(tag) if tag < 0x1f => Err(syntax("non-minimal tag")),
                Some(tag) => Ok((tag, bytes.get(at + 1..).unwrap_or_default())),
            };
        }
    }
    Err(syntax("truncated base 128 integer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_sequence_is_told_as_go_tells_it() {
        let cases: [(&[u8], &str); 9] = [
            (b"", "asn1: syntax error: sequence truncated"),
            (b"\x30", "asn1: syntax error: truncated tag or length"),
            (b"\x30\x05ab", "asn1: syntax error: data truncated"),
            (b"\x30\x01abc", "asn1: syntax error: trailing data"),
            (b"\x30\x80ab", "asn1: syntax error: indefinite length found (not DER)"),
            (b"\x30\x81\x05abcde", "asn1: structure error: non-minimal length"),
            (b"\x30\x82\x00\x85ab", "asn1: structure error: superfluous leading zeros in length"),
            (b"\x1f\x05\x01a", "asn1: syntax error: non-minimal tag"),
            (b"\x1f\x81", "asn1: syntax error: truncated base 128 integer"),
        ];
        for (der, expected) in cases {
            assert_eq!(fault(der).as_deref(), Some(expected), "{der:?}");
        }
        assert_eq!(
            fault(b"foo").unwrap(),
            format!(
                "asn1: structure error: tags don't match (16 vs {{class:1 tag:6 length:111 isCompound:true}}) {ASKED} certificateRequest @2"
            )
        );
        assert_eq!(fault(b"\x30\x00"), None);
    }

    #[test]
    fn a_wrong_signature_is_told_by_the_kind_of_the_key() {
        let pem =
            |der: &str| format!("-----BEGIN CERTIFICATE REQUEST-----\n{der}\n-----END CERTIFICATE REQUEST-----\n");
        // Nothing but the identifier of a key for Ed25519.
        assert_eq!(unsigned(pem("BgMrZXA=").as_bytes()), Some("x509: Ed25519 verification failure"));
        assert_eq!(unsigned(pem("Zm9v").as_bytes()), None);
        assert_eq!(unsigned(b"nope"), None);
        assert!(malformed(pem("Zm9v").as_bytes()).unwrap().contains("tags don't match"));
    }
}
