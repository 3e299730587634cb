//! Settings of containers on Windows.

use martello_api::status::Cause;

use crate::registry::validation::{field::Field, text};

/// Most bytes of a credential: room enough for any.
const MAX_CREDENTIAL_KIB: usize = 64;
/// A domain has fewer bytes.
const DOMAIN_LIMIT: usize = 256;
/// Most bytes of a user.
const MAX_USER: usize = 104;
/// Most bytes of a domain of the older kind.
const MAX_NETBIOS: usize = 15;
/// What a user's name may not have.
const NOT_OF_USERS: &str = "\"/\\:;|=,+*?<>@[]";
/// What a domain of the older kind may not have.
const NOT_OF_NETBIOS: &str = "\\/:*?\"<>|";

/// Checks `windowsOptions`.
pub(super) fn check(options: &Field<'_>, causes: &mut Vec<Cause>) {
    if let Some(name) = options.get("gmsaCredentialSpecName") {
        name.check(text::dns1123_subdomain, causes);
    }
    if let Some(credential) = options.get("gmsaCredentialSpec") {
        match credential.text().len() {
            0 => credential.invalid("gmsaCredentialSpec cannot be an empty string", causes),
            long if long > MAX_CREDENTIAL_KIB * 1024 => {
                credential.invalid(&format!("gmsaCredentialSpec size must be under {MAX_CREDENTIAL_KIB} KiB"), causes);
            }
            _ => {}
        }
    }
    if let Some(user) = options.get("runAsUserName") {
        account(&user, causes);
    }
}

/// Checks `DOMAIN\user` or `user`.
fn account(account: &Field<'_>, causes: &mut Vec<Cause>) {
    let whole = account.text();
    if whole.is_empty() {
        return account.invalid("runAsUserName cannot be an empty string", causes);
    }
    if whole.bytes().any(|byte| byte.is_ascii_control()) {
        return account.invalid("runAsUserName cannot contain control characters", causes);
    }
    let (domain, user) = whole.split_once('\\').map_or((None, whole), |(domain, user)| (Some(domain), user));
    if user.contains('\\') {
        return account.invalid("runAsUserName cannot contain more than one backslash", causes);
    }
    if let Some(domain) = domain {
        if domain.len() >= DOMAIN_LIMIT {
            let why = format!("runAsUserName's Domain length must be under {DOMAIN_LIMIT} characters");
            account.invalid(&why, causes);
        }
        if !is_netbios(domain) && !is_dns(domain) {
            account.invalid("runAsUserName's Domain doesn't match the NetBios nor the DNS format", causes);
        }
    }
    if user.is_empty() {
        account.invalid("runAsUserName's User cannot be empty", causes);
    } else if user.len() > MAX_USER {
        let why = format!("runAsUserName's User length must not be longer than {MAX_USER} characters");
        account.invalid(&why, causes);
    }
    if !user.is_empty() && user.chars().all(|letter| matches!(letter, '.' | ' ')) {
        account.invalid("runAsUserName's User cannot contain only periods or spaces", causes);
    }
    if user.contains(|letter| NOT_OF_USERS.contains(letter)) {
        let why = "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]";
        account.invalid(why, causes);
    }
}

fn is_netbios(domain: &str) -> bool {
    (1..=MAX_NETBIOS).contains(&domain.chars().count())
        && !domain.starts_with('.')
        && !domain.contains(|letter| NOT_OF_NETBIOS.contains(letter))
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| text::dns1123_label(&label.to_ascii_lowercase()).is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_account_is_a_user_and_perhaps_a_domain() {
        let faults = |name: &str| {
            let (options, mut causes) = (json!({"runAsUserName": name}), Vec::new());
            check(&Field::new(&options, "w"), &mut causes);
            causes.len()
        };
        assert_eq!([r"ContainerUser", r"a.example\user", r"DOM\user"].map(faults), [0, 0, 0]);
        assert_eq!(["", r"a\b\c", r".x\u", r"d\", "..", "a:b", "a\tb"].map(faults), [1, 1, 1, 1, 1, 1, 1]);
    }
}
