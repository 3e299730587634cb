//! Martello's own filter of system calls, as an OCI seccomp profile.
//!
//! What is not named is answered `ENOSYS`, so that a C library falls back as it would on an older kernel; what is
//! named as dangerous is answered `EPERM`. `clone3` hides its flags behind a pointer and is therefore among the
//! former: every C library then uses `clone`, whose flags can be checked.

use serde_json::{Value, json};

mod calls;

use calls::{ALLOWED, FORBIDDEN};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const EAFNOSUPPORT: u32 = 97;

/// Flags of `clone` and `unshare` that make a namespace: time, mount, cgroup, uts, ipc, user, pid, network.
const NEW_NAMESPACE: u64 = 0x0000_0080 | 0x0002_0000 | 0x0200_0000 | 0x7c00_0000;
/// `clone` keeps the exit signal where `unshare` has the time namespace's flag.
const NEW_NAMESPACE_CLONE: u64 = NEW_NAMESPACE & !0xff;

/// Socket families that an application needs: local, IPv4, IPv6, netlink (name and address lookups).
const SOCKET_FAMILIES: [u64; 4] = [1, 2, 10, 16];

/// Values of `personality` that change nothing about security: Linux, 32-bit, both with `uname26`, and the query.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// `ioctl` request that types into a terminal on behalf of its reader.
const TIOCSTI: u64 = 0x5412;

/// The profile, as `linux.seccomp` of an OCI runtime spec.
#[must_use]
pub(crate) fn profile() -> Value {
    let mut rules = vec![
        json!({"names": ALLOWED, "action": "SCMP_ACT_ALLOW"}),
        json!({"names": FORBIDDEN, "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM}),
        masked("clone", 0, NEW_NAMESPACE_CLONE),
        masked("unshare", 0, NEW_NAMESPACE),
        json!({"names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
               "args": [{"index": 1, "value": TIOCSTI, "op": "SCMP_CMP_NE"}]}),
        json!({"names": ["socket", "socketpair"], "action": "SCMP_ACT_ERRNO", "errnoRet": EAFNOSUPPORT,
               "args": [{"index": 0, "value": 16, "op": "SCMP_CMP_GT"}]}),
    ];
    rules.extend(SOCKET_FAMILIES.iter().map(|family| equal(&["socket", "socketpair"], *family)));
    rules.extend(PERSONALITIES.iter().map(|value| equal(&["personality"], *value)));
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": ENOSYS,
        "architectures": architectures(),
        "syscalls": rules,
    })
}

fn architectures() -> &'static [&'static str] {
    match std::env::consts::ARCH {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        _ => &[],
    }
}

/// Allows the call if none of the bits of `mask` is set in the argument. The OCI schema puts the mask into `value`
/// and what it must give into `valueTwo`; libcontainer 0.7 reads them the other way round, and a test holds that.
fn masked(name: &str, index: u32, mask: u64) -> Value {
    json!({"names": [name], "action": "SCMP_ACT_ALLOW",
           "args": [{"index": index, "value": 0, "valueTwo": mask, "op": "SCMP_CMP_MASKED_EQ"}]})
}

fn equal(names: &[&str], value: u64) -> Value {
    json!({"names": names, "action": "SCMP_ACT_ALLOW",
           "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_both_allowed_and_forbidden() {
        assert!(FORBIDDEN.iter().all(|name| !ALLOWED.contains(name)));
    }

    #[test]
    fn the_profile_is_a_valid_oci_profile() {
        let parsed: oci_spec::runtime::LinuxSeccomp = serde_json::from_value(profile()).unwrap();
        assert_eq!(parsed.default_errno_ret(), Some(ENOSYS));
    }

    #[test]
    fn every_way_to_a_new_namespace_is_closed() {
        assert!(!ALLOWED.contains(&"clone3") && !ALLOWED.contains(&"clone") && !ALLOWED.contains(&"unshare"));
        for flag in [0x2_0000_u64, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
            assert_ne!(NEW_NAMESPACE_CLONE & flag, 0, "{flag:#x}");
        }
        assert_ne!(NEW_NAMESPACE & 0x80, 0);
    }
}
