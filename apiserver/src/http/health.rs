//! `/livez`, `/readyz`, `/healthz`: how the server is, check by check.

use std::{fmt::Write as _, sync::atomic::Ordering};

use super::{
    query::Query,
    reply::{self, Reply},
};
use crate::server::Core;

/// One check: its name, and what is wrong.
type Check = (&'static str, fn(&Core) -> Result<(), String>);

const PING: Check = ("ping", |_| Ok(()));
const STORE: Check = ("etcd", |core| match core.store.status().failure {
    None => Ok(()),
    Some(why) => Err(why),
});
/// Upstream's check of its log, which monitors ask for by name; ours can't stop.
const LOG: Check = ("log", |_| Ok(()));
const STORE_READS: Check = ("etcd-readiness", STORE.1);
const AUDIT: Check = ("audit", |core| core.audit.health());
const START: Check = ("poststarthook/bootstrap", |core| {
    if core.ready.load(Ordering::Acquire) { Ok(()) } else { Err("not finished".to_owned()) }
});
const SHUTDOWN: Check =
    ("shutdown", |core| if core.drain.is_cancelled() { Err("process is shutting down".to_owned()) } else { Ok(()) });

fn checks(root: &str) -> Option<Vec<Check>> {
    match root {
        "livez" => Some(vec![PING, LOG, STORE, AUDIT]),
        "healthz" => Some(vec![PING, LOG, STORE, AUDIT, START]),
        "readyz" => Some(vec![PING, LOG, STORE, STORE_READS, AUDIT, START, SHUTDOWN]),
        _ => None,
    }
}

/// Every path of a check.
pub fn paths() -> impl Iterator<Item = String> {
    ["healthz", "livez", "readyz"].into_iter().flat_map(|root| {
        let of_checks = checks(root).unwrap_or_default().into_iter().map(move |(name, _)| format!("/{root}/{name}"));
        std::iter::once(format!("/{root}")).chain(of_checks)
    })
}

/// Answers `/livez`, `/livez/ping` and their like; none for other paths.
#[must_use]
pub fn serve(core: &Core, path: &str, query: &Query) -> Option<Reply> {
    let path = path.strip_prefix('/')?;
    let (root, one) = path.split_once('/').map_or((path, None), |(root, one)| (root, Some(one)));
    let checks = checks(root)?;
    match one {
        None => Some(all(core, root, &checks, query)),
        Some(one) => {
            // The path is exact: nothing may stand behind.
            let Some((_, check)) = checks.iter().find(|(name, _)| *name == one) else {
                return Some(reply::page_not_found());
            };
            Some(match check(core) {
                Ok(()) => reply::bare_text(200, "ok"),
                Err(why) => reply::text(500, format!("internal server error: {why}\n")),
            })
        }
    }
}

fn all(core: &Core, root: &str, checks: &[Check], query: &Query) -> Reply {
    let outcomes: Vec<(&str, bool)> = checks.iter().map(|(name, check)| (*name, check(core).is_ok())).collect();
    let excluded: Vec<&str> = query.all("exclude").collect();
    let (code, text) = told(root, &outcomes, &excluded, query.has("verbose"));
    reply::text(code, text)
}

/// What is told of all checks: upstream's words, to the letter.
fn told(root: &str, outcomes: &[(&str, bool)], excluded: &[&str], verbose: bool) -> (u16, String) {
    let mut text = String::new();
    let mut failed = false;
    for (name, well) in outcomes {
        let _infallible = if excluded.contains(name) {
            writeln!(text, "[+]{name} excluded: ok")
        } else if *well {
            writeln!(text, "[+]{name} ok")
        } else {
            failed = true;
            writeln!(text, "[-]{name} failed: reason withheld")
        };
    }
    let unknown: Vec<String> = excluded
        .iter()
        .filter(|name| !outcomes.iter().any(|(known, _)| known == *name))
        .map(|name| format!("{name:?}"))
        .collect();
    if !unknown.is_empty() {
        let listed = unknown.join(",");
        let _infallible = writeln!(text, "warn: some health checks cannot be excluded: no matches for {listed}");
    }
    match (failed, verbose) {
        (true, _) => (500, format!("{text}{root} check failed\n")),
        (false, true) => (200, format!("{text}{root} check passed\n")),
        (false, false) => (200, "ok".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECKS: [(&str, bool); 2] = [("ping", true), ("etcd", false)];

    #[test]
    fn a_failed_check_is_named_and_its_reason_is_not() {
        let failed = "[+]ping ok\n[-]etcd failed: reason withheld\nlivez check failed\n";
        assert_eq!(told("livez", &CHECKS, &[], false), (500, failed.to_owned()));
    }

    #[test]
    fn checks_can_be_excluded_and_what_there_is_not_is_told() {
        assert_eq!(told("readyz", &CHECKS, &["etcd"], false), (200, "ok".to_owned()));
        let passed = "[+]ping ok\n[+]etcd excluded: ok\nwarn: some health checks cannot be excluded: no matches for \"frob\"\nreadyz check passed\n";
        assert_eq!(told("readyz", &CHECKS, &["etcd", "frob"], true), (200, passed.to_owned()));
    }
}
