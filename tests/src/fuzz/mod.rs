//! Everything that parses bytes from outside, each as a plain function of bytes: fuzz targets without a fuzzer.
//!
//! A target must neither panic nor hang, whatever it is given, and asserts what must hold besides: what was decoded can be
//! encoded and reads back the same. Three things run them: the test `fuzz_corpora` (each file of `tests/fuzz/corpus`, and
//! a bounded number of mutations of it), the program `fuzz` (mutations for as long as one likes), and cargo-fuzz
//! (`tests/fuzz`, which needs a nightly compiler).

pub mod mutate;
pub mod watch;

mod extensions;
mod identity;
mod images;
mod node;
mod objects;
mod patches;
mod requests;

use std::path::PathBuf;

use jiff::Timestamp;

/// The time at which everything happens.
const NOW: Timestamp = Timestamp::constant(1_790_000_000, 0);

/// One parser under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of the target and of its folder of examples.
    pub name: &'static str,
    /// Feeds it.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($module:ident :: $name:ident),* $(,)?) => {
        /// All of them.
        pub const TARGETS: &[Target] = &[$(Target { name: stringify!($name), run: $module::$name }),*];
        $(pub use $module::$name;)*
    };
}

targets![
    objects::manifest_json,
    objects::manifest_yaml,
    objects::manifest_protobuf,
    objects::label_selector,
    objects::field_selector,
    objects::quantity,
    objects::names,
    patches::json_patch,
    patches::merge_patch,
    patches::strategic_patch,
    patches::apply_patch,
    patches::managed_fields,
    requests::route,
    requests::options,
    requests::accept,
    identity::signing_request,
    identity::service_account_token,
    identity::join_token,
    identity::enrollment,
    identity::certificate,
    identity::audit_segment,
    images::reference,
    images::manifest,
    images::configuration,
    images::credentials,
    images::layer,
    images::dpkg,
    images::apk,
    images::os_release,
    node::dns,
    node::spdy,
    node::spdy_headers,
    node::container_log,
    extensions::expression,
    extensions::custom_resource,
    extensions::json_path,
    extensions::schedule,
];

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}

/// The examples of a target, the file's name beside each, in the order of names.
///
/// # Errors
/// When they can't be read: every target has some.
pub fn corpus(target: Target) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let folder = corpora().join(target.name);
    let mut examples = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let file = file?;
        examples.push((file.file_name().to_string_lossy().into_owned(), std::fs::read(file.path())?));
    }
    examples.sort();
    Ok(examples)
}

fn corpora() -> PathBuf {
    crate::binary::own_crate().join("fuzz/corpus")
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
