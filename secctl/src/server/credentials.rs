//! The server's view of its authorities and tokens.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use martello_api::identity::User;
use martello_apiserver::authn::credentials::{Claims, Credentials, IssuedToken, Proven};
use martello_pki::{
    Pki, TokenSpec,
    token::{BoundObject, VerifiedToken},
};
use rustls::pki_types::CertificateDer;
use serde_json::Value;

/// [`Credentials`] by the authorities of this cluster.
pub struct PkiCredentials {
    pki: Pki,
}

impl PkiCredentials {
    /// By these authorities.
    pub fn new(pki: Pki) -> Self {
        Self { pki }
    }
}

fn pair(bound: &BoundObject) -> (String, String) {
    (bound.name.clone(), bound.uid.clone())
}

fn bound(pair: &(String, String)) -> BoundObject {
    BoundObject { name: pair.0.clone(), uid: pair.1.clone() }
}

fn claims(token: &VerifiedToken) -> Claims {
    let bound = &token.claims.kubernetes;
    Claims {
        namespace: bound.namespace.clone(),
        account: pair(&bound.serviceaccount),
        pod: bound.pod.as_ref().map(pair),
        secret: bound.secret.as_ref().map(pair),
        node: bound.node.as_ref().map(pair),
        audiences: token.claims.aud.clone(),
        id: token.claims.jti.clone(),
    }
}

impl Credentials for PkiCredentials {
    fn certificate_user(&self, chain: &[CertificateDer<'static>], now: Timestamp) -> Result<User, String> {
        martello_pki::authenticate(self.pki.trust(), chain, now).map_err(|error| error.to_string())
    }

    fn verify_token(&self, token: &str, now: Timestamp) -> Result<Proven, String> {
        if token.len() < 64 && !token.contains("..") && token.split('.').count() == 2 {
            let joined = self.pki.join_tokens().authenticate(token, now);
            return joined.map(Proven::User).map_err(|error| error.to_string());
        }
        let verified = self.pki.tokens().verify_any_audience(token, now).map_err(|error| error.to_string())?;
        Ok(Proven::Account(claims(&verified)))
    }

    fn issue_token(&self, claims: &Claims, lifetime: Duration, now: Timestamp) -> Result<IssuedToken, String> {
        let spec = TokenSpec {
            namespace: claims.namespace.clone(),
            service_account: claims.account.0.clone(),
            uid: claims.account.1.clone(),
            audiences: claims.audiences.clone(),
            lifetime: SignedDuration::try_from(lifetime).unwrap_or(SignedDuration::from_hours(1)),
            pod: claims.pod.as_ref().map(bound),
            node: claims.node.as_ref().map(bound),
            secret: claims.secret.as_ref().map(bound),
            warn_after: None,
        };
        let issued = self.pki.tokens().issue(spec, now).map_err(|error| error.to_string())?;
        Ok(IssuedToken { token: issued.token, expires: issued.expires })
    }

    fn audiences(&self) -> Vec<String> {
        vec![self.pki.tokens().issuer().to_owned()]
    }

    fn issuer(&self) -> String {
        self.pki.tokens().issuer().to_owned()
    }

    fn jwks(&self) -> Value {
        self.pki.tokens().jwks()
    }

    fn server_ca(&self) -> String {
        self.pki.server_ca_pem()
    }
}
