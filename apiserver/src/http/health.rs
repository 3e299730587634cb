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
const AUDIT: Check = ("audit", |core| core.audit.health());
const START: Check = ("poststarthook/bootstrap", |core| {
    if core.ready.load(Ordering::Acquire) { Ok(()) } else { Err("not finished".to_owned()) }
});
const SHUTDOWN: Check =
    ("shutdown", |core| if core.drain.is_cancelled() { Err("process is shutting down".to_owned()) } else { Ok(()) });

fn checks(root: &str) -> Option<Vec<Check>> {
    match root {
        "livez" => Some(vec![PING, STORE, AUDIT]),
        "healthz" => Some(vec![PING, STORE, AUDIT, START]),
        "readyz" => Some(vec![PING, STORE, AUDIT, START, SHUTDOWN]),
        _ => None,
    }
}

/// Answers `/livez`, `/livez/ping` and their like; none for other paths.
#[must_use]
pub fn serve(core: &Core, path: &str, query: &Query) -> Option<Reply> {
    let path = path.trim_matches('/');
    let (root, one) = path.split_once('/').map_or((path, None), |(root, one)| (root, Some(one)));
    let checks = checks(root)?;
    match one {
        None => Some(all(core, root, &checks, query)),
        Some(one) => {
            let Some((_, check)) = checks.iter().find(|(name, _)| *name == one) else {
                return Some(reply::page_not_found());
            };
            Some(match check(core) {
                Ok(()) => reply::text(200, "ok"),
                Err(why) => reply::text(500, format!("internal server error: {why}\n")),
            })
        }
    }
}

fn all(core: &Core, root: &str, checks: &[Check], query: &Query) -> Reply {
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut text = String::new();
    let mut failed = false;
    for (name, check) in checks {
        let _infallible = match check(core) {
            _ if excluded.contains(name) => writeln!(text, "[+]{name} excluded: ok"),
            Ok(()) => writeln!(text, "[+]{name} ok"),
            Err(_) => {
                failed = true;
                writeln!(text, "[-]{name} failed: reason withheld")
            }
        };
    }
    if failed {
        return reply::text(500, format!("{text}{root} check failed\n"));
    }
    if query.has("verbose") { reply::text(200, format!("{text}{root} check passed\n")) } else { reply::text(200, "ok") }
}
