//! Which capabilities a container gets inside its pod's user namespace.

use std::collections::BTreeSet;

/// What images that start as their own root need to own files, bind low ports and become another user.
/// Against the engines' usual set this leaves out `AUDIT_WRITE`, `MKNOD`, `NET_RAW`, `SETFCAP`, `SETPCAP` and
/// `SYS_CHROOT`. All of it is powerless outside the pod's user namespace.
pub const DEFAULT: [&str; 8] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"];

/// The set of a container: the default, less `drop`, and `add` (which outranks `drop`, as in Kubernetes).
/// An unknown name is an error; so is `ALL` in `add`.
pub fn granted(add: &[String], drop: &[String]) -> Result<BTreeSet<String>, UnknownCapability> {
    let drop = drop.iter().map(|name| known(name, true)).collect::<Result<BTreeSet<_>, _>>()?;
    let add = add.iter().map(|name| known(name, false)).collect::<Result<BTreeSet<_>, _>>()?;
    let base = DEFAULT.iter().map(ToString::to_string).filter(|name| !drop.contains(name) && !drop.contains("ALL"));
    Ok(base.chain(add).map(|name| format!("CAP_{name}")).collect())
}

/// A capability that Linux doesn't have, or that can't be given.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("capability \"{0}\" can't be given: use a name as in capabilities(7) without CAP_")]
pub struct UnknownCapability(String);

fn known(name: &str, all: bool) -> Result<String, UnknownCapability> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned();
    let exists = format!("CAP_{bare}").parse::<caps::Capability>().is_ok();
    if exists || (all && bare == "ALL") { Ok(bare) } else { Err(UnknownCapability(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn dropping_all_and_adding_one_leaves_one() {
        let set = granted(&list(&["NET_BIND_SERVICE"]), &list(&["ALL"])).unwrap();
        assert_eq!(set.into_iter().collect::<Vec<_>>(), ["CAP_NET_BIND_SERVICE"]);
    }

    #[test]
    fn the_default_holds_nothing_that_reaches_the_kernel() {
        let set = granted(&[], &[]).unwrap();
        assert!(set.iter().all(|name| !name.starts_with("CAP_SYS_") && name != "CAP_NET_RAW" && name != "CAP_MKNOD"));
    }

    #[test]
    fn unknown_names_are_refused() {
        assert!(granted(&list(&["EVERYTHING"]), &[]).is_err());
        assert!(granted(&list(&["ALL"]), &[]).is_err());
        assert!(granted(&[], &list(&["cap_chown"])).is_ok());
    }
}
