//! `issuer`: where tokens come from, and for whom they are.

use std::collections::HashSet;

use martello_api::status::Cause;
use martello_pki::token::DEFAULT_ISSUER;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde_json::json;

use crate::{authn::config::Issuer, cel::functions::url::Url};

const ANY_AUDIENCE: &str = "MatchAny";
const EGRESSES: [&str; 2] = ["controlplane", "cluster"];

pub(super) fn check_issuer(issuer: &Issuer, path: &str, causes: &mut Vec<Cause>) {
    let url = format!("{path}.url");
    if issuer.url.is_empty() {
        causes.push(Cause::required(url, ""));
    } else {
        // Whoever signs as this server itself would make any service account.
        if issuer.url == DEFAULT_ISSUER {
            let why = format!("URL must not overlap with disallowed issuers: [{DEFAULT_ISSUER}]");
            causes.push(Cause::invalid(url.as_str(), &json!(issuer.url), &why));
        }
        check_url(&issuer.url, &url, causes);
    }
    if !issuer.discovery_url.is_empty() {
        let discovery = format!("{path}.discoveryURL");
        let is_same = issuer.url.trim_end_matches('/') == issuer.discovery_url.trim_end_matches('/');
        if !issuer.url.is_empty() && is_same {
            let why = "discoveryURL must be different from URL";
            causes.push(Cause::invalid(discovery.as_str(), &json!(issuer.discovery_url), why));
        }
        check_url(&issuer.discovery_url, &discovery, causes);
    }
    check_audiences(issuer, path, causes);
    check_authority(&issuer.certificate_authority, format!("{path}.certificateAuthority"), causes);
    check_egress(&issuer.egress_selector_type, format!("{path}.egressSelectorType"), causes);
}

fn check_url(text: &str, path: &str, causes: &mut Vec<Cause>) {
    let mut refuse = |why: &str| causes.push(Cause::invalid(path, &json!(text), why));
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(why) => return refuse(&why),
    };
    if url.scheme() != "https" {
        refuse("URL scheme must be https");
    }
    if url.user().is_some() {
        refuse("URL must not contain a username or password");
    }
    if !url.query().is_empty() {
        refuse("URL must not contain a query");
    }
    if !url.fragment().is_empty() {
        refuse("URL must not contain a fragment");
    }
}

fn check_audiences(issuer: &Issuer, path: &str, causes: &mut Vec<Cause>) {
    let audiences = format!("{path}.audiences");
    if issuer.audiences.is_empty() {
        let why = format!("at least one {audiences} is required");
        return causes.push(Cause::required(audiences, &why));
    }
    let mut seen = HashSet::new();
    for (index, audience) in issuer.audiences.iter().enumerate() {
        let path = format!("{audiences}[{index}]");
        if audience.is_empty() {
            causes.push(Cause::required(path.as_str(), ""));
        }
        if !seen.insert(audience.as_str()) {
            causes.push(Cause::duplicate(path, &json!(audience)));
        }
    }
    let policy = issuer.audience_match_policy.as_str();
    let why = match issuer.audiences.len() {
        1 if policy.is_empty() => return,
        1 => "audienceMatchPolicy must be empty or MatchAny for single audience",
        _ => "audienceMatchPolicy must be MatchAny for multiple audiences",
    };
    if policy != ANY_AUDIENCE {
        causes.push(Cause::invalid(format!("{path}.audienceMatchPolicy"), &json!(policy), why));
    }
}

fn check_authority(pem: &str, path: String, causes: &mut Vec<Cause>) {
    if pem.is_empty() {
        return causes.push(Cause::required(path, "this server trusts no authority of the public web"));
    }
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = read.unwrap_or_default();
    let why = if found.is_empty() {
        "data does not contain any valid RSA or ECDSA certificates"
    } else if found.iter().any(|one| RootCertStore::empty().add(one.clone()).is_err()) {
        "x509: malformed certificate"
    } else {
        return;
    };
    causes.push(Cause::invalid(path, &json!("<omitted>"), why));
}

fn check_egress(egress: &str, path: String, causes: &mut Vec<Cause>) {
    if EGRESSES.contains(&egress) {
        causes.push(Cause::forbidden(path, "this server has no egress selectors: it reaches issuers itself"));
    } else if !egress.is_empty() {
        let why = "egress selector must be either controlplane or cluster";
        causes.push(Cause::invalid(path, &json!(egress), why));
    }
}
