//! Where the roles of a run are.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::run::MemorySettings;

/// Whether roles have a trunk in common. This follows from whether there are adapters; a run for which it is asked otherwise is
/// refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Adapters and heads on the actor's trunk, which is frozen.
    Shared,
    /// Each a whole model.
    Separate,
}

impl Placement {
    /// Checks what was `asked` for against whether `memory` trains adapters.
    ///
    /// # Errors
    /// When one does not go with the other.
    pub fn check(asked: Option<Self>, memory: &MemorySettings) -> Result<(), String> {
        match (asked, &memory.adapters.lora) {
            (Some(Self::Shared), None) => Err("roles is shared, but the whole actor is trained, so there is no trunk that \
                                               stays as it is; add lora-rank, or choose separate"
                .to_string()),
            (Some(Self::Separate), Some(_)) => Err("roles is separate, but with lora-rank the actor's trunk is its own \
                                                    reference and the roles' common trunk; leave out lora-rank, or choose \
                                                    shared"
                .to_string()),
            _ => Ok(()),
        }
    }
}
