//! The functions that expressions may call: their signatures for the checker, and what they do.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use super::{types::Type, value::Value};

mod arranging;
pub mod authorizer;
mod convert;
pub mod format;
pub(in crate::cel) mod formatting;
mod lists;
pub mod net;
mod operators;
mod optional;
mod patterns;
mod quantity;
pub mod semver;
mod signature;
mod strings;
mod time;
pub mod url;

pub(crate) use operators::grow;

/// A function.
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// Its signatures.
    pub overloads: Vec<Overload>,
    /// What it does; arguments come with the target first.
    pub run: Run,
}

/// A signature.
pub struct Overload {
    /// Name of the signature.
    pub id: &'static str,
    /// Whether it is called on a target.
    pub member: bool,
    /// Types of the arguments, the target's first; parameters count from zero.
    pub args: Vec<Type>,
    /// Type of the result.
    pub result: Type,
    /// How many parameters there are.
    pub params: u32,
}

/// Why a function has no result.
#[derive(Debug)]
pub enum Fault {
    /// Not for such arguments.
    NoOverload,
    /// Something else.
    Message(String),
}

/// What a function comes to.
pub type Outcome<'a> = Result<Value<'a>, Fault>;

/// What a function does.
pub type Run = for<'a> fn(&[Value<'a>]) -> Outcome<'a>;

/// A library: names, signatures in short, and what they do.
type Library = &'static [(&'static str, &'static [&'static str], Run)];

const LIBRARIES: [Library; 14] = [
    operators::LIBRARY,
    convert::LIBRARY,
    strings::LIBRARY,
    time::LIBRARY,
    lists::LIBRARY,
    arranging::LIBRARY,
    optional::LIBRARY,
    patterns::LIBRARY,
    quantity::LIBRARY,
    net::LIBRARY,
    url::LIBRARY,
    format::LIBRARY,
    semver::LIBRARY,
    authorizer::LIBRARY,
];

static FUNCTIONS: LazyLock<HashMap<&'static str, Function>> = LazyLock::new(|| {
    let mut functions = HashMap::new();
    for (name, signatures, run) in LIBRARIES.into_iter().flatten() {
        let overloads = signatures.iter().filter_map(|text| signature::parse(text)).collect();
        functions.insert(*name, Function { name, overloads, run: *run });
    }
    functions
});

/// The function of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.get(name)
}

/// An error of this text.
fn fail<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Message(message.into()))
}

/// Text that was made.
fn text<'a>(text: impl Into<Arc<str>>) -> Value<'a> {
    Value::String(super::value::Text::Shared(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_is_understood_and_named_once() {
        let mut ids = std::collections::HashSet::new();
        let mut names = std::collections::HashSet::new();
        for (name, signatures, _) in LIBRARIES.into_iter().flatten() {
            assert!(names.insert(*name), "{name} twice");
            for text in *signatures {
                let overload = signature::parse(text).unwrap_or_else(|| panic!("{text}"));
                assert!(ids.insert(overload.id), "{text}");
            }
        }
    }
}
