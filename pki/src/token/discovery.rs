//! What others need to verify our tokens by themselves (OpenID Connect Discovery 1.0).

use serde_json::{Value, json};

use super::keys::KeySet;

/// The path of the key set.
pub const JWKS_PATH: &str = "/openid/v1/jwks";

pub(super) fn jwks(keys: &KeySet) -> Value {
    let keys: Vec<Value> = keys
        .load()
        .values()
        .map(|key| json!({"use": "sig", "kty": "EC", "kid": key.id, "crv": "P-256", "alg": "ES256", "x": key.x, "y": key.y}))
        .collect();
    json!({ "keys": keys })
}

pub(super) fn openid_configuration(issuer: &str, base_url: &str) -> Value {
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{}{JWKS_PATH}", base_url.trim_end_matches('/')),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}
