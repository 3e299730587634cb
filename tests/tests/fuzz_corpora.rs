//! The examples of every fuzz target, and a bounded number of mutations of each, neither panic nor hang.

use martello_tests::fuzz::{
    TARGETS, corpus,
    watch::{Amount, run},
};

/// Enough that a limit which is taken away is noticed, few enough for every test run.
const MUTATIONS: usize = 150;

#[test]
fn no_mutated_example_makes_a_parser_panic_or_hang() {
    let queue = std::sync::Mutex::new(TARGETS.iter());
    let found = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(target) = queue.lock().unwrap().next() else { return };
                    if let Err(one) = run(*target, Amount::Each(MUTATIONS), 36) {
                        found.lock().unwrap().push(one);
                    }
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_target_has_examples_and_every_folder_a_target() {
    for target in TARGETS {
        assert!(!corpus(*target).unwrap().is_empty(), "{}", target.name);
    }
    let root = format!("{}/fuzz", martello_tests::binary::own_crate().display());
    let names = |folder: &str, ending: &str| {
        let files = std::fs::read_dir(format!("{root}/{folder}")).unwrap();
        let mut names: Vec<String> =
            files.map(|file| file.unwrap().file_name().to_string_lossy().trim_end_matches(ending).to_owned()).collect();
        names.sort();
        names
    };
    let mut known: Vec<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    known.sort();
    assert_eq!(names("corpus", ""), known);
    // What cargo-fuzz finds.
    assert_eq!(names("fuzz_targets", ".rs"), known);
}
