//! Where a list goes on: the token between two pages.

use martello_api::status::ApiError;
use serde_json::Value;

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
        let read = martello_api::schema::parse_json(&json).map_err(|error| bad(error.to_string()))?;
        let decoded = Self::of_json(&read.into_value()).map_err(bad)?;
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

    /// Of a token's JSON; what does not fit is told in Go's words.
    fn of_json(value: &Value) -> Result<Self, String> {
        let kind = |value: &Value| match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        let unlike = |found: &Value, name: &str, wanted: &str| {
            let found = match found {
                Value::Number(number) if wanted == "int64" => format!("number {number}"),
                other => kind(other),
            };
            format!("json: cannot unmarshal {found} into Go struct field continueToken.{name} of type {wanted}")
        };
        let text = |name: &str| match value.get(name) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(unlike(other, name, "string")),
        };
        if !matches!(value, Value::Object(_) | Value::Null) {
            return Err(format!("json: cannot unmarshal {} into Go value of type storage.continueToken", kind(value)));
        }
        let revision = match value.get("rv") {
            None | Some(Value::Null) => 0,
            Some(found) => found.as_i64().ok_or_else(|| unlike(found, "rv", "int64"))?,
        };
        Ok(Self { version: text("v")?, revision, start: text("start")? })
    }
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
