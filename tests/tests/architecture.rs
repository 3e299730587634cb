//! Holds the shape of the house: which crate may depend on which, and what no file of the product may name.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use martello_tests::binary::repository;
use serde_json::Value;

/// A crate boundary is a privilege boundary: the table of the design, by folder.
const MAY_DEPEND_ON: [(&str, &[&str]); 10] = [
    ("api", &[]),
    ("kms", &[]),
    ("policy", &["api"]),
    ("scheduler", &["api"]),
    ("controllers", &["api"]),
    ("scanner", &["api"]),
    ("pki", &["api", "kms"]),
    ("audit", &["api", "kms"]),
    ("apiserver", &["api", "audit", "kms", "pki", "policy"]),
    ("node", &["api", "pki", "policy", "scanner"]),
];

/// The two that compose the others.
const COMPOSERS: [&str; 2] = ["secctl", "tests"];

/// Everything at the top of the repository that is not a dotfile.
const TOP_LEVEL: [&str; 20] = [
    "api",
    "apiserver",
    "audit",
    "controllers",
    "docs",
    "kms",
    "node",
    "pki",
    "policy",
    "scanner",
    "scheduler",
    "secctl",
    "tests",
    "Cargo.lock",
    "Cargo.toml",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
];

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Our crates with those of ours that each depends on, by whatever kind of dependency.
fn our_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let ours = |name: &str| name.strip_prefix("martello-").map(str::to_owned);
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let dependencies = dependencies.filter_map(|one| ours(one["name"].as_str().unwrap())).collect();
            (ours(package["name"].as_str().unwrap()).unwrap(), dependencies)
        })
        .collect()
}

#[test]
fn crates_depend_only_on_what_the_design_allows() {
    let table: BTreeMap<&str, &[&str]> = MAY_DEPEND_ON.into_iter().collect();
    for (name, dependencies) in our_dependencies() {
        if COMPOSERS.contains(&name.as_str()) {
            continue;
        }
        let allowed = table.get(name.as_str()).unwrap_or_else(|| panic!("{name} is not in the design's table"));
        for dependency in &dependencies {
            assert!(allowed.contains(&dependency.as_str()), "{name} may not depend on {dependency}");
        }
    }
}

#[test]
fn every_crate_of_the_design_exists_under_its_short_name() {
    let found: BTreeSet<String> = our_dependencies().into_keys().collect();
    let named = MAY_DEPEND_ON.iter().map(|(name, _)| *name).chain(COMPOSERS).map(str::to_owned);
    assert_eq!(found, named.collect());
    for name in found {
        assert!(repository().join(&name).join("Cargo.toml").is_file(), "{name} is not the folder {name}");
    }
}

#[test]
fn unsafe_code_lives_in_one_module_of_the_node() {
    for file in sources() {
        let place = file.strip_prefix(repository()).unwrap();
        if place.starts_with("node/src/sys") || place.ends_with("architecture.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for keyword in ["unsafe {", "unsafe fn", "unsafe impl"] {
            assert!(!text.contains(keyword), "{} holds `{keyword}`", place.display());
        }
    }
}

#[test]
fn the_top_level_holds_nothing_else() {
    for name in tracked().iter().filter_map(|path| path.split('/').next()) {
        assert!(name.starts_with('.') || TOP_LEVEL.contains(&name), "{name} has no place at the top level");
    }
}

#[test]
fn no_file_names_the_machine_it_was_written_on_or_its_reference_data() {
    // Written apart, so that this file does not name them either.
    let words = [["/wo", "rk/"], ["shared/kuber", "netes"], ["behav", "iour/"]].map(|halves| halves.concat());
    let foreign = ["proptest-regressions", "Cargo.lock"];
    for path in tracked() {
        let Ok(text) = std::fs::read_to_string(repository().join(&path)) else { continue };
        if foreign.iter().any(|part| path.contains(part)) {
            continue;
        }
        for word in &words {
            assert!(!text.contains(word.as_str()), "{path} names {word}");
        }
    }
}

/// Where a page says which test shows something: `crate::module::name`, in the cells of a table.
#[test]
fn every_test_that_the_page_on_conformance_names_exists() {
    let page = std::fs::read_to_string(repository().join("docs/conformance.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with('|'));
    let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2)).filter(|quoted| quoted.contains("::"));
    let named: BTreeSet<&str> = quoted.collect();
    assert!(!named.is_empty(), "the page names no test");
    let files: Vec<(PathBuf, String)> =
        sources().into_iter().map(|file| (file.clone(), std::fs::read_to_string(file).unwrap())).collect();
    for name in named {
        let parts: Vec<&str> = name.split("::").collect();
        let (folder, modules, test) = (parts[0], &parts[1..parts.len() - 1], parts[parts.len() - 1]);
        let module = modules.iter().rev().find(|module| **module != "tests").unwrap_or(&folder);
        let place = repository().join(folder);
        let is_there = files.iter().any(|(file, text)| {
            file.starts_with(&place)
                && file.with_extension("").iter().any(|part| part == *module)
                && text.contains(&format!("fn {test}("))
        });
        assert!(is_there, "docs/conformance.md names {name}, which is not there");
    }
}

/// The files that the repository holds; where it is no git repository, none.
fn tracked() -> Vec<String> {
    let output = Command::new("git").args(["ls-files"]).current_dir(repository()).output();
    let Ok(output) = output else { return Vec::new() };
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn sources() -> Vec<PathBuf> {
    let crates = MAY_DEPEND_ON.iter().map(|(name, _)| *name).chain(COMPOSERS);
    let mut files = Vec::new();
    for name in crates {
        walk(&repository().join(name), &mut files);
    }
    files
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
