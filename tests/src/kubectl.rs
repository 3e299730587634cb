//! Every real `kubectl` that this machine has.

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Names the programs to test with, apart by blanks or colons; without it, all that are found are taken.
pub const KUBECTLS_ENV: &str = "KUBECTLS";

/// One `kubectl` with its user.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

/// What a run printed.
#[derive(Debug)]
pub struct Output {
    /// Whether it ended with status 0.
    pub success: bool,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Kubectl {
    /// A program and the kubeconfig that it uses.
    #[must_use]
    pub fn new(program: &Path, kubeconfig: &Path) -> Self {
        Self { program: program.to_owned(), kubeconfig: kubeconfig.to_owned() }
    }

    /// Runs it; what it prints, or an error with what it said.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        self.run_with(arguments, "")
    }

    /// Runs it with something to read on standard input.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.try_with(arguments, input)?;
        if output.success {
            return Ok(output.stdout);
        }
        bail!("{} {}: {}{}", self.program.display(), arguments.join(" "), output.stdout, output.stderr)
    }

    /// A run that is still to be started.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        // Discovery is cached below the home directory, by address: another test's server may have had this port.
        let home = self.kubeconfig.with_extension("home");
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", &home);
        // Before what may stand behind `--`.
        command.arg(format!("--cache-dir={}", home.join("cache").display())).args(arguments);
        command
    }

    /// Runs it, and does not mind if it fails.
    pub fn try_with(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("run {}", self.program.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).context("write to kubectl")?;
        }
        let output = child.wait_with_output().with_context(|| format!("wait for {}", self.program.display()))?;
        Ok(Output {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }
}

/// Every kubectl: those that the environment names, or those on the path and, beside the ones that are links or
/// dispatchers, their versioned siblings.
#[must_use]
pub fn all() -> Vec<PathBuf> {
    if let Ok(named) = std::env::var(KUBECTLS_ENV) {
        return named.split([' ', ':']).filter(|name| !name.is_empty()).map(PathBuf::from).collect();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = BTreeSet::new();
    for folder in std::env::split_paths(&path) {
        let Ok(program) = folder.join("kubectl").canonicalize() else { continue };
        found.extend(program.parent().map(siblings).unwrap_or_default());
        found.insert(program);
    }
    found.into_iter().collect()
}

/// `kubectl.1.27` and its like, which some packages put beside `kubectl`.
fn siblings(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let versioned = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_str().and_then(|name| name.strip_prefix("kubectl.1.")).is_some_and(|minor| minor.parse::<u8>().is_ok())
    });
    versioned.map(|entry| entry.path()).collect()
}
