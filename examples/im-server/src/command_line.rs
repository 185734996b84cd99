//! What the command line asks for, and the settings that are in force.

use std::path::PathBuf;

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::options::Options;
use crate::settings_file::{self, SettingsFileError};
use crate::value::NewUser;

/// An instant-messaging server: web chat, STOMP over WebSocket and TCP, and REST.
///
/// Each setting can be given in a settings file (--config), in the environment and on the command line; the latter
/// come before the former. Its name in the file is its flag without the dashes. A flag that takes several values
/// is repeated; its variable separates them by commas, IM_ALLOW and IM_GUEST by semicolons.
#[derive(Debug, Parser)]
#[command(name = "im-server", version, max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,

    /// Settings file, in TOML
    #[arg(long, env = "IM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Try the settings, say what would run, and end: with 0 where they are valid, else with 2
    #[arg(long)]
    check_config: bool,

    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a settings file with every setting, described, and its default
    Init {
        /// The file; it must not exist
        #[arg(default_value = "im-server.toml")]
        file: PathBuf,
    },
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Task {
    Run(Options),
    /// Try the settings.
    Check(Options),
    /// Write a settings file.
    Init(PathBuf),
}

impl Task {
    /// What the arguments and the environment of this process ask for.
    ///
    /// Ends the process, with a text that says what is wrong, where they cannot be understood, and for `--help`.
    ///
    /// # Errors
    ///
    /// Where the settings file cannot be read.
    pub(crate) fn from_process() -> Result<Self, SettingsFileError> {
        let given = CommandLine::parse();
        if let Some(Command::Init { file }) = given.command {
            return Ok(Self::Init(file));
        }
        let mut options = match given.config {
            Some(path) => settings_file::read(&path)?,
            None => Options::default(),
        };
        take_given(&mut options);
        Ok(if given.check_config { Self::Check(options) } else { Self::Run(options) })
    }
}

/// Lets what the environment and the command line say, and only that, take the place of what is in `options`.
fn take_given(options: &mut Options) {
    let without_defaults =
        CommandLine::command().mut_args(|flag| flag.default_value(Resettable::Reset));
    let mut matches = without_defaults.get_matches();
    let users_given = matches.contains_id("users");
    if let Err(error) = options.update_from_arg_matches_mut(&mut matches) {
        error.exit();
    }
    // Not by clap: it would show the passwords in `--help`.
    if !users_given && let Ok(users) = std::env::var("IM_USER") {
        match users.split_whitespace().map(str::parse::<NewUser>).collect() {
            Ok(users) => options.users = users,
            Err(error) => {
                let error = format!("invalid value in IM_USER: {error}");
                CommandLine::command().error(ErrorKind::ValueValidation, error).exit()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_definition_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
