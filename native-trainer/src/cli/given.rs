//! Which flags were given, whatever their values.

use std::collections::BTreeSet;

use clap::error::Result as ClapResult;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::run::SettingsFile;
use crate::run::memory::Open;

/// The names of the flags that stand on the command line, as in `batch-size`.
#[derive(Debug)]
pub(super) struct Given(pub BTreeSet<String>);

impl Given {
    /// What a run may choose by itself to fit a card: what neither a flag nor the file says.
    pub fn open(&self, file: &SettingsFile) -> Open {
        let open = |name: &str| !self.0.contains(name) && !file.has(name);
        Open { precision: open("dtype") && open("bf16-update"), moments: open("moments"), ..Open::default() }
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> ClapResult<Self> {
        let names = matches.ids().map(clap::Id::as_str);
        let given = names.filter(|name| matches.value_source(name) == Some(ValueSource::CommandLine));
        Ok(Self(given.map(|name| name.replace('_', "-")).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> ClapResult<()> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::run::MemorySettings;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        given: Given,
        #[command(flatten)]
        settings: MemorySettings,
    }

    #[test]
    fn a_flag_that_was_given_is_not_open() {
        for (line, precision, moments) in [
            ("memory", true, true),
            ("memory --dtype f32", false, true),
            ("memory --bf16-update split-master", false, true),
            ("memory --moments f32", true, false),
        ] {
            let Line { given, settings } = Line::try_parse_from(line.split_whitespace()).unwrap();
            let expected = Open { precision, moments, ..Open::default() };
            assert_eq!(given.open(&SettingsFile::default()), expected, "{line}");
            assert_eq!(settings.moments, Default::default());
        }
    }
}
