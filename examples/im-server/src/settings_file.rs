//! The settings file.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::{fs, iter};

use clap::Arg;

use crate::options::Options;

/// The longest settings file that is read, in octets.
const MAX_FILE: u64 = 1024 * 1024;

/// How long the lines of a written file are, in characters.
const WIDTH: usize = 100;

#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsFileError {
    #[error("cannot read the settings file {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the settings file {} is longer than {MAX_FILE} octets", .0.display())]
    TooLong(PathBuf),
    #[error("{}:{line}: {problem}", path.display())]
    Invalid { path: PathBuf, line: usize, problem: String },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// The settings in a file; what it does not name has its default.
pub(crate) fn read(path: &Path) -> Result<Options, SettingsFileError> {
    let failed = |source| SettingsFileError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        return Err(SettingsFileError::TooLong(path.to_owned()));
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    toml::from_str(&text).map_err(|mut error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(start).filter(|&octet| octet == b'\n').count();
        // The line itself is not repeated: it may hold a password.
        error.set_input(None);
        let problem = error.to_string().trim_end().replace('\n', " ");
        SettingsFileError::Invalid { path: path.to_owned(), line, problem }
    })
}

/// Writes a file with every setting and its default, for its owner only; refuses to overwrite one.
pub(crate) fn init(path: &Path) -> Result<(), SettingsFileError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(path).and_then(|mut file| file.write_all(template().as_bytes()));
    written.map_err(|source| SettingsFileError::Write { path: path.to_owned(), source })
}

/// The settings in the form of the file, without passwords.
pub(crate) fn shown(options: &Options) -> Result<toml::Table, toml::ser::Error> {
    toml::Table::try_from(options)
}

/// Every setting with its description and its default; those without a default are commented out.
fn template() -> String {
    let mut text = String::from(
        "# Settings of im-server. The environment comes before this file, and the command line before both.\n\
         # What is not here has its default. `im-server --config FILE --check-config` tries the file.\n",
    );
    // Nothing in the defaults fails to be written; the tests hold that.
    let defaults = shown(&Options::default()).unwrap_or_default();
    let flags = Options::flags();
    let mut heading = None;
    for flag in flags.get_arguments() {
        let Some(name) = flag.get_long() else { continue };
        if flag.get_help_heading() != heading {
            heading = flag.get_help_heading();
            let _ = write!(text, "\n\n# == {} ==\n", heading.unwrap_or_default());
        }
        text.push('\n');
        let help = flag.get_long_help().or_else(|| flag.get_help());
        let help = help.map(ToString::to_string).unwrap_or_default();
        for line in help.lines().flat_map(wrapped) {
            let _ = writeln!(text, "# {line}");
        }
        let _ = match defaults.get(name) {
            Some(default) => writeln!(text, "{name} = {default}"),
            None => writeln!(text, "#{name} = \"{}\"", value_name(flag)),
        };
    }
    text
}

fn value_name(flag: &Arg) -> &str {
    flag.get_value_names().and_then(<[_]>::first).map_or("", |name| name.as_str())
}

/// A paragraph in lines.
fn wrapped(paragraph: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in paragraph.split_whitespace() {
        let line = lines.last_mut().filter(|line| line.len() + 1 + word.len() <= WIDTH);
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => line.extend(iter::once(" ").chain(iter::once(word))),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Options, String> {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("im.toml");
        fs::write(&path, text).expect("written");
        let shown = path.display().to_string();
        read(&path).map_err(|error| error.to_string().replace(&shown, "im.toml"))
    }

    #[test]
    fn the_file_that_init_writes_holds_every_setting_with_its_default() {
        let text = template();
        let read = parsed(&text).expect("valid");
        assert_eq!(format!("{read:?}"), format!("{:?}", Options::default()));

        // With those that have no default, too.
        let all = text.lines().map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => setting,
            _ => line,
        });
        let all: Vec<_> = all.collect();
        let table: toml::Table = all.join("\n").parse().expect("TOML");
        let flags = Options::flags();
        let names: Vec<_> = flags.get_arguments().filter_map(Arg::get_long).collect();
        assert_eq!(table.keys().map(String::as_str).collect::<Vec<_>>(), names);
        parsed(&all.join("\n")).expect("every key is known");
    }

    #[test]
    fn a_setting_has_one_name_in_file_environment_and_flags() {
        for flag in Options::flags().get_arguments() {
            let name = flag.get_long().expect("a long flag");
            let variable = format!("IM_{}", name.to_uppercase().replace('-', "_"));
            match flag.get_env() {
                Some(env) => assert_eq!(env, variable.as_str()),
                None => assert_eq!(name, "user", "reads IM_USER on its own"),
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_no_password() {
        for (text, start, key) in [
            (
                "open = true\n\nhtp = \"x\"",
                "im.toml:3: unknown field `htp`, expected one of",
                "`http`",
            ),
            ("http = \"8080\"", "im.toml:1: invalid socket address syntax", "`http`"),
            ("\nkeep-days = -1", "im.toml:2: ", "`keep-days`"),
            ("user = \"u:hunter2\"", "im.toml:1: expected a list", "`user`"),
            ("user = [\"hunter2\"]", "im.toml:1: expected NAME:PASSWORD", "`user`"),
            ("broker = \"kafka://u:hunter2@h\"", "im.toml:1: this server is built", "`broker`"),
            ("interceptor-failure = \"?\"", "im.toml:1: unknown variant", "`interceptor-failure`"),
            ("allow = [\n\"read /queue/x\"]", "im.toml:1: `read /queue/x`: the actions", "`allow`"),
            ("open = true\nopen = true", "im.toml:2: duplicate key", ""),
            ("open true", "im.toml:1: ", ""),
            ("store = \"postgres://u:hunter2@h", "im.toml:1: ", ""),
        ] {
            let said = parsed(text).expect_err(text);
            assert!(said.starts_with(start) && said.contains(key), "{text:?}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn what_is_shown_holds_no_password() {
        let options = parsed(
            "broker = \"amqp://u:hunter2@h\"\nstore = \"postgres://u:hunter2@h/db\"\n\
             user = [\"alice:hunter2\"]\ninterceptor-secret = \"whsec_hunter2\"",
        );
        let shown = shown(&options.expect("valid")).expect("written").to_string();
        assert!(shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("im.toml");
        init(&path).expect("written");
        fs::write(&path, "open = true").expect("written");
        let error = init(&path).expect_err("there is one").to_string();
        assert!(error.contains("im.toml"), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("read"), "open = true");
    }
}
