//! Runs fuzz targets on mutated examples for as long as is asked, on any compiler.

#![allow(clippy::print_stdout, reason = "a program for people at a terminal")]

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use clap::Parser;
use martello_tests::fuzz::{
    TARGETS, Target, find,
    watch::{Amount, run},
};

/// Runs fuzz targets on mutated examples.
#[derive(Parser)]
struct Args {
    /// Which targets; all of them if none is named.
    targets: Vec<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Which mutations: the same number gives the same ones.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where inputs are written on which a target failed.
    #[arg(long, default_value = ".")]
    found: PathBuf,
    /// Runs this input alone, on one target.
    #[arg(long)]
    input: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let named = args.targets.iter().map(|name| find(name).with_context(|| format!("there is no target {name}")));
    let mut targets: Vec<Target> = named.collect::<Result<_, _>>()?;
    if targets.is_empty() {
        targets = TARGETS.to_vec();
    }
    if let Some(path) = &args.input {
        let input = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        targets.iter().for_each(|target| (target.run)(&input));
        return Ok(());
    }
    let mut failed = 0;
    for target in targets {
        match run(target, Amount::For(Duration::from_secs(args.seconds)), args.seed) {
            Ok(count) => println!("{}: {count} inputs", target.name),
            Err(found) => {
                failed += 1;
                let path = args.found.join(format!("{}-{}", target.name, args.seed));
                std::fs::write(&path, &found.input).with_context(|| format!("writing {}", path.display()))?;
                println!("{found:?}\n    is in {}", path.display());
            }
        }
    }
    if failed > 0 { bail!("{failed} targets failed") } else { Ok(()) }
}
