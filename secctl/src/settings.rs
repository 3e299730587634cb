//! Where settings come from: flags, a YAML file with the same names, environment variables; the first that has one wins.
//!
//! All three end up as arguments of one parser, the weakest first, so that each setting is described, parsed and
//! checked in one place. A variable is the flag's name in capitals behind `MARTELLO_`: `--data-dir` is `MARTELLO_DATA_DIR`.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use anyhow::{Context, bail};
use clap::{ArgAction, Command};

/// Prefix of the environment variables.
const PREFIX: &str = "MARTELLO_";
/// A configuration file is a page of text; more is a mistake.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The arguments to parse: what the environment and the file say, then the command line itself.
pub fn arguments(
    command: &Command,
    line: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> anyhow::Result<Vec<OsString>> {
    let line: Vec<OsString> = line.into_iter().collect();
    let (Some(program), Some(name)) = (line.first(), line.get(1)) else { return Ok(line) };
    let Some(command) = command.get_subcommands().find(|known| name == known.get_name()) else { return Ok(line) };
    if !command.get_arguments().any(|argument| argument.get_long() == Some("config")) {
        return Ok(line);
    }
    let environment: Vec<(OsString, OsString)> = environment.into_iter().collect();
    let rest = line.get(2..).unwrap_or_default();
    let mut all = vec![program.clone(), name.clone()];
    all.extend(from_environment(command, &environment));
    if let Some(path) = config_path(rest, &environment) {
        all.extend(from_file(command, &path)?);
    }
    all.extend(rest.iter().cloned());
    Ok(all)
}

fn variable(long: &str) -> String {
    format!("{PREFIX}{}", long.replace('-', "_").to_uppercase())
}

fn from_environment(command: &Command, environment: &[(OsString, OsString)]) -> Vec<OsString> {
    let settings = command.get_arguments().filter_map(|argument| argument.get_long());
    settings
        .filter_map(|long| {
            let name = variable(long);
            let (_, value) = environment.iter().find(|(key, _)| *key == *OsStr::new(&name))?;
            Some(assignment(long, value))
        })
        .collect()
}

fn assignment(long: &str, value: &OsStr) -> OsString {
    let mut argument = OsString::from(format!("--{long}="));
    argument.push(value);
    argument
}

fn config_path(rest: &[OsString], environment: &[(OsString, OsString)]) -> Option<PathBuf> {
    let mut path =
        environment.iter().find(|(key, _)| *key == *OsStr::new("MARTELLO_CONFIG")).map(|(_, value)| value.clone());
    for (index, argument) in rest.iter().enumerate() {
        match argument.to_str() {
            Some("--config") => path = rest.get(index + 1).cloned().or(path),
            Some(text) => path = text.strip_prefix("--config=").map(OsString::from).or(path),
            None => {}
        }
    }
    path.map(PathBuf::from)
}

fn from_file(command: &Command, path: &std::path::Path) -> anyhow::Result<Vec<OsString>> {
    let what = || format!("read the configuration file {}", path.display());
    let size = std::fs::metadata(path).with_context(what)?.len();
    if size > MAX_FILE_BYTES {
        bail!("the configuration file {} has {size} bytes; the limit is {MAX_FILE_BYTES}", path.display());
    }
    let text = std::fs::read_to_string(path).with_context(what)?;
    let settings: serde_json::Map<String, serde_json::Value> = if text.trim().is_empty() {
        serde_json::Map::new()
    } else {
        serde_saphyr::from_str(&text).with_context(|| format!("parse the configuration file {}", path.display()))?
    };
    let mut arguments = Vec::new();
    for (name, value) in settings {
        let known = command.get_arguments().find(|argument| argument.get_long() == Some(name.as_str()));
        let Some(known) = known.filter(|_| name != "config" && name != "help") else {
            bail!(
                "{}: there is no setting {name:?}; `secctl {} --help` lists them",
                path.display(),
                command.get_name()
            );
        };
        match value {
            serde_json::Value::String(text) => arguments.push(assignment(&name, OsStr::new(&text))),
            serde_json::Value::Array(items) if matches!(known.get_action(), ArgAction::Append) => {
                for item in items {
                    let text = item.as_str().map_or_else(|| item.to_string(), str::to_owned);
                    arguments.push(assignment(&name, OsStr::new(&text)));
                }
            }
            serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {
                arguments.push(assignment(&name, OsStr::new(&value.to_string())));
            }
            _ => bail!("{}: the setting {name:?} takes a text, a number, true or false", path.display()),
        }
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use clap::Args as _;

    use super::*;

    fn command() -> Command {
        let server = crate::server::Flags::augment_args(Command::new("server")).args_override_self(true);
        Command::new("secctl").subcommand(server)
    }

    fn parse(line: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<crate::server::Flags> {
        use clap::FromArgMatches as _;
        let environment = environment.iter().map(|(key, value)| (OsString::from(key), OsString::from(value)));
        let all = arguments(&command(), line.iter().map(OsString::from), environment)?;
        let matches = command().try_get_matches_from(all)?;
        Ok(crate::server::Flags::from_arg_matches(matches.subcommand_matches("server").unwrap())?)
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_environment() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "data-dir: /from-file\nlisten: 127.0.0.1:2\nnode: true\n").unwrap();
        let path = file.path().to_str().unwrap();
        let environment =
            [("MARTELLO_DATA_DIR", "/from-env"), ("MARTELLO_LISTEN", "127.0.0.1:3"), ("MARTELLO_LOG_FORMAT", "json")];
        let flags = parse(&["secctl", "server", "--config", path, "--listen", "127.0.0.1:1"], &environment).unwrap();
        assert_eq!(flags.data_dir, PathBuf::from("/from-file"));
        assert_eq!(flags.listen.port(), 1);
        assert_eq!(flags.log.format, crate::logging::Format::Json);
        assert!(flags.node);
    }

    #[test]
    fn an_unknown_setting_in_the_file_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "data_dir: /x\n").unwrap();
        let error = parse(&["secctl", "server", "--config", file.path().to_str().unwrap()], &[]).unwrap_err();
        assert!(error.to_string().contains("data_dir"), "{error}");
    }
}
