//! The keeper: what has to be done as root of the node's own user namespace, outside of the agent.
//!
//! Three processes, all of the agent's unprivileged user: the `anchor` holds the namespaces and does nothing else;
//! the server (`secctl keeper serve`) works in the pod network and gives files to the ids of pods, and can be
//! replaced at any time; `secctl keeper unpack` unpacks one image and ends.

pub(crate) mod anchor;
mod client;
mod measure;
pub(crate) mod protocol;
mod serve;
mod tree;
mod unpack;

use std::io::{self, Write};

pub(crate) use self::client::{Keeper, spawn};

/// The word after `secctl` that makes the process a keeper.
pub const NAME: &str = "keeper";

/// Runs a keeper; `args` are those after `secctl keeper`. Must be called before the process has a second thread.
#[must_use]
pub fn main(args: &[String]) -> i32 {
    let result = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [anchor::ANCHOR] => return anchor::hold(),
        [serve::SERVE] => serve::serve(),
        [unpack::UNPACK] => unpack::unpack(),
        _ => Err(io::Error::other("the keeper is started by the node only")),
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            // Nobody is left to tell if this fails.
            writeln!(io::stderr(), "the keeper failed: {error}").ok();
            1
        }
    }
}

/// Adds what was attempted to an error, in one line: these errors cross a process boundary as text.
pub(crate) fn context(attempt: impl std::fmt::Display) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::other(format!("could not {attempt}: {error}"))
}
