//! What holds for the status of PodCertificateRequests: they end once, and what is issued is what was asked for.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use martello_api::status::Cause;
use martello_pki::{
    blocks::{Block, blocks},
    pod_certificate::{Issued, key_of_stub},
};
use serde_json::{Value, json};

use super::{
    pod_request::{ENDS, has_ended},
    pod_rules::omitted,
};
use crate::registry::{
    object,
    validation::{condition, field::Field},
};

/// Most bytes of a chain of certificates.
const MAX_CHAIN_BYTES: usize = 100 * 1024;
/// How far a certificate's beginning may be from now.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// Shortest life of a certificate, and how far its renewal is from either end.
const SHORTEST: SignedDuration = SignedDuration::from_hours(1);
const MARGIN: SignedDuration = SignedDuration::from_mins(10);
const CHAIN: &str = "status.certificateChain";
const STATUS: &str = "io.k8s.api.certificates.v1beta1.PodCertificateRequestStatus";

/// Checks a changed status.
pub fn check(request: &Value, old: &Value, now: Timestamp, causes: &mut Vec<Cause>) {
    let status = Field::new(request, "").at("status");
    let before = causes.len();
    conditions(&status, causes);
    if causes.len() > before {
        return;
    }
    let unchanged = object::same_of(STATUS, request.get("status"), old.get("status"));
    if ENDS.iter().any(|end| has_ended(old, end)) {
        if !unchanged {
            omitted(&status, "immutable after PodCertificateRequest is issued, denied, or failed", causes);
        }
    } else if has_ended(request, "Denied") || has_ended(request, "Failed") {
        let others = status.value.as_object().into_iter().flatten().filter(|(key, _)| *key != "conditions");
        if others.into_iter().any(|(_, value)| !object::is_zero(value)) {
            const WHY: &str =
                "non-condition status fields must be empty when denying or failing the PodCertificateRequest";
            omitted(&status, WHY, causes);
        }
    } else if has_ended(request, "Issued") {
        issued(&Field::new(request, ""), now, causes);
    } else if !unchanged {
        const WHY: &str = "status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"";
        omitted(&status, WHY, causes);
    }
}

fn conditions(status: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut known = 0;
    for (index, one) in status.items("conditions").iter().enumerate() {
        // Upstream writes the place as a field of its own.
        let one = Field::new(one.value, format!("status.conditions.[{index}]"));
        let kind = one.at("type");
        if !ENDS.contains(&kind.text()) {
            kind.one_of(&ENDS, causes);
            continue;
        }
        known += 1;
        if known > 1 {
            kind.invalid("There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"", causes);
        }
        one.at("status").one_of(&["True"], causes);
    }
    condition::check(status, causes);
}

fn issued(request: &Field<'_>, now: Timestamp, causes: &mut Vec<Cause>) {
    let status = request.at("status");
    let chain = status.at("certificateChain");
    if chain.text().len() > MAX_CHAIN_BYTES {
        return causes.push(Cause::too_long(CHAIN, MAX_CHAIN_BYTES));
    }
    let refuse = |why: &str, causes: &mut Vec<Cause>| causes.push(Cause::invalid(CHAIN, &json!(chain.text()), why));
    let blocks = blocks(chain.text().as_bytes());
    let Some((leaf, others)) = blocks.split_first() else {
        return refuse("issued certificate chain must contain at least one certificate", causes);
    };
    if !is_certificate(leaf) {
        return refuse("issued certificate chain must consist entirely of CERTIFICATE PEM blocks", causes);
    }
    let Some(leaf) = Issued::from_der(&leaf.contents) else {
        return refuse("leaf certificate does not parse as valid X.509", causes);
    };
    let before = causes.len();
    names(&leaf, causes);
    if wanted_key(&request.at("spec")).as_ref() != Some(&leaf.key) {
        return refuse("leaf certificate was not issued to the requested public key", causes);
    }
    let Some(times) = Times::of(&status, causes).filter(|_| causes.len() == before) else { return };
    let most = SignedDuration::from_secs(request.at("spec").at("maxExpirationSeconds").int().unwrap_or(0));
    if let Err((path, shown, why)) = times.fault(&leaf, now, most) {
        return causes.push(Cause::new("FieldValueInvalid", path, format!("Invalid value: {shown}: {why}")));
    }
    for other in others {
        if !is_certificate(other) {
            return refuse("issued certificate chain must consist entirely of CERTFICATE PEM blocks", causes);
        }
        if Issued::from_der(&other.contents).is_none() {
            return refuse("intermediate certificate does not parse as valid X.509", causes);
        }
    }
}

fn is_certificate(block: &Block) -> bool {
    block.label == "CERTIFICATE"
}

fn wanted_key(spec: &Field<'_>) -> Option<Vec<u8>> {
    let bytes = |key: &str| STANDARD.decode(spec.str(key)).unwrap_or_default();
    let stub = bytes("stubPKCS10Request");
    if stub.is_empty() { Some(bytes("pkixPublicKey")) } else { key_of_stub(&stub) }
}

fn names(leaf: &Issued, causes: &mut Vec<Cause>) {
    let mut refuse = |name: &str, why: &str| causes.push(Cause::invalid(CHAIN, &json!(name), why));
    for name in &leaf.dns_names {
        if name.is_empty() {
            refuse(name, "leaf certificate should not contain empty DNSName");
        }
        if name.contains("..") {
            refuse(name, "leaf certificate's DNSName should not contain '..'");
        }
        if name.starts_with('.') || name.ends_with('.') {
            refuse(name, "leaf certificate's DNSName should not start or end with '.'");
        }
    }
    for address in &leaf.mail_addresses {
        let odd = |letter: char| letter.is_whitespace() || matches!(letter, '<' | '>');
        let parts = address.split_once('@').filter(|_| !address.contains(odd));
        let sound = parts.is_some_and(|(user, domain)| !user.is_empty() && !domain.is_empty() && !domain.contains('@'));
        if !sound {
            refuse(address, "leaf certificate should not contain invalid EmailAddress");
        }
    }
}

/// The times of a status.
struct Times {
    not_before: Timestamp,
    not_after: Timestamp,
    refresh: Timestamp,
}

impl Times {
    /// All of them; those that are missing are complained of.
    fn of(status: &Field<'_>, causes: &mut Vec<Cause>) -> Option<Self> {
        const CONSISTENT: &str = "must be present and consistent with the issued certificate";
        let mut read = |key: &str, why: &str| {
            let found = status.str(key).parse().ok();
            if found.is_none() {
                status.at(key).required(why, causes);
            }
            found
        };
        let (not_before, not_after) = (read("notBefore", CONSISTENT), read("notAfter", CONSISTENT));
        let range = "must be present and in the range [notbefore+10min, notafter-10min]";
        let refresh = read("beginRefreshAt", range);
        Some(Self { not_before: not_before?, not_after: not_after?, refresh: refresh? })
    }

    /// The first thing that is wrong: where, the value as it is shown, and why.
    fn fault(&self, leaf: &Issued, now: Timestamp, most: SignedDuration) -> Result<(), (&'static str, String, String)> {
        const BEFORE: &str = "status.notBefore";
        const REFRESH: &str = "status.beginRefreshAt";
        let life = leaf.not_after.duration_since(leaf.not_before);
        let rules = [
            (
                self.not_before == leaf.not_before,
                (
                    BEFORE,
                    go_time(self.not_before),
                    "must be set to the NotBefore time encoded in the leaf certificate".to_owned(),
                ),
            ),
            (
                now.duration_since(self.not_before).abs() < SKEW,
                (
                    BEFORE,
                    go_time(self.not_before),
                    "must be set to within 5 minutes of kube-apiserver's current time".to_owned(),
                ),
            ),
            (
                self.not_after == leaf.not_after,
                (
                    "status.notAfter",
                    go_time(self.not_after),
                    "must be set to the NotAfter time encoded in the leaf certificate".to_owned(),
                ),
            ),
            (life >= SHORTEST, (CHAIN, go_duration(life), "leaf certificate lifetime must be >= 1 hour".to_owned())),
            (
                life <= most,
                (
                    CHAIN,
                    go_duration(life),
                    format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({})", most.as_secs()),
                ),
            ),
            (
                self.refresh.duration_since(self.not_before) >= MARGIN,
                (REFRESH, go_time(self.refresh), "must be at least 10 minutes after status.notBefore".to_owned()),
            ),
            (
                self.not_after.duration_since(self.refresh) >= MARGIN,
                (REFRESH, go_time(self.refresh), "must be at least 10 minutes before status.notAfter".to_owned()),
            ),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, fault)| Err(fault))
    }
}

/// A time as Go shows it.
fn go_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

/// Whole seconds as Go shows them.
fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of one key, made for this test alone: a request, and a certificate of the first of January 2026.
    const REQUEST: &str = "MIG6MGICAQAwADBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABK28t301pvLPPuqa/lyJmwMpm2oXhvjK7xLFP2kP6TuzPARkEcnBQZ3r80PRZ+57ZQ6JDlz/F3x/G4oRKQPPakWgADAKBggqhkjOPQQDAgNIADBFAiEAs4GnYv99sr6E0sLwTmIm5Z5vY3A27z+Hq7D6FWMla2QCIDdrDQrJGuiR8ftsAh8ktE+7tJEmtAM/GuOgoKXnC0I/";
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMIIBIjCByaADAgECAgEHMAoGCCqGSM49BAMCMAwxCjAIBgNVBAMMAXAwHhcNMjYw\nMTAxMDAwMDAwWhcNMjYwMTAyMDAwMDAwWjAMMQowCAYDVQQDDAFwMFkwEwYHKoZI\nzj0CAQYIKoZIzj0DAQcDQgAErby3fTWm8s8+6pr+XImbAymbaheG+MrvEsU/aQ/p\nO7M8BGQRycFBnevzQ9Fn7ntlDokOXP8XfH8bihEpA89qRaMcMBowGAYDVR0RBBEw\nD4INYS5leGFtcGxlLmNvbTAKBggqhkjOPQQDAgNIADBFAiEAnC4/+rP5Nvz02bZj\nBvpI6lEDY9z9fR2yjcfjF3tyx/MCIDFzDgYjasR2W1eyiNbMmqP3qtkP9WuIhfPy\nbo3Mq3+D\n-----END CERTIFICATE-----\n";
    /// A request of another key.
    const OTHER_REQUEST: &str = "MIG5MGICAQAwADBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABIy710pAOmll9rM3u/LF6obE/K+yOdsB0cqNHbvcnfB0aw0+xJ2f16E7QKyM9dlwswXs3E5lZ4P2bnOGucyrxs+gADAKBggqhkjOPQQDAgNHADBEAiAl9cch0fME4e7i9Lq7KlxIdXWupFVC1v8fhEzn4YDzFQIgagQiW+3AEo7Cs1lhT1AuTDCQGKpPkgMlexov8eEeGI0=";

    fn status(end: &str, changes: &Value) -> Value {
        let since = "2026-01-01T00:00:00Z";
        let condition =
            json!({"type": end, "status": "True", "reason": "R", "message": "", "lastTransitionTime": since});
        let mut status = json!({"conditions": [condition]});
        for (key, value) in changes.as_object().unwrap() {
            status[key] = value.clone();
        }
        status
    }

    fn issued(changes: &Value) -> Value {
        let mut whole = json!({"certificateChain": CERTIFICATE, "notBefore": "2026-01-01T00:00:00Z",
            "notAfter": "2026-01-02T00:00:00Z", "beginRefreshAt": "2026-01-01T12:00:00Z"});
        for (key, value) in changes.as_object().unwrap() {
            whole[key] = value.clone();
        }
        status("Issued", &whole)
    }

    fn faults_of(request: &str, status: &Value, old: &Value, now: &str) -> Vec<String> {
        let spec = json!({"stubPKCS10Request": request, "maxExpirationSeconds": 86_400});
        let (new, old) = (json!({"spec": spec, "status": status}), json!({"spec": spec, "status": old}));
        let mut causes = Vec::new();
        check(&new, &old, now.parse().unwrap(), &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    fn faults(status: &Value, old: &Value) -> Vec<String> {
        faults_of(REQUEST, status, old, "2026-01-01T00:01:00Z")
    }

    #[test]
    fn what_is_issued_is_for_the_key_and_begins_now() {
        assert!(faults(&issued(&json!({})), &json!({})).is_empty());
        let found = faults_of(OTHER_REQUEST, &issued(&json!({})), &json!({}), "2026-01-01T00:01:00Z");
        assert!(found[0].ends_with("leaf certificate was not issued to the requested public key"), "{found:?}");
        assert_eq!(
            faults_of(REQUEST, &issued(&json!({})), &json!({}), "2026-01-01T01:00:00Z"),
            [
                "status.notBefore: Invalid value: 2026-01-01 00:00:00 +0000 UTC: must be set to within 5 minutes of kube-apiserver's current time"
            ]
        );
        assert_eq!(
            faults(&issued(&json!({"notAfter": "2026-01-03T00:00:00Z"})), &json!({})),
            [
                "status.notAfter: Invalid value: 2026-01-03 00:00:00 +0000 UTC: must be set to the NotAfter time encoded in the leaf certificate"
            ]
        );
        assert_eq!(
            faults(&issued(&json!({"beginRefreshAt": "2026-01-01T00:05:00Z"})), &json!({})),
            [
                "status.beginRefreshAt: Invalid value: 2026-01-01 00:05:00 +0000 UTC: must be at least 10 minutes after status.notBefore"
            ]
        );
        assert_eq!(
            faults(&issued(&json!({"notBefore": null, "beginRefreshAt": null})), &json!({})),
            [
                "status.notBefore: Required value: must be present and consistent with the issued certificate",
                "status.beginRefreshAt: Required value: must be present and in the range [notbefore+10min, notafter-10min]",
            ]
        );
        let odd = faults(&issued(&json!({"certificateChain": "words"})), &json!({}));
        assert_eq!(
            odd,
            [
                "status.certificateChain: Invalid value: \"words\": issued certificate chain must contain at least one certificate"
            ]
        );
    }

    #[test]
    fn a_request_ends_once() {
        let denied = status("Denied", &json!({}));
        assert!(faults(&denied, &json!({})).is_empty());
        assert_eq!(
            faults(&issued(&json!({})), &denied),
            ["status: Invalid value: immutable after PodCertificateRequest is issued, denied, or failed"]
        );
        assert_eq!(
            faults(&status("Failed", &json!({"certificateChain": "x"})), &json!({})),
            [
                "status: Invalid value: non-condition status fields must be empty when denying or failing the PodCertificateRequest"
            ]
        );
        assert_eq!(
            faults(&json!({"certificateChain": "x"}), &json!({})),
            [
                "status: Invalid value: status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\""
            ]
        );
        assert_eq!(
            faults(&status("Odd", &json!({})), &json!({})),
            [
                "status.conditions.[0].type: Unsupported value: \"Odd\": supported values: \"Issued\", \"Denied\", \"Failed\""
            ]
        );
    }

    #[test]
    fn durations_are_shown_as_go_does() {
        let shown = [7, 67, 3600].map(|seconds| go_duration(SignedDuration::from_secs(seconds)));
        assert_eq!(shown, ["7s", "1m7s", "1h0m0s"]);
    }
}
