//! Kinds that are asked and not kept: who is this, may they do that.

use super::kind::Kind;

pub mod access;
pub mod rules;
pub mod token;
pub mod whoami;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind::new(access::Reviews::Local),
        Kind::new(access::Reviews::Own),
        Kind::new(access::Reviews::Any),
        Kind::new(rules::Rules),
        Kind::new(token::Tokens),
        Kind::new(whoami::WhoAmI),
    ]
}
