//! Structured logs on standard error, as text or JSON.

use clap::{Args, ValueEnum};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt as _, filter_fn},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// What is logged unless asked otherwise: our own doings. These libraries tell at `info` what each round of their
/// protocols does.
const LEVELS: &str = "info,openraft=warn,sled=warn,h2=warn,hyper=warn,hyper_util=warn";

/// The library that tells the whole body of each answer that it can't read, Secrets included, and does so at `warn`. What went
/// wrong is in the errors that it gives; nothing that it logs itself is ever shown, whatever is asked for.
const TELLS_BODIES: &str = "kube_client";

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
    let filter = filter.and(filter_fn(|metadata| may_show(metadata.target())));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match flags.format {
        Format::Text => tracing_subscriber::registry().with(lines.with_ansi(false).with_filter(filter)).init(),
        Format::Json => {
            tracing_subscriber::registry().with(lines.json().flatten_event(true).with_filter(filter)).init()
        }
    }
    Ok(())
}

/// Whether what a module says may be logged at all.
fn may_show(target: &str) -> bool {
    target.strip_prefix(TELLS_BODIES).is_none_or(|rest| !rest.is_empty() && !rest.starts_with("::"))
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

    #[test]
    fn bodies_of_answers_are_never_logged() {
        assert!(!may_show("kube_client") && !may_show("kube_client::client"));
        for target in ["kube_runtime::watcher", "kube_clients", "martello_node", ""] {
            assert!(may_show(target), "{target}");
        }
    }
}
