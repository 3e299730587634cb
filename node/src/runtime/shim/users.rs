//! Who runs a container: the image's `User` and the pod's wishes, looked up in the container's own files.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

use super::ShimError;
use crate::runtime::oci::ResolvedUser;
use crate::runtime::spec::ContainerUser;

/// Bytes of `/etc/passwd` and `/etc/group` that are read; the file belongs to the image.
const MAX_FILE: u64 = 1024 * 1024;

/// Looks the user up in the file system at `rootfs`.
pub(super) fn resolve(user: &ContainerUser, rootfs: &Path) -> Result<ResolvedUser, ShimError> {
    let passwd = read(rootfs, "etc/passwd");
    let group = read(rootfs, "etc/group");
    resolve_in(user, &passwd, &group)
}

fn resolve_in(user: &ContainerUser, passwd: &str, group: &str) -> Result<ResolvedUser, ShimError> {
    let (name, group_name) = match user.image_user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (user.image_user.as_str(), None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let by_name = || accounts(passwd).find(|account| account.name == name);
    let by_id = |uid: u32| accounts(passwd).find(|account| account.uid == uid);
    let (uid, account) = match (user.uid, name.parse::<u32>().ok()) {
        (Some(uid), _) | (None, Some(uid)) => (uid, by_id(uid)),
        (None, None) => {
            let account = by_name().ok_or_else(|| {
                ShimError::Refused(format!("the image's user \"{name}\" is not in its /etc/passwd; set runAsUser"))
            })?;
            (account.uid, Some(account))
        }
    };
    if user.must_not_be_root && uid == 0 {
        return Err(ShimError::Refused(
            "container has runAsNonRoot and image will run as root: set runAsUser to another user".to_owned(),
        ));
    }
    let gid = match (user.gid, group_name, &account) {
        (Some(gid), _, _) => gid,
        (None, Some(name), _) if user.uid.is_none() => group_id(group, name)?,
        (None, _, Some(account)) => account.gid,
        (None, _, None) => 0,
    };
    let mut gids = user.additional_gids.clone();
    gids.extend(account.iter().flat_map(|account| groups_of(group, account.name)));
    gids.sort_unstable();
    gids.dedup();
    let home = account.map(|account| account.home.to_owned()).filter(|home| home.starts_with('/'));
    Ok(ResolvedUser { uid, gid, additional_gids: gids, home: home.or_else(|| Some("/".to_owned())) })
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Account { name, uid, gid, home: fields.nth(1).unwrap_or("/") })
    })
}

fn group_lines(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some((fields.next()?, fields.nth(1)?.parse().ok()?, fields.next().unwrap_or_default()))
    })
}

fn group_id(group: &str, name: &str) -> Result<u32, ShimError> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    let found = group_lines(group).find(|(candidate, _, _)| *candidate == name).map(|(_, gid, _)| gid);
    found.ok_or_else(|| ShimError::Refused(format!("the image's group \"{name}\" is not in its /etc/group")))
}

fn groups_of<'a>(group: &'a str, user: &'a str) -> impl Iterator<Item = u32> + 'a {
    group_lines(group).filter(move |(_, _, members)| members.split(',').any(|member| member == user)).map(|line| line.1)
}

/// The file below `rootfs`, links resolved inside it; empty if it can't be read.
fn read(rootfs: &Path, path: &str) -> String {
    let mut text = String::new();
    let result = open_in(rootfs, Path::new(path), OFlag::O_RDONLY | OFlag::O_NONBLOCK)
        .and_then(|fd| File::from(fd).take(MAX_FILE).read_to_string(&mut text));
    if result.is_err() {
        text.clear();
    }
    text
}

/// Opens a path of a container from outside; its links can't lead out of `rootfs`.
pub(super) fn open_in(rootfs: &Path, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let root = File::open(rootfs)?;
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(Mode::empty())
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let path = path.strip_prefix("/").unwrap_or(path);
    let raw = openat2(root.as_raw_fd(), if path.as_os_str().is_empty() { Path::new(".") } else { path }, how)?;
    crate::sys::inherited_fd(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv/web:/bin/false\nbroken\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nlogs:x:40:web,other\n";

    fn user(image_user: &str) -> ContainerUser {
        ContainerUser { image_user: image_user.to_owned(), ..ContainerUser::default() }
    }

    #[test]
    fn names_are_looked_up_in_the_image() {
        let found = resolve_in(&user("web"), PASSWD, GROUP).unwrap();
        assert_eq!((found.uid, found.gid, found.additional_gids), (33, 34, vec![40]));
        assert_eq!(found.home.as_deref(), Some("/srv/web"));
        assert_eq!(resolve_in(&user("web:logs"), PASSWD, GROUP).unwrap().gid, 40);
    }

    #[test]
    fn an_unknown_id_is_fine_and_an_unknown_name_is_not() {
        let found = resolve_in(&user("1234"), PASSWD, GROUP).unwrap();
        assert_eq!((found.uid, found.gid), (1234, 0));
        assert!(resolve_in(&user("nobody"), PASSWD, GROUP).is_err());
        assert!(resolve_in(&user("web:nogroup"), PASSWD, GROUP).is_err());
    }

    #[test]
    fn the_pod_outranks_the_image() {
        let asked = ContainerUser { uid: Some(1000), gid: Some(2000), additional_gids: vec![3000], ..user("web:logs") };
        let found = resolve_in(&asked, PASSWD, GROUP).unwrap();
        assert_eq!((found.uid, found.gid, found.additional_gids), (1000, 2000, vec![3000]));
    }

    #[test]
    fn root_is_refused_where_it_must_not_be() {
        let asked = ContainerUser { must_not_be_root: true, ..user("") };
        assert!(resolve_in(&asked, PASSWD, GROUP).is_err());
    }
}
