//! Where a list goes on: the token between two pages.

use martello_api::{go, schema::Raw, status::ApiError};

/// Where a list goes on: the state it is of, and the key that comes first.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Continue {
    /// Version of the token's form.
    #[serde(rename = "v")]
    version: String,
    /// The revision of the first page; [`Continue::NEWEST`] where that is no longer kept.
    #[serde(rename = "rv")]
    revision: i64,
    /// The last key that was shown, and a zero behind it: the least key after it.
    #[serde(rename = "start")]
    start: String,
}

const CONTINUE_VERSION: &str = "meta.k8s.io/v1";

impl Continue {
    /// The revision of tokens that go on in whatever state there is.
    const NEWEST: i64 = -1;

    /// A token for what follows `after` in the state of `revision`.
    #[must_use]
    pub fn new(revision: u64, after: &str) -> Self {
        let revision = i64::try_from(revision).unwrap_or(i64::MAX);
        Self { version: CONTINUE_VERSION.to_owned(), revision, start: format!("{after}\0") }
    }

    /// The same place in the newest state, for a list whose state is gone.
    #[must_use]
    pub fn in_newest(&self) -> Self {
        // Whoever told the first pages began places with a slash; what goes on without their state is told by another.
        let start = self.start.trim_start_matches('/').to_owned();
        Self { revision: Self::NEWEST, start, ..self.clone() }
    }

    /// The state to go on in; none for the newest.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        u64::try_from(self.revision).ok()
    }

    /// The last key that was shown.
    #[must_use]
    pub fn after(&self) -> &str {
        self.start.trim_end_matches('\0').trim_start_matches('/')
    }

    /// As the client gets it.
    #[must_use]
    pub fn encode(&self) -> String {
        use base64::Engine as _;
        let json = serde_json::to_vec(self).unwrap_or_default();
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json)
    }

    pub(super) fn decode(token: &str) -> Result<Self, ApiError> {
        let bad =
            |why: String| ApiError::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        let json = decode_base64(token).map_err(|at| bad(format!("illegal base64 data at input byte {at}")))?;
        let read = martello_api::schema::parse_json(&json).map_err(|error| bad(error.to_string()))?;
        let decoded = Self::of_json(&read).map_err(bad)?;
        match &decoded {
            other if other.version != CONTINUE_VERSION => {
                Err(bad(format!("server does not recognize this encoded version {}", other.version)))
            }
            Self { revision: 0, .. } => {
                Err(bad(format!("incorrect encoded start resourceVersion (version {CONTINUE_VERSION})")))
            }
            Self { start, .. } if start.is_empty() => {
                Err(bad(format!("encoded start key empty (version {CONTINUE_VERSION})")))
            }
            Self { start, .. } if leads_away(start) => Err(bad(start.clone())),
            _ => Ok(decoded),
        }
    }

    /// Of a token's JSON; what does not fit is told in Go's words. Case does not matter in names.
    fn of_json(value: &Raw<'_>) -> Result<Self, String> {
        let entries = match value {
            Raw::Map(entries) => entries.as_slice(),
            Raw::Null => &[],
            other => {
                return Err(go::not_of_type(other.go_kind(), "storage.continueToken"));
            }
        };
        let mut read = Self { version: String::new(), revision: 0, start: String::new() };
        let mut fault = None;
        for (name, value) in entries {
            let name = name.to_ascii_lowercase();
            let wanted = match (name.as_str(), value) {
                ("v" | "start" | "rv", Raw::Null) => continue,
                ("v", Raw::String(text)) => {
                    read.version = text.to_string();
                    continue;
                }
                ("start", Raw::String(text)) => {
                    read.start = text.to_string();
                    continue;
                }
                ("rv", Raw::Number(text)) if text.parse::<i64>().is_ok() => {
                    read.revision = text.parse().unwrap_or_default();
                    continue;
                }
                ("v" | "start", _) => "string",
                ("rv", _) => "int64",
                _ => continue,
            };
            let found = match value {
                Raw::Number(text) if wanted == "int64" => format!("number {text}"),
                other => other.go_kind().to_owned(),
            };
            fault.get_or_insert(go::field_not_of_type(&found, &format!("continueToken.{name}"), wanted));
        }
        fault.map_or(Ok(read), Err)
    }
}

/// Decodes as Go does: line ends and bits too many are passed over. Fails with the place of what is none of the alphabet, or
/// else with that of the group of four that is cut short.
fn decode_base64(token: &str) -> Result<Vec<u8>, usize> {
    use base64::{
        Engine as _, alphabet,
        engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    };
    const LOOSE: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true);
    const ENGINE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LOOSE);
    let is_odd = |byte: u8| !byte.is_ascii_alphanumeric() && !b"-_\r\n".contains(&byte);
    if let Some(at) = token.bytes().position(is_odd) {
        return Err(at);
    }
    let kept = token.replace(['\r', '\n'], "");
    ENGINE.decode(&kept).map_err(|_| kept.len() / 4 * 4)
}

/// Whether a place has steps that could lead out of what is listed.
fn leads_away(start: &str) -> bool {
    let place = start.strip_prefix('/').unwrap_or(start);
    start != "/" && place.split('/').any(|part| matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::{super::tests::message, *};

    #[test]
    fn a_token_says_where_to_go_on() {
        let token = Continue::new(7, "shop/web");
        let read = Continue::decode(&token.encode()).unwrap();
        assert_eq!((read.revision(), read.after()), (Some(7), "shop/web"));
        let newest = Continue::decode(&token.in_newest().encode()).unwrap();
        assert_eq!((newest.revision(), newest.after()), (None, "shop/web"));
        let cached = Continue::new(7, "/shop/web").in_newest();
        assert_eq!((cached.start.as_str(), cached.after()), ("shop/web\0", "shop/web"));
    }

    #[test]
    fn tokens_are_read_as_go_reads_them() {
        use base64::Engine as _;
        let place = |token: &str| message(Continue::decode(token)).rsplit(' ').next().map(str::to_owned);
        for (token, at) in [("bnVsbA=", "6"), ("MQ=", "2"), ("b_B=", "3"), ("a", "0"), ("abcde", "4")] {
            assert_eq!(place(token).as_deref(), Some(at), "{token}");
        }
        let json = r#"{"V": "meta.k8s.io/v1", "RV": 3, "Start": "q"}"#;
        let token = format!("{}\n", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json));
        assert_eq!(Continue::decode(&token).unwrap().revision(), Some(3));
    }

    #[test]
    fn tokens_that_no_list_gave_are_refused() {
        use base64::Engine as _;
        let decode = |json: &str| {
            let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
            message(Continue::decode(&token)).split_off("invalid continue token: continue key is not valid: ".len())
        };
        assert!(message(Continue::decode("garbage!")).ends_with("illegal base64 data at input byte 7"));
        for (token, at) in [("abcde", 4), ("abcd=", 4), ("ab=c!", 2)] {
            assert_eq!(decode_base64(token), Err(at), "{token}");
        }
        assert_eq!(decode_base64("aQ\r\n"), decode_base64("aR"));
        assert_eq!(decode("{"), "unexpected end of JSON input");
        assert_eq!(decode(r#"{"v":"x","rv":1,"start":"a"}"#), "server does not recognize this encoded version x");
        assert_eq!(
            decode(r#"{"v":"meta.k8s.io/v1"}"#),
            "incorrect encoded start resourceVersion (version meta.k8s.io/v1)"
        );
        assert_eq!(decode(r#"{"v":"meta.k8s.io/v1","rv":1}"#), "encoded start key empty (version meta.k8s.io/v1)");
        for start in ["a/../b", "../b", "a/"] {
            assert_eq!(decode(&format!(r#"{{"v":"meta.k8s.io/v1","rv":1,"start":"{start}"}}"#)), start);
        }
        assert_eq!(decode("[]"), "json: cannot unmarshal array into Go value of type storage.continueToken");
        assert_eq!(
            decode(r#"{"v":1}"#),
            "json: cannot unmarshal number into Go struct field continueToken.v of type string"
        );
        assert_eq!(
            decode(r#"{"rv":1.5}"#),
            "json: cannot unmarshal number 1.5 into Go struct field continueToken.rv of type int64"
        );
    }
}
