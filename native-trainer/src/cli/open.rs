//! What the command line leaves open about a run's memory.

use clap::error::Result as ClapResult;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::run::memory::Open;

/// Which of [`MemorySettings`](crate::run::MemorySettings)' flags were not given, so that a run may choose them itself.
#[derive(Debug)]
pub(super) struct OpenFlags(pub Open);

impl FromArgMatches for OpenFlags {
    fn from_arg_matches(matches: &ArgMatches) -> ClapResult<Self> {
        let open = |name: &str| matches.value_source(name) != Some(ValueSource::CommandLine);
        let precision = open("dtype") && open("bf16_update");
        Ok(Self(Open { precision, moments: open("moments"), ..Open::default() }))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> ClapResult<()> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for OpenFlags {
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
        open: OpenFlags,
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
            let Line { open, settings } = Line::try_parse_from(line.split_whitespace()).unwrap();
            assert_eq!(open.0, Open { precision, moments, ..Open::default() }, "{line}");
            assert_eq!(settings.moments, Default::default());
        }
    }
}
