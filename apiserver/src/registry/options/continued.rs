//! Where a list goes on: the token between two pages.

use martello_api::status::ApiError;

/// Where a list goes on: the state it is of, and the key that comes first.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Continue {
    /// Version of the token's form.
    #[serde(rename = "v", default)]
    version: String,
    /// The revision of the first page; [`Continue::NEWEST`] where that is no longer kept.
    #[serde(rename = "rv", default)]
    revision: i64,
    /// The last key that was shown, and a zero behind it: the least key after it.
    #[serde(rename = "start", default)]
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
        Self { revision: Self::NEWEST, ..self.clone() }
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
        use base64::Engine as _;
        let bad =
            |why: String| ApiError::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let json = engine.decode(token).map_err(|error| match error {
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => {
                bad(format!("illegal base64 data at input byte {at}"))
            }
            // Go names the last whole group of four.
            _ => bad(format!("illegal base64 data at input byte {}", token.len() / 4 * 4)),
        })?;
        if let Err(error) = martello_api::schema::parse_json(&json) {
            return Err(bad(error.to_string()));
        }
        let decoded: Self = serde_json::from_slice(&json).map_err(|error| bad(error.to_string()))?;
        match &decoded {
            other if other.version != CONTINUE_VERSION => {
                Err(bad(format!("server does not recognize this encoded version {:?}", other.version)))
            }
            Self { revision: 0, .. } => {
                Err(bad(format!("incorrect encoded start resourceVersion (version {CONTINUE_VERSION})")))
            }
            Self { start, .. } if start.is_empty() => {
                Err(bad(format!("encoded start key empty (version {CONTINUE_VERSION})")))
            }
            Self { start, .. } if start.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) => {
                Err(bad(start.clone()))
            }
            _ => Ok(decoded),
        }
    }
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
    }

    #[test]
    fn tokens_that_no_list_gave_are_refused() {
        use base64::Engine as _;
        let decode = |json: &str| {
            let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
            message(Continue::decode(&token)).split_off("invalid continue token: continue key is not valid: ".len())
        };
        assert!(message(Continue::decode("garbage!")).ends_with("illegal base64 data at input byte 7"));
        assert_eq!(decode("{"), "unexpected end of JSON input");
        assert_eq!(decode(r#"{"v":"x","rv":1,"start":"a"}"#), "server does not recognize this encoded version \"x\"");
        assert_eq!(
            decode(r#"{"v":"meta.k8s.io/v1"}"#),
            "incorrect encoded start resourceVersion (version meta.k8s.io/v1)"
        );
        assert_eq!(decode(r#"{"v":"meta.k8s.io/v1","rv":1}"#), "encoded start key empty (version meta.k8s.io/v1)");
        assert_eq!(decode(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"a/../b"}"#), "a/../b");
    }
}
