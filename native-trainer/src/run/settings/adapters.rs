//! Adapters: four flags, and in the file a table `[lora]`.

use clap::error::{ErrorKind, Result as ClapResult};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use paddock_learn::lora::Lora;
use serde::{Deserialize, Serialize};

use super::{at_least_one, expect};

/// What is trained: adapters, or the model itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct AdapterSettings {
    /// Adapters that are trained instead of the model.
    pub lora: Option<Lora>,
}

#[derive(Debug, Args)]
struct Flags {
    /// Train low-rank adapters of this rank (LoRA) and leave the model as it is
    #[arg(long, value_name = "R")]
    lora_rank: Option<u16>,
    /// Adapters are scaled by this over their rank [default: the rank]
    #[arg(long, value_name = "A", allow_negative_numbers = true)]
    lora_alpha: Option<f32>,
    /// Modules that get adapters, separated by commas, or all-linear [default: q_proj,v_proj]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    lora_targets: Option<Vec<String>>,
    /// Drop this share of what adapters read, at random, while they are trained
    #[arg(long, value_name = "P")]
    lora_dropout: Option<f32>,
}

impl AdapterSettings {
    pub(super) fn check(&self) -> Result<(), String> {
        let Some(Lora { rank, alpha, targets, dropout }) = &self.lora else { return Ok(()) };
        at_least_one("the rank of lora", *rank as u64)?;
        expect("the alpha of lora", alpha, alpha.is_finite() && *alpha > 0.0, "a number above 0")?;
        expect("the dropout of lora", dropout, (0.0..1.0).contains(dropout), "a number from 0 to below 1")?;
        let named = !targets.is_empty() && targets.iter().all(|target| !target.is_empty());
        expect("the list of lora's targets", format!("{targets:?}"), named, "names of modules, such as q_proj")
    }
}

impl Args for AdapterSettings {
    fn augment_args(command: Command) -> Command {
        Flags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args_for_update(command)
    }
}

impl FromArgMatches for AdapterSettings {
    fn from_arg_matches(matches: &ArgMatches) -> ClapResult<Self> {
        let Flags { lora_rank, lora_alpha, lora_targets, lora_dropout } = Flags::from_arg_matches(matches)?;
        // A file may have the rank.
        let has_file = || {
            let given = |name: &str| {
                matches!(matches.try_contains_id(name), Ok(true))
                    && matches.value_source(name) == Some(ValueSource::CommandLine)
            };
            given("config") || given("resume")
        };
        let further = lora_alpha.is_some() || lora_targets.is_some() || lora_dropout.is_some();
        if lora_rank.is_none() && further && !has_file() {
            let problem = "--lora-alpha, --lora-targets and --lora-dropout need --lora-rank\n";
            return Err(clap::Error::raw(ErrorKind::MissingRequiredArgument, problem));
        }
        let default = Lora::default();
        let rank = lora_rank.map_or(default.rank, usize::from);
        let lora = Lora {
            rank,
            alpha: lora_alpha.unwrap_or(rank as f32),
            targets: lora_targets.unwrap_or(default.targets),
            dropout: lora_dropout.unwrap_or(default.dropout),
        };
        Ok(Self { lora: (lora_rank.is_some() || further).then_some(lora) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> ClapResult<()> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
