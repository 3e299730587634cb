//! Structured logs on standard error, as text or JSON.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// What is logged unless asked otherwise: our own doings. These libraries tell at `info` what each round of their
/// protocols does.
const LEVELS: &str = "info,openraft=warn,sled=warn,h2=warn,hyper=warn,hyper_util=warn";

/// How to log.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Flags {
    /// Form of the log: text for people, json for machines.
    #[arg(long = "log-format", value_enum, default_value = "text", value_name = "FORMAT")]
    pub format: Format,
    /// What to log: a level (error, warn, info, debug, trace), or levels by module as in `info,martello_node=debug`.
    #[arg(long = "log-level", default_value = LEVELS, value_name = "LEVEL")]
    pub level: String,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line for people.
    Text,
    /// A JSON object per line.
    Json,
}

/// Starts logging.
pub fn start(flags: &Flags) -> anyhow::Result<()> {
    use anyhow::Context as _;
    let filter = EnvFilter::try_new(&flags.level).with_context(|| format!("--log-level {:?}", flags.level))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match flags.format {
        Format::Text => builder.with_ansi(false).init(),
        Format::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quiet_unless_asked_for() {
        let filter = EnvFilter::try_new(LEVELS).unwrap().to_string();
        let directives: Vec<&str> = filter.split(',').collect();
        assert!(directives.contains(&"info"), "{filter}");
        for library in ["openraft", "sled", "h2", "hyper"] {
            assert!(directives.contains(&format!("{library}=warn").as_str()), "{filter}");
        }
        assert_eq!(EnvFilter::try_new("info").unwrap().to_string(), "info");
    }
}
