//! What operations do.

use super::capital;
use crate::openapi::parameters::{CHANGING, DELETING, LISTING, PATCHING, Parameter, READING, WATCHING};

/// What an operation does, in the words of its name and in those of its action.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    List,
    Create,
    DeleteCollection,
    Read,
    Replace,
    Patch,
    Delete,
    Watch,
    WatchList,
    Connect(&'static str),
}

impl Verb {
    /// Those of a verb that discovery tells of a collection, an object or a subresource.
    pub(super) const ALL: [(&'static str, Self); 7] = [
        ("list", Self::List),
        ("create", Self::Create),
        ("deletecollection", Self::DeleteCollection),
        ("get", Self::Read),
        ("update", Self::Replace),
        ("patch", Self::Patch),
        ("delete", Self::Delete),
    ];

    pub(super) fn is_of_collection(self) -> bool {
        matches!(self, Self::List | Self::Create | Self::DeleteCollection)
    }

    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Create => "post",
            Self::Replace => "put",
            Self::Patch => "patch",
            Self::Delete | Self::DeleteCollection => "delete",
            Self::List | Self::Read | Self::Watch | Self::WatchList => "get",
            Self::Connect(method) => method,
        }
    }

    pub(super) fn action(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::DeleteCollection => "deletecollection",
            Self::Watch => "watch",
            Self::WatchList => "watchlist",
            Self::Connect(_) => "connect",
            other => other.method(),
        }
    }

    /// How its name begins, and what comes between version and scope.
    pub(super) fn words(self) -> (&'static str, String) {
        let (word, part) = match self {
            Self::List => ("list", ""),
            Self::Create => ("create", ""),
            Self::DeleteCollection => ("delete", "Collection"),
            Self::Read => ("read", ""),
            Self::Replace => ("replace", ""),
            Self::Patch => ("patch", ""),
            Self::Delete => ("delete", ""),
            Self::Watch | Self::WatchList => ("watch", ""),
            Self::Connect(method) => return ("connect", capital(method)),
        };
        (word, part.to_owned())
    }

    pub(super) fn queries(self, is_custom: bool) -> Vec<&'static Parameter> {
        match self {
            Self::List | Self::Watch | Self::WatchList => LISTING.iter().collect(),
            Self::DeleteCollection if is_custom => LISTING.iter().collect(),
            Self::DeleteCollection => {
                LISTING.iter().filter(|one| !WATCHING.contains(&one.0)).chain(&DELETING).collect()
            }
            Self::Read if is_custom => READING.iter().collect(),
            Self::Create | Self::Replace => CHANGING.iter().collect(),
            Self::Patch => PATCHING.iter().collect(),
            Self::Delete => DELETING.iter().collect(),
            Self::Read | Self::Connect(_) => Vec::new(),
        }
    }
}
